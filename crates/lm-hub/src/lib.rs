//! Models by name: a folder on this machine, or a model of the Hugging Face Hub, downloaded once into the cache that
//! Python's `huggingface_hub` uses too, so that neither downloads what the other has.

mod cache;
mod download;
mod error;
mod hash;
mod http;
mod progress;
mod transfer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;

use cache::{Cache, Kept, is_commit, is_file_name};
use download::Download;
pub use error::HubError;
use error::without_credentials;
use http::{Failure, Hub};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_REVISION: &str = "main";
/// How often the Hub is asked, if it does not answer; once, if the cache has what it could answer.
const ATTEMPTS: usize = 2;
/// Hubs that this process could not reach: model, configuration and tokenizer are asked for one after another.
static GIVEN_UP: Mutex<Vec<String>> = Mutex::new(Vec::new());

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
    if path.symlink_metadata().is_ok() {
        let what = match path.metadata() {
            Ok(metadata) if metadata.is_file() => "a file: name the folder that it lies in",
            Ok(_) => "a pipe, socket or device: name a folder",
            Err(_) => "a link that leads nowhere: name a folder",
        };
        return Err(HubError::NotAFolder(model_name_or_path.to_string(), what));
    }
    if !is_model_name(model_name_or_path) {
        return Err(HubError::NoSuchFolder(model_name_or_path.to_string()));
    }
    let settings = Settings::new(options, &Places::of_python(), variable);
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

/// The value of an environment variable, if it is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where Python keeps what the Hub gave.
struct Places {
    user: PathBuf,
    hf_home: PathBuf,
    cache: PathBuf,
}

impl Places {
    /// hf-hub reads the variables as Python does. It leaves a `~` in them as it is, and takes /tmp where there is no HOME.
    fn of_python() -> Self {
        let user = std::env::home_dir().unwrap_or_default();
        let is_set = |names: &[&str]| names.iter().any(|name| std::env::var_os(name).is_some());
        let hf_home = match is_set(&["HF_HOME", "XDG_CACHE_HOME", "HOME"]) {
            true => expand(&user, hf_hub::hf_home()),
            false => user.join(".cache/huggingface"),
        };
        let cache = match is_set(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]) {
            true => expand(&user, hf_hub::resolve_cache_dir()),
            false => hf_home.join("hub"),
        };
        Self { user, hf_home, cache }
    }
}

/// A path with the user's folder in the place of a leading `~`.
fn expand(user: &Path, path: PathBuf) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => user.join(rest),
        Err(_) => path,
    }
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
    fn new(options: &HubOptions, places: &Places, variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_true = |value: String| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str());
        let expand = |path: String| expand(&places.user, PathBuf::from(path));
        // transformers reads two older names before.
        let older = || ["TRANSFORMERS_CACHE", "PYTORCH_TRANSFORMERS_CACHE"].into_iter().find_map(&variable).map(expand);
        let cache = options.cache_dir.clone().or_else(older).unwrap_or_else(|| places.cache.clone());
        let implicit_token = || {
            if variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(is_true) {
                return None;
            }
            let path = variable("HF_TOKEN_PATH").map(expand).unwrap_or_else(|| places.hf_home.join("token"));
            variable("HF_TOKEN")
                .or_else(|| variable("HUGGING_FACE_HUB_TOKEN"))
                .or_else(|| lm_files::read_to_string(&path, 1 << 16).ok())
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
        let settings = self.settings;
        let (name, revision) = (self.name.to_string(), settings.revision.clone());
        // It becomes the name of a file in the cache.
        if !revision.split('/').all(is_file_name) {
            return Err(HubError::UnknownRevision { name, revision });
        }
        let cache = Cache::new(&settings.cache, self.name);
        let cached = self.cached(&cache);
        if settings.offline {
            return cached.map_err(|missing| HubError::NotCached { name, cache: settings.cache.clone(), missing });
        }
        match cached {
            // A commit never changes: what the cache has of it needs no question.
            Ok(folder) if is_commit(&revision) || self.is_given_up() => Ok(folder),
            Ok(folder) => match self.download(&cache, 1) {
                Err(error @ HubError::NoNetwork { .. }) => {
                    self.give_up();
                    tracing::warn!("{}; using the copy in the cache: {}", reason(&error), folder.display());
                    Ok(folder)
                }
                result => result,
            },
            Err(missing) => self.download(&cache, ATTEMPTS).map_err(|error| with_missing(error, missing)),
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

    /// The snapshot in the cache, if it has all that is wanted, undamaged; else what is missing.
    fn cached(&self, cache: &Cache) -> Result<PathBuf, String> {
        let revision = &self.settings.revision;
        let commit = cache.commit(revision).ok_or_else(|| format!("revision {revision:?} of the model"))?;
        let has = |name: &str| match cache.find(&commit, name) {
            Kept::Whole(_) => Ok(true),
            Kept::Nothing => Ok(false),
            Kept::Damaged(why) => Err(format!("an undamaged {name} ({why})")),
        };
        let mut found = Vec::new();
        for &name in self.possible_files() {
            if has(name)? {
                found.push(name);
            }
        }
        match self.files {
            Files::Tokenizer if !found.iter().any(|name| VOCABULARIES.contains(name)) => {
                return Err("the tokenizer".to_string());
            }
            Files::Config | Files::Model if !found.contains(&"config.json") => return Err("config.json".to_string()),
            _ => {}
        }
        let folder = cache.snapshot(&commit);
        if self.files == Files::Model {
            let weights = WEIGHTS.into_iter().find_map(|name| has(name).map(|has| has.then_some(name)).transpose());
            for shard in shards(&folder, weights.ok_or("the weights")??)? {
                if !has(&shard)? {
                    return Err(shard);
                }
            }
        }
        Ok(folder)
    }

    /// What may be wanted, apart from weights.
    fn possible_files(&self) -> &'static [&'static str] {
        match self.files {
            Files::Config => &["config.json"],
            Files::Tokenizer => &TOKENIZER_FILES,
            Files::Model => &["config.json", "generation_config.json"],
        }
    }

    fn download(&self, cache: &Cache, attempts: usize) -> Result<PathBuf, HubError> {
        let settings = self.settings;
        let endpoint = self.endpoint()?;
        let authorization = settings.token.as_ref().map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| HubError::BadToken { name: self.name.to_string() })?;
            value.set_sensitive(true);
            Ok(value)
        });
        let explain = |failure| self.explain(failure);
        let hub = Hub::new(&endpoint, authorization.transpose()?, attempts, settings.retry_delay).map_err(explain)?;
        tracing::info!("asking {} for {}", self.shown_endpoint(), self.name);

        let commit = self.find_commit(&hub).map_err(explain)?;
        let sizes = self.list(&hub, &commit).map_err(explain)?;
        let mut wanted: Vec<String> = self.possible_files().iter().map(ToString::to_string).collect();
        let weights = WEIGHTS.into_iter().find(|name| sizes.contains_key(*name)).filter(|_| self.files == Files::Model);
        wanted.extend(weights.map(String::from));
        wanted.retain(|name| sizes.contains_key(name));
        self.refuse_incomplete(&wanted, &sizes)?;

        let download =
            Download { hub: &hub, settings, attempts, cache, model: self.name, commit: &commit, sizes: &sizes };
        download.fetch(&wanted).map_err(explain)?;
        let folder = cache.snapshot(&commit);
        let shards = weights.map_or(Ok(Vec::new()), |weights| shards(&folder, weights));
        let shards = shards.map_err(|detail| explain(Failure::Nonsense(detail)))?;
        if let Some(shard) = shards.iter().find(|shard| !sizes.contains_key(*shard)) {
            return Err(self.missing(shard, ": its index names that file: report it to the model's owner"));
        }
        download.fetch(&shards).map_err(explain)?;
        cache.remember(&settings.revision, &commit).map_err(|error| explain(Failure::Cache(error)))?;
        Ok(folder)
    }

    /// `HF_ENDPOINT`, if it can be one.
    fn endpoint(&self) -> Result<Url, HubError> {
        let refused = |detail: String| HubError::Endpoint { endpoint: self.shown_endpoint(), detail };
        let url = Url::parse(&self.settings.endpoint).map_err(|error| refused(error.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(url),
            other => Err(refused(format!("it begins with {other}:"))),
        }
    }

    fn shown_endpoint(&self) -> String {
        without_credentials(&self.settings.endpoint)
    }

    /// The commit that the revision is now.
    fn find_commit(&self, hub: &Hub) -> Result<String, Failure> {
        #[derive(serde::Deserialize)]
        struct Info {
            sha: String,
        }
        let info: Info = hub.document(self.api(hub, "revision", &self.settings.revision))?;
        match is_commit(&info.sha) {
            true => Ok(info.sha),
            false => Err(Failure::Nonsense(format!("a commit that is none: {}", error::plain(&info.sha)))),
        }
    }

    /// The files of a commit with their sizes in bytes. Names that no file of a model has are passed over.
    fn list(&self, hub: &Hub, commit: &str) -> Result<HashMap<String, u64>, Failure> {
        #[derive(serde::Deserialize)]
        struct Entry {
            #[serde(rename = "type")]
            kind: String,
            path: String,
            #[serde(default)]
            size: u64,
        }
        let entries: Vec<Entry> = hub.list(self.api(hub, "tree", commit))?;
        let files = entries.into_iter().filter(|entry| entry.kind == "file" && is_file_name(&entry.path));
        let sizes: HashMap<String, u64> = files.map(|entry| (entry.path, entry.size)).collect();
        match self.possible_files().iter().find(|name| sizes.get(**name).is_some_and(|size| *size > lm_files::SMALL)) {
            Some(name) => Err(Failure::Nonsense(format!("a {name} of {} bytes", sizes[*name]))),
            None => Ok(sizes),
        }
    }

    fn api(&self, hub: &Hub, what: &str, of: &str) -> Url {
        let mut parts = vec!["api", "models"];
        parts.extend(self.name.split('/'));
        parts.extend([what, of]);
        hub.url(&parts)
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

    fn missing(&self, wanted: &str, instead: &str) -> HubError {
        HubError::MissingFiles { name: self.name.to_string(), wanted: wanted.to_string(), instead: instead.to_string() }
    }

    /// What an error of the Hub means for the user, by its `X-Error-Code` and status
    /// (`hf_raise_for_status` in huggingface_hub).
    fn explain(&self, failure: Failure) -> HubError {
        let (name, endpoint) = (self.name.to_string(), self.shown_endpoint());
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

/// The files that an index of weights names; none when `weights` is no index.
fn shards(folder: &Path, weights: &str) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    if !weights.ends_with(".index.json") {
        return Ok(Vec::new());
    }
    let index: Index = lm_files::read_to_string(&folder.join(weights), lm_files::SMALL)
        .map_err(|error| format!("{weights}: {error}"))
        .and_then(|text| serde_json::from_str(&text).map_err(|error| format!("{weights} is no index: {error}")))?;
    let mut files: Vec<String> = index.weight_map.into_values().collect();
    files.sort();
    files.dedup();
    match files.iter().find(|name| !is_file_name(name)) {
        Some(name) => Err(format!("{weights} names {}, which is no file beside it", error::plain(name))),
        None => Ok(files),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use super::hash::{git_name, lfs_name};
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// What the stand-in for the Hub holds and does.
    #[derive(Default)]
    struct Script {
        files: BTreeMap<&'static str, Vec<u8>>,
        /// Files kept elsewhere: a request for them is redirected, as for Git LFS.
        redirected: Vec<&'static str>,
        /// They lie at this address; on the same server, if there is none.
        elsewhere: Option<String>,
        /// Parts of files are not sent.
        no_parts: bool,
        /// How often the body of a file breaks off in the middle.
        breaks: Mutex<HashMap<&'static str, usize>>,
        /// Files that are answered with a short page of this status.
        refused: HashMap<&'static str, &'static str>,
        /// Status and `X-Error-Code` of every answer about the model.
        error: Option<(&'static str, &'static str)>,
        /// Without this token, the model does not exist.
        token: Option<&'static str>,
        /// Which header of authorization came with each request, and which range.
        seen: Mutex<Vec<(String, String)>>,
        /// What is untrue of the answers.
        lie: Lie,
    }

    #[derive(Default, Clone, Copy, PartialEq)]
    enum Lie {
        #[default]
        None,
        /// This ETag for every file.
        ETag(&'static str),
        /// This commit of every file.
        FileCommit(&'static str),
        /// This commit of the model.
        Commit(&'static str),
        /// Zeros instead of the bytes.
        Zeros,
        /// More bytes than listed.
        Longer,
        /// These entries in the list too.
        Entries(&'static str),
        /// Each page of the list leads to the next, which is the same.
        Pages,
        /// The list never ends.
        EndlessList,
        /// Files lie there.
        Location(&'static str),
        /// Instead of a file, a page of this status that never ends.
        EndlessPage(&'static str),
        /// Files can be had in parts by this hash of the Xet protocol.
        Xet(&'static str),
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
        if reader.read_line(&mut request).is_ok_and(|read| read == 0) {
            return;
        }
        let (mut token, mut range) = (None, None);
        let mut seen = (String::new(), String::new());
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
            if let Some((_, value)) = line.trim_end().split_once("authorization: Bearer ") {
                token = Some(value.to_string());
            }
            if let Some(value) = line.trim_end().strip_prefix("authorization: ") {
                seen.0 = value.to_string();
            }
            if let Some(value) = line.trim_end().strip_prefix("range: bytes=") {
                range = value.split('-').next().and_then(|from| from.parse().ok()).filter(|_| !script.no_parts);
                seen.1 = value.to_string();
            }
            line.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        log.lock().unwrap().push(format!("{method} {path}"));
        script.seen.lock().unwrap().push(seen);

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
        if path.contains("xet-read-token") {
            let body = format!(r#"{{"accessToken": "x", "exp": 4000000000, "casUrl": "{base}"}}"#);
            return reply("200 OK", "", body.as_bytes(), body.len());
        }
        if path == "/api/models/owner/model/revision/main" {
            let commit = if let Lie::Commit(commit) = script.lie { commit } else { COMMIT };
            let body = format!(r#"{{"id": "owner/model", "sha": "{commit}"}}"#);
            return reply("200 OK", "", body.as_bytes(), body.len());
        }
        if path == "/api/models/owner/model/tree/main" || path == format!("/api/models/owner/model/tree/{COMMIT}") {
            if script.lie == Lie::EndlessList {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[");
                while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
                return;
            }
            let mut entries: Vec<_> = script
                .files
                .iter()
                .map(|(name, bytes)| format!(r#"{{"type":"file","oid":"x","size":{},"path":"{name}"}}"#, bytes.len()))
                .collect();
            if let Lie::Entries(more) = script.lie {
                entries.push(more.to_string());
            }
            let body = format!("[{}]", entries.join(","));
            let next = match script.lie {
                Lie::Pages => format!("Link: <{base}{path}?cursor=1>; rel=\"next\"\r\n"),
                _ => String::new(),
            };
            return reply("200 OK", &next, body.as_bytes(), body.len());
        }
        let resolve = format!("/owner/model/resolve/{COMMIT}/");
        if let (Lie::EndlessPage(status), "GET") = (script.lie, method) {
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").as_bytes());
            while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
            return;
        }
        let name = path.strip_prefix(&resolve).or(path.strip_prefix("/cdn/")).unwrap_or_default();
        let Some((&name, bytes)) = script.files.get_key_value(name) else {
            return reply("404 Not Found", "X-Error-Code: EntryNotFound\r\n", b"", 0);
        };
        if let (Some(status), "GET") = (script.refused.get(name), method) {
            return reply(status, "", b"denied", 6);
        }
        let commit = if let Lie::FileCommit(commit) = script.lie { commit } else { COMMIT };
        let etag =
            |hash: String| if let Lie::ETag(etag) = script.lie { etag.to_string() } else { format!("\"{hash}\"") };
        if let Lie::Location(place) = script.lie {
            let headers =
                format!("Location: {place}\r\nX-Repo-Commit: {COMMIT}\r\nETag: {}\r\n", etag(git_name(bytes)));
            return reply("302 Found", &headers, b"", 0);
        }
        if script.redirected.contains(&name) && path.starts_with(&resolve) {
            let headers = format!(
                "Location: {}/cdn/{name}\r\nX-Repo-Commit: {commit}\r\nX-Linked-Etag: {}\r\nETag: \"of the answer\"\r\n\
                 X-Linked-Size: {}\r\n",
                script.elsewhere.as_deref().unwrap_or(base),
                etag(lfs_name(bytes)),
                bytes.len()
            );
            return reply("302 Found", &headers, b"", 0);
        }
        let mut headers = format!("ETag: {}\r\nX-Repo-Commit: {commit}\r\n", etag(git_name(bytes)));
        if let Lie::Xet(hash) = script.lie {
            headers += &format!("X-Xet-Hash: {hash}\r\n");
        }
        let sent = match script.lie {
            Lie::Zeros => vec![0; bytes.len()],
            Lie::Longer => [bytes.as_slice(), b"more"].concat(),
            _ => bytes.clone(),
        };
        let from: usize = range.unwrap_or(0);
        let mut until = sent.len();
        if method == "GET"
            && let Some(breaks) = script.breaks.lock().unwrap().get_mut(name)
            && *breaks > 0
        {
            *breaks -= 1;
            until = from + (sent.len() - from) / 2;
        }
        match from {
            0 => reply("200 OK", &headers, &sent, until),
            _ => {
                let headers = format!("{headers}Content-Range: bytes {from}-{}/{}\r\n", sent.len() - 1, sent.len());
                reply("206 Partial Content", &headers, &sent[from..], until - from)
            }
        }
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
        assert_eq!(std::fs::read(repository.join("blobs").join(git_name(b"{}"))).unwrap(), b"{}");
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
        assert!(matches!(error, HubError::TokenRefused { .. }), "{error}");
        let repository = hub.cache.path().join("models--owner--model");
        assert!(!repository.join("blobs").join(git_name(b"the weights")).exists());
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
        let unreachable = Settings { endpoint: format!("http://me:secret@{closed}"), ..hub.settings() };
        let by_commit = Settings { revision: COMMIT.to_string(), ..hub.settings() };
        let error = hub.resolve_with(Files::Model, &unreachable).unwrap_err();
        assert!(matches!(&error, HubError::NoNetwork { detail, .. } if detail.contains("refused")), "{error}");
        assert!(!error.to_string().contains("secret") && error.to_string().contains("revision \"main\""), "{error}");
        let folder = hub.resolve(Files::Model).unwrap();
        assert_eq!(hub.resolve_with(Files::Model, &unreachable).unwrap(), folder);

        hub.log.lock().unwrap().clear();
        assert_eq!(hub.resolve_with(Files::Model, &by_commit).unwrap(), folder);
        assert!(hub.log.lock().unwrap().is_empty(), "a commit in the cache needs no network");

        let invalid = Settings { endpoint: "the hub".to_string(), ..hub.settings() };
        let error = Lookup { name: "owner/model", files: Files::Model, settings: &invalid }.resolve().unwrap_err();
        assert!(error.to_string().starts_with("HF_ENDPOINT \"the hub\" is no URL"), "{error}");
        let invalid = Settings { endpoint: "file:///etc".to_string(), ..hub.settings() };
        let error = Lookup { name: "owner/model", files: Files::Model, settings: &invalid }.resolve().unwrap_err();
        assert!(error.to_string().contains("it begins with file:"), "{error}");
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
        let bad = Settings { token: Some("hf_secret\n".to_string()), ..hub.settings() };
        let error = hub.resolve_with(Files::Config, &bad).unwrap_err();
        assert!(matches!(error, HubError::BadToken { .. }) && !error.to_string().contains("hf_secret"), "{error}");
        let with_token = Settings { token: Some("hf_secret".to_string()), ..hub.settings() };
        hub.resolve_with(Files::Config, &with_token).unwrap();
    }

    #[test]
    fn the_token_goes_to_the_hub_and_to_nobody_else() {
        let seen = |hub: &TestHub| -> Vec<String> {
            std::mem::take(&mut *hub.script.seen.lock().unwrap()).into_iter().map(|(token, _)| token).collect()
        };
        let weights = || contents(&[("config.json", "{}"), ("model.safetensors", "the weights")]);
        let other = TestHub::new(Script { files: weights(), ..Script::default() });
        let redirected = vec!["model.safetensors"];
        let elsewhere = Some(other.endpoint.clone());
        let hub = TestHub::new(Script { files: weights(), redirected, elsewhere, ..Script::default() });
        let with_token = Settings { token: Some("hf_secret".to_string()), ..hub.settings() };
        hub.resolve_with(Files::Model, &with_token).unwrap();
        assert!(seen(&hub).iter().all(|token| token == "Bearer hf_secret"));
        let elsewhere = seen(&other);
        assert!(!elsewhere.is_empty() && elsewhere.iter().all(String::is_empty), "{elsewhere:?}");

        // Nor is one looked for where none was given.
        let hub = TestHub::new(Script { files: weights(), ..Script::default() });
        hub.resolve(Files::Model).unwrap();
        let tokens = seen(&hub);
        assert!(!tokens.is_empty() && tokens.iter().all(String::is_empty), "{tokens:?}");
    }

    /// hf-xet would read what that host says of the parts, however long it is.
    #[test]
    fn parts_by_the_xet_protocol_are_not_asked_for() {
        let lie = Lie::Xet("cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc");
        let hub = TestHub::new(Script { files: contents(&MODEL), lie, ..Script::default() });
        let blobs = hub.cache.path().join("models--owner--model/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(git_name(b"the weights") + ".incomplete"), "the w").unwrap();
        let with_token = Settings { token: Some("hf_secret".to_string()), ..hub.settings() };
        let folder = hub.resolve_with(Files::Model, &with_token).unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), b"the weights");
        assert!(hub.script.seen.lock().unwrap().iter().all(|(token, _)| token == "Bearer hf_secret"));
        let log = hub.log.lock().unwrap();
        assert!(log.iter().any(|line| line.contains("xet-read-token")), "hf-hub would have: {log:?}");
        assert!(!log.iter().any(|line| line.contains("reconstructions")), "{log:?}");
    }

    #[test]
    fn what_has_arrived_is_not_fetched_again() {
        let ranges = |hub: &TestHub| -> Vec<String> {
            let seen = std::mem::take(&mut *hub.script.seen.lock().unwrap());
            seen.into_iter().map(|(_, range)| range).filter(|range| !range.is_empty()).collect()
        };
        for no_parts in [false, true] {
            let hub = TestHub::new(Script { files: contents(&MODEL), no_parts, ..Script::default() });
            let blobs = hub.cache.path().join("models--owner--model/blobs");
            std::fs::create_dir_all(&blobs).unwrap();
            std::fs::write(blobs.join(git_name(b"the weights") + ".incomplete"), "the w").unwrap();
            let folder = hub.resolve(Files::Model).unwrap();
            assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), b"the weights");
            assert_eq!(ranges(&hub), ["5-10"]);
            let asked = hub.downloaded().into_iter().filter(|file| file == "model.safetensors").count();
            assert_eq!(asked, 1 + usize::from(no_parts), "a server that sends no parts is asked for the whole");
        }
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

    /// Everything in the folder around the cache, as names.
    fn all_files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        entries
            .flat_map(|path| if path.is_dir() && !path.is_symlink() { all_files(&path) } else { vec![path] })
            .collect()
    }

    #[test]
    fn a_hub_that_lies_is_told_so_and_nothing_is_kept() {
        let cases = [
            (Lie::ETag("\"../../../../escaped\""), "an ETag that is no hash"),
            (Lie::ETag("\"/tmp/escaped\""), "an ETag that is no hash"),
            (Lie::ETag("\"a%00b\""), "an ETag that is no hash"),
            (Lie::FileCommit("../../../../escaped"), "of another commit (../../../../escaped)"),
            (Lie::FileCommit("main"), "of another commit (main)"),
            (Lie::Commit("../../../../escaped"), "a commit that is none: ../../../../escaped"),
            (Lie::Commit("main"), "a commit that is none: main"),
            (Lie::Zeros, "sent a wrong config.json"),
            (Lie::Longer, "more than the 2 bytes"),
            (Lie::Entries(r#"{"type": "file", "path": "a", "size": -1}"#), "invalid value: integer `-1`"),
            (
                Lie::Entries(r#"{"type": "file", "path": "config.json", "size": 4611686018427387904}"#),
                "a config.json of 4611686018427387904 bytes",
            ),
            (Lie::Entries("[["), "what no Hub answers: invalid type: sequence"),
            (Lie::Pages, "a list of files without end"),
            (Lie::EndlessList, "more than the 16777216 bytes"),
            (Lie::Location("file:///etc/passwd"), "a redirection to file:///etc/passwd"),
            (Lie::EndlessPage("403 Forbidden"), "a page without end instead of a file"),
            (Lie::EndlessPage("200 OK"), "more than the 2 bytes"),
            (Lie::Location("/owner/model/resolve/x"), "no such model"),
        ];
        for (lie, expected) in cases {
            let around = tempfile::tempdir().unwrap();
            let hub = TestHub::new(Script { files: contents(&[("config.json", "{}")]), lie, ..Script::default() });
            let settings = Settings { cache: around.path().join("a/b/c/d"), ..hub.settings() };
            let error = hub.resolve_with(Files::Config, &settings).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
            for path in all_files(around.path()) {
                assert!(path.to_str().unwrap().ends_with(".lock"), "{}: {expected}", path.display());
            }
            let offline = Settings { offline: true, ..settings };
            assert!(matches!(hub.resolve_with(Files::Config, &offline), Err(HubError::NotCached { .. })), "{expected}");
        }
        // Names that no file of a model has are not looked at.
        let traversal = r#"{"type": "file", "path": "../../../../../escaped.json", "size": 2}"#;
        let lie = Lie::Entries(traversal);
        let hub = TestHub::new(Script { files: contents(&[("config.json", "{}")]), lie, ..Script::default() });
        assert!(hub.resolve(Files::Config).unwrap().join("config.json").exists());
        let index = r#"{"weight_map": {"a": "../../escaped.safetensors"}}"#;
        let hub = TestHub::with_files(&[("config.json", "{}"), ("model.safetensors.index.json", index)]);
        let error = hub.resolve(Files::Model).unwrap_err().to_string();
        assert!(error.contains("names ../../escaped.safetensors, which is no file beside it"), "{error}");
    }

    #[test]
    fn what_another_program_left_wrong_in_the_cache_is_found_and_fetched_again() {
        let hub = TestHub::with_files(&MODEL);
        let folder = hub.resolve(Files::Model).unwrap();
        let offline = Settings { offline: true, ..hub.settings() };
        let outside = hub.cache.path().join("outside");
        std::fs::write(&outside, "the weights").unwrap();
        let blob = hub.cache.path().join("models--owner--model/blobs").join(git_name(b"the weights"));
        let (link, weights) = (folder.join("model.safetensors"), || std::fs::read(folder.join("model.safetensors")));
        let refused = || hub.resolve_with(Files::Model, &offline).unwrap_err().to_string();

        std::fs::remove_file(&blob).unwrap();
        std::fs::write(&blob, "the WEIGHTS").unwrap();
        assert!(refused().contains("an undamaged model.safetensors (its bytes do not have the hash"), "{}", refused());
        hub.downloaded();
        hub.resolve(Files::Model).unwrap();
        assert_eq!(
            (hub.downloaded(), weights().unwrap()),
            (vec!["model.safetensors".to_string()], b"the weights".to_vec())
        );

        #[cfg(unix)]
        {
            std::fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink(&outside, &link).unwrap();
            assert!(refused().contains("(it leads out of the cache)"), "{}", refused());
            hub.resolve(Files::Model).unwrap();
            assert_eq!(std::fs::read(&outside).unwrap(), b"the weights", "what it led to is untouched");
            assert!(link.canonicalize().unwrap().ends_with(git_name(b"the weights")));
        }
        // A reference that is no commit leads nowhere.
        std::fs::write(hub.cache.path().join("models--owner--model/refs/main"), "../../../outside").unwrap();
        assert!(refused().contains("revision \"main\""), "{}", refused());
        // What an earlier download left is believed no more than what comes.
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(blob.with_extension("incomplete"), "THE").unwrap();
        hub.resolve(Files::Model).unwrap();
        assert_eq!(weights().unwrap(), b"the weights");
    }

    #[test]
    fn a_revision_is_no_path() {
        for revision in ["../../escaped", "/etc", "a//b", "a\\b", "", "refs/../.."] {
            let hub = TestHub::with_files(&MODEL);
            let settings = Settings { revision: revision.to_string(), ..hub.settings() };
            let error = hub.resolve_with(Files::Config, &settings).unwrap_err();
            assert!(matches!(error, HubError::UnknownRevision { .. }), "{error}");
        }
    }

    #[test]
    fn a_folder_is_itself() {
        let dir = tempfile::tempdir().unwrap();
        let options = HubOptions::default();
        assert_eq!(resolve(dir.path().to_str().unwrap(), Files::Model, &options).unwrap(), dir.path());
        let file = dir.path().join("config.json");
        std::fs::write(&file, "{}").unwrap();
        let error = resolve(file.to_str().unwrap(), Files::Model, &options).unwrap_err();
        assert!(matches!(error, HubError::NotAFolder(..)));
        for name in ["./absent", "/absent/model", "a/b/c", "-x", "a--b", "a..b", "x.git", "", "a b", "~/model"] {
            let error = resolve(name, Files::Model, &options).unwrap_err();
            assert!(matches!(error, HubError::NoSuchFolder(_)), "{name:?}: {error}");
        }
    }

    #[test]
    fn settings_follow_the_environment_as_in_python() {
        let home = tempfile::tempdir().unwrap();
        let settings = |options: &HubOptions, variables: &[(&str, &str)]| {
            let places =
                Places { user: "/h".into(), hf_home: home.path().to_path_buf(), cache: home.path().join("hub") };
            let variables: HashMap<_, _> = variables.iter().copied().collect();
            Settings::new(options, &places, |name| variables.get(name).map(|value| value.to_string()))
        };
        let defaults = HubOptions::default();
        let bare = settings(&defaults, &[]);
        assert_eq!(bare.cache, home.path().join("hub"));
        assert_eq!((bare.endpoint.as_str(), bare.revision.as_str()), (DEFAULT_ENDPOINT, "main"));
        assert!(!bare.offline && bare.token.is_none());

        // The others are hf-hub's: see `the_cache_is_where_python_has_it` of run_mlm.
        let cache = |variables: &[(&str, &str)]| settings(&defaults, variables).cache;
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("TRANSFORMERS_CACHE", "/t")]), Path::new("/t"));
        assert_eq!(cache(&[("TRANSFORMERS_CACHE", "~/t")]), Path::new("/h/t"));

        let offline = |variables: &[(&str, &str)]| settings(&defaults, variables).offline;
        assert!(offline(&[("HF_HUB_OFFLINE", "1")]) && offline(&[("TRANSFORMERS_OFFLINE", "yes")]));
        assert!(!offline(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]), "the first decides");

        std::fs::write(home.path().join("token"), "hf_stored\n").unwrap();
        let token = |variables: &[(&str, &str)]| settings(&defaults, variables).token;
        assert_eq!(token(&[]).as_deref(), Some("hf_stored"));
        assert_eq!(token(&[("HF_TOKEN", "hf_env")]).as_deref(), Some("hf_env"));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);

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
