//! Checkpoints read back, each file checked against what was written.

use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use lm_models::pretrained::{self, Loaded};
use lm_models::{AutoModel, ModelConfig, weights};

use super::{CheckpointError, FileCheck, OPTIMIZER_NAME, RUN_STATE_NAME, RunState, list};
use crate::observe::{TRAINER_STATE_NAME, TrainerState};

/// A checkpoint read back, but for the tensors.
pub struct Saved {
    /// The folder.
    pub folder: PathBuf,
    /// trainer_state.json
    pub state: TrainerState,
    /// run_state.json
    pub run_state: RunState,
}

impl Saved {
    /// Reads a checkpoint of this program and checks that it is whole.
    ///
    /// # Errors
    /// If a file is missing or is not what was written.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(RUN_STATE_NAME);
        let text = lm_files::read(&path, lm_files::SMALL).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CheckpointError::damaged(&path, format!("{error}; a run goes on only from a checkpoint of this program saved without --save_only_model; to start from the weights alone use --model_name_or_path")),
            _ => CheckpointError::damaged(&path, error),
        })?;
        let run_state = RunState::from_text(&text).map_err(|reason| CheckpointError::damaged(&path, reason))?;
        for (name, written) in &run_state.files {
            let path = folder.join(name);
            let found = lm_files::open_regular(&path).and_then(FileCheck::of);
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
        weights::Checkpoint::open(folder).map_err(|e| CheckpointError::damaged(folder, e))?;
        Ok(Self { folder: folder.to_owned(), state, run_state })
    }

    /// Calls `take` with the optimizer's tensors, which are in memory only until it returns.
    ///
    /// # Errors
    /// If the file cannot be read, is no file of tensors, or as `take` says.
    pub fn with_optimizer<T>(
        &self,
        take: impl FnOnce(&safetensors::SafeTensors<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let path = self.folder.join(OPTIMIZER_NAME);
        let bytes = lm_files::read(&path, u64::MAX).map_err(|error| CheckpointError::damaged(&path, error))?;
        let tensors = safetensors::SafeTensors::deserialize(&bytes);
        take(&tensors.map_err(|error| CheckpointError::damaged(&path, error))?)
    }
}

/// The model of a checkpoint: unlike a pretrained one it must have every parameter.
///
/// # Errors
/// If a tensor is missing or of another shape.
pub fn load_model(folder: &Path, config: &ModelConfig, device: &Device) -> Result<AutoModel, CheckpointError> {
    let loaded = pretrained::load(folder, config, config.vocab_size(), 0, device);
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
///
/// # Errors
/// If there are checkpoints and none is whole.
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
