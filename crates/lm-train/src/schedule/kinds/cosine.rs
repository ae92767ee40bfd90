//! The cosines: `cosine`, `cosine_with_restarts`, `cosine_with_min_lr` and `cosine_warmup_with_min_lr`.

use crate::schedule::formula::{self, Formula, Run, above_minimum};
use crate::schedule::kwargs::{Kwargs, ScheduleError};

pub(super) fn cosine(run: Run, kwargs: &mut Kwargs) -> Result<Formula, ScheduleError> {
    let num_cycles = kwargs.number("num_cycles", 0.5)?;
    down_to(run, num_cycles, 0.0)
}

pub(super) fn with_min_lr(run: Run, kwargs: &mut Kwargs) -> Result<Formula, ScheduleError> {
    let num_cycles = kwargs.number("num_cycles", 0.5)?;
    down_to(run, num_cycles, min_lr_rate(run, kwargs)?)
}

fn down_to(run: Run, num_cycles: f64, min_lr_rate: f64) -> Result<Formula, ScheduleError> {
    let falling = move |step: f64| above_minimum(formula::cosine(num_cycles * 2.0 * run.progress(step)), min_lr_rate);
    Formula::new(move |step| run.warming_up(step).unwrap_or_else(|| falling(step)))
}

pub(super) fn with_restarts(run: Run, kwargs: &mut Kwargs) -> Result<Formula, ScheduleError> {
    let num_cycles = kwargs.number("num_cycles", 1.0)?;
    let falling = move |step: f64| match run.progress(step) {
        done if done >= 1.0 => 0.0,
        progress => formula::cosine((num_cycles * progress).rem_euclid(1.0)).max(0.0),
    };
    Formula::new(move |step| run.warming_up(step).unwrap_or_else(|| falling(step)))
}

pub(super) fn warmup_with_min_lr(run: Run, kwargs: &mut Kwargs) -> Result<Formula, ScheduleError> {
    let Run { warmup, total, .. } = run;
    let num_cycles = kwargs.number("num_cycles", 0.5)?;
    let min_lr_rate = min_lr_rate(run, kwargs)?;
    let warmup_lr_rate = kwargs.optional_number("warmup_lr_rate")?;
    Formula::new(move |step| {
        if step >= warmup {
            let progress = (step - warmup + 1.0) / (total - warmup).max(1.0);
            return above_minimum(formula::cosine(num_cycles * 2.0 * progress), min_lr_rate);
        }
        match warmup_lr_rate {
            None => (step + 1.0) / warmup.max(1.0),
            Some(start) => start + (1.0 - start) * step / (warmup - 1.0).max(1.0),
        }
    })
}

/// The lower end of the two cosines with a minimum, as a share of the peak: exactly one of `min_lr` and `min_lr_rate`
/// says it.
fn min_lr_rate(run: Run, kwargs: &mut Kwargs) -> Result<f64, ScheduleError> {
    match (kwargs.optional_number("min_lr")?, kwargs.optional_number("min_lr_rate")?) {
        (None, Some(rate)) => Ok(rate),
        (Some(_), None) if run.peak == 0.0 => {
            Err(kwargs.bad("min_lr needs a --learning_rate above 0; give min_lr_rate instead".to_owned()))
        }
        (Some(min_lr), None) => Ok(min_lr / run.peak),
        (Some(_), Some(_)) => Err(kwargs.bad("give only one of min_lr and min_lr_rate".to_owned())),
        (None, None) => {
            Err(kwargs.bad(r#"one of min_lr and min_lr_rate is required, e.g. {"min_lr_rate": 0.1}"#.to_owned()))
        }
    }
}
