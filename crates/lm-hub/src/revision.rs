//! A repository at a revision: what the cache has of it, and what errors of the Hub mean for who asked for it.

use crate::HubError;
use crate::cache::{Cache, Kept, is_file_name};
use crate::error::without_credentials;
use crate::http::Failure;
use crate::repo::Repo;
use crate::settings::Settings;

/// A repository at a branch, a tag or a commit.
pub(crate) struct Revision<'a> {
    pub repo: &'a Repo,
    pub settings: &'a Settings,
    pub cache: Cache,
}

impl<'a> Revision<'a> {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// If no revision can have this name.
    pub fn new(repo: &'a Repo, settings: &'a Settings) -> Result<Self, HubError> {
        let revision = &settings.revision;
        // It becomes the name of a file in the cache.
        if !revision.split('/').all(is_file_name) {
            return Err(HubError::UnknownRevision {
                noun: repo.noun(),
                name: repo.to_string(),
                revision: revision.clone(),
            });
        }
        Ok(Self { repo, settings, cache: Cache::new(&settings.cache, &repo.cache_folder()) })
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

    pub fn shown_endpoint(&self) -> String {
        without_credentials(&self.settings.endpoint)
    }

    /// What an error of the Hub means for the user, by its `X-Error-Code` and status
    /// (`hf_raise_for_status` in huggingface_hub).
    pub fn explain(&self, failure: Failure) -> HubError {
        let (noun, name, endpoint) = (self.repo.noun(), self.repo.to_string(), self.shown_endpoint());
        let cache = self.settings.cache.clone();
        let no_network = |detail| HubError::NoNetwork {
            name: name.clone(),
            endpoint: endpoint.clone(),
            detail,
            cache: cache.clone(),
            missing: String::new(),
        };
        let token = self.settings.token.is_some();
        let (status, code, message) = match failure {
            // A server may repeat what it was sent.
            Failure::Refused { status, code, message, .. } => match &self.settings.token {
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
            ("GatedRepo", _) => HubError::Gated { page: self.repo.page(&endpoint), name },
            ("RevisionNotFound", _) => {
                HubError::UnknownRevision { noun, name, revision: self.settings.revision.clone() }
            }
            ("RepoNotFound", _) => HubError::UnknownModel { noun, name, endpoint, token },
            // The Hub hides whether a model exists from those who may not see it.
            (_, 401) if !message.contains("Invalid credentials") => {
                HubError::UnknownModel { noun, name, endpoint, token }
            }
            (_, 401 | 403) => HubError::TokenRefused { name, endpoint, detail: format!("{status} {message}") },
            (_, 404) => HubError::UnknownModel { noun, name, endpoint, token },
            (_, 408 | 429 | 500 | 502 | 503 | 504) => no_network(format!("{status} {message}").trim().to_string()),
            _ => HubError::Other { name, endpoint, detail: format!("{status} {message}").trim().to_string() },
        }
    }
}
