//! The learning rate of every optimizer step.
//!
//! Each schedule is the function of the same name in Python's `transformers/optimization.py` (4.57): a closed formula of the
//! step, so a resumed run needs no history. The one exception is `reduce_lr_on_plateau`, which follows the evaluation
//! metric as `torch.optim.lr_scheduler.ReduceLROnPlateau` does and has a small state to save.
//!
//! To add one, write its formula in a file, and its line in [`kinds`].

mod constant;
mod cosine;
mod inverse_sqrt;
mod kinds;
mod kwargs;
mod linear;
mod plateau;
mod polynomial;
mod schedule;
mod shape;
#[cfg(test)]
mod tests;
mod warmup_stable_decay;

pub use kinds::SchedulerType;
pub use kwargs::ScheduleError;
pub use schedule::{Schedule, ScheduleState, warmup_steps};
