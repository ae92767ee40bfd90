//! `linear`: linear warm-up, then linearly down to 0.

use crate::schedule::formula::{Formula, Run};
use crate::schedule::kwargs::{Kwargs, ScheduleError};

pub(super) fn linear(run: Run, _: &mut Kwargs) -> Result<Formula, ScheduleError> {
    let Run { warmup, total, .. } = run;
    let falling = move |step: f64| ((total - step) / (total - warmup).max(1.0)).max(0.0);
    Formula::new(move |step| run.warming_up(step).unwrap_or_else(|| falling(step)))
}
