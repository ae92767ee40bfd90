//! Data sets: first the list of a repository's files, by which who asks decides, then the files that are wanted of them.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use hf_hub::RepoTypeAny;

use crate::HubError;
use crate::cache::is_commit;
use crate::http::Failure;
use crate::repo::Repo;
use crate::revision::Revision;
use crate::settings::{HubOptions, Places, Settings, variable};
use crate::snapshot::Snapshot;

/// How often the Hub is asked, if it does not answer; once, if the cache has what it could answer.
const ATTEMPTS: usize = 2;
/// How often it is asked for a file, of which there may be thousands, whose number it limits by the minute.
const FILE_ATTEMPTS: usize = 5;

/// A data set at a commit: what files it has. They are downloaded when they are asked for.
pub struct DataSet {
    pub(crate) repo: Repo,
    pub(crate) settings: Settings,
    pub(crate) commit: String,
    /// Bytes of each file, by its path.
    pub(crate) sizes: HashMap<String, u64>,
    /// Why nothing can be downloaded.
    unreachable: Option<HubError>,
}

impl DataSet {
    /// Asks the Hub for the data set of this name, whatever it is called now; as it is in the cache, if the Hub must not be
    /// asked or does not answer.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn find(name: &str, options: &HubOptions) -> Result<Self, HubError> {
        let repo = Repo::new(RepoTypeAny::Dataset, name).ok_or_else(|| HubError::NoSuchFolder(name.to_string()))?;
        Self::open(repo, Settings::new(options, &Places::of_python(), variable))
    }

    pub(crate) fn open(repo: Repo, settings: Settings) -> Result<Self, HubError> {
        let cached = Self::cached(&repo, &settings);
        if settings.offline {
            let (name, cache) = (repo.to_string(), settings.cache.clone());
            return cached.map_err(|missing| HubError::NotCached { name, cache, missing });
        }
        let attempts = if cached.is_ok() { 1 } else { ATTEMPTS };
        match (Self::ask(&repo, &settings, attempts), cached) {
            (Err(error @ HubError::NoNetwork { .. }), Ok(found)) => {
                tracing::warn!("{repo}: the Hub cannot be reached: using what the cache has of it");
                Ok(Self { unreachable: Some(error), ..found })
            }
            (Err(HubError::NoNetwork { name, endpoint, detail, cache, .. }), Err(missing)) => {
                Err(HubError::NoNetwork { name, endpoint, detail, cache, missing })
            }
            (result, _) => result,
        }
    }

    fn ask(repo: &Repo, settings: &Settings, attempts: usize) -> Result<Self, HubError> {
        let revision = Revision::new(repo, settings)?;
        let Snapshot { commit, sizes, name, .. } = Snapshot::open(&revision, attempts)?;
        let moved = name.filter(|name| *name != repo.name).and_then(|name| Repo::new(RepoTypeAny::Dataset, &name));
        if let Some(now) = &moved {
            tracing::info!("{repo} is {now} on the Hub");
        }
        let found = Self {
            repo: moved.unwrap_or_else(|| repo.clone()),
            settings: settings.clone(),
            commit,
            sizes,
            unreachable: None,
        };
        // In a cache that cannot be written, there is nothing to find without the Hub.
        if let Ok(list) = serde_json::to_vec(&found.sizes) {
            let _ = found.revision()?.cache.keep_list(&found.commit, &list);
        }
        Ok(found)
    }

    /// What the cache knows of it, or what it lacks.
    fn cached(repo: &Repo, settings: &Settings) -> Result<Self, String> {
        let repo = &renamed(repo, settings);
        let revision = Revision::new(repo, settings).map_err(|error| error.to_string())?;
        let commit = revision.cached_commit()?;
        let sizes = match revision.cache.list(&commit) {
            Some(list) => list,
            None => {
                // Python keeps no list: what it downloaded is what there is.
                let folder = revision.cache.snapshot(&commit);
                let files = lm_files::files_below(&folder).unwrap_or_default().into_iter();
                files.filter_map(|file| Some((file.clone(), folder.join(&file).metadata().ok()?.len()))).collect()
            }
        };
        if sizes.is_empty() {
            return Err("the list of its files".into());
        }
        Ok(Self { repo: repo.clone(), settings: settings.clone(), commit, sizes, unreachable: None })
    }

    pub(crate) fn revision(&self) -> Result<Revision<'_>, HubError> {
        Revision::new(&self.repo, &self.settings)
    }

    /// What it is called now.
    pub fn name(&self) -> &str {
        &self.repo.name
    }

    /// What Python's `fsspec` calls a file of it: `hf://datasets/OWNER/NAME@COMMIT/PATH`.
    pub fn address(&self, file: &str) -> String {
        format!("hf://datasets/{}@{}/{file}", self.repo, self.commit)
    }

    /// The paths of all its files.
    pub fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = self.sizes.keys().cloned().collect();
        files.sort();
        files
    }

    /// The text of a small file; None if there is none.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn text(&self, file: &str) -> Result<Option<String>, HubError> {
        let Some(size) = self.sizes.get(file) else { return Ok(None) };
        let explain = |detail: String| HubError::Other {
            name: self.repo.to_string(),
            endpoint: self.settings.endpoint.clone(),
            detail: format!("{file}: {detail}"),
        };
        if *size > lm_files::SMALL {
            return Err(explain(format!("has {size} bytes, which no such file has")));
        }
        let path = self.download(&[file.to_string()])?.join(file);
        let text = lm_files::read_to_string(&path, lm_files::SMALL);
        Ok(Some(text.map_err(|error| explain(error.to_string()))?))
    }

    /// Fails if what is missing in the cache must not or cannot be asked for.
    pub(crate) fn may_ask(&self, missing: &str) -> Result<(), HubError> {
        let missing = missing.to_string();
        if self.settings.offline {
            let (name, cache) = (self.repo.to_string(), self.settings.cache.clone());
            return Err(HubError::NotCached { name, cache, missing });
        }
        if let Some(HubError::NoNetwork { name, endpoint, detail, cache, .. }) = &self.unreachable {
            let (name, endpoint, detail) = (name.clone(), endpoint.clone(), detail.clone());
            return Err(HubError::NoNetwork { name, endpoint, detail, cache: cache.clone(), missing });
        }
        Ok(())
    }

    /// The folder with these files, downloaded if they are not there.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn download(&self, files: &[String]) -> Result<PathBuf, HubError> {
        let revision = self.revision()?;
        let mut missing = None;
        for file in files {
            match revision.has(&self.commit, file) {
                Ok(true) => {}
                Ok(false) => missing = Some(file.clone()),
                Err(what) => missing = Some(what),
            }
        }
        if let Some(missing) = missing {
            self.may_ask(&missing)?;
        }
        if !self.settings.offline && self.unreachable.is_none() {
            let snapshot = Snapshot::known(&revision, FILE_ATTEMPTS, self.commit.clone(), self.sizes.clone())?;
            snapshot.download(files)?;
            let remembered = revision.cache.remember(&self.settings.revision, &self.commit);
            remembered.map_err(|error| revision.explain(Failure::Cache(error)))?;
        }
        Ok(revision.cache.snapshot(&self.commit))
    }
}

/// A bare name such as `wikitext` is that of an owner now: the one that the cache has, where there is only one.
fn renamed(repo: &Repo, settings: &Settings) -> Repo {
    let folder = |name: &str| settings.cache.join(name);
    if repo.name.contains('/') || folder(&repo.cache_folder()).exists() || is_commit(&repo.name) {
        return repo.clone();
    }
    let end = format!("--{}", repo.name);
    let entries = fs::read_dir(&settings.cache).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut owned = names.filter_map(|name| {
        let owner = name.strip_prefix("datasets--")?.strip_suffix(&end)?.to_string();
        Repo::new(RepoTypeAny::Dataset, &format!("{owner}/{}", repo.name))
    });
    match (owned.next(), owned.next()) {
        (Some(only), None) => only,
        _ => repo.clone(),
    }
}
