//! `--report_to wandb`: a run as Weights & Biases' offline mode writes it, which `wandb sync` uploads, with the names that
//! Python's `WandbCallback` uses.
//!
//! `wandb/offline-run-DATE_TIME-ID/run-ID.wandb` is a [`TransactionLog`] of `Record` messages of wandb_internal.proto. What else
//! lies in such a folder (config.yaml, wandb-summary.json, wandb-metadata.json) `wandb sync` makes from them.

mod transaction_log;

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value};

use self::transaction_log::TransactionLog;
use super::protobuf::Message;
use super::{Callback, CallbackError, CallbackResult, LogRecord, Outcome, TrainerState, json, record};
use crate::sys::machine;

/// Figures of a whole run, which have no curve: Python writes them into the summary only.
const SINGLE_VALUES: [&str; 5] =
    ["train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos"];
/// What curves are drawn over.
const STEP: &str = "train/global_step";

/// Numbers of the fields of `Record`.
mod field {
    pub const HISTORY: u64 = 2;
    pub const SUMMARY: u64 = 3;
    pub const METRIC: u64 = 12;
    pub const RUN: u64 = 17;
    pub const EXIT: u64 = 18;
    pub const HEADER: u64 = 21;
    pub const ENVIRONMENT: u64 = 26;
}

/// Where a run goes and what it is called: the variables that wandb reads, too.
#[derive(Clone, Debug, Default)]
pub struct WandbSettings {
    folder: PathBuf,
    id: Option<String>,
    name: Option<String>,
    entity: Option<String>,
    project: String,
    group: Option<String>,
    job_type: Option<String>,
    notes: Option<String>,
    tags: Vec<String>,
}

impl WandbSettings {
    /// Reads the variables. `run_name` is `--run_name`.
    pub fn new(run_name: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let tags = variable("WANDB_TAGS").unwrap_or_default();
        Self {
            folder: variable("WANDB_DIR").map(PathBuf::from).unwrap_or_default().join("wandb"),
            id: variable("WANDB_RUN_ID"),
            name: run_name.map(str::to_owned).or_else(|| variable("WANDB_NAME")),
            entity: variable("WANDB_ENTITY"),
            project: variable("WANDB_PROJECT").unwrap_or_else(|| "huggingface".to_owned()),
            group: variable("WANDB_RUN_GROUP"),
            job_type: variable("WANDB_JOB_TYPE"),
            notes: variable("WANDB_NOTES"),
            tags: tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        }
    }
}

/// Writes every log record to an offline run.
#[derive(Debug)]
pub struct Wandb {
    settings: WandbSettings,
    config: Map<String, Value>,
    run: Option<Run>,
}

impl Wandb {
    /// A run that begins with its first record.
    pub fn new(settings: WandbSettings, config: Map<String, Value>) -> Self {
        Self { settings, config, run: None }
    }

    fn write(&mut self, what: impl FnOnce(&mut Run) -> io::Result<()>) -> CallbackResult {
        let run = match &mut self.run {
            Some(run) => Ok(run),
            none => Run::begin(&self.settings, &self.config).map(|run| none.insert(run)),
        };
        run.and_then(what).map_err(CallbackError::at(&self.settings.folder))
    }
}

impl Callback for Wandb {
    fn on_train_begin(&mut self, _state: &TrainerState) -> CallbackResult {
        self.write(|_| Ok(()))
    }

    fn on_log(&mut self, state: &TrainerState, record: &LogRecord) -> CallbackResult {
        self.write(|run| run.log(state.global_step, record))
    }

    fn on_train_end(&mut self, _state: &TrainerState, outcome: &Outcome) -> CallbackResult {
        let Some(mut run) = self.run.take() else { return Ok(()) };
        run.end(outcome).map_err(CallbackError::at(&run.folder))?;
        tracing::info!("the run for Weights & Biases is uploaded by: wandb sync {}", run.folder.display());
        Ok(())
    }
}

/// One offline run.
#[derive(Debug)]
struct Run {
    folder: PathBuf,
    log: TransactionLog,
    records: u64,
    /// How often there was a record for curves, wandb's `_step`.
    step: u64,
    begun: f64,
}

impl Run {
    fn begin(settings: &WandbSettings, config: &Map<String, Value>) -> io::Result<Self> {
        let id = match &settings.id {
            Some(id) if id.is_empty() || id.contains(|letter: char| "/\\#?%:".contains(letter)) => {
                return Err(io::Error::other(format!(
                    "WANDB_RUN_ID={id}: must not be empty nor hold any of / \\ # ? % :"
                )));
            }
            Some(id) => id.clone(),
            None => random_id(),
        };
        let date = chrono::Local::now().format("%Y%m%d_%H%M%S");
        let folder = settings.folder.join(format!("offline-run-{date}-{id}"));
        fs::create_dir_all(folder.join("files"))?;
        let log = TransactionLog::create(&folder.join(format!("run-{id}.wandb")))?;
        let mut run = Self { folder, log, records: 0, step: 0, begun: now() };
        run.append(field::HEADER, &header())?;
        run.append(field::RUN, &run_record(&id, run.begun, settings, config)?)?;
        run.append(field::ENVIRONMENT, &environment(run.begun))?;
        run.append(field::METRIC, &metric(1, STEP, None))?;
        run.append(field::METRIC, &metric(2, "*", Some(STEP)))?;
        Ok(run)
    }

    fn log(&mut self, global_step: u64, record: &LogRecord) -> io::Result<()> {
        let (single, curves): (Vec<_>, Vec<_>) =
            record.iter().filter(|(name, _)| *name != "step").partition(|(name, _)| SINGLE_VALUES.contains(name));
        let (mut history, mut summary) = (Message::default(), Message::default());
        for (name, value) in single {
            summary.message(1, &item(name, value)?);
        }
        for (name, value) in curves {
            let item = item(&record::tag(name), value)?;
            history.message(1, &item);
            summary.message(1, &item);
        }
        let time = now();
        let own = [
            item(STEP, &global_step)?,
            item("_timestamp", &time)?,
            item("_runtime", &(time - self.begun))?,
            item("_step", &self.step)?,
        ];
        for item in &own {
            history.message(1, item);
            summary.message(1, item);
        }
        let mut step = Message::default();
        step.varint(1, self.step);
        history.message(2, &step);
        self.step += 1;
        self.append(field::HISTORY, &history)?;
        self.append(field::SUMMARY, &summary)
    }

    /// The end, with the exit code that Python's process has.
    fn end(&mut self, outcome: &Outcome) -> io::Result<()> {
        let mut exit = Message::default();
        exit.varint(
            1,
            match outcome {
                Outcome::Finished => 0,
                Outcome::Failed(_) => 1,
                Outcome::Stopped(_) => 255,
            },
        );
        exit.varint(2, (now() - self.begun).max(0.0) as u64);
        self.append(field::EXIT, &exit)?;
        self.log.sync()
    }

    fn append(&mut self, field: u64, content: &Message) -> io::Result<()> {
        self.records += 1;
        let mut record = Message::default();
        record.varint(1, self.records);
        record.message(field, content);
        self.log.append(record.as_bytes())
    }
}

/// `HeaderRecord`: who wrote the file, and from which version on wandb reads it.
fn header() -> Message {
    let (mut version, mut header) = (Message::default(), Message::default());
    version.bytes(1, concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).as_bytes());
    version.bytes(2, b"0.12.0");
    header.message(1, &version);
    header
}

/// `RunRecord`
fn run_record(id: &str, begun: f64, settings: &WandbSettings, config: &Map<String, Value>) -> io::Result<Message> {
    let (mut run, mut update) = (Message::default(), Message::default());
    for (name, value) in config {
        update.message(1, &item(name, value)?);
    }
    run.bytes(1, id.as_bytes());
    run.message(4, &update);
    let texts = [
        (2, &settings.entity),
        (3, &Some(settings.project.clone())),
        (6, &settings.group),
        (7, &settings.job_type),
        (8, &settings.name),
        (9, &settings.notes),
        (13, &Some(machine::host())),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            run.bytes(field, text.as_bytes());
        }
    }
    for tag in &settings.tags {
        run.bytes(10, tag.as_bytes());
    }
    run.message(17, &timestamp(begun));
    Ok(run)
}

/// `EnvironmentRecord`: what wandb-metadata.json is made of.
fn environment(begun: f64) -> Message {
    let mut environment = Message::default();
    environment.bytes(1, machine::system().as_bytes());
    environment.message(3, &timestamp(begun));
    if let Some(program) = std::env::current_exe().ok().as_deref().and_then(Path::to_str) {
        environment.bytes(6, program.as_bytes());
        environment.bytes(14, program.as_bytes());
    }
    environment.bytes(12, machine::host().as_bytes());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    environment.varint(17, threads as u64);
    environment
}

/// `MetricRecord` of the metrics called `name` (field 1) or like it (field 2), drawn over another one.
fn metric(field: u64, name: &str, over: Option<&str>) -> Message {
    let (mut metric, mut options) = (Message::default(), Message::default());
    metric.bytes(field, name.as_bytes());
    if let Some(over) = over {
        metric.bytes(4, over.as_bytes());
        // step_sync: a record without the other metric gets its last value.
        options.varint(1, 1);
    }
    options.varint(3, 1);
    metric.message(6, &options);
    metric
}

/// `ConfigItem`, `HistoryItem` and `SummaryItem`: a name and a value as JSON.
fn item(name: &str, value: &impl Serialize) -> io::Result<Message> {
    let mut item = Message::default();
    item.bytes(1, name.as_bytes());
    item.bytes(16, json::to_string(value, "")?.as_bytes());
    Ok(item)
}

/// `google.protobuf.Timestamp`
fn timestamp(seconds: f64) -> Message {
    let mut timestamp = Message::default();
    timestamp.varint(1, seconds as u64);
    timestamp.varint(2, (seconds.fract() * 1e9) as u64);
    timestamp
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Eight digits and small letters, as wandb's. `RandomState` is the standard library's only source of chance.
fn random_id() -> String {
    let mut bits = RandomState::new().build_hasher().finish();
    let mut digit = || {
        let digit = char::from_digit((bits % 36) as u32, 36).unwrap_or('0');
        bits /= 36;
        digit
    };
    (0..8).map(|_| digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, variables: &[(&str, &str)], outcome: &Outcome) -> PathBuf {
        let variable = |name: &str| {
            let given = variables.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned());
            given.or_else(|| (name == "WANDB_DIR").then(|| folder.display().to_string()))
        };
        let values = [("learning_rate".to_owned(), 1e-3.into()), ("text".to_owned(), "x\"y".into())];
        let config = values.into_iter().collect();
        let mut wandb = Wandb::new(WandbSettings::new(Some("a run"), variable), config);
        let mut state = TrainerState::default();
        wandb.on_train_begin(&state).expect("begun");
        for step in [10_u64, 20] {
            state.global_step = step;
            wandb.on_log(&state, &LogRecord::new().with("loss", 2.5).with("step", step)).expect("logged");
        }
        wandb.on_log(&state, &LogRecord::new().with("train_loss", 1.5).with("epoch", 1.0)).expect("logged");
        wandb.on_train_end(&state, outcome).expect("ended");
        let runs = fs::read_dir(folder.join("wandb")).expect("listed");
        runs.map(|entry| entry.expect("an entry").path()).next().expect("a run")
    }

    fn contains(record: &[u8], text: &str) -> bool {
        record.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[test]
    fn a_run_is_a_log_of_records() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = run(folder.path(), &[("WANDB_RUN_ID", "abc123"), ("WANDB_TAGS", "small, test")], &Outcome::Finished);
        let name = run.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.starts_with("offline-run-2") && name.ends_with("-abc123"), "{name}");
        let bytes = fs::read(run.join("run-abc123.wandb")).expect("the log");
        let records = transaction_log::records(&bytes);
        // header, run, environment, two metrics, three times history and summary, exit
        assert_eq!(records.len(), 12);
        for (number, record) in (1..).zip(&records) {
            assert_eq!(record[..2], [0x08, number], "each has its number");
        }
        let texts = ["abc123", "huggingface", "a run", "small", "test", "learning_rate", "0.001", r#""x\"y""#];
        texts.iter().for_each(|text| assert!(contains(&records[1], text), "{text}"));
        for text in ["train/loss", "2.5", "train/global_step", "10", "_step", "_timestamp", "_runtime"] {
            assert!(contains(&records[5], text), "{text}");
        }
        assert!(!contains(&records[9], "train_loss") && contains(&records[9], "train/epoch"), "no curve of one value");
        assert!(contains(&records[10], "train_loss"), "but a figure of the summary");
    }

    #[test]
    fn an_id_that_cannot_be_a_name_is_an_error() {
        let settings = WandbSettings::new(None, |name| (name == "WANDB_RUN_ID").then(|| "a/b".to_owned()));
        let mut wandb = Wandb::new(settings, Map::new());
        let error = wandb.on_train_begin(&TrainerState::default()).expect_err("no folder");
        assert!(error.to_string().contains("WANDB_RUN_ID=a/b"), "{error}");
    }

    #[test]
    fn ids_are_of_eight_letters_and_differ() {
        let (one, other) = (random_id(), random_id());
        assert!(one.len() == 8 && one.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit()));
        assert_ne!(one, other);
    }
}
