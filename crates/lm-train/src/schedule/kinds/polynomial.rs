//! `polynomial`: linear warm-up, then a polynomial of degree `power` down to `lr_end`.

use crate::schedule::formula::{Formula, Run};
use crate::schedule::kwargs::{Kwargs, ScheduleError};

pub(super) fn polynomial(run: Run, kwargs: &mut Kwargs) -> Result<Formula, ScheduleError> {
    let Run { peak, warmup, total } = run;
    let lr_end = kwargs.number("lr_end", 1e-7)?;
    if lr_end >= peak {
        return Err(kwargs.bad(format!("lr_end {lr_end} must be smaller than --learning_rate {peak}")));
    }
    let power = kwargs.number("power", 1.0)?;
    let falling = move |step: f64| {
        if step > total || total == warmup {
            return lr_end / peak;
        }
        let remaining = 1.0 - (step - warmup) / (total - warmup);
        ((peak - lr_end) * remaining.powf(power) + lr_end) / peak
    };
    Formula::new(move |step| run.warming_up(step).unwrap_or_else(|| falling(step)))
}
