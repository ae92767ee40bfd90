//! `--push_to_hub`: what is uploaded when, as Python's Trainer does it (`init_hf_repo`, `_push_from_checkpoint`,
//! `push_to_hub` of trainer.py). Checkpoints go in the background; training never waits for them, and no upload that fails
//! ends a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use lm_hub::{HubError, HubOptions, Repository, Upload};
use tempfile::TempDir;

use crate::args::{Arguments, HubStrategy, SaveStrategy};
use crate::checkpoint::{self, UPLOADED, is_for_resuming};
use crate::observe::{Callback, CallbackResult, TrainerState, console};
use crate::run::paths::is_result;
use crate::sys::escape::shell_word;

/// The uploads of a run.
pub struct Push {
    repository: Repository,
    output_dir: PathBuf,
    logging_dir: Option<PathBuf>,
    strategy: HubStrategy,
    by_epoch: bool,
    /// Whether a checkpoint waits for the upload before it, instead of being left out.
    always: bool,
    running: Mutex<Option<JoinHandle<()>>>,
}

/// What is uploaded at a moment: files, and the commit's message.
type Commit = (Vec<Upload>, String);

impl Push {
    /// None without `--push_to_hub`.
    ///
    /// # Errors
    /// If the Hub does not let the token write there: nothing is lost yet. A Hub that cannot be reached is a warning.
    pub fn open(args: &Arguments) -> Result<Option<Arc<Self>>> {
        let training = &args.training;
        if !training.push_to_hub {
            return Ok(None);
        }
        let name = repository_name(args);
        let options = HubOptions {
            revision: training.hub_revision.clone(),
            token: training
                .hub_token
                .clone()
                .or_else(|| training.push_to_hub_token.clone())
                .or(args.model.token.clone()),
            cache_dir: None,
        };
        let repository = match Repository::open(&name, training.hub_private_repo, &options) {
            Ok(repository) => repository,
            Err(error @ (HubError::NoToken { .. } | HubError::MayNotWrite { .. })) => {
                return Err(error).context("--push_to_hub");
            }
            Err(error) => {
                tracing::warn!(
                    "--push_to_hub: {error}; nothing will be uploaded: {}",
                    by_hand(&name, &training.output_dir)
                );
                return Ok(None);
            }
        };
        tracing::info!("uploading to {}", repository.name());
        Ok(Some(Arc::new(Self {
            repository,
            output_dir: training.output_dir.clone(),
            logging_dir: training.logging_dir.clone(),
            strategy: training.hub_strategy,
            by_epoch: training.save_strategy == SaveStrategy::Epoch,
            always: training.hub_always_push,
            running: Mutex::new(None),
        })))
    }

    /// The repository's full name.
    pub fn repository(&self) -> &str {
        self.repository.name()
    }

    /// A checkpoint is whole: what the strategy says of it is uploaded in the background.
    fn checkpoint(self: &Arc<Self>, state: &TrainerState, folder: &Path) -> std::io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = running.as_ref().is_some_and(|thread| !thread.is_finished());
        if self.strategy == HubStrategy::End || (busy && !self.always) {
            return Ok(());
        }
        // The checkpoint may be removed while it is uploaded.
        let stage = tempfile::Builder::new().prefix(UPLOADED).tempdir_in(&self.output_dir)?;
        let commits = self.commits(state, folder, &stage)?;
        let (push, before) = (Arc::clone(self), running.take());
        let work = move || {
            // What it had to say it has said.
            let _ = before.map(JoinHandle::join);
            let made = commits.iter().try_for_each(|(files, message)| push.repository.commit(files, message));
            if let Err(error) = made {
                tracing::warn!("--push_to_hub: {error}; training goes on, and the next checkpoint is uploaded again");
            }
            drop(stage);
        };
        *running = Some(std::thread::Builder::new().name("upload".into()).spawn(work)?);
        Ok(())
    }

    /// The model of a checkpoint where the repository has its model, and the checkpoint itself, if it is wanted.
    fn commits(&self, state: &TrainerState, folder: &Path, stage: &TempDir) -> std::io::Result<Vec<Commit>> {
        let message = match (self.by_epoch, state.epoch) {
            (true, Some(epoch)) => format!("Training in progress, epoch {}", epoch as u64),
            // Training may be some steps further by now.
            _ => format!("Training in progress, step {}", step_of(folder).unwrap_or(state.global_step)),
        };
        let inside = match self.strategy {
            HubStrategy::Checkpoint => Some("last-checkpoint".to_owned()),
            HubStrategy::AllCheckpoints => folder.file_name().map(|name| name.to_string_lossy().into_owned()),
            HubStrategy::End | HubStrategy::EverySave => None,
        };
        let (mut model, mut whole) = (results(&self.output_dir, self.logging_dir.as_deref())?, Vec::new());
        model.retain(|(_, path)| !checkpoint::is_ours(path.as_ref()));
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (name, held) = (entry.file_name(), stage.path().join(entry.file_name()));
            if fs::hard_link(entry.path(), &held).is_err() {
                fs::copy(entry.path(), &held)?;
            }
            let shown = name.to_string_lossy();
            if !is_for_resuming(&shown) {
                model.push((held.clone(), shown.to_string()));
            }
            if let Some(inside) = &inside {
                whole.push((held, format!("{inside}/{shown}")));
            }
        }
        let mut commits = vec![(model, message.clone())];
        if !whole.is_empty() {
            commits.push((whole, format!("{message}, checkpoint")));
        }
        Ok(commits)
    }

    /// Uploads what the run leaves, after what is still under way.
    pub fn finish(&self) {
        let _busy = console::busy(&format!("uploading to {}", self.repository.name()));
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        // What it had to say it has said.
        let _ = running.map(JoinHandle::join);
        let name = self.repository.name();
        let files = results(&self.output_dir, self.logging_dir.as_deref());
        let made = files
            .map_err(anyhow::Error::from)
            .and_then(|files| Ok(self.repository.commit(&files, "End of training")?));
        match made {
            Ok(()) => tracing::info!("uploaded to {name}"),
            Err(error) => tracing::warn!("--push_to_hub: {error:#}; {}", by_hand(name, &self.output_dir)),
        }
    }
}

/// Tells a run's uploads of its checkpoints.
pub struct PushCheckpoints(pub Arc<Push>);

impl Callback for PushCheckpoints {
    fn on_save(&mut self, state: &TrainerState, folder: &Path) -> CallbackResult {
        if let Err(error) = self.0.checkpoint(state, folder) {
            tracing::warn!("--push_to_hub: {}: cannot be uploaded: {error}; training goes on", folder.display());
        }
        Ok(())
    }
}

fn step_of(checkpoint: &Path) -> Option<u64> {
    checkpoint.file_name()?.to_str()?.rsplit_once('-')?.1.parse().ok()
}

fn by_hand(name: &str, folder: &Path) -> String {
    format!("the model is saved; upload it with `hf upload {name} {}`", shell_word(&folder.display().to_string()))
}

/// `--hub_model_id`, by its old names too, else the output folder's name.
fn repository_name(args: &Arguments) -> String {
    let training = &args.training;
    let of_folder = || {
        let folder = training.output_dir.canonicalize().unwrap_or_else(|_| training.output_dir.clone());
        folder.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
    };
    let owned = |name: String| match &training.push_to_hub_organization {
        Some(owner) if !name.contains('/') => format!("{owner}/{name}"),
        _ => name,
    };
    match (&training.hub_model_id, &training.push_to_hub_model_id) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => owned(name.clone()),
        (None, None) => owned(of_folder()),
    }
}

/// What a run leaves in its output folder, and its TensorBoard files there: nothing that it did not write itself.
fn results(output_dir: &Path, logging_dir: Option<&Path>) -> std::io::Result<Vec<Upload>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(output_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_file() && is_result(&name) && !name.to_string_lossy().starts_with('.') {
            files.push((entry.path(), name.to_string_lossy().into_owned()));
        }
    }
    let runs = logging_dir.map_or_else(|| output_dir.join("runs"), Path::to_path_buf);
    if let Ok(below) = runs.strip_prefix(output_dir)
        && runs.is_dir()
    {
        let folders: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
        for file in lm_files::files_below(&runs).map_err(|(_, source)| source)? {
            let name: Vec<&str> = folders.iter().map(|part| &**part).chain([&*file]).collect();
            files.push((runs.join(&file), name.join("/")));
        }
    }
    files.sort();
    Ok(files)
}
