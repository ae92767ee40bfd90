//! `linear`: linear warm-up, then linearly down to 0.

use super::kwargs::{Kwargs, ScheduleError};
use super::shape::{Run, Shape};

pub(super) fn linear(run: Run, _: &mut Kwargs) -> Result<Shape, ScheduleError> {
    let Run { warmup, total, .. } = run;
    let falling = move |step: f64| ((total - step) / (total - warmup).max(1.0)).max(0.0);
    Shape::formula(move |step| run.warming_up(step).unwrap_or_else(|| falling(step)))
}
