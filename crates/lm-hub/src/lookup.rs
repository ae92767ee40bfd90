//! From the cache or from the Hub: who is asked, and what serves where the Hub does not answer.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::HubError;
use crate::cache::{Cache, Kept, is_commit, is_file_name};
use crate::error::without_credentials;
use crate::http::Failure;
use crate::repo::Repo;
use crate::settings::Settings;
use crate::snapshot::Snapshot;

/// How often the Hub is asked, if it does not answer; once, if the cache has what it could answer.
const ATTEMPTS: usize = 2;
/// Hubs that this process could not reach: model, configuration and tokenizer are asked for one after another.
static GIVEN_UP: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A repository at a revision that is looked for.
pub(crate) struct Lookup<'a> {
    pub repo: &'a Repo,
    pub settings: &'a Settings,
    pub cache: Cache,
}

impl<'a> Lookup<'a> {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// If no revision can have this name.
    pub fn new(repo: &'a Repo, settings: &'a Settings) -> Result<Self, HubError> {
        let revision = &settings.revision;
        // It becomes the name of a file in the cache.
        if !revision.split('/').all(is_file_name) {
            return Err(HubError::UnknownRevision { name: repo.to_string(), revision: revision.clone() });
        }
        Ok(Self { repo, settings, cache: Cache::new(&settings.cache, &repo.cache_folder()) })
    }

    /// The folder of the revision's files, with all that `fetch` brings into it from the Hub, or as it is in the cache:
    /// `cached`, or what the cache lacks.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn folder(
        &self,
        cached: Result<PathBuf, String>,
        fetch: impl Fn(&Snapshot<'_>) -> Result<(), HubError>,
    ) -> Result<PathBuf, HubError> {
        let settings = self.settings;
        if settings.offline {
            let (name, cache) = (self.repo.to_string(), settings.cache.clone());
            return cached.map_err(|missing| HubError::NotCached { name, cache, missing });
        }
        let fetched = |attempts| {
            let snapshot = Snapshot::open(self, attempts)?;
            fetch(&snapshot)?;
            let remembered = self.cache.remember(&settings.revision, &snapshot.commit);
            remembered.map_err(|error| self.explain(Failure::Cache(error)))?;
            Ok(snapshot.folder())
        };
        match cached {
            // A commit never changes: what the cache has of it needs no question.
            Ok(folder) if is_commit(&settings.revision) || self.is_given_up() => Ok(folder),
            Ok(folder) => match fetched(1) {
                Err(error @ HubError::NoNetwork { .. }) => {
                    self.give_up();
                    tracing::warn!("{}; using the copy in the cache: {}", reason(&error), folder.display());
                    Ok(folder)
                }
                result => result,
            },
            Err(missing) => fetched(ATTEMPTS).map_err(|error| with_missing(error, missing)),
        }
    }

    /// The commit that the revision was last time.
    ///
    /// # Errors
    /// What the cache lacks.
    pub fn cached_commit(&self) -> Result<String, String> {
        let revision = &self.settings.revision;
        self.cache.commit(revision).ok_or_else(|| format!("revision {revision:?} of the {}", self.repo.noun()))
    }

    /// Whether the cache has a file of a commit.
    ///
    /// # Errors
    /// If what it has is damaged.
    pub fn has(&self, commit: &str, file: &str) -> Result<bool, String> {
        match self.cache.find(commit, file) {
            Kept::Whole(_) => Ok(true),
            Kept::Nothing => Ok(false),
            Kept::Damaged(why) => Err(format!("an undamaged {file} ({why})")),
        }
    }

    /// Whether this Hub could not be reached a moment ago, which need not be waited for again.
    fn is_given_up(&self) -> bool {
        let given_up = GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner);
        given_up.contains(&self.settings.endpoint)
    }

    fn give_up(&self) {
        GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner).push(self.settings.endpoint.clone());
    }

    pub fn shown_endpoint(&self) -> String {
        without_credentials(&self.settings.endpoint)
    }

    /// What an error of the Hub means for the user, by its `X-Error-Code` and status
    /// (`hf_raise_for_status` in huggingface_hub).
    pub fn explain(&self, failure: Failure) -> HubError {
        let (name, endpoint) = (self.repo.to_string(), self.shown_endpoint());
        let cache = self.settings.cache.clone();
        let no_network = |detail| HubError::NoNetwork {
            name: name.clone(),
            endpoint: endpoint.clone(),
            detail,
            cache: cache.clone(),
            missing: String::new(),
        };
        let (status, code, message) = match failure {
            // A server may repeat what it was sent.
            Failure::Refused { status, code, message } => match &self.settings.token {
                Some(token) => (status, code, message.replace(token.as_str(), "…")),
                None => (status, code, message),
            },
            Failure::Unreachable(detail) => return no_network(detail),
            Failure::Broken(detail) => return HubError::Interrupted { name, detail },
            Failure::Nonsense(detail) => {
                return HubError::Other { name, endpoint, detail: format!("what no Hub answers: {detail}") };
            }
            Failure::WrongBytes { file, hash } => return HubError::WrongBytes { name, endpoint, file, hash },
            Failure::Cache(source) => return HubError::Cache { cache, source },
        };
        match (code.as_str(), status.as_u16()) {
            ("GatedRepo", _) => HubError::Gated { name, endpoint },
            ("RevisionNotFound", _) => HubError::UnknownRevision { name, revision: self.settings.revision.clone() },
            ("RepoNotFound", _) => HubError::UnknownModel { name, endpoint },
            // The Hub hides whether a model exists from those who may not see it.
            (_, 401) if !message.contains("Invalid credentials") => HubError::UnknownModel { name, endpoint },
            (_, 401 | 403) => HubError::TokenRefused { name, endpoint, detail: format!("{status} {message}") },
            (_, 404) => HubError::UnknownModel { name, endpoint },
            (_, 408 | 429 | 500 | 502 | 503 | 504) => no_network(format!("{status} {message}").trim().to_string()),
            _ => HubError::Other { name, endpoint, detail: format!("{status} {message}").trim().to_string() },
        }
    }
}

/// What the cache lacks belongs to the message that the Hub cannot be reached.
fn with_missing(error: HubError, lacks: String) -> HubError {
    match error {
        HubError::NoNetwork { name, endpoint, detail, cache, .. } => {
            HubError::NoNetwork { name, endpoint, detail, cache, missing: lacks }
        }
        other => other,
    }
}

/// Why the Hub was not asked, for those who do not need it.
fn reason(error: &HubError) -> String {
    match error {
        HubError::NoNetwork { name, endpoint, detail, .. } => {
            format!("{name}: {endpoint} cannot be reached ({detail})")
        }
        other => other.to_string(),
    }
}
