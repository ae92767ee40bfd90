//! `trainer_state.json`: where a run stands, in the fields and the layout of Python's `TrainerState`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::history::RunHistory;
use super::json;
use super::record::LogRecord;

/// The file's name inside a checkpoint and the output folder.
pub const TRAINER_STATE_NAME: &str = "trainer_state.json";

/// Where a run stands. Python's `TrainerState.load_from_json` accepts exactly these fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainerState {
    /// The optimizer step with the best metric.
    pub best_global_step: Option<u64>,
    /// The best value of `--metric_for_best_model` so far.
    #[serde(with = "json::optional")]
    pub best_metric: Option<f64>,
    /// The folder of the checkpoint with the best metric.
    pub best_model_checkpoint: Option<String>,
    /// Epochs trained, the current one as a fraction.
    pub epoch: Option<f64>,
    /// An evaluation every so many optimizer steps.
    #[serde(deserialize_with = "whole_number")]
    pub eval_steps: u64,
    /// Optimizer steps done.
    pub global_step: u64,
    /// Always false here: no hyper-parameter search.
    pub is_hyper_param_search: bool,
    /// Always true here: one process.
    pub is_local_process_zero: bool,
    /// Always true here: one process.
    pub is_world_process_zero: bool,
    /// Every record logged since the start of training; a clone of the state shares them.
    pub log_history: Vec<Arc<LogRecord>>,
    /// A log record every so many optimizer steps.
    #[serde(deserialize_with = "whole_number")]
    pub logging_steps: u64,
    /// Optimizer steps of the whole run.
    pub max_steps: u64,
    /// Input tokens that went through the model, counted when `--include_num_input_tokens_seen` asks for it.
    pub num_input_tokens_seen: u64,
    /// Epochs of the whole run, rounded up.
    pub num_train_epochs: u64,
    /// A checkpoint every so many optimizer steps.
    #[serde(deserialize_with = "whole_number")]
    pub save_steps: u64,
    /// State of Python's stateful callbacks by class name, such as `EarlyStoppingCallback`.
    pub stateful_callbacks: Map<String, Value>,
    /// Floating-point operations done.
    pub total_flos: f64,
    /// Examples per step and device.
    pub train_batch_size: Option<u64>,
    /// Always null here.
    pub trial_name: Option<String>,
    /// Always null here.
    pub trial_params: Option<Map<String, Value>>,
    /// Whether every record tells `num_input_tokens_seen`: `--include_num_input_tokens_seen`, not part of the file.
    #[serde(skip)]
    pub counts_tokens: bool,
    /// What the report shows beside the log: not part of the file, but of run_state.json.
    #[serde(skip)]
    pub history: RunHistory,
}

impl Default for TrainerState {
    fn default() -> Self {
        Self {
            best_global_step: None,
            best_metric: None,
            best_model_checkpoint: None,
            epoch: None,
            eval_steps: 500,
            global_step: 0,
            is_hyper_param_search: false,
            is_local_process_zero: true,
            is_world_process_zero: true,
            log_history: Vec::new(),
            logging_steps: 500,
            max_steps: 0,
            num_input_tokens_seen: 0,
            num_train_epochs: 0,
            save_steps: 500,
            stateful_callbacks: Map::new(),
            total_flos: 0.0,
            train_batch_size: None,
            trial_name: None,
            trial_params: None,
            counts_tokens: false,
            history: RunHistory::default(),
        }
    }
}

/// Why a `trainer_state.json` cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be opened, read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file's content is no trainer state.
    #[error("{path}: not a trainer state: {source}; use an earlier checkpoint")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
}

impl TrainerState {
    /// Reads a file that this program or Python wrote; fields that are absent take Python's defaults.
    ///
    /// # Errors
    /// When the file cannot be read or is no trainer state.
    pub fn load(path: &Path) -> Result<Self, StateError> {
        let text = lm_files::read_to_string(path, lm_files::SMALL)
            .map_err(|source| StateError::Io { path: path.to_owned(), source })?;
        json::from_str(&text).map_err(|source| StateError::Json { path: path.to_owned(), source })
    }

    /// Writes the file as `json.dumps(…, indent=2, sort_keys=True)` does.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), StateError> {
        let unwritable = |source| StateError::Json { path: path.to_owned(), source };
        let mut value = serde_json::to_value(self).map_err(unwritable)?;
        value.sort_all_objects();
        let text = json::to_string(&value, "  ").map_err(unwritable)? + "\n";
        lm_files::write(path, text.as_bytes()).map_err(|source| StateError::Io { path: path.to_owned(), source })
    }

    /// Adds what Python's `Trainer.log` leaves in the metrics that it is given: `epoch`, and the tokens if they are counted.
    pub fn add_progress(&self, record: &mut LogRecord) {
        if let Some(epoch) = self.epoch {
            record.set("epoch", epoch);
        }
        if self.counts_tokens {
            record.set("num_input_tokens_seen", self.num_input_tokens_seen);
        }
    }

    /// Completes a record with `epoch` and `step` as Python's `Trainer.log` does, keeps it, and returns it for
    /// `Callbacks::on_log`.
    pub fn log(&mut self, mut record: LogRecord) -> LogRecord {
        self.add_progress(&mut record);
        record.set("step", self.global_step);
        self.log_history.push(Arc::new(record.clone()));
        record
    }

    /// Python's `Trainer._determine_best_metric`: takes `metric` when it is strictly better than the best so far and
    /// says whether it was.
    pub fn update_best(&mut self, metric: f64, greater_is_better: bool) -> bool {
        let is_better = match self.best_metric {
            best if greater_is_better => metric > best.unwrap_or(f64::NEG_INFINITY),
            best => metric < best.unwrap_or(f64::INFINITY),
        };
        if is_better {
            self.best_metric = Some(metric);
            self.best_global_step = Some(self.global_step);
        }
        is_better
    }

    /// Records the switches of the training loop as Python saves them with a checkpoint; `should_training_stop` is
    /// true in the last one of a run.
    pub fn set_control(&mut self, should_training_stop: bool, should_evaluate: bool, should_log: bool) {
        let args = serde_json::json!({
            "should_epoch_stop": false,
            "should_evaluate": should_evaluate,
            "should_log": should_log,
            "should_save": true,
            "should_training_stop": should_training_stop,
        });
        self.stateful_callbacks
            .insert("TrainerControl".to_owned(), serde_json::json!({"args": args, "attributes": {}}));
    }
}

/// Python's steps of an event from its argument: a value below 1 is a share of the run, rounded up.
pub fn steps_of(argument: f64, max_steps: u64) -> u64 {
    if argument < 1.0 { (max_steps as f64 * argument).ceil() as u64 } else { argument as u64 }
}

/// Accepts `500`, and `500.0`, which Python writes when the value came from the command line.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if number >= 0.0 && number.fract() == 0.0 {
        Ok(number as u64)
    } else {
        Err(serde::de::Error::custom(format!("expected a whole number of steps, found {number}")))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Written by Python: a Trainer with evaluation, early stopping and `--logging_steps 1`.
    const PYTHONS: &str = include_str!("../../tests/fixtures/trainer_state.json");

    #[test]
    fn pythons_file_survives_a_round_trip() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(TRAINER_STATE_NAME);
        fs::write(&path, PYTHONS).expect("written");
        let state = TrainerState::load(&path).expect("Python's state");
        assert!(state.log_history.len() > 2 && state.best_metric.is_some() && state.global_step > 0);
        state.save(&path).expect("saved");
        let ours = fs::read_to_string(&path).expect("read");
        let names = |text: &str| -> Vec<String> {
            text.lines().filter_map(|line| line.split_once("\": ")).map(|(name, _)| name.to_owned()).collect()
        };
        assert_eq!(names(&ours), names(PYTHONS), "the same names in the same order and indentation");
        let values = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let (mut ours, pythons) = (values(&ours), values(PYTHONS));
        ours["logging_steps"] = pythons["logging_steps"].clone(); // 1 here, 1.0 in Python
        assert_eq!(ours, pythons);
    }

    /// `json.dumps` of the same in Python: `{"best_metric": Infinity, …, "perplexity": Infinity, …}`.
    #[test]
    fn an_infinite_perplexity_survives() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(TRAINER_STATE_NAME);
        let mut state = TrainerState { best_metric: Some(f64::INFINITY), ..TrainerState::default() };
        state.log(LogRecord::new().with("perplexity", f64::INFINITY).with("sample_1", "Infinity, NaN".to_owned()));
        state.save(&path).expect("saved");
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains("\"best_metric\": Infinity,\n"), "{text}");
        assert!(text.contains("\"perplexity\": Infinity,\n"), "{text}");
        assert_eq!(TrainerState::load(&path).expect("loaded"), state);
    }

    #[test]
    fn a_record_is_completed_and_kept() {
        let mut state = TrainerState { global_step: 7, epoch: Some(0.25), ..TrainerState::default() };
        let record = state.log(LogRecord::new().with("loss", 2.0));
        assert_eq!(serde_json::to_string(&record).expect("JSON"), r#"{"loss":2.0,"epoch":0.25,"step":7}"#);
        assert_eq!(state.log_history, [Arc::new(record)]);
        (state.counts_tokens, state.num_input_tokens_seen) = (true, 42);
        let record = state.log(LogRecord::new());
        assert_eq!(
            serde_json::to_string(&record).expect("JSON"),
            r#"{"epoch":0.25,"num_input_tokens_seen":42,"step":7}"#
        );
    }

    #[test]
    fn only_a_strictly_better_metric_is_the_best() {
        let mut state = TrainerState { global_step: 1, ..TrainerState::default() };
        assert!(!state.update_best(f64::NAN, false) && state.update_best(3.0, false));
        state.global_step = 2;
        assert!(!state.update_best(3.0, false) && !state.update_best(f64::NAN, false));
        assert_eq!(state.best_global_step, Some(1));
        assert!(state.update_best(2.0, false) && !state.update_best(2.0, true) && state.update_best(2.5, true));
    }

    #[test]
    fn a_broken_file_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(TRAINER_STATE_NAME);
        fs::write(&path, &PYTHONS[..PYTHONS.len() / 2]).expect("written");
        let message = TrainerState::load(&path).expect_err("cut off").to_string();
        assert!(message.contains("trainer_state.json: not a trainer state") && !message.contains('\n'), "{message}");
        assert!(TrainerState::load(folder.path()).is_err());
    }

    #[test]
    fn shares_of_the_run_become_steps() {
        assert_eq!((steps_of(500.0, 10), steps_of(0.1, 101), steps_of(1.0, 7)), (500, 11, 1));
    }
}
