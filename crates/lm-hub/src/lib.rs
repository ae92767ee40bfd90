//! Repositories of the Hugging Face Hub by name, downloaded once into the cache that Python's `huggingface_hub` uses too,
//! so that neither downloads what the other has.
//!
//! ```text
//! name ── repo ── revision ──> lookup ─┬─ cache: has it all ──────────────────────────────────────┬──> a folder
//!                                      └─ snapshot (http: commit, files) ── download (transfer) ──┘
//! ```
//!
//! `upload` goes the other way: commits to a model's repository.

mod cache;
mod dataset;
mod download;
mod error;
mod hash;
mod http;
mod lookup;
mod model;
mod progress;
mod remote;
mod repo;
mod revision;
mod settings;
mod snapshot;
#[cfg(test)]
mod tests;
mod transfer;
mod upload;
mod weights;

use std::path::{Path, PathBuf};

use hf_hub::RepoTypeAny;

pub use dataset::DataSet;
pub use error::HubError;
pub use model::Files;
pub use remote::RemoteFile;
use repo::Repo;
use revision::Revision;
pub use settings::HubOptions;
use settings::{Places, Settings, variable};
pub use upload::{Repository, Upload};

/// The folder that holds `files` of `model_name_or_path`: the folder of that name, or else the snapshot of the Hub's
/// model in the cache, downloaded if it is not there.
///
/// The environment decides as in Python: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_TOKEN_PATH`,
/// `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`. If the Hub cannot be reached, a complete snapshot in the cache serves.
///
/// # Errors
///
/// See [`HubError`].
pub fn resolve(model_name_or_path: &str, files: Files, options: &HubOptions) -> Result<PathBuf, HubError> {
    let path = Path::new(model_name_or_path);
    if path.is_dir() {
        return Ok(path.to_path_buf());
    }
    if path.symlink_metadata().is_ok() {
        let what = match path.metadata() {
            Ok(metadata) if metadata.is_file() => "a file: name the folder that it lies in",
            Ok(_) => "a pipe, socket or device: name a folder",
            Err(_) => "a link that leads nowhere: name a folder",
        };
        return Err(HubError::NotAFolder(model_name_or_path.to_string(), what));
    }
    let Some(repo) = Repo::new(RepoTypeAny::Model, model_name_or_path) else {
        return Err(HubError::NoSuchFolder(model_name_or_path.to_string()));
    };
    let settings = Settings::new(options, &Places::of_python(), variable);
    files.folder(&Revision::new(&repo, &settings)?)
}
