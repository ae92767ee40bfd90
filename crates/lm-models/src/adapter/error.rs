//! What can be wrong with an adapter.

use std::path::{Path, PathBuf};

use crate::weights::WeightsError;

/// Why an adapter can't be read, written or attached. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// adapter_config.json
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The configuration asks of the model what that does not have.
    #[error("{0}")]
    Model(String),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file can't be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl AdapterError {
    pub(super) fn config(path: &Path, reason: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), reason: reason.into() }
    }
}
