//! `constant` and `constant_with_warmup`: the peak rate.

use super::kwargs::{Kwargs, ScheduleError};
use super::shape::{Run, Shape};

pub(super) fn constant(_: Run, kwargs: &mut Kwargs) -> Result<Shape, ScheduleError> {
    kwargs.take_none();
    Shape::formula(|_| 1.0)
}

pub(super) fn with_warmup(run: Run, kwargs: &mut Kwargs) -> Result<Shape, ScheduleError> {
    kwargs.take_none();
    Shape::formula(move |step| run.warming_up(step).unwrap_or(1.0))
}
