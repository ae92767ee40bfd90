//! `inverse_sqrt`: linear warm-up, then proportional to 1 / sqrt(step).

use crate::schedule::formula::{Formula, Run};
use crate::schedule::kwargs::{Kwargs, ScheduleError};

/// The time scale of a run without warm-up.
const TIMESCALE: f64 = 10_000.0;

pub(super) fn inverse_sqrt(run: Run, kwargs: &mut Kwargs) -> Result<Formula, ScheduleError> {
    kwargs.take_none();
    let warmup = run.warmup;
    let timescale = if warmup > 0.0 { warmup } else { TIMESCALE };
    let falling = move |step: f64| 1.0 / ((step + timescale - warmup) / timescale).sqrt();
    Formula::new(move |step| run.warming_up(step).unwrap_or_else(|| falling(step)))
}
