//! `checkpoint-N/` folders: written beside their name, flushed and renamed, so that one with the name is whole.
//!
//! ```text
//! trainer ── Pending ──> Writer (a thread) ──> tmp-checkpoint-N-…  ──flush, rename──> checkpoint-N
//! run     ── ModelFiles ──> publish ──> tmp-model-… ──rename──> .finished-model ──file by file──> the output folder
//! start   ── recover ──> newest ──> Saved
//! ```
//!
//! Nothing that this program did not write is ever removed or overwritten: what stands in the way is renamed, and what
//! should be removed but has something foreign in it stays.

mod folders;
mod for_python;
mod python;
mod rng_state;
mod saved;
mod size;
mod state;
mod torch_save;
mod training_args;
mod write;

use std::io;
use std::path::{Path, PathBuf};

pub use folders::{UPLOADED, folder_of, is_for_resuming, is_ours, keep_only, list, recover, set_aside_after};
pub use saved::{Saved, load_adapter, load_model, newest};
pub use size::{CheckpointSize, available_space, checkpoints_added, values};
pub use state::{FileCheck, Fingerprint, RUN_STATE_VERSION, Resumable, RunState, SinceLog};
pub use write::{ModelFiles, Pending, Writer};

/// Tensors of the optimizer.
pub const OPTIMIZER_NAME: &str = "optimizer.pt";
/// Its tensors that say what number each byte of AdamW's moments of 8 bits stands for: of the mean, of the mean square.
const QMAPS: [&str; 2] = ["qmap1", "qmap2"];
/// The learning-rate schedule, for Python.
const SCHEDULER_NAME: &str = "scheduler.pt";
/// The loss scale, for Python.
const SCALER_NAME: &str = "scaler.pt";
/// The state of random generators, for Python.
const RNG_STATE_NAME: &str = "rng_state.pth";
/// The arguments of the run, for Python.
const TRAINING_ARGS_NAME: &str = "training_args.bin";
/// What else a run needs to go on.
pub const RUN_STATE_NAME: &str = "run_state.json";
/// The arguments of the run.
pub const ARGUMENTS_NAME: &str = "training_args.json";

/// Why a checkpoint can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refuses.
    #[error("{}: cannot {action}: {source}", path.display())]
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
    /// A file of torch's can't be read.
    #[error(transparent)]
    Torch(#[from] lm_models::weights::WeightsError),
    /// The model or the tokenizer can't be written.
    #[error("{0}")]
    Write(String),
    /// Checkpoints are there, none of them whole.
    #[error("no checkpoint in {} is whole, the oldest: {reason}; to start anew there add --overwrite_output_dir, which keeps them under another name", output_dir.display())]
    NoneWhole {
        /// `--output_dir`
        output_dir: PathBuf,
        /// What is wrong with the last one looked at.
        reason: String,
    },
    /// The thread that writes died.
    #[error("the thread that writes checkpoints ended unexpectedly: {0}")]
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
