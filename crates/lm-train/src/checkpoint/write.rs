//! Writing checkpoints, and the final model with the same care.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use lm_data::tokenizer::LmTokenizer;
use lm_models::ModelConfig;
use lm_models::adapter::{self, LoraConfig};
use lm_models::parameters::Snapshot;
use lm_models::pretrained::save_pretrained;
use lm_models::weights::FloatDtype;
use serde_json::{Map, Value as Json};
use tempfile::{Builder, TempDir};

use super::folders::{FINISHED_MODEL, MANIFEST, UNFINISHED, UNFINISHED_MODEL, move_in, rename, rotate, take_name};
use super::{ARGUMENTS_NAME, CheckpointError, FileCheck, RUN_STATE_NAME, Resumable, RunState, folder_of, for_python};
use crate::observe::{TRAINER_STATE_NAME, TrainerState};
use crate::sys::panics;

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
    /// Those of Python's `TrainingArguments`, by their names.
    pub training_arguments: Map<String, Json>,
    /// The type of the weights on disk; those of a checkpoint that can be resumed are float32, as trained.
    pub dtype: FloatDtype,
    /// The adapter that is saved in the model's place, and whether embeddings and head are saved with it, because they have
    /// another size than the base's.
    pub adapter: Option<(LoraConfig, bool)>,
}

impl ModelFiles {
    /// Makes the model the output folder's own, as Python's `save_pretrained`, with trainer_state.json if it was trained. Everything is
    /// written and flushed elsewhere first; a kill leaves the old files or, after the next start, the new ones.
    ///
    /// # Errors
    /// If a file cannot be written: the old files are as they were then.
    pub fn publish(
        &self,
        output_dir: &Path,
        parameters: &[Snapshot],
        state: Option<&TrainerState>,
    ) -> Result<(), CheckpointError> {
        let stage = stage(output_dir, UNFINISHED_MODEL)?;
        self.write(self.dtype, stage.path(), parameters)?;
        if let Some(state) = state {
            write_state(stage.path(), state)?;
        }
        let names: Vec<String> = files_of(stage.path())?.into_iter().map(|(name, _)| name).collect();
        write_file(&stage.path().join(MANIFEST), names.join("\n").as_bytes())?;
        let stage = stage.keep();
        rename(&stage, &output_dir.join(FINISHED_MODEL))?;
        move_in(output_dir)
    }

    fn write(&self, dtype: FloatDtype, folder: &Path, parameters: &[Snapshot]) -> Result<(), CheckpointError> {
        let saved = match &self.adapter {
            // As small as it is, and as Python's, it is never rounded.
            Some((lora, resized)) => adapter::save(folder, lora, &self.config, *resized, parameters, FloatDtype::F32)
                .map_err(|e| e.to_string()),
            None => save_pretrained(folder, &self.config, self.generation_config.as_deref(), parameters, dtype)
                .map_err(|e| e.to_string()),
        };
        saved.map_err(CheckpointError::Write)?;
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
    /// trainer_state.json
    pub state: TrainerState,
    /// What only resuming needs; none with `--save_only_model`.
    pub resumable: Option<Resumable>,
}

/// A checkpoint that is there, and what earlier ones stay beyond the limit, each with its reason.
type Written = (PathBuf, Vec<String>);

/// Writes checkpoints on a thread of its own, one at a time.
pub struct Writer {
    output_dir: PathBuf,
    files: ModelFiles,
    /// Checkpoints kept; none keeps all.
    limit: Option<usize>,
    writing: Option<JoinHandle<Result<Written, CheckpointError>>>,
    /// What has been said already of checkpoints that stay.
    told: Vec<String>,
}

impl Writer {
    /// A writer of checkpoints into `output_dir`.
    pub fn new(output_dir: &Path, files: ModelFiles, limit: Option<usize>) -> Self {
        Self { output_dir: output_dir.to_owned(), files, limit, writing: None, told: Vec::new() }
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
    ///
    /// # Errors
    /// If it could not be written.
    pub fn finish(&mut self) -> Result<Option<PathBuf>, CheckpointError> {
        let Some(thread) = self.writing.take() else { return Ok(None) };
        let joined = thread.join().unwrap_or_else(|panic| Err(CheckpointError::Thread(panics::cause(&*panic))));
        let (folder, kept) = joined?;
        for line in kept {
            if !self.told.contains(&line) {
                tracing::warn!("{line}");
                self.told.push(line);
            }
        }
        Ok(Some(folder))
    }

    /// Starts to write. When the folder is whole, the oldest ones beyond the limit are removed, never `best` or the newest;
    /// none with `keep_all`.
    ///
    /// # Errors
    /// If a save that was still under way failed, or the thread cannot be started.
    pub fn start(&mut self, pending: Pending, best: Option<PathBuf>, keep_all: bool) -> Result<(), CheckpointError> {
        self.finish()?;
        let (output_dir, files) = (self.output_dir.clone(), self.files.clone());
        let limit = self.limit.filter(|_| !keep_all);
        let work = move || {
            let folder = write(&output_dir, &files, &pending)?;
            let kept = limit.map(|limit| rotate(&output_dir, limit, best.as_deref(), &folder));
            Ok((folder, kept.unwrap_or_default()))
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

/// A folder of its own beside the others, which goes if the work is not finished.
fn stage(output_dir: &Path, prefix: &str) -> Result<TempDir, CheckpointError> {
    let mut builder = Builder::new();
    builder.prefix(prefix);
    // As any new folder; tempfile's own choice shuts out everybody else.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(output_dir).map_err(CheckpointError::io("create a folder in", output_dir))
}

fn write(output_dir: &Path, files: &ModelFiles, pending: &Pending) -> Result<PathBuf, CheckpointError> {
    let stage = stage(output_dir, &format!("{UNFINISHED}{}-", pending.step))?;
    write_into(stage.path(), files, pending)?;
    let folder = folder_of(output_dir, pending.step);
    take_name(stage.path(), &folder)?;
    // It has another name by now.
    let _ = stage.keep();
    Ok(folder)
}

fn write_into(folder: &Path, files: &ModelFiles, pending: &Pending) -> Result<(), CheckpointError> {
    // What training goes on from must not be rounded.
    let dtype = if pending.resumable.is_some() { FloatDtype::F32 } else { files.dtype };
    files.write(dtype, folder, &pending.parameters)?;
    if let Some(state) = &pending.resumable {
        for_python::save(folder, pending.step, &files.training_arguments, &pending.parameters, state)?;
    }
    write_state(folder, &pending.state)?;
    if let Some(Resumable { run_state, .. }) = &pending.resumable {
        let path = folder.join(RUN_STATE_NAME);
        let run_state = RunState { files: checks(folder)?, ..run_state.clone() };
        let text = run_state.to_text().map_err(|e| CheckpointError::damaged(&path, e))?;
        write_file(&path, text.as_bytes())?;
    }
    Ok(())
}

fn write_state(folder: &Path, state: &TrainerState) -> Result<(), CheckpointError> {
    state.save(&folder.join(TRAINER_STATE_NAME)).map_err(|e| CheckpointError::Write(e.to_string()))
}

/// What each file of a folder is, by its name.
fn checks(folder: &Path) -> Result<BTreeMap<String, FileCheck>, CheckpointError> {
    let check = |(name, path): (String, PathBuf)| {
        let check = fs::File::open(&path).and_then(FileCheck::of).map_err(CheckpointError::io("read", &path))?;
        Ok((name, check))
    };
    files_of(folder)?.into_iter().map(check).collect()
}

/// The files of a folder with their names, sorted.
fn files_of(folder: &Path) -> Result<Vec<(String, PathBuf)>, CheckpointError> {
    let entries = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
            .collect()
    });
    let mut files: Vec<_> = entries.map_err(CheckpointError::io("list", folder))?;
    files.sort();
    Ok(files)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    lm_files::write(path, bytes).map_err(CheckpointError::io("write", path))
}
