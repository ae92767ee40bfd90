//! Uploads to a repository of the Hub, by hf-hub: it asks the Hub which files are large, moves those by the Xet protocol, and
//! sends the rest with the commit. What the Hub does not want by Xet goes with the commit too.

use std::path::PathBuf;
use std::time::Duration;

use hf_hub::repository::CommitOperation;
use hf_hub::{HFClient, HFClientBuilder, HFRepository, RepoTypeModel};
use reqwest::{Client, StatusCode};
use tokio::runtime::{Builder, Runtime};

use crate::HubError;
use crate::error::{chain, plain};
use crate::http::{AGENT, CONNECT, Failure, persist};
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
    retry_delay: Duration,
}

/// How often something is tried that the Hub may take later.
const ATTEMPTS: usize = 6;

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
        let client =
            Client::builder().user_agent(AGENT).connect_timeout(CONNECT).read_timeout(settings.upload_silence).build();
        let hub = HFClientBuilder::new()
            .endpoint(&endpoint)
            .token(token)
            .client(client.map_err(|error| fails(chain(&error)))?)
            .cache_enabled(false)
            // Its pauses are not those that the Hub asks for.
            .retry_max_attempts(0)
            .build()
            .map_err(|error| fails(chain(&error)))?;
        let explain = |failure| explain(name, &endpoint, failure);
        let retry_delay = settings.retry_delay;
        let full_name = match name.contains('/') {
            true => name.to_owned(),
            false => {
                let ask = || runtime.block_on(hub.whoami().send()).map_err(failure);
                let user = persist(ATTEMPTS, retry_delay, name, ask).map_err(explain)?;
                format!("{}/{name}", plain(&user.username))
            }
        };
        let make = || {
            let make = hub.create_repository().repo_id(&full_name).repo_type(RepoTypeModel).maybe_private(private);
            runtime.block_on(make.exist_ok(true).send()).map_err(failure)
        };
        persist(ATTEMPTS, retry_delay, &full_name, make).map_err(explain)?;
        Ok(Self { runtime, hub, endpoint, name: full_name, revision, retry_delay })
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
        // From its beginning: what the Hub has of large files by then is not sent again.
        let make = || {
            let commit = repository
                .create_commit()
                .operations(files.iter().map(add).collect())
                .commit_message(message)
                .maybe_revision(self.revision.clone());
            self.runtime.block_on(commit.send()).map(|_| ()).map_err(failure)
        };
        let made = persist(ATTEMPTS, self.retry_delay, &self.name, make);
        made.map_err(|failure| explain(&self.name, &self.endpoint, failure))
    }
}

/// An error in words that say what to do; never with the token, which is in no message of the client.
fn explain(name: &str, endpoint: &str, failure: Failure) -> HubError {
    let (name, endpoint) = (name.to_owned(), endpoint.to_owned());
    match failure {
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
