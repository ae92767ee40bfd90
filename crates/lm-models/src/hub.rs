//! Models by name: a folder on this machine, or a model of the Hugging Face Hub, downloaded once into the cache that
//! Python's `huggingface_hub` uses too, so that neither downloads what the other has.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFClientBuilder, HFError, HFRepositorySync, RepoTypeModel};
use indicatif::{ProgressBar, ProgressStyle};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_REVISION: &str = "main";
/// Python's HF_HUB_DOWNLOAD_TIMEOUT: silence of the other side for this long is a failure.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often an interrupted download is taken up again; the files that are complete are kept.
const ATTEMPTS: usize = 3;

/// What a tokenizer may consist of, in any of its layouts.
const TOKENIZER_FILES: [&str; 14] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "bpe.codes",
];
/// One of these makes a folder a tokenizer's.
const VOCABULARIES: [&str; 7] = [
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
];
/// Weights, in Python's order of preference; of these, only the first that exists is downloaded.
const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// Which files are wanted of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// config.json
    Config,
    /// The tokenizer's files, in whichever layout.
    Tokenizer,
    /// config.json, generation_config.json and the weights.
    Model,
}

/// How a name is looked up; the fields are the arguments of the same names in the Python scripts.
#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// `--model_revision`: a branch, a tag or a commit; `main` by default.
    pub revision: Option<String>,
    /// `--token`; by default the one in `HF_TOKEN`, else the one that `hf auth login` stored.
    pub token: Option<String>,
    /// `--cache_dir`; by default `HF_HUB_CACHE`, else `hub` in `HF_HOME`.
    pub cache_dir: Option<PathBuf>,
}

/// Why a name could not be resolved. Every message is one line and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Neither a folder nor possibly the name of a model.
    #[error("{0}: no such folder: check the path (it cannot be the name of a model on the Hub either)")]
    NoSuchFolder(String),
    /// A file where a folder is needed.
    #[error("{0}: is a file: name the folder that it lies in")]
    NotAFolder(String),
    /// The Hub knows no such model, or does not show it to this user.
    #[error(
        "{name}: no such folder, and no such model on {endpoint}: check the name; a private model needs a token (--token \
         or HF_TOKEN)"
    )]
    UnknownModel {
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
    },
    /// The model has conditions that this user has not accepted, or no token was given.
    #[error(
        "{name}: access is restricted: accept its conditions at {endpoint}/{name}, then give a token of that account \
         (--token or HF_TOKEN)"
    )]
    Gated {
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
    },
    /// The Hub does not accept the token.
    #[error("{name}: {endpoint} refused the token ({detail}): check --token, HF_TOKEN or the token of `hf auth login`")]
    TokenRefused {
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// The server's words.
        detail: String,
    },
    /// The model has no such branch, tag or commit.
    #[error("{name}: has no revision {revision:?}: check --model_revision (a branch, a tag or a full commit hash)")]
    UnknownRevision {
        /// The name asked for.
        name: String,
        /// The revision asked for.
        revision: String,
    },
    /// The model exists and lacks what is needed.
    #[error("{name}: has no {wanted} that can be read here{instead}")]
    MissingFiles {
        /// The name asked for.
        name: String,
        /// What was looked for.
        wanted: String,
        /// What it has instead, and what to do; or empty.
        instead: String,
    },
    /// Offline, and not downloaded before.
    #[error(
        "{name}: no such folder, and HF_HUB_OFFLINE forbids to download it; not in the cache {cache}: {missing}: unset \
         HF_HUB_OFFLINE once, or give a folder"
    )]
    NotCached {
        /// The name asked for.
        name: String,
        /// The cache looked into.
        cache: PathBuf,
        /// What is missing there.
        missing: String,
    },
    /// The Hub cannot be reached.
    #[error("{name}: no such folder, and {endpoint} cannot be reached ({detail}): check the network, or give a folder")]
    NoNetwork {
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// The network's reason.
        detail: String,
    },
    /// A download broke off, more than once.
    #[error("{name}: the download broke off ({detail}): run again, complete files are kept")]
    Interrupted {
        /// The name asked for.
        name: String,
        /// What happened.
        detail: String,
    },
    /// The cache cannot be written.
    #[error("{cache}: cannot write the cache of downloads: {source}: free space or name another with --cache_dir")]
    Cache {
        /// The cache.
        cache: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// `HF_ENDPOINT` is no address.
    #[error("HF_ENDPOINT {endpoint:?} is no URL: {detail}")]
    Endpoint {
        /// Its value.
        endpoint: String,
        /// Why not.
        detail: String,
    },
    /// Anything else the Hub answered.
    #[error("{name}: {endpoint} answered: {detail}")]
    Other {
        /// The name asked for.
        name: String,
        /// The Hub asked.
        endpoint: String,
        /// Its answer.
        detail: String,
    },
}

/// The folder that holds `files` of `model_name_or_path`: the folder of that name, or else the snapshot of the Hub's
/// model in the cache, downloaded if it is not there.
///
/// The environment decides as in Python: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_TOKEN_PATH`,
/// `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`. If the Hub cannot be reached, a complete snapshot in the cache serves.
///
/// # Errors
///
/// See [`HubError`].
pub fn resolve(model_name_or_path: &str, files: Files, options: &HubOptions) -> Result<PathBuf, HubError> {
    let path = Path::new(model_name_or_path);
    if path.is_dir() {
        return Ok(path.to_path_buf());
    }
    if path.exists() {
        return Err(HubError::NotAFolder(model_name_or_path.to_string()));
    }
    if !is_model_name(model_name_or_path) {
        return Err(HubError::NoSuchFolder(model_name_or_path.to_string()));
    }
    let settings = Settings::new(options, |name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    Lookup { name: model_name_or_path, files, settings: &settings }.resolve()
}

/// The rules of the Hub's names (`REPO_ID_REGEX` in huggingface_hub): `name` or `owner/name`.
fn is_model_name(name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let part = |text: &str| {
        text.chars().all(|c| is_word(c) || c == '-' || c == '.') && text.starts_with(is_word) && text.ends_with(is_word)
    };
    let (owner, model) = name.split_once('/').unwrap_or(("owner", name));
    part(owner)
        && part(model)
        && model.len() <= 96
        && !name.contains("--")
        && !name.contains("..")
        && !name.ends_with(".git")
}

/// Arguments and environment, put together.
#[derive(Debug, PartialEq)]
struct Settings {
    endpoint: String,
    revision: String,
    token: Option<String>,
    cache: PathBuf,
    offline: bool,
    /// Before a request is repeated; doubled each time.
    retry_delay: Duration,
}

impl Settings {
    /// `variable` gives the value of an environment variable, if it is set and not empty.
    fn new(options: &HubOptions, variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_true = |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str());
        let home = variable("HOME").or_else(|| variable("USERPROFILE")).map(PathBuf::from).unwrap_or_default();
        let expand = |path: String| match path.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None => PathBuf::from(path),
        };
        let hf_home = variable("HF_HOME").map(&expand).unwrap_or_else(|| {
            variable("XDG_CACHE_HOME").map(&expand).unwrap_or_else(|| home.join(".cache")).join("huggingface")
        });
        let cache = options.cache_dir.clone().unwrap_or_else(|| {
            ["TRANSFORMERS_CACHE", "PYTORCH_TRANSFORMERS_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]
                .into_iter()
                .find_map(&variable)
                .map(&expand)
                .unwrap_or_else(|| hf_home.join("hub"))
        });
        let implicit_token = || {
            if variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(is_true) {
                return None;
            }
            let path = variable("HF_TOKEN_PATH").map(&expand).unwrap_or_else(|| hf_home.join("token"));
            variable("HF_TOKEN")
                .or_else(|| variable("HUGGING_FACE_HUB_TOKEN"))
                .or_else(|| std::fs::read_to_string(path).ok())
                .map(|token| token.trim().to_string())
                .filter(|token| !token.is_empty())
        };
        Self {
            endpoint: variable("HF_ENDPOINT")
                .map(|endpoint| endpoint.trim_end_matches('/').to_string())
                .unwrap_or_else(|| DEFAULT_ENDPOINT.to_string()),
            revision: options.revision.clone().unwrap_or_else(|| DEFAULT_REVISION.to_string()),
            token: options.token.clone().or_else(implicit_token),
            cache,
            offline: variable("HF_HUB_OFFLINE").or_else(|| variable("TRANSFORMERS_OFFLINE")).is_some_and(is_true),
            retry_delay: Duration::from_millis(500),
        }
    }
}

/// One name to be looked up.
struct Lookup<'a> {
    name: &'a str,
    files: Files,
    settings: &'a Settings,
}

impl Lookup<'_> {
    fn resolve(&self) -> Result<PathBuf, HubError> {
        let repo = self.repository().map_err(|error| self.explain(error))?;
        if self.settings.offline {
            return self.cached(&repo).map_err(|missing| HubError::NotCached {
                name: self.name.to_string(),
                cache: self.settings.cache.clone(),
                missing,
            });
        }
        // A commit never changes: what the cache has of it needs no question.
        let revision = &self.settings.revision;
        if revision.len() == 40
            && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
            && let Ok(folder) = self.cached(&repo)
        {
            return Ok(folder);
        }
        match self.download(&repo) {
            Err(error @ HubError::NoNetwork { .. }) => match self.cached(&repo) {
                Ok(folder) => {
                    tracing::warn!("{error}; using the copy in the cache: {}", folder.display());
                    Ok(folder)
                }
                Err(_) => Err(error),
            },
            result => result,
        }
    }

    fn repository(&self) -> Result<HFRepositorySync<RepoTypeModel>, HFError> {
        let settings = self.settings;
        let http = reqwest::Client::builder()
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(TIMEOUT)
            .read_timeout(TIMEOUT)
            .build()?;
        let mut builder = HFClientBuilder::new()
            .endpoint(&settings.endpoint)
            .cache_dir(&settings.cache)
            .client(http)
            .retry_max_attempts(ATTEMPTS)
            .retry_base_delay(settings.retry_delay);
        if let Some(token) = &settings.token {
            builder = builder.token(token);
        }
        let (owner, name) = hf_hub::split_id(self.name);
        Ok(builder.build_sync()?.model(owner, name))
    }

    /// The snapshot in the cache, if it has all that is wanted; else what is missing.
    fn cached(&self, repo: &HFRepositorySync<RepoTypeModel>) -> Result<PathBuf, String> {
        let revision = &self.settings.revision;
        let folder = repo
            .snapshot_download()
            .revision(revision)
            .local_files_only(true)
            .send()
            .map_err(|_| format!("revision {revision:?} of the model"))?;
        let has = |name: &str| folder.join(name).is_file();
        match self.files {
            Files::Config if !has("config.json") => Err("config.json".to_string()),
            Files::Tokenizer if !VOCABULARIES.iter().any(|name| has(name)) => Err("the tokenizer".to_string()),
            Files::Model => {
                if !has("config.json") {
                    return Err("config.json".to_string());
                }
                let weights = WEIGHTS.iter().find(|name| has(name)).ok_or("the weights")?;
                match shards(&folder, weights)?.iter().find(|shard| !has(shard)) {
                    Some(shard) => Err(shard.clone()),
                    None => Ok(folder),
                }
            }
            _ => Ok(folder),
        }
    }

    fn download(&self, repo: &HFRepositorySync<RepoTypeModel>) -> Result<PathBuf, HubError> {
        let sizes: HashMap<String, u64> = repo
            .list_tree()
            .revision(&self.settings.revision)
            .send()
            .map_err(|error| self.explain(error))?
            .into_iter()
            .filter_map(|entry| match entry {
                RepoTreeEntry::File { path, size, .. } => Some((path, size)),
                RepoTreeEntry::Directory { .. } => None,
            })
            .collect();
        let mut wanted: Vec<String> = match self.files {
            Files::Config => vec!["config.json".to_string()],
            Files::Tokenizer => TOKENIZER_FILES.map(String::from).to_vec(),
            Files::Model => vec!["config.json".to_string(), "generation_config.json".to_string()],
        };
        let weights = WEIGHTS.into_iter().find(|name| sizes.contains_key(*name)).filter(|_| self.files == Files::Model);
        wanted.extend(weights.map(String::from));
        wanted.retain(|name| sizes.contains_key(name));
        self.refuse_incomplete(&wanted, &sizes)?;

        let folder = self.fetch(repo, &wanted, &sizes)?;
        let shards = weights.map_or(Ok(Vec::new()), |weights| shards(&folder, weights)).map_err(|detail| {
            HubError::Other { name: self.name.to_string(), endpoint: self.settings.endpoint.clone(), detail }
        })?;
        if let Some(shard) = shards.iter().find(|shard| !sizes.contains_key(*shard)) {
            return Err(self.missing(shard, ": its index names that file: report it to the model's owner"));
        }
        if !shards.is_empty() {
            self.fetch(repo, &shards, &sizes)?;
        }
        Ok(folder)
    }

    /// Refuses a model that lacks what was asked for, before anything is downloaded.
    fn refuse_incomplete(&self, wanted: &[String], sizes: &HashMap<String, u64>) -> Result<(), HubError> {
        let has = |name: &str| wanted.iter().any(|other| other == name);
        match self.files {
            Files::Tokenizer if !VOCABULARIES.iter().any(|name| has(name)) => {
                Err(self.missing("tokenizer", ": name one with --tokenizer_name"))
            }
            Files::Config | Files::Model if !has("config.json") => {
                Err(self.missing("config.json", ": it is no model of the transformers library"))
            }
            Files::Model if !WEIGHTS.iter().any(|name| has(name)) => {
                let other = [("tf_model.h5", "TensorFlow"), ("flax_model.msgpack", "Flax")]
                    .into_iter()
                    .find(|(file, _)| sizes.contains_key(*file))
                    .map(|(_, framework)| framework)
                    .or(sizes.keys().any(|name| name.ends_with(".gguf")).then_some("GGUF"));
                let instead = other.map_or(String::new(), |framework| {
                    format!(", only {framework}'s: convert them with Python's save_pretrained, and give that folder")
                });
                Err(self.missing("weights (model.safetensors or pytorch_model.bin)", &instead))
            }
            _ => Ok(()),
        }
    }

    /// Brings the files into the cache and checks their sizes.
    fn fetch(
        &self,
        repo: &HFRepositorySync<RepoTypeModel>,
        files: &[String],
        sizes: &HashMap<String, u64>,
    ) -> Result<PathBuf, HubError> {
        let mut attempt = 1;
        loop {
            let progress = DownloadProgress::new(self.name);
            let result = repo
                .snapshot_download()
                .revision(&self.settings.revision)
                .allow_patterns(files.to_vec())
                .progress(progress)
                .send();
            let detail = match result {
                Ok(folder) => match remove_incomplete(&folder, files, sizes) {
                    None => return Ok(folder),
                    Some(detail) => detail,
                },
                Err(HFError::Request { source, .. }) if !source.is_connect() => chain(&source),
                Err(error @ HFError::Xet { .. }) => chain(&error),
                Err(error) => return Err(self.explain(error)),
            };
            if attempt == ATTEMPTS {
                return Err(HubError::Interrupted { name: self.name.to_string(), detail });
            }
            attempt += 1;
            tracing::warn!("{}: the download broke off ({detail}), trying again", self.name);
        }
    }

    fn missing(&self, wanted: &str, instead: &str) -> HubError {
        HubError::MissingFiles { name: self.name.to_string(), wanted: wanted.to_string(), instead: instead.to_string() }
    }

    /// What an error of the Hub means for the user, by its `X-Error-Code` and status
    /// (`hf_raise_for_status` in huggingface_hub).
    fn explain(&self, error: HFError) -> HubError {
        let name = self.name.to_string();
        let endpoint = self.settings.endpoint.clone();
        let context = match error {
            HFError::Http { context } | HFError::AuthRequired { context } | HFError::Forbidden { context } => context,
            HFError::RepoNotFound { context: Some(context), .. }
            | HFError::RevisionNotFound { context: Some(context), .. }
            | HFError::EntryNotFound { context: Some(context), .. } => context,
            HFError::Request { source, .. } if source.is_decode() => {
                return HubError::Other { name, endpoint, detail: format!("what no Hub answers: {}", chain(&source)) };
            }
            HFError::Request { source, .. } => return HubError::NoNetwork { name, endpoint, detail: chain(&source) },
            HFError::Io(source) => return HubError::Cache { cache: self.settings.cache.clone(), source },
            HFError::Url(source) => return HubError::Endpoint { endpoint, detail: chain(&source) },
            other => return HubError::Other { name, endpoint, detail: chain(&other) },
        };
        let status = context.status.as_u16();
        let message = context.server_message.unwrap_or_default();
        match (context.error_code.as_deref(), status) {
            (Some("GatedRepo"), _) => HubError::Gated { name, endpoint },
            (Some("RevisionNotFound"), _) => {
                HubError::UnknownRevision { name, revision: self.settings.revision.clone() }
            }
            (Some("RepoNotFound"), _) => HubError::UnknownModel { name, endpoint },
            // The Hub hides whether a model exists from those who may not see it.
            (_, 401) if !message.contains("Invalid credentials") => HubError::UnknownModel { name, endpoint },
            (_, 401 | 403) => HubError::TokenRefused { name, endpoint, detail: message },
            (_, 404) => HubError::UnknownModel { name, endpoint },
            (_, 500 | 502 | 503 | 504) => {
                HubError::NoNetwork { name, endpoint, detail: format!("{} {message}", context.status) }
            }
            _ => HubError::Other { name, endpoint, detail: format!("{} {message}", context.status) },
        }
    }
}

/// The files that an index of weights names; none when `weights` is no index.
fn shards(folder: &Path, weights: &str) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    if !weights.ends_with(".index.json") {
        return Ok(Vec::new());
    }
    let index: Index = std::fs::read_to_string(folder.join(weights))
        .map_err(|error| format!("{weights}: {error}"))
        .and_then(|text| serde_json::from_str(&text).map_err(|error| format!("{weights} is no index: {error}")))?;
    let mut files: Vec<String> = index.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Removes files whose size is not the one that the Hub lists, and says so. hf-hub does not look at the status of the
/// answer it writes into the cache, where an error page would stay as if it were the file.
fn remove_incomplete(folder: &Path, files: &[String], sizes: &HashMap<String, u64>) -> Option<String> {
    let mut detail = None;
    for name in files {
        let path = folder.join(name);
        let found = std::fs::metadata(&path).map(|metadata| metadata.len()).unwrap_or(0);
        let listed = sizes.get(name).copied().unwrap_or(0);
        if found != listed {
            if let Ok(blob) = path.canonicalize() {
                // If removing fails, the next attempt finds the same file and reports it again.
                let _ = std::fs::remove_file(blob);
            }
            let _ = std::fs::remove_file(&path);
            detail = Some(format!("{name} has {found} of {listed} bytes"));
        }
    }
    detail
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A bar over the bytes of all files; indicatif draws it only on a terminal.
struct DownloadProgress {
    name: String,
    bar: ProgressBar,
    /// Bytes per file; the total of those that xet brings stands under an empty name.
    done: Mutex<HashMap<String, u64>>,
}

impl DownloadProgress {
    fn new(name: &str) -> Self {
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::no_length().with_style(style).with_message(format!("Downloading {name}"));
        Self { name: name.to_string(), bar, done: Mutex::default() }
    }

    fn set(&self, entries: impl IntoIterator<Item = (String, u64)>) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.extend(entries);
        self.bar.set_position(done.values().sum());
    }
}

impl ProgressHandler for DownloadProgress {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        match event {
            // The first is the whole download's; each file then has one of its own.
            DownloadEvent::Start { total_files, total_bytes } => {
                if self.bar.length().is_none() && *total_bytes > 0 {
                    tracing::info!("downloading {total_files} files of {}, {total_bytes} bytes", self.name);
                    self.bar.set_length(*total_bytes);
                }
            }
            DownloadEvent::Progress { files } => {
                self.set(files.iter().map(|file| (file.filename.clone(), file.bytes_completed)));
            }
            DownloadEvent::AggregateProgress { bytes_completed, .. } => self.set([(String::new(), *bytes_completed)]),
            DownloadEvent::Complete => {}
        }
    }
}

impl Drop for DownloadProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// What the stand-in for the Hub holds and does.
    #[derive(Default)]
    struct Script {
        files: BTreeMap<&'static str, Vec<u8>>,
        /// Files kept elsewhere: a request for them is redirected, as for Git LFS.
        redirected: Vec<&'static str>,
        /// How often the body of a file breaks off in the middle.
        breaks: Mutex<HashMap<&'static str, usize>>,
        /// Files that are answered with a short page of this status.
        refused: HashMap<&'static str, &'static str>,
        /// Status and `X-Error-Code` of every answer about the model.
        error: Option<(&'static str, &'static str)>,
        /// Without this token, the model does not exist.
        token: Option<&'static str>,
    }

    /// Speaks as much of the Hub's protocol as a download needs, on a port of this machine.
    struct TestHub {
        script: Arc<Script>,
        log: Arc<Mutex<Vec<String>>>,
        cache: tempfile::TempDir,
        endpoint: String,
    }

    impl TestHub {
        fn new(script: Script) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            let (script, log) = (Arc::new(script), Arc::new(Mutex::new(Vec::new())));
            let hub = Self { script, log, cache: tempfile::tempdir().unwrap(), endpoint };
            let (script, log, base) = (hub.script.clone(), hub.log.clone(), hub.endpoint.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (script, log, base) = (script.clone(), log.clone(), base.clone());
                    std::thread::spawn(move || answer(stream, &script, &log, &base));
                }
            });
            hub
        }

        fn with_files(files: &[(&'static str, &str)]) -> Self {
            Self::new(Script { files: contents(files), ..Script::default() })
        }

        fn settings(&self) -> Settings {
            Settings {
                endpoint: self.endpoint.clone(),
                revision: "main".to_string(),
                token: None,
                cache: self.cache.path().to_path_buf(),
                offline: false,
                retry_delay: Duration::from_millis(1),
            }
        }

        fn resolve(&self, files: Files) -> Result<PathBuf, HubError> {
            self.resolve_with(files, &self.settings())
        }

        fn resolve_with(&self, files: Files, settings: &Settings) -> Result<PathBuf, HubError> {
            let result = Lookup { name: "owner/model", files, settings }.resolve();
            if let Err(error) = &result {
                let error = error.to_string();
                assert!(error.contains("owner/model") && !error.contains('\n'), "{error}");
            }
            result
        }

        /// The files whose contents were asked for since the last call, sorted.
        fn downloaded(&self) -> Vec<String> {
            let log = std::mem::take(&mut *self.log.lock().unwrap());
            let prefix = format!("GET /owner/model/resolve/{COMMIT}/");
            let mut files: Vec<_> =
                log.iter().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_string).collect();
            files.sort();
            files
        }
    }

    fn contents(files: &[(&'static str, &str)]) -> BTreeMap<&'static str, Vec<u8>> {
        files.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect()
    }

    fn answer(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<String>>, base: &str) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut request = String::new();
        let _ = reader.read_line(&mut request);
        let mut token = None;
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            if let Some((_, value)) = line.trim_end().split_once("authorization: Bearer ") {
                token = Some(value.to_string());
            }
            line.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        log.lock().unwrap().push(format!("{method} {path}"));

        let mut reply = |status: &str, headers: &str, body: &[u8], sent: usize| {
            let head =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
            let body = if method == "HEAD" { &[] } else { &body[..sent] };
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        };
        let error = script.error.or((script.token != token.as_deref() && script.token.is_some())
            .then_some(("401 Unauthorized", "RepoNotFound")));
        if let Some((status, code)) = error {
            return reply(status, &format!("X-Error-Code: {code}\r\n"), b"", 0);
        }
        let path = path.split('?').next().unwrap_or_default();
        if path == "/api/models/owner/model/revision/main" {
            let body = format!(r#"{{"id": "owner/model", "sha": "{COMMIT}"}}"#);
            return reply("200 OK", "", body.as_bytes(), body.len());
        }
        if path == "/api/models/owner/model/tree/main" || path == format!("/api/models/owner/model/tree/{COMMIT}") {
            let entries: Vec<_> = script
                .files
                .iter()
                .map(|(name, bytes)| format!(r#"{{"type":"file","oid":"x","size":{},"path":"{name}"}}"#, bytes.len()))
                .collect();
            let body = format!("[{}]", entries.join(","));
            return reply("200 OK", "Content-Type: application/json\r\n", body.as_bytes(), body.len());
        }
        let resolve = format!("/owner/model/resolve/{COMMIT}/");
        let name = path.strip_prefix(&resolve).or(path.strip_prefix("/cdn/")).unwrap_or_default();
        let Some((&name, bytes)) = script.files.get_key_value(name) else {
            return reply("404 Not Found", "X-Error-Code: EntryNotFound\r\n", b"", 0);
        };
        if let (Some(status), "GET") = (script.refused.get(name), method) {
            return reply(status, "", b"denied", 6);
        }
        if script.redirected.contains(&name) && path.starts_with(&resolve) {
            let headers = format!(
                "Location: {base}/cdn/{name}\r\nX-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"lfs-{name}\"\r\n\
                 X-Linked-Size: {}\r\n",
                bytes.len()
            );
            return reply("302 Found", &headers, b"", 0);
        }
        let mut sent = bytes.len();
        if method == "GET"
            && let Some(breaks) = script.breaks.lock().unwrap().get_mut(name)
            && *breaks > 0
        {
            *breaks -= 1;
            sent /= 2;
        }
        reply("200 OK", &format!("ETag: \"etag-{name}\"\r\nX-Repo-Commit: {COMMIT}\r\n"), bytes, sent);
    }

    const MODEL: [(&str, &str); 7] = [
        ("config.json", "{}"),
        ("generation_config.json", "{\"a\": 1}"),
        ("model.safetensors", "the weights"),
        ("pytorch_model.bin", "the same weights"),
        ("tokenizer.json", "{\"b\": 2}"),
        ("vocab.txt", "words"),
        ("README.md", "a model"),
    ];

    #[test]
    fn a_download_fetches_what_is_needed_once_into_the_cache_of_python() {
        let hub = TestHub::with_files(&MODEL);
        let folder = hub.resolve(Files::Model).unwrap();
        let repository = hub.cache.path().join("models--owner--model");
        assert_eq!(folder, repository.join("snapshots").join(COMMIT));
        assert_eq!(std::fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), b"the weights");
        assert_eq!(std::fs::read(repository.join("blobs/etag-config.json")).unwrap(), b"{}");
        assert_eq!(hub.downloaded(), ["config.json", "generation_config.json", "model.safetensors"]);

        assert_eq!(hub.resolve(Files::Tokenizer).unwrap(), folder);
        assert_eq!(hub.downloaded(), ["tokenizer.json", "vocab.txt"]);
        for files in [Files::Config, Files::Tokenizer, Files::Model] {
            assert_eq!(hub.resolve(files).unwrap(), folder);
        }
        assert!(hub.downloaded().is_empty(), "a second call is served from the cache");
    }

    #[test]
    fn shards_and_redirected_files_are_fetched() {
        let index =
            r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
        let hub = TestHub::new(Script {
            files: contents(&[
                ("config.json", "{}"),
                ("model.safetensors.index.json", index),
                ("model-00001-of-00002.safetensors", "first"),
                ("model-00002-of-00002.safetensors", "second"),
                ("model-00001-of-00009.safetensors", "of another save"),
            ]),
            redirected: vec!["model-00002-of-00002.safetensors"],
            ..Script::default()
        });
        let folder = hub.resolve(Files::Model).unwrap();
        assert_eq!(std::fs::read(folder.join("model-00001-of-00002.safetensors")).unwrap(), b"first");
        assert_eq!(std::fs::read(folder.join("model-00002-of-00002.safetensors")).unwrap(), b"second");
        assert!(!folder.join("model-00001-of-00009.safetensors").exists());

        let offline = Settings { offline: true, ..hub.settings() };
        assert_eq!(hub.resolve_with(Files::Model, &offline).unwrap(), folder);
        std::fs::remove_file(folder.join("model-00002-of-00002.safetensors")).unwrap();
        let error = hub.resolve_with(Files::Model, &offline).unwrap_err();
        assert!(matches!(&error, HubError::NotCached { missing, .. } if missing.contains("00002-of")), "{error}");
    }

    #[test]
    fn a_broken_download_is_taken_up_again_and_never_kept() {
        let breaks = Mutex::new(HashMap::from([("model.safetensors", 2)]));
        let hub = TestHub::new(Script { files: contents(&MODEL), breaks, ..Script::default() });
        let folder = hub.resolve(Files::Model).unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), b"the weights");

        let breaks = Mutex::new(HashMap::from([("model.safetensors", usize::MAX)]));
        let hub = TestHub::new(Script { files: contents(&MODEL), breaks, ..Script::default() });
        // Files are fetched side by side: what else of the model's arrives before the breaking one fails is chance.
        hub.resolve(Files::Config).unwrap();
        let error = hub.resolve(Files::Model).unwrap_err();
        assert!(matches!(error, HubError::Interrupted { .. }), "{error}");
        let folder = hub.cache.path().join("models--owner--model/snapshots").join(COMMIT);
        assert!(folder.join("config.json").exists() && !folder.join("model.safetensors").exists());
    }

    #[test]
    fn an_error_page_is_not_kept_as_the_file() {
        let refused = HashMap::from([("model.safetensors", "403 Forbidden")]);
        let hub = TestHub::new(Script { files: contents(&MODEL), refused, ..Script::default() });
        let error = hub.resolve(Files::Model).unwrap_err();
        assert!(error.to_string().contains("model.safetensors has 6 of 11 bytes"), "{error}");
        let repository = hub.cache.path().join("models--owner--model");
        assert!(!repository.join("blobs/etag-model.safetensors").exists());
        assert!(
            std::fs::symlink_metadata(repository.join("snapshots").join(COMMIT).join("model.safetensors")).is_err()
        );
    }

    #[test]
    fn offline_serves_the_cache_and_nothing_else() {
        let hub = TestHub::with_files(&MODEL);
        let offline = Settings { offline: true, ..hub.settings() };
        let error = hub.resolve_with(Files::Model, &offline).unwrap_err();
        assert!(matches!(error, HubError::NotCached { .. }), "{error}");
        assert!(hub.log.lock().unwrap().is_empty(), "the network was not touched");

        let folder = hub.resolve(Files::Config).unwrap();
        assert_eq!(hub.resolve_with(Files::Config, &offline).unwrap(), folder);
        let error = hub.resolve_with(Files::Model, &offline).unwrap_err();
        assert!(matches!(&error, HubError::NotCached { missing, .. } if missing == "the weights"), "{error}");
        let error = hub.resolve_with(Files::Tokenizer, &offline).unwrap_err();
        assert!(matches!(&error, HubError::NotCached { missing, .. } if missing == "the tokenizer"), "{error}");
    }

    #[test]
    fn without_a_network_the_cache_serves_too() {
        let hub = TestHub::with_files(&MODEL);
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let unreachable = Settings { endpoint: format!("http://{closed}"), ..hub.settings() };
        let by_commit = Settings { revision: COMMIT.to_string(), ..hub.settings() };
        let error = hub.resolve_with(Files::Model, &unreachable).unwrap_err();
        assert!(matches!(&error, HubError::NoNetwork { detail, .. } if detail.contains("refused")), "{error}");
        let folder = hub.resolve(Files::Model).unwrap();
        assert_eq!(hub.resolve_with(Files::Model, &unreachable).unwrap(), folder);

        hub.log.lock().unwrap().clear();
        assert_eq!(hub.resolve_with(Files::Model, &by_commit).unwrap(), folder);
        assert!(hub.log.lock().unwrap().is_empty(), "a commit in the cache needs no network");

        let invalid = Settings { endpoint: "the hub".to_string(), ..hub.settings() };
        let error = Lookup { name: "owner/model", files: Files::Model, settings: &invalid }.resolve().unwrap_err();
        assert!(error.to_string().starts_with("HF_ENDPOINT \"the hub\" is no URL"), "{error}");
    }

    #[test]
    fn each_refusal_has_its_message() {
        let refusal = |status, code| {
            TestHub::new(Script { error: Some((status, code)), ..Script::default() }).resolve(Files::Model).unwrap_err()
        };
        assert!(matches!(refusal("401 Unauthorized", "RepoNotFound"), HubError::UnknownModel { .. }));
        assert!(matches!(refusal("404 Not Found", "RepoNotFound"), HubError::UnknownModel { .. }));
        assert!(matches!(refusal("404 Not Found", "RevisionNotFound"), HubError::UnknownRevision { .. }));
        assert!(matches!(refusal("401 Unauthorized", "GatedRepo"), HubError::Gated { .. }));
        assert!(matches!(refusal("403 Forbidden", "GatedRepo"), HubError::Gated { .. }));
        assert!(matches!(refusal("403 Forbidden", ""), HubError::TokenRefused { .. }));
        assert!(matches!(refusal("503 Service Unavailable", ""), HubError::NoNetwork { .. }));
        assert!(matches!(refusal("418 I'm a teapot", ""), HubError::Other { .. }));
    }

    #[test]
    fn the_token_is_sent() {
        let hub = TestHub::new(Script { files: contents(&MODEL), token: Some("hf_secret"), ..Script::default() });
        assert!(matches!(hub.resolve(Files::Config).unwrap_err(), HubError::UnknownModel { .. }));
        let with_token = Settings { token: Some("hf_secret".to_string()), ..hub.settings() };
        hub.resolve_with(Files::Config, &with_token).unwrap();
    }

    #[test]
    fn a_model_that_lacks_files_is_refused_before_anything_is_downloaded() {
        let cases: [(&[_], _, _); 4] = [
            (&[("README.md", "")], Files::Model, "has no config.json"),
            (&[("config.json", "{}"), ("tf_model.h5", "x")], Files::Model, "only TensorFlow's"),
            (&[("config.json", "{}"), ("a.gguf", "x")], Files::Model, "only GGUF's"),
            (&[("config.json", "{}"), ("model.safetensors", "x")], Files::Tokenizer, "has no tokenizer"),
        ];
        for (files, wanted, expected) in cases {
            let hub = TestHub::with_files(files);
            let error = hub.resolve(wanted).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(hub.downloaded().is_empty());
        }
        let index = r#"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#;
        let hub = TestHub::with_files(&[("config.json", "{}"), ("model.safetensors.index.json", index)]);
        let error = hub.resolve(Files::Model).unwrap_err().to_string();
        assert!(error.contains("has no model-00001-of-00001.safetensors"), "{error}");
    }

    #[test]
    fn a_folder_is_itself() {
        let dir = tempfile::tempdir().unwrap();
        let options = HubOptions::default();
        assert_eq!(resolve(dir.path().to_str().unwrap(), Files::Model, &options).unwrap(), dir.path());
        let file = dir.path().join("config.json");
        std::fs::write(&file, "{}").unwrap();
        let error = resolve(file.to_str().unwrap(), Files::Model, &options).unwrap_err();
        assert!(matches!(error, HubError::NotAFolder(_)));
        for name in ["./absent", "/absent/model", "a/b/c", "-x", "a--b", "a..b", "x.git", "", "a b", "~/model"] {
            let error = resolve(name, Files::Model, &options).unwrap_err();
            assert!(matches!(error, HubError::NoSuchFolder(_)), "{name:?}: {error}");
        }
    }

    #[test]
    fn settings_follow_the_environment_as_in_python() {
        let settings = |options: &HubOptions, variables: &[(&str, &str)]| {
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            Settings::new(options, |name| variables.get(name).map(|value| value.to_string()))
        };
        let defaults = HubOptions::default();
        let bare = settings(&defaults, &[("HOME", "/home/u")]);
        assert_eq!(bare.cache, Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!((bare.endpoint.as_str(), bare.revision.as_str()), (DEFAULT_ENDPOINT, "main"));
        assert!(!bare.offline && bare.token.is_none());

        let cache = |variables: &[(&str, &str)]| settings(&defaults, variables).cache;
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/hf")]), Path::new("/h/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("TRANSFORMERS_CACHE", "/t")]), Path::new("/t"));

        let offline = |variables: &[(&str, &str)]| settings(&defaults, variables).offline;
        assert!(offline(&[("HF_HUB_OFFLINE", "1")]) && offline(&[("TRANSFORMERS_OFFLINE", "yes")]));
        assert!(!offline(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]), "the first decides");

        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_stored\n").unwrap();
        let home = home.path().to_str().unwrap();
        let token = |variables: &[(&str, &str)]| settings(&defaults, variables).token;
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("hf_stored"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_TOKEN", "hf_env")]).as_deref(), Some("hf_env"));
        assert_eq!(token(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);

        let given = HubOptions {
            revision: Some("v2".into()),
            token: Some("hf_given".into()),
            cache_dir: Some("/given".into()),
        };
        let variables = [("HF_TOKEN", "hf_env"), ("HF_HUB_CACHE", "/c"), ("HF_ENDPOINT", "https://mirror/")];
        let settings = settings(&given, &variables);
        assert_eq!(settings.token.as_deref(), Some("hf_given"));
        assert_eq!(settings.cache, Path::new("/given"));
        assert_eq!((settings.endpoint.as_str(), settings.revision.as_str()), ("https://mirror", "v2"));
    }
}
