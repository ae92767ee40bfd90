//! What a model consists of: which of a repository's files are wanted, and whether they are all there.

use std::path::PathBuf;

use crate::HubError;
use crate::http::Failure;
use crate::lookup;
use crate::revision::Revision;
use crate::snapshot::Snapshot;
use crate::weights;

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
    /// adapter_config.json, an adapter's weights, and the files of a tokenizer that lie beside.
    Adapter {
        /// See [`Self::Tokenizer`].
        vocabularies: &'static [&'static str],
        /// See [`Self::Tokenizer`].
        others: &'static [&'static str],
    },
}

/// What an adapter is.
const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Files of an adapter's weights, the preferred first.
const ADAPTER_WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

impl Files {
    /// What may be wanted, apart from weights.
    fn possible(self) -> Vec<&'static str> {
        match self {
            Self::Config => vec!["config.json"],
            Self::Tokenizer { vocabularies, others } => [&["config.json"], vocabularies, others].concat(),
            Self::Model => vec!["config.json", "generation_config.json"],
            Self::Adapter { vocabularies, others } => [&[ADAPTER_CONFIG], vocabularies, others].concat(),
        }
    }

    /// The file without which there is nothing; a tokenizer has several to choose from.
    fn config(self) -> Option<&'static str> {
        match self {
            Self::Config | Self::Model => Some("config.json"),
            Self::Adapter { .. } => Some(ADAPTER_CONFIG),
            Self::Tokenizer { .. } => None,
        }
    }

    /// Of these files those that the weights may begin with, the preferred first; none where no weights are wanted.
    fn weights<'a>(self, files: impl Iterator<Item = &'a str> + Clone) -> Option<Vec<String>> {
        match self {
            Self::Model => Some(weights::candidates(files)),
            Self::Adapter { .. } => {
                let there = ADAPTER_WEIGHTS.into_iter().filter(|known| files.clone().any(|file| file == *known));
                Some(there.map(str::to_owned).collect())
            }
            Self::Config | Self::Tokenizer { .. } => None,
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
            _ => {}
        }
        if let Some(config) = self.config().filter(|config| !found.contains(config)) {
            return Err(config.to_string());
        }
        let folder = revision.cache.snapshot(&commit);
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let files: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let files = || files.iter().map(String::as_str);
        if let Some(weights) = self.weights(files()) {
            let weights = weights
                .into_iter()
                .map(|name| Ok::<_, String>(has(&name)?.then_some(name)))
                .find_map(Result::transpose);
            for part in weights::parts(&folder, &weights.ok_or("the weights")??, files())? {
                if !has(&part)? {
                    return Err(part);
                }
            }
        }
        Ok(folder)
    }

    /// Brings what is wanted into the cache.
    fn fetch(self, snapshot: &Snapshot<'_>) -> Result<(), HubError> {
        let (sizes, nonsense) = (&snapshot.sizes, |detail| snapshot.revision.explain(Failure::Nonsense(detail)));
        let mut wanted: Vec<String> = self.possible().into_iter().map(str::to_owned).collect();
        if let Some(name) = wanted.iter().find(|name| sizes.get(*name).is_some_and(|size| *size > lm_files::SMALL)) {
            return Err(nonsense(format!("a {name} of {} bytes", sizes[name])));
        }
        let files = || sizes.keys().map(String::as_str);
        let weights = self.weights(files()).into_iter().flatten().next();
        wanted.extend(weights.clone());
        wanted.retain(|name| sizes.contains_key(name));
        self.refuse_incomplete(&wanted, snapshot)?;

        snapshot.download(&wanted)?;
        let parts = weights.map_or(Ok(Vec::new()), |weights| weights::parts(&snapshot.folder(), &weights, files()));
        let parts = parts.map_err(nonsense)?;
        if let Some(part) = parts.iter().find(|part| !sizes.contains_key(*part)) {
            return Err(missing(snapshot, part, ": its index names that file: report it to the model's owner"));
        }
        snapshot.download(&parts)
    }

    /// Refuses a model that lacks what was asked for, before anything is downloaded.
    fn refuse_incomplete(self, wanted: &[String], snapshot: &Snapshot<'_>) -> Result<(), HubError> {
        let has = |name: &str| wanted.iter().any(|wanted| wanted == name);
        match self {
            Self::Tokenizer { vocabularies, .. } if !vocabularies.iter().any(|name| has(name)) => {
                Err(missing(snapshot, "tokenizer", ": name one with --tokenizer_name"))
            }
            Self::Config | Self::Model if !has("config.json") => {
                let instead = match snapshot.sizes.contains_key(ADAPTER_CONFIG) {
                    true => ": it is an adapter; name it with --adapter_name_or_path",
                    false => ": it is no model of the transformers library",
                };
                Err(missing(snapshot, "config.json", instead))
            }
            Self::Adapter { .. } if !has(ADAPTER_CONFIG) => {
                Err(missing(snapshot, ADAPTER_CONFIG, ": it is no adapter of peft's"))
            }
            Self::Adapter { .. } if !ADAPTER_WEIGHTS.iter().any(|name| has(name)) => {
                Err(missing(snapshot, ADAPTER_WEIGHTS[0], ": it is no adapter of peft's"))
            }
            Self::Model if weights::candidates(snapshot.sizes.keys().map(String::as_str)).is_empty() => {
                let is_gguf = snapshot.sizes.keys().any(|name| name.ends_with(".gguf"));
                let instead = if is_gguf {
                    ", only GGUF's: convert them with Python's save_pretrained, and give that folder"
                } else {
                    ""
                };
                Err(missing(snapshot, "weights (as model.safetensors or pytorch_model.bin)", instead))
            }
            _ => Ok(()),
        }
    }
}

fn missing(snapshot: &Snapshot<'_>, wanted: &str, instead: &str) -> HubError {
    let name = snapshot.revision.repo.to_string();
    HubError::MissingFiles { name, wanted: wanted.to_string(), instead: instead.to_string() }
}
