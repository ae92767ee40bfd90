//! Checkpoints read back, each file checked against what was written.

use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use lm_models::parameters::ParameterInfo;
use lm_models::pretrained::{self, Loaded};
use lm_models::{AutoModel, ModelConfig, adapter, weights};
use serde_json::{Map, Value};

use super::{ARGUMENTS_NAME, CheckpointError, FileCheck, OPTIMIZER_NAME, RUN_STATE_NAME, RunState, list, python};
use crate::observe::{TRAINER_STATE_NAME, TrainerState};
use crate::optim::Optimizer;

/// A checkpoint read back, but for the tensors.
pub struct Saved {
    /// The folder.
    pub folder: PathBuf,
    /// trainer_state.json
    pub state: TrainerState,
    /// run_state.json, or what there is of it
    pub run_state: RunState,
    moments: Moments,
}

/// Where the optimizer's state is.
enum Moments {
    /// In optimizer.pt, each parameter's steps in run_state.json.
    Ours,
    /// In optimizer.pt alone.
    Python(python::Moments),
    /// Nowhere: weights alone.
    None,
}

/// trainer_state.json, where weights lie beside it.
fn model_and_state(folder: &Path) -> Result<TrainerState, CheckpointError> {
    let state = TrainerState::load(&folder.join(TRAINER_STATE_NAME));
    let state = state.map_err(|e| CheckpointError::damaged(folder, e))?;
    let opened = match adapter::is_adapter(folder) {
        true => weights::Checkpoint::open_adapter(folder),
        false => weights::Checkpoint::open(folder),
    };
    opened.map_err(|e| CheckpointError::damaged(folder, e))?;
    Ok(state)
}

impl Saved {
    /// Reads a checkpoint of this program and checks that it is whole, or one of Python's Trainer; where `weights_alone` lets
    /// it, also what `--save_only_model` leaves.
    ///
    /// # Errors
    /// If a file is missing or is not what was written.
    pub fn read(folder: &Path, weights_alone: bool) -> Result<Self, CheckpointError> {
        let path = folder.join(RUN_STATE_NAME);
        let text = match lm_files::read(&path, lm_files::SMALL) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Self::read_without_run_state(folder, weights_alone);
            }
            Err(error) => return Err(CheckpointError::damaged(&path, error)),
        };
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
        Ok(Self { folder: folder.to_owned(), state: model_and_state(folder)?, run_state, moments: Moments::Ours })
    }

    /// A checkpoint that tells no more than Python's Trainer does.
    fn read_without_run_state(folder: &Path, weights_alone: bool) -> Result<Self, CheckpointError> {
        let (state_path, folder_owned) = (folder.join(TRAINER_STATE_NAME), folder.to_owned());
        // Beside our own arguments run_state.json is not absent but lost.
        if python::is_whole(folder) && !folder.join(ARGUMENTS_NAME).exists() {
            let state = model_and_state(folder)?;
            let (run_state, moments) = python::read(folder, &state)?;
            return Ok(Self { folder: folder_owned, state, run_state, moments: Moments::Python(moments) });
        }
        if weights_alone && state_path.is_file() && !folder.join(OPTIMIZER_NAME).exists() {
            let state = model_and_state(folder)?;
            let run_state = python::run_state(&state);
            return Ok(Self { folder: folder_owned, state, run_state, moments: Moments::None });
        }
        let path = folder.join(RUN_STATE_NAME);
        Err(CheckpointError::damaged(
            &path,
            "is not there, nor Python's optimizer.pt with scheduler.pt and trainer_state.json: a run goes on only from a checkpoint saved without --save_only_model; to go on from the weights alone with a new optimizer add --allow_changes_on_resume, to start from them anew use --model_name_or_path",
        ))
    }

    /// The arguments that the checkpoint was made with, as far as it tells them.
    pub fn arguments(&self) -> Map<String, Value> {
        match &self.moments {
            Moments::Python(moments) => moments.arguments(),
            // The checkpoint has been found whole: a file that is no object is one written by hand, with nothing to compare.
            Moments::Ours | Moments::None => {
                let text = lm_files::read(&self.folder.join(ARGUMENTS_NAME), lm_files::SMALL).ok();
                text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
            }
        }
    }

    /// Gives an optimizer what the checkpoint holds of it, which is in memory twice only until this returns.
    ///
    /// # Errors
    /// If the file cannot be read, or does not fit the model.
    pub fn load_optimizer(
        &self,
        optimizer: &mut Optimizer,
        parameters: &[ParameterInfo],
        device: &Device,
    ) -> anyhow::Result<()> {
        match &self.moments {
            Moments::None => Ok(()),
            Moments::Python(moments) => moments.load(optimizer, parameters, device),
            Moments::Ours => {
                let moments = python::Moments::open(&self.folder, &self.run_state.optimizer_steps)?;
                moments.load(optimizer, parameters, device)
            }
        }
    }
}

/// The model of a checkpoint: unlike a pretrained one it must have every parameter. `in_16_bits` says which frozen weights
/// lie in bfloat16.
///
/// # Errors
/// If a tensor is missing or of another shape.
pub fn load_model(
    folder: &Path,
    config: &ModelConfig,
    device: &Device,
    in_16_bits: impl Fn(&ParameterInfo) -> bool,
) -> Result<AutoModel, CheckpointError> {
    let loaded = pretrained::load_some_in_16_bits(folder, config, config.vocab_size(), 0, device, in_16_bits);
    let Loaded { model, report } = loaded.map_err(|e| CheckpointError::damaged(folder, e))?;
    match report.missing.first() {
        None => Ok(model),
        Some(name) => {
            let reason = format!("there is no tensor {name}: this is a checkpoint of another model");
            Err(CheckpointError::damaged(folder, reason))
        }
    }
}

/// A model, with an adapter attached, whose adapter is a checkpoint's.
///
/// # Errors
/// If the checkpoint has no adapter, or that of another model.
pub fn load_adapter(model: AutoModel, folder: &Path, base: &ModelConfig) -> Result<AutoModel, CheckpointError> {
    adapter::load(model, folder, base).map_err(|e| CheckpointError::damaged(folder, e))
}

/// The newest whole checkpoint of an output folder. A damaged one is reported and the one before it is taken.
///
/// # Errors
/// If there are checkpoints and none is whole.
pub fn newest(output_dir: &Path, weights_alone: bool) -> Result<Option<Saved>, CheckpointError> {
    let mut checkpoints = list(output_dir)?.into_iter().rev().peekable();
    while let Some((_, folder)) = checkpoints.next() {
        match Saved::read(&folder, weights_alone) {
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
