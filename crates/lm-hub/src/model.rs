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
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let files: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            let files = || files.iter().map(String::as_str);
            let weights = weights::candidates(files()).into_iter();
            let weights = weights.map(|name| Ok::<_, String>(has(&name)?.then_some(name))).find_map(Result::transpose);
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
        let weights = weights::candidates(files()).into_iter().next().filter(|_| self == Self::Model);
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
                Err(missing(snapshot, "config.json", ": it is no model of the transformers library"))
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
