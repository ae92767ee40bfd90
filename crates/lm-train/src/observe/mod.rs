//! Who watches a run: the trainer tells, the callbacks show and write.
//!
//! ```text
//! trainer ──> TrainerState::log ──> LogRecord ──> Callbacks ──┬─> console      progress bar or plain lines
//!                                                             ├─> log_file     log.jsonl
//!                                                             ├─> tensorboard  event files
//!                                                             ├─> wandb        an offline run of Weights & Biases
//!                                                             ├─> mlflow       a tracking server, from a thread of its own
//!                                                             └─> report       report.html
//! ```
//!
//! No callback can end or change a run: one that fails (a full disk, say) is named in a warning and left out from then on.

pub mod console;
pub mod curve;
pub(crate) mod format;
pub mod history;
pub mod json;
mod log_file;
pub mod memory;
mod mlflow;
pub mod model_card;
pub(crate) mod notes;
mod protobuf;
mod record;
pub mod report;
mod state;
mod tensorboard;
mod wandb;

use std::fmt;
use std::path::Path;

pub use console::Console;
pub use log_file::{LOG_FILE_NAME, LogFile};
pub use mlflow::{Mlflow, MlflowSettings};
pub use record::{LogRecord, LogValue, round, speed_metrics};
pub use state::{TRAINER_STATE_NAME, TrainerState, steps_of};
pub use tensorboard::{TensorBoard, default_logging_dir};
pub use wandb::{Wandb, WandbSettings};

use crate::sys::signals::{self, Ended};

/// Why a callback could not do its work: one line that names the file.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct CallbackError {
    /// The file or place.
    pub what: String,
    /// What the system said.
    pub source: std::io::Error,
}

impl CallbackError {
    /// An error at a path, for `map_err`.
    pub fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self { what: path.display().to_string(), source }
    }
}

/// What a callback's methods return.
pub type CallbackResult = Result<(), CallbackError>;

/// One whole optimizer step.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo {
    /// Mean cross-entropy over the step's predicted tokens, in nats.
    pub loss: f64,
    /// Norm over all gradients, before clipping.
    pub grad_norm: f64,
    /// The rate that the step used.
    pub learning_rate: f64,
    /// Tokens that went through the model, padding included.
    pub tokens: u64,
    /// The same without padding.
    pub real_tokens: u64,
    /// What it took.
    pub seconds: f64,
}

/// How training ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done, or early stopping ended them.
    Finished,
    /// A signal asked for the end; its name. The state was saved.
    Stopped(String),
    /// An error ended it; the error's line.
    Failed(String),
}

impl Outcome {
    /// The outcome of what ended like this.
    pub fn of(ended: &anyhow::Result<Ended>) -> Self {
        match ended {
            Ok(Ended::Done) => Self::Finished,
            Ok(Ended::Signal(signal)) => Self::Stopped(signals::name(*signal).to_owned()),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Stopped(signal) => write!(f, "stopped by {signal}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}

/// The moments of a run. Each method does nothing unless a callback has a use for it.
pub trait Callback {
    /// Before the first step; on a resumed run `state` already has a history.
    fn on_train_begin(&mut self, _state: &TrainerState) -> CallbackResult {
        Ok(())
    }

    /// After each optimizer step.
    fn on_step_end(&mut self, _state: &TrainerState, _step: &StepInfo) -> CallbackResult {
        Ok(())
    }

    /// A record was logged: `loss` and its companions, the metrics of an evaluation, or the figures of the whole run.
    fn on_log(&mut self, _state: &TrainerState, _record: &LogRecord) -> CallbackResult {
        Ok(())
    }

    /// A batch of an evaluation is done: `done` of `total`.
    fn on_prediction_step(&mut self, _done: u64, _total: u64) -> CallbackResult {
        Ok(())
    }

    /// An evaluation is done; its metrics have been logged.
    fn on_evaluate(&mut self, _state: &TrainerState, _metrics: &LogRecord) -> CallbackResult {
        Ok(())
    }

    /// A checkpoint is complete on disk.
    fn on_save(&mut self, _state: &TrainerState, _checkpoint: &Path) -> CallbackResult {
        Ok(())
    }

    /// After the last step, however the run ended.
    fn on_train_end(&mut self, _state: &TrainerState, _outcome: &Outcome) -> CallbackResult {
        Ok(())
    }
}

/// The callbacks of a run, told in the order of their addition.
#[derive(Default)]
pub struct Callbacks {
    callbacks: Vec<Box<dyn Callback>>,
}

impl Callbacks {
    /// Adds one.
    pub fn add(&mut self, callback: impl Callback + 'static) {
        self.callbacks.push(Box::new(callback));
    }

    /// [`Callback::on_train_begin`] of each.
    pub fn on_train_begin(&mut self, state: &TrainerState) {
        self.each(|callback| callback.on_train_begin(state));
    }

    /// [`Callback::on_step_end`] of each.
    pub fn on_step_end(&mut self, state: &TrainerState, step: &StepInfo) {
        self.each(|callback| callback.on_step_end(state, step));
    }

    /// [`Callback::on_log`] of each.
    pub fn on_log(&mut self, state: &TrainerState, record: &LogRecord) {
        self.each(|callback| callback.on_log(state, record));
    }

    /// [`Callback::on_prediction_step`] of each.
    pub fn on_prediction_step(&mut self, done: u64, total: u64) {
        self.each(|callback| callback.on_prediction_step(done, total));
    }

    /// [`Callback::on_evaluate`] of each.
    pub fn on_evaluate(&mut self, state: &TrainerState, metrics: &LogRecord) {
        self.each(|callback| callback.on_evaluate(state, metrics));
    }

    /// [`Callback::on_save`] of each.
    pub fn on_save(&mut self, state: &TrainerState, checkpoint: &Path) {
        self.each(|callback| callback.on_save(state, checkpoint));
    }

    /// [`Callback::on_train_end`] of each.
    pub fn on_train_end(&mut self, state: &TrainerState, outcome: &Outcome) {
        self.each(|callback| callback.on_train_end(state, outcome));
    }

    fn each(&mut self, mut tell: impl FnMut(&mut dyn Callback) -> CallbackResult) {
        self.callbacks.retain_mut(|callback| match tell(callback.as_mut()) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("{error}; training goes on without writing there");
                false
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    struct Recorder {
        seen: Rc<RefCell<Vec<u64>>>,
        fails_at: u64,
    }

    impl Callback for Recorder {
        fn on_log(&mut self, state: &TrainerState, _: &LogRecord) -> CallbackResult {
            self.seen.borrow_mut().push(state.global_step);
            if state.global_step < self.fails_at {
                return Ok(());
            }
            Err(CallbackError { what: "log.jsonl".to_owned(), source: std::io::Error::other("disk full") })
        }
    }

    #[test]
    fn a_callback_that_fails_is_left_out_and_the_others_go_on() {
        let (broken, sound) = (Rc::default(), Rc::default());
        let mut callbacks = Callbacks::default();
        callbacks.add(Recorder { seen: Rc::clone(&broken), fails_at: 2 });
        callbacks.add(Recorder { seen: Rc::clone(&sound), fails_at: u64::MAX });
        for global_step in 1..=3 {
            callbacks.on_log(&TrainerState { global_step, ..TrainerState::default() }, &LogRecord::new());
        }
        assert_eq!((broken.borrow().as_slice(), sound.borrow().as_slice()), ([1, 2].as_slice(), [1, 2, 3].as_slice()));
    }
}
