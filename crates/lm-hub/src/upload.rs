//! Uploads to a repository of the Hub, by hf-hub: it asks the Hub which files are large, moves those by the Xet protocol, and
//! sends the rest with the commit. What the Hub does not want by Xet goes with the commit too.

use std::path::PathBuf;
use std::time::Duration;

use hf_hub::repository::CommitOperation;
use hf_hub::{HFClient, HFClientBuilder, HFError, HFRepository, RepoTypeModel};
use reqwest::{Client, StatusCode};
use tokio::runtime::{Builder, Runtime};

use crate::HubError;
use crate::error::{chain, plain};
use crate::http::{AGENT, CONNECT, Failure};
use crate::settings::{HubOptions, Places, Settings, variable};
use crate::transfer::failure;

/// A file of this machine, and its path in the repository.
pub type Upload = (PathBuf, String);

/// A model's repository that commits are made to.
pub struct Repository {
    runtime: Runtime,
    hub: HFClient,
    endpoint: String,
    name: String,
    revision: Option<String>,
}

/// A commit may take the Hub as long.
const SILENCE: Duration = Duration::from_secs(120);
/// Repetitions of a request that may be answered later.
const RETRIES: usize = 5;

impl Repository {
    /// The repository `name` (`owner/name`, or the name alone, which is the token's owner's), made if it is not there. Commits
    /// go to the branch of `options.revision`, `main` without one.
    ///
    /// # Errors
    /// If there is no token, it is not accepted or does not allow it, or the Hub cannot be reached.
    pub fn open(name: &str, private: Option<bool>, options: &HubOptions) -> Result<Self, HubError> {
        Self::of(name, private, &Settings::new(options, &Places::of_python(), variable), options.revision.clone())
    }

    pub(crate) fn of(
        name: &str,
        private: Option<bool>,
        settings: &Settings,
        revision: Option<String>,
    ) -> Result<Self, HubError> {
        let endpoint = settings.endpoint.clone();
        let fails = |detail: String| HubError::Upload { name: name.into(), endpoint: endpoint.clone(), detail };
        let Some(token) = settings.token.as_deref() else {
            return Err(HubError::NoToken { name: name.into() });
        };
        if settings.offline {
            return Err(fails("HF_HUB_OFFLINE forbids it".into()));
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| fails(error.to_string()))?;
        let client = Client::builder().user_agent(AGENT).connect_timeout(CONNECT).read_timeout(SILENCE).build();
        let hub = HFClientBuilder::new()
            .endpoint(&endpoint)
            .token(token)
            .client(client.map_err(|error| fails(chain(&error)))?)
            .cache_enabled(false)
            .retry_max_attempts(RETRIES)
            .retry_base_delay(settings.retry_delay)
            .build()
            .map_err(|error| fails(chain(&error)))?;
        let explain = |error| explain(name, &endpoint, error);
        let full_name = match name.contains('/') {
            true => name.to_owned(),
            false => {
                let user = runtime.block_on(hub.whoami().send()).map_err(explain)?;
                format!("{}/{name}", plain(&user.username))
            }
        };
        let make = hub.create_repository().repo_id(&full_name).repo_type(RepoTypeModel).maybe_private(private);
        runtime.block_on(make.exist_ok(true).send()).map_err(explain)?;
        Ok(Self { runtime, hub, endpoint, name: full_name, revision })
    }

    /// Its full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One commit that adds or replaces these files.
    ///
    /// # Errors
    /// If a file cannot be read, or the Hub does not take it, also after some repetitions.
    pub fn commit(&self, files: &[Upload], message: &str) -> Result<(), HubError> {
        let add = |(file, path): &Upload| CommitOperation::add_file(path.clone(), file.clone());
        let (owner, name) = hf_hub::split_id(&self.name);
        let repository: HFRepository<RepoTypeModel> = self.hub.repository(RepoTypeModel, owner, name);
        let commit = repository
            .create_commit()
            .operations(files.iter().map(add).collect())
            .commit_message(message)
            .maybe_revision(self.revision.clone());
        let made = self.runtime.block_on(commit.send());
        made.map(|_| ()).map_err(|error| explain(&self.name, &self.endpoint, error))
    }
}

/// An error in words that say what to do; never with the token, which is in no message of the client.
fn explain(name: &str, endpoint: &str, error: HFError) -> HubError {
    let (name, endpoint) = (name.to_owned(), endpoint.to_owned());
    match failure(error) {
        Failure::Refused { status, message, .. } => {
            let detail = if message.is_empty() { status.to_string() } else { format!("{status}: {message}") };
            match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => HubError::MayNotWrite { name, endpoint, detail },
                _ => HubError::Upload { name, endpoint, detail },
            }
        }
        Failure::Unreachable(detail) => HubError::Upload { name, endpoint, detail },
        Failure::Nonsense(detail) => HubError::Upload { name, endpoint, detail: plain(&detail) },
        other => HubError::Upload { name, endpoint, detail: plain(&format!("{other:?}")) },
    }
}
