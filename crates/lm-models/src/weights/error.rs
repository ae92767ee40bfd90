//! Why weights can't be read or written.

use std::path::{Path, PathBuf};

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
    #[error("{folder}: no weights found: expected one of {known}, or the index of several{hint}")]
    NoWeights {
        /// The folder looked into.
        folder: PathBuf,
        /// Names of files of weights.
        known: String,
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
    pub(super) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), action, source }
    }

    pub(super) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::InvalidFile { path: path.to_path_buf(), reason: one_line(&reason.into()) }
    }

    pub(crate) fn tensor(path: &Path, tensor: &str, reason: impl Into<String>) -> Self {
        Self::InvalidTensor {
            path: path.to_path_buf(),
            tensor: tensor.escape_debug().to_string(),
            reason: one_line(&reason.into()),
        }
    }
}

/// Messages of libraries may hold line breaks; ours are one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
