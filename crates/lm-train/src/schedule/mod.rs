//! The learning rate of every optimizer step.
//!
//! Each schedule is the function of the same name in Python's `transformers/optimization.py` (4.57): a closed formula of the
//! step, so a resumed run needs no history. The one exception is `reduce_lr_on_plateau`, which follows the evaluation
//! metric as `torch.optim.lr_scheduler.ReduceLROnPlateau` does and has a small state to save.
//!
//! To add one, write its formula in a file in `kinds/`, and its line in `kinds/mod.rs`.

mod formula;
mod kinds;
mod kwargs;
#[cfg(test)]
mod tests;

pub use kinds::SchedulerType;
pub use kwargs::ScheduleError;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use formula::{Formula, Run};
pub(crate) use kinds::PlateauState;
use kinds::{Build, Plateau};
use kwargs::Kwargs;

/// The number of warm-up steps: `--warmup_steps` when positive, below 1 as a share of the run, else `--warmup_ratio` of it;
/// shares are rounded up (`TrainingArguments.get_warmup_steps` of transformers 5 and of 4.57).
pub(crate) fn warmup_steps(warmup_steps: f64, warmup_ratio: f64, total_steps: u64) -> u64 {
    let share = if warmup_steps > 0.0 { warmup_steps } else { warmup_ratio };
    if warmup_steps >= 1.0 { warmup_steps as u64 } else { (total_steps as f64 * share).ceil() as u64 }
}

/// The learning rate over a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: SchedulerType,
    /// What the formula's result is multiplied with: the peak, of the run's beginning when it is resumed.
    base_lr: f64,
    shape: Shape,
    unused_kwargs: Vec<String>,
    /// The step that a resumed run begins with, and the rate that its checkpoint gives to it.
    resumed: Option<(u64, f64)>,
}

/// How a schedule finds its rate.
#[derive(Clone, Debug)]
enum Shape {
    Formula(Formula),
    Plateau(Plateau),
}

/// What a checkpoint keeps of a schedule, as Python's `scheduler.pt` and the rate in `optimizer.pt` do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// The peak rate that the run began with.
    pub base_lr: f64,
    /// The step that comes next.
    pub next_step: u64,
    /// The rate that it will use.
    pub next_rate: f64,
    /// Of `reduce_lr_on_plateau` only.
    pub plateau: Option<PlateauState>,
}

impl Schedule {
    /// A schedule that rises to `peak_lr` over `warmup_steps` of `total_steps` optimizer steps. `kwargs` are those of
    /// `--lr_scheduler_kwargs`, with Python's names and defaults.
    ///
    /// # Errors
    /// When a keyword is unknown to this kind of schedule, missing or unusable, or the peak is negative or not finite.
    pub fn new(
        kind: SchedulerType,
        peak_lr: f64,
        warmup_steps: u64,
        total_steps: u64,
        kwargs: &Map<String, Value>,
    ) -> Result<Self, ScheduleError> {
        if !(peak_lr.is_finite() && peak_lr >= 0.0) {
            return Err(ScheduleError::BadPeak(peak_lr));
        }
        let run = Run { peak: peak_lr, warmup: warmup_steps as f64, total: total_steps as f64 };
        let mut kwargs = Kwargs::new(kind.name(), kwargs);
        let shape = match kind.build() {
            Build::Step(build) => Shape::Formula(build(run, &mut kwargs)?),
            Build::Metric(build) => Shape::Plateau(build(run, &mut kwargs)?),
        };
        Ok(Self { kind, base_lr: peak_lr, shape, unused_kwargs: kwargs.unused()?, resumed: None })
    }

    /// The kind of schedule this is.
    pub fn kind(&self) -> SchedulerType {
        self.kind
    }

    /// Keywords that were given and change nothing: Python's `get_scheduler` passes none to `constant`,
    /// `constant_with_warmup` and `inverse_sqrt`. The caller tells the user.
    pub fn unused_kwargs(&self) -> &[String] {
        &self.unused_kwargs
    }

    /// The learning rate that the optimizer step with index `step` uses; the first step of a run is 0.
    pub fn rate(&self, step: u64) -> f64 {
        match (&self.shape, self.resumed) {
            (Shape::Plateau(plateau), _) => plateau.state.learning_rate,
            (_, Some((next_step, rate))) if step == next_step => rate,
            (Shape::Formula(formula), _) => self.base_lr * formula.factor(step as f64),
        }
    }

    /// Tells a `reduce_lr_on_plateau` schedule the metric of an evaluation; the others do not look at it.
    pub fn observe(&mut self, metric: f64) {
        if let Shape::Plateau(plateau) = &mut self.shape {
            plateau.observe(metric);
        }
    }

    /// What to save in a checkpoint before the step with index `next_step`.
    pub fn state(&self, next_step: u64) -> ScheduleState {
        let plateau = match &self.shape {
            Shape::Plateau(plateau) => Some(plateau.state.clone()),
            Shape::Formula(_) => None,
        };
        ScheduleState { base_lr: self.base_lr, next_step, next_rate: self.rate(next_step), plateau }
    }

    /// Continues from a checkpoint as Python does. With the same arguments the rates are those of the unbroken run. With
    /// another number of steps the first rate is still the old one, the rest follow the new formula. The peak stays that
    /// of the checkpoint even when `--learning_rate` differs: the caller compares [`ScheduleState::base_lr`] and tells.
    ///
    /// # Errors
    /// When one of the two is `reduce_lr_on_plateau` and the other is not.
    pub fn resume(&mut self, saved: ScheduleState) -> Result<(), ScheduleError> {
        match (&mut self.shape, saved.plateau) {
            (Shape::Plateau(plateau), Some(state)) => plateau.state = state,
            (Shape::Plateau(_), None) | (Shape::Formula(_), Some(_)) => {
                return Err(ScheduleError::OtherSchedule(self.kind.name()));
            }
            (Shape::Formula(_), None) => {}
        }
        self.base_lr = saved.base_lr;
        self.resumed = Some((saved.next_step, saved.next_rate));
        Ok(())
    }
}
