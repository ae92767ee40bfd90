//! `constant` and `constant_with_warmup`: the peak rate.

use crate::schedule::formula::{Formula, Run};
use crate::schedule::kwargs::{Kwargs, ScheduleError};

pub(super) fn constant(_: Run, kwargs: &mut Kwargs) -> Result<Formula, ScheduleError> {
    kwargs.take_none();
    Formula::new(|_| 1.0)
}

pub(super) fn with_warmup(run: Run, kwargs: &mut Kwargs) -> Result<Formula, ScheduleError> {
    kwargs.take_none();
    Formula::new(move |step| run.warming_up(step).unwrap_or(1.0))
}
