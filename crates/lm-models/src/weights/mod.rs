//! Weight files in the Hugging Face layout: reading, writing, and matching their names to a model's.
//!
//! ```text
//! folder ──Checkpoint::open──▶ names, shapes, dtypes ──match_names──▶ LoadReport ──read_f32──▶ parameters
//! parameters ──save──▶ model.safetensors, or model-0000X-of-0000N.safetensors + index
//! ```
//!
//! Nothing here knows of tensors of a framework: values come and go as `Vec<f32>`, row-major.

mod checkpoint;
mod format;
mod names;
mod save;
mod tensor;
#[cfg(test)]
mod tests;
mod torch_file;

use std::path::{Path, PathBuf};

pub use checkpoint::Checkpoint;
pub use names::LoadReport;
pub(crate) use names::{ModelNames, match_names};
pub use save::FloatDtype;
pub(crate) use save::{NamedTensor, SaveOptions, save};
pub use tensor::TensorInfo;
pub use torch_file::{PickleValue, TorchFile};

/// What can go wrong with weight files. Every message is one line: file, tensor, reason, what to do.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as in "cannot open".
        action: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The folder holds none of the known weight files.
    #[error(
        "{folder}: no weights found: expected {}, or an index of several, as {}{hint}",
        format::FORMATS.map(|format| format.file).join(", "),
        format::FORMATS[0].index
    )]
    NoWeights {
        /// The folder looked into.
        folder: PathBuf,
        /// What was found instead, and what to do; empty when there is nothing to say.
        hint: String,
    },
    /// A file is not what its name promises.
    #[error("{path}: {reason}")]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// One tensor of a file cannot be used.
    #[error("{path}: tensor {tensor}: {reason}")]
    InvalidTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The checkpoint's tensors do not have the shapes of the model.
    #[error(
        "{path}: tensor {tensor} has shape {found:?} in the checkpoint, but the model of its config.json needs \
         {expected:?}{more}: use the config.json that belongs to these weights"
    )]
    ShapeMismatch {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The first such tensor, by the name the model gives it.
        tensor: String,
        /// Its shape in the checkpoint.
        found: Vec<usize>,
        /// Its shape in the model.
        expected: Vec<usize>,
        /// " (and N more tensors)", or empty.
        more: String,
    },
}

impl WeightsError {
    fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), action, source }
    }

    fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::InvalidFile { path: path.to_path_buf(), reason: one_line(&reason.into()) }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, reason: impl Into<String>) -> Self {
        Self::InvalidTensor { path: path.to_path_buf(), tensor: tensor.to_string(), reason: one_line(&reason.into()) }
    }
}

/// Messages of libraries may hold line breaks; ours are one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
