//! From the cache or from the Hub: who is asked, and what serves where the Hub does not answer.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::HubError;
use crate::cache::is_commit;
use crate::http::Failure;
use crate::revision::Revision;
use crate::snapshot::Snapshot;

/// How often the Hub is asked, if it does not answer; once, if the cache has what it could answer.
const ATTEMPTS: usize = 2;
/// Hubs that this process could not reach: model, configuration and tokenizer are asked for one after another.
static GIVEN_UP: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The folder of the revision's files, with all that `fetch` brings into it from the Hub, or as it is in the cache:
/// `cached`, or what the cache lacks.
///
/// # Errors
/// See [`HubError`].
pub(crate) fn folder(
    revision: &Revision<'_>,
    cached: Result<PathBuf, String>,
    fetch: impl Fn(&Snapshot<'_>) -> Result<(), HubError>,
) -> Result<PathBuf, HubError> {
    let settings = revision.settings;
    if settings.offline {
        let (name, cache) = (revision.repo.to_string(), settings.cache.clone());
        return cached.map_err(|missing| HubError::NotCached { name, cache, missing });
    }
    let fetched = |attempts| {
        let snapshot = Snapshot::open(revision, attempts)?;
        fetch(&snapshot)?;
        let remembered = revision.cache.remember(&settings.revision, &snapshot.commit);
        remembered.map_err(|error| revision.explain(Failure::Cache(error)))?;
        Ok(snapshot.folder())
    };
    match cached {
        // A commit never changes: what the cache has of it needs no question.
        Ok(folder) if is_commit(&settings.revision) || is_given_up(&settings.endpoint) => Ok(folder),
        Ok(folder) => match fetched(1) {
            Err(error @ HubError::NoNetwork { .. }) => {
                give_up(&settings.endpoint);
                tracing::warn!("{}; using the copy in the cache: {}", reason(&error), folder.display());
                Ok(folder)
            }
            result => result,
        },
        Err(missing) => fetched(ATTEMPTS).map_err(|error| with_missing(error, missing)),
    }
}

/// Whether this Hub could not be reached a moment ago, which need not be waited for again.
fn is_given_up(endpoint: &str) -> bool {
    let given_up = GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner);
    given_up.iter().any(|other| other == endpoint)
}

fn give_up(endpoint: &str) {
    GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner).push(endpoint.to_owned());
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
