//! The values of `--lr_scheduler_type`: one line each, and a file for a formula.

mod constant;
mod cosine;
mod inverse_sqrt;
mod linear;
mod plateau;
mod polynomial;
mod warmup_stable_decay;

pub use plateau::{Plateau, PlateauState};

use std::fmt;

use serde::{Deserialize, Serialize};

use super::formula::{Formula, Run};
use super::kwargs::{Kwargs, ScheduleError};

/// What a rate depends on; reads the keywords of the schedule.
pub enum Build {
    /// The step, by a formula.
    Step(fn(Run, &mut Kwargs) -> Result<Formula, ScheduleError>),
    /// The metric of evaluations.
    Metric(fn(Run, &mut Kwargs) -> Result<Plateau, ScheduleError>),
}

macro_rules! schedules {
    ($( $(#[doc = $doc:literal])+ $kind:ident = $name:literal, $rule:ident($build:path); )+) => {
        /// The values of `--lr_scheduler_type`, named as in Python.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum SchedulerType {
            $( $(#[doc = $doc])+ #[serde(rename = $name)] $kind, )+
        }

        impl SchedulerType {
            /// All of them, in Python's order.
            pub const ALL: &[Self] = &[$( Self::$kind, )+];

            /// The name on the command line.
            pub fn name(self) -> &'static str {
                match self { $( Self::$kind => $name, )+ }
            }

            pub(crate) fn build(self) -> Build {
                match self { $( Self::$kind => Build::$rule($build), )+ }
            }
        }
    };
}

schedules! {
    /// Linear warm-up, then linearly down to 0.
    Linear = "linear", Step(linear::linear);
    /// Linear warm-up, then `num_cycles` (0.5) waves of a cosine.
    Cosine = "cosine", Step(cosine::cosine);
    /// Linear warm-up, then `num_cycles` (1) half cosines from the peak to 0.
    CosineWithRestarts = "cosine_with_restarts", Step(cosine::with_restarts);
    /// Linear warm-up, then a polynomial of degree `power` (1) down to `lr_end` (1e-7).
    Polynomial = "polynomial", Step(polynomial::polynomial);
    /// The peak rate throughout, without warm-up.
    Constant = "constant", Step(constant::constant);
    /// Linear warm-up, then the peak rate.
    ConstantWithWarmup = "constant_with_warmup", Step(constant::with_warmup);
    /// Linear warm-up, then proportional to 1 / sqrt(step).
    InverseSqrt = "inverse_sqrt", Step(inverse_sqrt::inverse_sqrt);
    /// The peak rate, multiplied by `factor` whenever the evaluation metric stops improving.
    ReduceLrOnPlateau = "reduce_lr_on_plateau", Metric(plateau::reduce_lr_on_plateau);
    /// As `cosine`, down to `min_lr` or `min_lr_rate` × peak.
    CosineWithMinLr = "cosine_with_min_lr", Step(cosine::with_min_lr);
    /// As `cosine_with_min_lr`, with a warm-up that starts above 0.
    CosineWarmupWithMinLr = "cosine_warmup_with_min_lr", Step(cosine::warmup_with_min_lr);
    /// Warm-up, a plateau, and a decay over the last `num_decay_steps`.
    WarmupStableDecay = "warmup_stable_decay", Step(warmup_stable_decay::warmup_stable_decay);
}

impl fmt::Display for SchedulerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
