//! `warmup_stable_decay`: warm-up, a plateau, and a decay over the last `num_decay_steps`.

use std::f64::consts::PI;

use crate::schedule::formula::{Formula, Run, above_minimum, cosine};
use crate::schedule::kwargs::{Kwargs, ScheduleError};

#[derive(Clone, Copy)]
enum Curve {
    Linear,
    Cosine,
    OneMinusSqrt,
}

const CURVES: [(&str, Curve); 3] =
    [("linear", Curve::Linear), ("cosine", Curve::Cosine), ("1-sqrt", Curve::OneMinusSqrt)];

pub(super) fn warmup_stable_decay(run: Run, kwargs: &mut Kwargs) -> Result<Formula, ScheduleError> {
    let Run { warmup, total, .. } = run;
    let Some(decay) = kwargs.optional_number("num_decay_steps")? else {
        return Err(kwargs.bad(r#"num_decay_steps is required, e.g. {"num_decay_steps": 1000}"#.to_owned()));
    };
    let stable = kwargs.optional_number("num_stable_steps")?.unwrap_or(total - warmup - decay);
    let warmup_curve = kwargs.choice("warmup_type", &CURVES, Curve::Linear)?;
    let decay_curve = kwargs.choice("decay_type", &CURVES, Curve::Cosine)?;
    let min_lr_ratio = kwargs.number("min_lr_ratio", 0.0)?;
    let num_cycles = kwargs.number("num_cycles", 0.5)?;
    let decay_start = warmup + stable;
    Formula::new(move |step| {
        if step < warmup {
            above_minimum(rising(warmup_curve, step / warmup.max(1.0)), min_lr_ratio)
        } else if step < decay_start {
            1.0
        } else if step < decay_start + decay {
            let progress = (step - warmup - stable) / decay.max(1.0);
            above_minimum(falling(decay_curve, progress, num_cycles), min_lr_ratio)
        } else {
            min_lr_ratio
        }
    })
}

fn rising(curve: Curve, progress: f64) -> f64 {
    match curve {
        Curve::Linear => progress,
        Curve::Cosine => 0.5 * (1.0 - (PI * progress).cos()),
        Curve::OneMinusSqrt => 1.0 - (1.0 - progress).sqrt(),
    }
}

fn falling(curve: Curve, progress: f64, num_cycles: f64) -> f64 {
    match curve {
        Curve::Linear => 1.0 - progress,
        Curve::Cosine => cosine(num_cycles * 2.0 * progress),
        Curve::OneMinusSqrt => 1.0 - progress.sqrt(),
    }
}
