//! What is asked of the Hub before any file: the commit, the list and the hashes. hf-hub reads lists of any length, gives
//! the token to the host that the next page names, and takes the hash of the answer for that of a file that lies
//! elsewhere. Nothing that comes back here is believed to be short, to end, or to lead where it should.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Response};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LINK, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::error::{chain, plain, without_credentials};

/// A connection that takes longer is not going to be one.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// Python's HF_HUB_DOWNLOAD_TIMEOUT: silence of the other side for this long is a failure.
pub(super) const SILENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });
/// Longer than any list of files takes.
const LIST_TIME: Duration = Duration::from_secs(20);
/// The list of 40,000 files.
const LIST_BYTES: u64 = 16 << 20;
const LIST_PAGES: usize = 100;
/// The longest pause that a server can ask for: the Hub counts requests by five minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
pub(super) const REDIRECTS: usize = 10;
pub(super) const AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// One for all, never dropped: that would wait for lookups of names, which without a network take half a minute.
static CLIENT: LazyLock<Result<Client, String>> = LazyLock::new(|| {
    let client = Client::builder().user_agent(AGENT).connect_timeout(CONNECT).timeout(SILENCE).redirect(Policy::none());
    client.build().map_err(|error| chain(&error))
});

/// Why a request had no use.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection, or silence.
    Unreachable(String),
    /// The connection was lost, or ended too early.
    Broken(String),
    /// The Hub said no.
    Refused {
        /// Status of the answer.
        status: StatusCode,
        /// Its `X-Error-Code`, the Hub's own name for the reason.
        code: String,
        /// Its words.
        message: String,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
    /// An answer that no Hub gives.
    Nonsense(String),
    /// Bytes that do not have the hash that they should have.
    WrongBytes {
        /// The file.
        file: String,
        /// The hash.
        hash: String,
    },
    /// The cache cannot be written.
    Cache(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Cache(error)
    }
}

impl Failure {
    /// What happened, for a message that says what was asked for.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::Unreachable(detail) | Self::Broken(detail) | Self::Nonsense(detail) => detail.clone(),
            Self::Refused { status, .. } => status.to_string(),
            Self::WrongBytes { file, .. } => format!("wrong bytes of {file}"),
            Self::Cache(error) => error.to_string(),
        }
    }

    /// How long to wait before the same request is made again: our own pause, or what the server asks for, if that is longer.
    pub(super) fn pause(&self, own: Duration) -> Duration {
        match self {
            Self::Refused { retry_after: Some(asked), .. } => own.max(LONGEST_PAUSE.min(*asked)),
            _ => own,
        }
    }

    /// Whether the same request may be answered later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) => true,
            Self::Refused { status, .. } => matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

/// What a HEAD request tells of a file.
pub(super) struct Described {
    /// The hash in quotes, as the server wrote it.
    pub etag: String,
    /// The commit that the server took it from.
    pub commit: Option<String>,
}

/// A connection to one Hub.
pub(super) struct Hub {
    client: &'static Client,
    endpoint: Url,
    authorization: Option<HeaderValue>,
    /// How often a request is made at most.
    attempts: usize,
    /// Before a request is repeated; doubled each time.
    retry_delay: Duration,
}

impl Hub {
    pub(super) fn new(
        endpoint: &Url,
        authorization: Option<HeaderValue>,
        attempts: usize,
        retry_delay: Duration,
    ) -> Result<Self, Failure> {
        let client = CLIENT.as_ref().map_err(|detail| Failure::Unreachable(detail.clone()))?;
        Ok(Self { client, endpoint: endpoint.clone(), authorization, attempts, retry_delay })
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// A JSON document.
    pub(super) fn document<T: DeserializeOwned>(&self, url: Url) -> Result<T, Failure> {
        let response = self.follow(&Method::GET, url, &HeaderMap::new(), |_| false)?;
        let bytes = read_bounded(response, LIST_BYTES, Instant::now() + LIST_TIME)?;
        parse(&bytes)
    }

    /// A list that may come in pages.
    pub(super) fn list<T: DeserializeOwned>(&self, url: Url) -> Result<Vec<T>, Failure> {
        let deadline = Instant::now() + LIST_TIME;
        let mut left = LIST_BYTES;
        let mut seen = HashSet::new();
        let mut list = Vec::new();
        let mut next = Some(url);
        while let Some(url) = next {
            if seen.len() == LIST_PAGES || !seen.insert(url.clone()) {
                return Err(Failure::Nonsense("a list of files without end".to_string()));
            }
            let response = self.follow(&Method::GET, url, &HeaderMap::new(), |_| false)?;
            let base = response.url().clone();
            let link = next_page(response.headers()).map(str::to_string);
            next = link.map(|link| lead(&base, &link)).transpose().map_err(Failure::Nonsense)?;
            let bytes = read_bounded(response, left, deadline)?;
            left -= bytes.len() as u64;
            list.extend(parse::<Vec<T>>(&bytes)?);
        }
        Ok(list)
    }

    /// What the Hub knows of a file, before it sends it or says where it lies.
    pub(super) fn describe(&self, url: Url) -> Result<Described, Failure> {
        let response = self.follow(&Method::HEAD, url, &HeaderMap::new(), |response| etag(response).is_some())?;
        let etag = etag(&response).ok_or_else(|| Failure::Nonsense("a file without an ETag".to_string()))?;
        let commit = header(response.headers(), "x-repo-commit").map(str::to_string);
        Ok(Described { etag, commit })
    }

    /// Bytes of a file of `size` bytes, from one of them up to another.
    pub(super) fn range(&self, url: Url, from: u64, to: u64, size: u64) -> Result<Response, Failure> {
        let range = [(RANGE, format!("bytes={from}-{}", to.saturating_sub(1)))];
        let range = range.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?)));
        let response = self.follow(&Method::GET, url, &range.collect(), |_| false)?;
        let sent = header(response.headers(), CONTENT_RANGE.as_str()).unwrap_or_default();
        let heeded = match response.status() {
            StatusCode::PARTIAL_CONTENT => sent == format!("bytes {from}-{}/{size}", to.saturating_sub(1)),
            _ => from == 0,
        };
        match heeded {
            true => Ok(response),
            false => Err(Failure::Nonsense(format!("not bytes {from} to {to} of a file of {size} ({})", plain(sent)))),
        }
    }

    /// A request that leads to success over some redirections, or ends where `stop` says.
    fn follow(
        &self,
        method: &Method,
        mut url: Url,
        headers: &HeaderMap,
        stop: impl Fn(&Response) -> bool,
    ) -> Result<Response, Failure> {
        for _ in 0..=REDIRECTS {
            let response = self.send(method, &url, headers)?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if !status.is_redirection() {
                return Err(refusal(response));
            }
            let location = header(response.headers(), LOCATION.as_str())
                .ok_or_else(|| Failure::Nonsense(format!("{status} without a place to go to")))?;
            let next = lead(&url, location).map_err(Failure::Nonsense)?;
            if stop(&response) {
                return Ok(response);
            }
            url = next;
        }
        Err(Failure::Nonsense(format!("more than {REDIRECTS} redirections")))
    }

    /// One request, repeated while the other side can't be reached or asks to come back later.
    fn send(&self, method: &Method, url: &Url, headers: &HeaderMap) -> Result<Response, Failure> {
        let mut headers = headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if url.origin() == self.endpoint.origin() {
            headers.extend(self.authorization.clone().map(|token| (AUTHORIZATION, token)));
        }
        persist(self.attempts, self.retry_delay, url.host_str().unwrap_or_default(), || {
            let request = self.client.request(method.clone(), url.clone()).headers(headers.clone());
            match request.send() {
                Ok(response) if response.status().is_client_error() || response.status().is_server_error() => {
                    Err(refusal(response))
                }
                Ok(response) => Ok(response),
                Err(error) => Err(Failure::Unreachable(chain(&error.without_url()))),
            }
        })
    }
}

/// What `ask` gives, asked so many times at most while its failure passes. The pause between is doubled each time.
pub(super) fn persist<T>(
    attempts: usize,
    retry_delay: Duration,
    whom: &str,
    mut ask: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut attempt = 1;
    loop {
        match ask() {
            Err(failure) if attempt < attempts && failure.passes() => {
                let pause = failure.pause(retry_delay * (1 << (attempt - 1)));
                tracing::warn!("{whom}: {}; trying again{}", failure.detail(), shown(pause));
                std::thread::sleep(pause);
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// How long a pause is, if anybody notices.
pub(super) fn shown(pause: Duration) -> String {
    if pause < Duration::from_secs(5) { String::new() } else { format!(" in {} s", pause.as_secs()) }
}

/// `Retry-After: 120`, or `RateLimit: "api";r=0;t=120` as the Hub has it too; no dates, as in huggingface_hub.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let limit = header(headers, "ratelimit").and_then(|limit| {
        let mut fields = limit.split(';').filter_map(|field| field.trim().split_once('='));
        fields.find(|(name, _)| name.trim() == "t").map(|(_, seconds)| seconds)
    });
    let seconds = header(headers, RETRY_AFTER.as_str()).or(limit)?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// Where a redirection or the next page leads: only over HTTP, and never out of encryption.
pub(super) fn lead(base: &Url, to: &str) -> Result<Url, String> {
    match base.join(to) {
        Ok(url) if url.scheme() == "https" || (base.scheme(), url.scheme()) == ("http", "http") => Ok(url),
        _ => Err(format!("a redirection to {}", plain(&without_credentials(to)))),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The hash of the file itself, which for one that lies elsewhere is not that of the answer.
fn etag(response: &Response) -> Option<String> {
    let headers = response.headers();
    header(headers, "x-linked-etag").or_else(|| header(headers, ETAG.as_str())).map(str::to_string)
}

/// `Link: <address>; rel="next"`
fn next_page(headers: &HeaderMap) -> Option<&str> {
    let next = header(headers, LINK.as_str())?.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0)
}

fn refusal(response: Response) -> Failure {
    #[derive(serde::Deserialize)]
    struct Words {
        error: String,
    }
    let status = response.status();
    let told = |name| header(response.headers(), name).map(str::to_string);
    let (code, message) = (told("x-error-code").unwrap_or_default(), told("x-error-message"));
    let retry_after = retry_after(response.headers());
    let message = message.unwrap_or_else(|| {
        // A reason that cannot be read is no reason.
        let body = read_bounded(response, 1 << 16, Instant::now() + SILENCE).unwrap_or_default();
        serde_json::from_slice(&body).map_or_else(|_| String::new(), |words: Words| words.error)
    });
    Failure::Refused { status, code, message: plain(&message), retry_after }
}

/// The whole body, if it is no longer and takes no longer than it may.
fn read_bounded(mut response: Response, most: u64, deadline: Instant) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1 << 14];
    loop {
        let count = match response.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::Unreachable(chain(&error))),
            Ok(0) => return Ok(bytes),
            Ok(count) => count,
        };
        bytes.extend_from_slice(&buffer[..count]);
        if bytes.len() as u64 > most {
            return Err(Failure::Nonsense(format!(
                "more than the {LIST_BYTES} bytes that are read of a list of files"
            )));
        }
        if Instant::now() > deadline {
            return Err(Failure::Unreachable(format!("its answer took more than {} seconds", LIST_TIME.as_secs())));
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::Nonsense(plain(&error.to_string())))
}
