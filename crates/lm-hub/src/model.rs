//! What a model consists of: which of a repository's files are wanted, and whether they are all there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::HubError;
use crate::cache::is_file_name;
use crate::error::plain;
use crate::http::Failure;
use crate::lookup;
use crate::revision::Revision;
use crate::snapshot::Snapshot;

/// Weights, in Python's order of preference; of these, only the first that exists is downloaded.
const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Which files are wanted of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// config.json
    Config,
    /// The tokenizer's files, in whichever layout, and config.json, which may say whose tokenizer it is.
    Tokenizer {
        /// One of these makes a folder a tokenizer's.
        vocabularies: &'static [&'static str],
        /// What may lie beside.
        others: &'static [&'static str],
    },
    /// config.json, generation_config.json and the weights.
    Model,
}

impl Files {
    /// What may be wanted, apart from weights.
    fn possible(self) -> Vec<&'static str> {
        match self {
            Self::Config => vec!["config.json"],
            Self::Tokenizer { vocabularies, others } => [&["config.json"], vocabularies, others].concat(),
            Self::Model => vec!["config.json", "generation_config.json"],
        }
    }

    /// The folder of a model's snapshot with these files.
    pub(crate) fn folder(self, revision: &Revision<'_>) -> Result<PathBuf, HubError> {
        lookup::folder(revision, self.cached(revision), |snapshot| self.fetch(snapshot))
    }

    /// The snapshot in the cache, if it has all that is wanted, undamaged; else what is missing.
    fn cached(self, revision: &Revision<'_>) -> Result<PathBuf, String> {
        let commit = revision.cached_commit()?;
        let has = |name: &str| revision.has(&commit, name);
        let mut found = Vec::new();
        for name in self.possible() {
            if has(name)? {
                found.push(name);
            }
        }
        match self {
            Self::Tokenizer { vocabularies, .. } if !found.iter().any(|name| vocabularies.contains(name)) => {
                return Err("the tokenizer".to_string());
            }
            Self::Config | Self::Model if !found.contains(&"config.json") => return Err("config.json".to_string()),
            _ => {}
        }
        let folder = revision.cache.snapshot(&commit);
        if self == Self::Model {
            let weights = WEIGHTS.into_iter().find_map(|name| has(name).map(|has| has.then_some(name)).transpose());
            for shard in shards(&folder, weights.ok_or("the weights")??)? {
                if !has(&shard)? {
                    return Err(shard);
                }
            }
        }
        Ok(folder)
    }

    /// Brings what is wanted into the cache.
    fn fetch(self, snapshot: &Snapshot<'_>) -> Result<(), HubError> {
        let (sizes, nonsense) = (&snapshot.sizes, |detail| snapshot.revision.explain(Failure::Nonsense(detail)));
        let mut wanted = self.possible();
        if let Some(name) = wanted.iter().find(|name| sizes.get(**name).is_some_and(|size| *size > lm_files::SMALL)) {
            return Err(nonsense(format!("a {name} of {} bytes", sizes[*name])));
        }
        let weights = WEIGHTS.into_iter().find(|name| sizes.contains_key(*name)).filter(|_| self == Self::Model);
        wanted.extend(weights);
        wanted.retain(|name| sizes.contains_key(*name));
        self.refuse_incomplete(&wanted, snapshot)?;

        snapshot.download(&wanted)?;
        let shards = weights.map_or(Ok(Vec::new()), |weights| shards(&snapshot.folder(), weights)).map_err(nonsense)?;
        if let Some(shard) = shards.iter().find(|shard| !sizes.contains_key(*shard)) {
            return Err(missing(snapshot, shard, ": its index names that file: report it to the model's owner"));
        }
        snapshot.download(&shards)
    }

    /// Refuses a model that lacks what was asked for, before anything is downloaded.
    fn refuse_incomplete(self, wanted: &[&str], snapshot: &Snapshot<'_>) -> Result<(), HubError> {
        match self {
            Self::Tokenizer { vocabularies, .. } if !vocabularies.iter().any(|name| wanted.contains(name)) => {
                Err(missing(snapshot, "tokenizer", ": name one with --tokenizer_name"))
            }
            Self::Config | Self::Model if !wanted.contains(&"config.json") => {
                Err(missing(snapshot, "config.json", ": it is no model of the transformers library"))
            }
            Self::Model if !WEIGHTS.iter().any(|name| wanted.contains(name)) => {
                let sizes = &snapshot.sizes;
                let other = [("tf_model.h5", "TensorFlow"), ("flax_model.msgpack", "Flax")]
                    .into_iter()
                    .find(|(file, _)| sizes.contains_key(*file))
                    .map(|(_, framework)| framework)
                    .or(sizes.keys().any(|name| name.ends_with(".gguf")).then_some("GGUF"));
                let instead = other.map_or(String::new(), |framework| {
                    format!(", only {framework}'s: convert them with Python's save_pretrained, and give that folder")
                });
                Err(missing(snapshot, "weights (model.safetensors or pytorch_model.bin)", &instead))
            }
            _ => Ok(()),
        }
    }
}

fn missing(snapshot: &Snapshot<'_>, wanted: &str, instead: &str) -> HubError {
    let name = snapshot.revision.repo.to_string();
    HubError::MissingFiles { name, wanted: wanted.to_string(), instead: instead.to_string() }
}

/// The files that an index of weights names; none when `weights` is no index.
fn shards(folder: &Path, weights: &str) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    if !weights.ends_with(".index.json") {
        return Ok(Vec::new());
    }
    let index: Index = lm_files::read_to_string(&folder.join(weights), lm_files::SMALL)
        .map_err(|error| format!("{weights}: {error}"))
        .and_then(|text| serde_json::from_str(&text).map_err(|error| format!("{weights} is no index: {error}")))?;
    let mut files: Vec<String> = index.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    match files.iter().find(|name| !is_file_name(name)) {
        Some(name) => Err(format!("{weights} names {}, which is no file beside it", plain(name))),
        None => Ok(files),
    }
}
