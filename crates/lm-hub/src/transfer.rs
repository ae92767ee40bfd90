//! The bytes of files. hf-hub moves them and keeps nothing; how long it may take, and how much it may read before them,
//! is limited here, since it sets no limits.

use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use hf_hub::repository::download::HFByteStream;
use hf_hub::{HFClientBuilder, HFError, HFRepository, RepoType, RepoTypeAny, RepoTypeDataset, RepoTypeModel};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::error::{chain, plain};
use super::http::{AGENT, CONNECT, Failure, REDIRECTS, SILENCE, lead, persist, retry_after};
use super::repo::Repo;
use super::settings::Settings;

/// Longer than it takes until a file's first bytes come, with redirections and repetitions.
const PATIENCE: Duration = Duration::from_secs(20);
/// More pieces than arrive before a file's bytes. hf-hub reads a page of an error to its end, and this is its end.
const PIECES: usize = 256;

/// hf-hub for one repository and one thread.
pub(super) struct Transfer {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    repository: Repository,
    client: Client,
    token: Option<String>,
    /// How often a file is asked for at most, and the first pause between.
    attempts: usize,
    retry_delay: Duration,
    /// Whether hf-hub began to speak the Xet protocol.
    xet: Arc<AtomicBool>,
}

/// The bytes of one file, as they arrive.
pub(super) struct Incoming<'a> {
    runtime: &'a Runtime,
    stream: HFByteStream,
}

impl Transfer {
    pub(super) fn new(settings: &Settings, repo: &Repo, attempts: usize) -> Result<Self, Failure> {
        // All of it runs on the thread that waits, so that a piece is counted before the next one is read.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let unusable = |error: &dyn std::error::Error| Failure::Unreachable(chain(error));
        let xet = Arc::new(AtomicBool::new(false));
        let seen = xet.clone();
        let client = Client::builder()
            .user_agent(AGENT)
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .referer(false)
            // reqwest takes the token away where a redirection leads to another host.
            .redirect(Policy::custom(|redirection| {
                let verdict = match redirection.previous() {
                    [.., here] if redirection.previous().len() <= REDIRECTS => lead(here, redirection.url().as_str()),
                    _ => Err(format!("more than {REDIRECTS} redirections")),
                };
                match verdict {
                    Ok(_) => redirection.follow(),
                    Err(why) => redirection.error(why),
                }
            }))
            // A repetition holds back the answer until `limited` has looked.
            .retry(reqwest::retry::for_host(AnyHost).no_budget().max_retries_per_request(1).classify_fn(
                move |request| match request.uri().path().rsplit('/').nth(1) {
                    Some("xet-read-token") => {
                        seen.store(true, Ordering::Relaxed);
                        request.retryable()
                    }
                    _ => request.success(),
                },
            ))
            .build()
            .map_err(|error| unusable(&error))?;
        let hub = HFClientBuilder::new()
            .endpoint(&settings.endpoint)
            // Without a token, hf-hub looks for one of its own, in files of any size; what no header can hold it does
            // not send.
            .token(settings.token.as_deref().unwrap_or("\n"))
            .client(client.clone())
            .cache_enabled(false)
            // Its pauses are not those that the Hub asks for.
            .retry_max_attempts(0)
            .build()
            .map_err(|error| unusable(&error))?;
        let (owner, name) = hf_hub::split_id(&repo.name);
        let repository = match repo.kind {
            RepoTypeAny::Dataset => Repository::Dataset(hub.repository(RepoTypeDataset, owner, name)),
            _ => Repository::Model(hub.repository(RepoTypeModel, owner, name)),
        };
        let (token, retry_delay) = (settings.token.clone(), settings.retry_delay);
        Ok(Self { runtime: Some(runtime), repository, client, token, attempts, retry_delay, xet })
    }

    /// The last bytes of a file of `size` bytes, beginning at `from`; None if the Hub sends no part of this file.
    /// `url` is where the Hub has the file.
    pub(super) fn open(
        &self,
        url: Url,
        commit: &str,
        file: &str,
        from: u64,
        size: u64,
    ) -> Result<Option<Incoming<'_>>, Failure> {
        let host = url.host_str().unwrap_or_default().to_owned();
        persist(self.attempts, self.retry_delay, &host, || self.ask(&url, commit, file, from, size))
    }

    fn ask(&self, url: &Url, commit: &str, file: &str, from: u64, size: u64) -> Result<Option<Incoming<'_>>, Failure> {
        let runtime = self.runtime.as_ref().ok_or_else(|| Failure::Unreachable("it was ended".to_string()))?;
        self.xet.store(false, Ordering::Relaxed);
        let range = (from > 0).then_some(from..size);
        let answer = match &self.repository {
            Repository::Model(model) => runtime.block_on(limited(stream(model, file, commit, range), &self.xet)),
            Repository::Dataset(set) => runtime.block_on(limited(stream(set, file, commit, range), &self.xet)),
        };
        let (length, stream) = match answer? {
            Some(answer) => answer.map_err(failure)?,
            None => runtime.block_on(self.open_plainly(url.clone(), from))?,
        };
        // hf-hub does not say whether the server heeded the range, but a rest is shorter than the whole.
        let heeded = from == 0 || length == Some(size - from);
        Ok(heeded.then(|| Incoming { runtime, stream }))
    }

    /// A file that hf-hub would fetch in parts by the Xet protocol, over HTTP, by which the Hub has it too. The library
    /// of that protocol reads without limit what a server says of the parts.
    async fn open_plainly(&self, url: Url, from: u64) -> Result<(Option<u64>, HFByteStream), Failure> {
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = timeout(PATIENCE, request.send()).await.map_err(|_| late())?;
        let response = response.map_err(|error| failure(error.into()))?;
        if !matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            let (status, retry_after) = (response.status(), retry_after(response.headers()));
            return Err(Failure::Refused { status, code: String::new(), message: String::new(), retry_after });
        }
        Ok((response.content_length(), Box::new(response.bytes_stream().map_err(HFError::from))))
    }
}

/// A repository by a type of its own: by [`RepoTypeAny`], hf-hub asks for a model where it asks what a file is.
enum Repository {
    Model(HFRepository<RepoTypeModel>),
    Dataset(HFRepository<RepoTypeDataset>),
}

async fn stream<T: RepoType>(
    repository: &HFRepository<T>,
    file: &str,
    commit: &str,
    range: Option<Range<u64>>,
) -> Result<(Option<u64>, HFByteStream), HFError> {
    repository.download_file_stream().filename(file).revision(commit).maybe_range(range).send().await
}

/// Equal to every host.
struct AnyHost;

impl PartialEq<&str> for AnyHost {
    fn eq(&self, _: &&str) -> bool {
        true
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not to wait for lookups of names, which without a network take half a minute.
            runtime.shutdown_background();
        }
    }
}

impl Incoming<'_> {
    /// The next bytes, none at the end; or why the connection was lost.
    pub(super) fn next(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, String> {
        let piece = self.runtime.block_on(async { timeout(SILENCE, self.stream.next()).await });
        let piece = piece.map_err(|_| format!("nothing came for {} seconds", SILENCE.as_secs()))?;
        piece.transpose().map_err(|error| match error {
            HFError::Request { source, .. } => chain(&source.without_url()),
            other => chain(&other),
        })
    }
}

/// The result, if it comes in time and does not read without end; None as soon as `stop` is set.
async fn limited<T>(future: impl Future<Output = T>, stop: &AtomicBool) -> Result<Option<T>, Failure> {
    let mut future = pin!(future);
    let mut pieces = 0;
    let counted = poll_fn(|context| {
        pieces += 1;
        if pieces > PIECES {
            return Poll::Ready(Err(Failure::Nonsense("a page without end instead of a file".to_string())));
        }
        let result = future.as_mut().poll(context);
        if stop.load(Ordering::Relaxed) { Poll::Ready(Ok(None)) } else { result.map(|result| Ok(Some(result))) }
    });
    timeout(PATIENCE, counted).await.unwrap_or_else(|_| Err(late()))
}

fn late() -> Failure {
    Failure::Unreachable(format!("its answer took more than {} seconds", PATIENCE.as_secs()))
}

/// What an error of hf-hub means: of an upload, or before a file's first bytes.
pub(super) fn failure(error: HFError) -> Failure {
    let retry_after = if let HFError::RateLimited { retry_after, .. } = &error { *retry_after } else { None };
    let context = match error {
        HFError::Request { source, .. } => {
            let nonsense = source.is_redirect() || source.is_decode();
            let detail = chain(&source.without_url());
            return if nonsense { Failure::Nonsense(detail) } else { Failure::Unreachable(detail) };
        }
        HFError::Http { context }
        | HFError::AuthRequired { context }
        | HFError::Forbidden { context }
        | HFError::Conflict { context }
        | HFError::RateLimited { context, .. }
        | HFError::RepoNotFound { context: Some(context), .. }
        | HFError::RevisionNotFound { context: Some(context), .. }
        | HFError::EntryNotFound { context: Some(context), .. } => context,
        error => return Failure::Nonsense(chain(&error)),
    };
    let message = plain(&context.server_message.unwrap_or_default());
    Failure::Refused { status: context.status, code: context.error_code.unwrap_or_default(), message, retry_after }
}
