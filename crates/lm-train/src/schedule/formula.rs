//! What most formulas have in common.

use std::f64::consts::PI;
use std::fmt;
use std::sync::Arc;

use super::kwargs::ScheduleError;

/// The lengths that a formula counts with. Counts of steps are `f64`, as the formulas use them; they are exact up to 2^53.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// `--learning_rate`, which some formulas measure their minimum against.
    pub peak: f64,
    /// Steps of the warm-up.
    pub warmup: f64,
    /// Steps of the run.
    pub total: f64,
}

impl Run {
    /// The share of a linear warm-up while it lasts.
    pub fn warming_up(self, step: f64) -> Option<f64> {
        (step < self.warmup).then(|| step / self.warmup.max(1.0))
    }

    /// The share of the run after the warm-up that is done.
    pub fn progress(self, step: f64) -> f64 {
        (step - self.warmup) / (self.total - self.warmup).max(1.0)
    }
}

/// The share of the peak rate at a step: an `lr_lambda` of Python's `optimization.py`.
#[derive(Clone)]
pub struct Formula(Arc<dyn Fn(f64) -> f64 + Send + Sync>);

impl Formula {
    /// A formula.
    pub fn new(factor: impl Fn(f64) -> f64 + Send + Sync + 'static) -> Result<Self, ScheduleError> {
        Ok(Self(Arc::new(factor)))
    }

    /// The share at this step.
    pub fn factor(&self, step: f64) -> f64 {
        (self.0)(step)
    }
}

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Formula")
    }
}

/// Half a cosine wave per unit of `half_waves`, from 1 down to 0.
pub fn cosine(half_waves: f64) -> f64 {
    0.5 * (1.0 + (PI * half_waves).cos())
}

/// Squeezes a factor between `minimum` and 1.
pub fn above_minimum(factor: f64, minimum: f64) -> f64 {
    (factor * (1.0 - minimum) + minimum).max(0.0)
}
