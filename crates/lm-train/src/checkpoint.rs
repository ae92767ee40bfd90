//! `checkpoint-N/` folders: written beside their name, flushed and renamed, so that one with the name is whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use burn::tensor::Device;
use lm_data::StreamPosition;
use lm_data::tokenizer::LmTokenizer;
use lm_models::load::{self, Loaded, save_pretrained};
use lm_models::params::Snapshot;
use lm_models::weights::{self, FloatDtype, NamedTensor};
use lm_models::{AutoModel, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::callbacks::{TRAINER_STATE_NAME, TrainerState};
use crate::grad_scaler::GradScaler;
use crate::optimizer::StateTensor;
use crate::panics;
use crate::schedule::ScheduleState;

/// Tensors of the optimizer.
pub const OPTIMIZER_NAME: &str = "optimizer.safetensors";
/// What else a run needs to go on.
pub const RUN_STATE_NAME: &str = "run_state.json";
/// The arguments of the run.
pub const ARGUMENTS_NAME: &str = "training_args.json";
const PREFIX: &str = "checkpoint-";
/// What a folder is called before it is whole or while it is removed; never taken for a checkpoint, removed at the next
/// start.
const UNFINISHED: &str = "tmp-checkpoint-";
/// What a whole checkpoint is called for the moment in which a new one of the same step takes its name.
const REPLACED: &str = "replaced-checkpoint-";
/// What checkpoints are called that a run does not go on from although they are later: of another course, or damaged.
const SET_ASIDE: &str = "set-aside-checkpoint-";

/// Why a checkpoint can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refuses.
    #[error("{}: cannot {action}: {source}; earlier checkpoints are untouched: start again with the same command when that is solved", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of a checkpoint is not what it should be.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The model or the tokenizer can't be written.
    #[error("{0}; earlier checkpoints are untouched: start again with the same command when that is solved")]
    Write(String),
    /// Checkpoints are there, none of them whole.
    #[error("no checkpoint in {} is whole, the oldest: {reason}; to start anew there add --overwrite_output_dir", output_dir.display())]
    NoneWhole {
        /// `--output_dir`
        output_dir: PathBuf,
        /// What is wrong with the last one looked at.
        reason: String,
    },
    /// The thread that writes died.
    #[error("the thread that writes checkpoints ended unexpectedly: {0}; earlier checkpoints are untouched")]
    Thread(String),
}

impl CheckpointError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What must be the same for a resumed run to be the unbroken one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Digest of the training examples: text, tokenizer, lengths.
    pub data: String,
    /// `--per_device_train_batch_size`
    pub per_device_train_batch_size: usize,
    /// `--gradient_accumulation_steps`
    pub gradient_accumulation_steps: usize,
    /// Number of `--devices`.
    #[serde(default = "one")]
    pub num_devices: usize,
    /// `--data_seed`, or `--seed`: the order of the examples.
    pub data_seed: u64,
    /// `--seed`: masks and dropout.
    pub seed: u64,
    /// How examples are ordered and batches formed: `--group_by_length`, `--dataloader_drop_last`.
    pub order: String,
}

fn one() -> usize {
    1
}

impl Fingerprint {
    /// What differs, in words; none when nothing does.
    pub fn difference(&self, saved: &Self) -> Option<String> {
        let mut parts = Vec::new();
        if self.data != saved.data {
            parts.push("the training examples differ (other text, tokenizer or length)".to_owned());
        }
        let mut compare = |name: &str, now: String, then: String| {
            if now != then {
                parts.push(format!("--{name} is {now}, was {then}"));
            }
        };
        compare(
            "per_device_train_batch_size",
            self.per_device_train_batch_size.to_string(),
            saved.per_device_train_batch_size.to_string(),
        );
        // Batches of a step may be shared out otherwise, not be more or fewer.
        let batches = |of: &Self| of.gradient_accumulation_steps.saturating_mul(of.num_devices);
        if batches(self) != batches(saved) {
            let accumulated = |of: &Self| of.gradient_accumulation_steps.to_string();
            compare("gradient_accumulation_steps", accumulated(self), accumulated(saved));
            compare("devices", self.num_devices.to_string(), saved.num_devices.to_string());
        }
        compare("seed", self.seed.to_string(), saved.seed.to_string());
        compare("data_seed", self.data_seed.to_string(), saved.data_seed.to_string());
        compare("group_by_length/dataloader_drop_last", self.order.clone(), saved.order.clone());
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// `run_state.json`: what the Hugging Face files have no place for. There is no random state: every random choice is a
/// function of the seed and the position.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunState {
    /// Of this file.
    pub version: u32,
    /// What the run must not change.
    pub fingerprint: Fingerprint,
    /// The learning-rate schedule.
    pub schedule: ScheduleState,
    /// `--optim`
    pub optimizer: String,
    /// Steps of the optimizer on each parameter.
    pub optimizer_steps: Vec<u64>,
    /// The loss scale, with `--fp16`.
    #[serde(default)]
    pub grad_scaler: Option<GradScaler>,
    /// Place in the corpus, with `--streaming`.
    pub stream_position: Option<StreamPosition>,
    /// Sum of the losses of all steps.
    pub total_loss: f64,
    /// What the next log record is made of.
    pub since_log: SinceLog,
    /// Prompts of the report, and what the model made of them before the run's first step.
    pub samples: Vec<(String, String)>,
    /// Whether a signal came before the evaluation that is due after this step.
    pub evaluation_due: bool,
    /// The other files of the checkpoint.
    pub files: BTreeMap<String, FileCheck>,
}

/// Sums over the steps since the last log record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinceLog {
    /// Steps.
    pub steps: u64,
    /// Their losses.
    pub loss: f64,
    /// Their tokens, padding included.
    pub tokens: u64,
    /// Their tokens without padding.
    pub real_tokens: u64,
}

/// What tells a file of a checkpoint from a damaged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCheck {
    /// Its size.
    pub bytes: u64,
    /// Its CRC-32 (IEEE).
    pub crc32: u32,
}

impl FileCheck {
    fn of(mut file: fs::File) -> io::Result<Self> {
        let (mut hasher, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 20]);
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self { bytes, crc32: hasher.finalize() }),
                read => {
                    bytes += read as u64;
                    hasher.update(&buffer[..read]);
                }
            }
        }
    }
}

/// The version of `run_state.json` that this program writes.
pub const RUN_STATE_VERSION: u32 = 1;

/// Everything that is the same in every checkpoint of a run, and in the output folder.
#[derive(Clone)]
pub struct ModelFiles {
    /// config.json
    pub config: ModelConfig,
    /// generation_config.json, if the model has one.
    pub generation_config: Option<String>,
    /// The tokenizer.
    pub tokenizer: Arc<LmTokenizer>,
    /// training_args.json
    pub arguments: String,
    /// The type of the weights on disk; those of a checkpoint that can be resumed are float32, as trained.
    pub dtype: FloatDtype,
}

impl ModelFiles {
    /// Writes the model as Python's `save_pretrained` into an existing folder.
    pub fn write(&self, folder: &Path, parameters: &[Snapshot]) -> Result<(), CheckpointError> {
        self.write_as(self.dtype, folder, parameters)
    }

    fn write_as(&self, dtype: FloatDtype, folder: &Path, parameters: &[Snapshot]) -> Result<(), CheckpointError> {
        save_pretrained(folder, &self.config, self.generation_config.as_deref(), parameters, dtype)
            .map_err(|e| CheckpointError::Write(e.to_string()))?;
        self.tokenizer.save(folder).map_err(|e| CheckpointError::Write(e.to_string()))?;
        write_file(&folder.join(ARGUMENTS_NAME), self.arguments.as_bytes())
    }
}

/// A checkpoint about to be written: what training must wait for is only to put this together.
pub struct Pending {
    /// The step it belongs to.
    pub step: u64,
    /// The parameters.
    pub parameters: Vec<Snapshot>,
    /// The optimizer's tensors; none with `--save_only_model`.
    pub optimizer: Option<Vec<StateTensor>>,
    /// trainer_state.json
    pub state: TrainerState,
    /// run_state.json; none with `--save_only_model`.
    pub run_state: Option<RunState>,
}

/// Writes checkpoints on a thread of its own, one at a time.
pub struct Writer {
    output_dir: PathBuf,
    files: ModelFiles,
    /// Checkpoints kept; none keeps all.
    limit: Option<usize>,
    writing: Option<JoinHandle<Result<PathBuf, CheckpointError>>>,
}

impl Writer {
    /// A writer of checkpoints into `output_dir`.
    pub fn new(output_dir: &Path, files: ModelFiles, limit: Option<usize>) -> Self {
        Self { output_dir: output_dir.to_owned(), files, limit, writing: None }
    }

    /// The files that every save has in common.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Whether a save is under way that has ended by now, well or not.
    pub fn is_done(&self) -> bool {
        self.writing.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits for the save that is under way; its folder, if there was one.
    pub fn finish(&mut self) -> Result<Option<PathBuf>, CheckpointError> {
        match self.writing.take().map(JoinHandle::join) {
            None => Ok(None),
            Some(Ok(result)) => result.map(Some),
            Some(Err(panic)) => Err(CheckpointError::Thread(panics::cause(&*panic))),
        }
    }

    /// Starts to write. Call [`Self::finish`] first; a save still under way is waited for. When the folder is whole, the
    /// oldest ones beyond the limit are removed, never `best` or the newest.
    pub fn start(&mut self, pending: Pending, best: Option<PathBuf>) -> Result<(), CheckpointError> {
        self.finish()?;
        let (output_dir, files, limit) = (self.output_dir.clone(), self.files.clone(), self.limit);
        let work = move || {
            let folder = write(&output_dir, &files, &pending)?;
            if let Some(limit) = limit {
                rotate(&output_dir, limit, best.as_deref(), &folder)?;
            }
            Ok(folder)
        };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(work);
        self.writing = Some(thread.map_err(CheckpointError::io("start a thread", &self.output_dir))?);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!("{error}");
        }
    }
}

/// The folder of a step's checkpoint.
pub fn folder_of(output_dir: &Path, step: u64) -> PathBuf {
    output_dir.join(format!("{PREFIX}{step}"))
}

fn write(output_dir: &Path, files: &ModelFiles, pending: &Pending) -> Result<PathBuf, CheckpointError> {
    let unfinished = output_dir.join(format!("{UNFINISHED}{}", pending.step));
    remove(&unfinished)?;
    fs::create_dir(&unfinished).map_err(CheckpointError::io("create the folder", &unfinished))?;
    let folder = folder_of(output_dir, pending.step);
    let written = write_into(&unfinished, files, pending).and_then(|()| take_name(&unfinished, &folder));
    if let Err(error) = written {
        // On a full disk the unfinished folder would stand in the way of everything else; the error is what matters.
        let _ = fs::remove_dir_all(&unfinished);
        return Err(error);
    }
    Ok(folder)
}

/// Gives a finished folder its name. At no moment is there neither the old checkpoint of that name nor the new one, but
/// for [`recover`].
fn take_name(unfinished: &Path, folder: &Path) -> Result<(), CheckpointError> {
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(CheckpointError::io("rename", from));
    let output_dir = folder.parent().unwrap_or(Path::new("."));
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let replaced = output_dir.join(name.replacen(PREFIX, REPLACED, 1));
    if folder.exists() {
        rename(folder, &replaced)?;
    }
    rename(unfinished, folder)?;
    sync_folder(output_dir)?;
    remove(&replaced)
}

fn write_into(folder: &Path, files: &ModelFiles, pending: &Pending) -> Result<(), CheckpointError> {
    // What training goes on from must not be rounded.
    let dtype = if pending.run_state.is_some() { FloatDtype::F32 } else { files.dtype };
    files.write_as(dtype, folder, &pending.parameters)?;
    if let Some(tensors) = &pending.optimizer {
        let tensors = tensors.iter().map(|StateTensor { name, tensor }| NamedTensor {
            name: name.clone(),
            shape: tensor.dims().to_vec(),
            values: Box::new(move || Ok(tensor.clone().try_into_data()?.try_into_vec_as::<f32>()?)),
        });
        weights::save_file(&folder.join(OPTIMIZER_NAME), tensors.collect(), FloatDtype::F32)
            .map_err(|e| CheckpointError::Write(e.to_string()))?;
    }
    let state = folder.join(TRAINER_STATE_NAME);
    pending.state.save(&state).map_err(|e| CheckpointError::Write(e.to_string()))?;
    let mut checks = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(CheckpointError::io("list", folder))? {
        let entry = entry.map_err(CheckpointError::io("list", folder))?;
        let path = entry.path();
        // Opened for writing: not every system flushes what was opened for reading.
        let file = fs::OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(CheckpointError::io("open", &path))?;
        file.sync_all().map_err(CheckpointError::io("flush", &path))?;
        let check = FileCheck::of(file).map_err(CheckpointError::io("read", &path))?;
        checks.insert(entry.file_name().to_string_lossy().into_owned(), check);
    }
    if let Some(run_state) = &pending.run_state {
        let run_state = RunState { files: checks, ..run_state.clone() };
        let path = folder.join(RUN_STATE_NAME);
        let text = serde_json::to_string_pretty(&run_state).map_err(|e| CheckpointError::damaged(&path, e))?;
        write_file(&path, text.as_bytes())?;
    }
    sync_folder(folder)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let write = || {
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(CheckpointError::io("write", path))
}

fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    if cfg!(unix) {
        let sync = || fs::File::open(folder)?.sync_all();
        sync().map_err(CheckpointError::io("flush", folder))?;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CheckpointError::io("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// The checkpoints of an output folder by rising step. A folder counts by its name: one with the name is whole.
pub fn list(output_dir: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let mut found: Vec<(u64, PathBuf)> =
        folders(output_dir, PREFIX)?.into_iter().filter_map(|(rest, path)| Some((rest.parse().ok()?, path))).collect();
    found.sort_unstable();
    Ok(found)
}

/// Folders whose name starts with `prefix`, each with the rest of its name.
fn folders(output_dir: &Path, prefix: &str) -> Result<Vec<(String, PathBuf)>, CheckpointError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(output_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(CheckpointError::io("list", output_dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(CheckpointError::io("list", output_dir))?;
        if let Some(rest) = entry.file_name().to_str().and_then(|name| name.strip_prefix(prefix))
            && entry.path().is_dir()
        {
            found.push((rest.to_owned(), entry.path()));
        }
    }
    Ok(found)
}

/// Brings an output folder in order after a run that was killed: removes what it left unfinished, and gives a checkpoint
/// its name back that was about to be replaced.
pub fn recover(output_dir: &Path) -> Result<(), CheckpointError> {
    for (step, folder) in folders(output_dir, REPLACED)? {
        let named = output_dir.join(format!("{PREFIX}{step}"));
        if named.exists() {
            remove(&folder)?;
        } else {
            fs::rename(&folder, &named).map_err(CheckpointError::io("rename", &folder))?;
        }
    }
    folders(output_dir, UNFINISHED)?.iter().try_for_each(|(_, folder)| remove(folder))
}

/// Renames the checkpoints after `step`, which are no part of the run that goes on from there: left as they are they
/// would count as its newest. The new names, oldest first.
pub fn set_aside_after(output_dir: &Path, step: u64) -> Result<Vec<PathBuf>, CheckpointError> {
    let later = list(output_dir)?.into_iter().filter(|(later, _)| *later > step);
    later
        .map(|(step, folder)| {
            let name = |round: usize| match round {
                0 => output_dir.join(format!("{SET_ASIDE}{step}")),
                _ => output_dir.join(format!("{SET_ASIDE}{step}-{round}")),
            };
            let aside = (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
            fs::rename(&folder, &aside).map_err(CheckpointError::io("rename", &folder))?;
            Ok(aside)
        })
        .collect()
}

/// Removes all checkpoints, for `--overwrite_output_dir`; how many there were.
pub fn remove_all(output_dir: &Path) -> Result<usize, CheckpointError> {
    let checkpoints = list(output_dir)?;
    for (_, folder) in &checkpoints {
        remove_whole(folder)?;
    }
    Ok(checkpoints.len())
}

/// Takes the name away first, so that a kill in between leaves no half of a checkpoint under its name.
fn remove_whole(folder: &Path) -> Result<(), CheckpointError> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let doomed = folder.with_file_name(format!("{UNFINISHED}old-{name}"));
    remove(&doomed)?;
    fs::rename(folder, &doomed).map_err(CheckpointError::io("remove", folder))?;
    remove(&doomed)
}

/// Keeps the newest `limit` checkpoints, and `best` as one of them (Python's `_rotate_checkpoints`).
fn rotate(output_dir: &Path, limit: usize, best: Option<&Path>, newest: &Path) -> Result<(), CheckpointError> {
    let checkpoints = list(output_dir)?;
    let excess = checkpoints.len().saturating_sub(limit.max(1));
    // With a limit of 1 both the best and the newest stay, as in Python.
    let disposable = checkpoints.iter().filter(|(_, folder)| Some(folder.as_path()) != best && folder != newest);
    disposable.take(excess).try_for_each(|(_, folder)| remove_whole(folder))
}

/// Removes all checkpoints but the best one: what `--save_total_limit 1` leaves of a finished run, as in Python.
pub fn keep_only(output_dir: &Path, best: &Path) -> Result<(), CheckpointError> {
    let checkpoints = list(output_dir)?;
    let others = checkpoints.iter().filter(|(_, folder)| folder != best);
    if best.exists() { others.into_iter().try_for_each(|(_, folder)| remove_whole(folder)) } else { Ok(()) }
}

/// A checkpoint read back, but for the weights.
pub struct Saved {
    /// The folder.
    pub folder: PathBuf,
    /// trainer_state.json
    pub state: TrainerState,
    /// run_state.json
    pub run_state: RunState,
    optimizer: Vec<u8>,
}

impl Saved {
    /// Reads a checkpoint of this program and checks that it is whole.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let read = |name: &str| {
            let path = folder.join(name);
            let bytes = fs::read(&path).map_err(|e| CheckpointError::damaged(&path, e));
            bytes.map(|bytes| (path, bytes))
        };
        let (path, bytes) = read(RUN_STATE_NAME).map_err(|e| match e {
            CheckpointError::Damaged { path, reason } => CheckpointError::Damaged {
                path,
                reason: format!("{reason}; a run goes on only from a checkpoint of this program saved without --save_only_model; to start from the weights alone use --model_name_or_path"),
            },
            other => other,
        })?;
        let run_state: RunState = serde_json::from_slice(&bytes).map_err(|e| CheckpointError::damaged(&path, e))?;
        if run_state.version != RUN_STATE_VERSION {
            let reason = format!("version {}, this program reads {RUN_STATE_VERSION}", run_state.version);
            return Err(CheckpointError::damaged(&path, reason));
        }
        for (name, written) in &run_state.files {
            let path = folder.join(name);
            let found = fs::File::open(&path).and_then(FileCheck::of);
            let found = found.map_err(|e| CheckpointError::damaged(&path, e))?;
            if found.bytes != written.bytes {
                let reason = format!("{} bytes, but {} were written: the file is damaged", found.bytes, written.bytes);
                return Err(CheckpointError::damaged(&path, reason));
            }
            if found != *written {
                let reason = "its content is not what was written (another CRC-32): the file is damaged";
                return Err(CheckpointError::damaged(&path, reason));
            }
        }
        let state = TrainerState::load(&folder.join(TRAINER_STATE_NAME));
        let state = state.map_err(|e| CheckpointError::damaged(folder, e))?;
        let (_, optimizer) = read(OPTIMIZER_NAME)?;
        let saved = Self { folder: folder.to_owned(), state, run_state, optimizer };
        saved.optimizer()?;
        weights::Checkpoint::open(folder).map_err(|e| CheckpointError::damaged(folder, e))?;
        Ok(saved)
    }

    /// The optimizer's tensors.
    pub fn optimizer(&self) -> Result<safetensors::SafeTensors<'_>, CheckpointError> {
        let path = self.folder.join(OPTIMIZER_NAME);
        safetensors::SafeTensors::deserialize(&self.optimizer).map_err(|e| CheckpointError::damaged(&path, e))
    }
}

/// The model of a checkpoint: unlike a pretrained one it must have every parameter.
pub fn load_model(folder: &Path, config: &ModelConfig, device: &Device) -> Result<AutoModel, CheckpointError> {
    let loaded = load::load(folder, config, config.vocab_size(), 0, device);
    let Loaded { model, report } = loaded.map_err(|e| CheckpointError::damaged(folder, e))?;
    match report.missing.first() {
        None => Ok(model),
        Some(name) => {
            let reason = format!("there is no tensor {name}: this is a checkpoint of another model");
            Err(CheckpointError::damaged(folder, reason))
        }
    }
}

/// The newest whole checkpoint of an output folder. A damaged one is reported and the one before it is taken.
pub fn newest(output_dir: &Path) -> Result<Option<Saved>, CheckpointError> {
    let mut checkpoints = list(output_dir)?.into_iter().rev().peekable();
    while let Some((_, folder)) = checkpoints.next() {
        match Saved::read(&folder) {
            Ok(saved) => return Ok(Some(saved)),
            Err(error) if checkpoints.peek().is_some() => tracing::warn!("{error}; trying the checkpoint before it"),
            Err(error) => {
                let (output_dir, reason) = (output_dir.to_owned(), error.to_string());
                return Err(CheckpointError::NoneWhole { output_dir, reason });
            }
        }
    }
    Ok(None)
}
