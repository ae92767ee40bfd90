//! A repository at a commit, as the Hub has it: which files there are, and getting several of them.

use std::collections::HashMap;
use std::path::PathBuf;

use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::HubError;
use crate::cache::{is_commit, is_file_path};
use crate::error::plain;
use crate::http::{Failure, Hub};
use crate::revision::Revision;

/// What the Hub tells of a revision before any of its files comes.
pub(crate) struct Snapshot<'a> {
    pub revision: &'a Revision<'a>,
    pub hub: Hub,
    /// How often a request is made at most.
    pub attempts: usize,
    /// The commit that the revision is now.
    pub commit: String,
    /// The files with their sizes in bytes, by their paths in the repository.
    pub sizes: HashMap<String, u64>,
    /// What the Hub calls the repository now, if it was asked.
    pub name: Option<String>,
}

impl<'a> Snapshot<'a> {
    /// Asks for the commit of the revision and the list of its files.
    ///
    /// # Errors
    /// See [`HubError`].
    pub fn open(revision: &'a Revision<'a>, attempts: usize) -> Result<Self, HubError> {
        let explain = |failure| revision.explain(failure);
        let (repo, settings) = (revision.repo, revision.settings);
        let hub = connect(revision, attempts)?;
        let endpoint = hub.endpoint();
        tracing::info!("asking {} for {repo}", revision.shown_endpoint());
        let Info { sha: commit, id: name } =
            find_commit(&hub, repo.api(endpoint, "revision", &settings.revision)).map_err(explain)?;
        let sizes = list(&hub, repo.api(endpoint, "tree", &commit)).map_err(explain)?;
        Ok(Self { revision, hub, attempts, commit, sizes, name })
    }

    /// A commit whose list of files was asked for before.
    ///
    /// # Errors
    /// If the Hub cannot be asked at all.
    pub fn known(
        revision: &'a Revision<'a>,
        attempts: usize,
        commit: String,
        sizes: HashMap<String, u64>,
    ) -> Result<Self, HubError> {
        Ok(Self { revision, hub: connect(revision, attempts)?, attempts, commit, sizes, name: None })
    }

    /// Where the files are in the cache.
    pub fn folder(&self) -> PathBuf {
        self.revision.cache.snapshot(&self.commit)
    }

    /// Where the Hub has a file.
    pub fn url(&self, file: &str) -> Url {
        self.revision.repo.file(self.hub.endpoint(), &self.commit, file)
    }
}

/// A connection for what is asked of a revision.
pub(crate) fn connect(revision: &Revision<'_>, attempts: usize) -> Result<Hub, HubError> {
    let (repo, settings) = (revision.repo, revision.settings);
    let endpoint = endpoint(revision)?;
    let authorization = settings.token.as_ref().map(|token| {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| HubError::BadToken { name: repo.to_string() })?;
        value.set_sensitive(true);
        Ok(value)
    });
    Hub::new(&endpoint, authorization.transpose()?, attempts, settings.retry_delay)
        .map_err(|failure| revision.explain(failure))
}

/// `HF_ENDPOINT`, if it can be one.
fn endpoint(revision: &Revision<'_>) -> Result<Url, HubError> {
    let refused = |detail: String| HubError::Endpoint { endpoint: revision.shown_endpoint(), detail };
    let url = Url::parse(&revision.settings.endpoint).map_err(|error| refused(error.to_string()))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(refused(format!("it begins with {other}:"))),
    }
}

#[derive(serde::Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    id: Option<String>,
}

fn find_commit(hub: &Hub, url: Url) -> Result<Info, Failure> {
    let info: Info = hub.document(url)?;
    match is_commit(&info.sha) {
        true => Ok(info),
        false => Err(Failure::Nonsense(format!("a commit that is none: {}", plain(&info.sha)))),
    }
}

/// Names that no file can have everywhere are passed over.
fn list(hub: &Hub, url: Url) -> Result<HashMap<String, u64>, Failure> {
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(rename = "type")]
        kind: String,
        path: String,
        #[serde(default)]
        size: u64,
    }
    let entries: Vec<Entry> = hub.list(url)?;
    let files = entries.into_iter().filter(|entry| entry.kind == "file" && is_file_path(&entry.path));
    Ok(files.map(|entry| (entry.path, entry.size)).collect())
}
