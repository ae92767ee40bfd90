//! Arguments and environment, as Python's huggingface_hub and transformers read them.

use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_REVISION: &str = "main";

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

/// The value of an environment variable, if it is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where Python keeps what the Hub gave.
pub(crate) struct Places {
    user: PathBuf,
    hf_home: PathBuf,
    cache: PathBuf,
}

impl Places {
    /// hf-hub reads the variables as Python does. It leaves a `~` in them as it is, and takes /tmp where there is no HOME.
    pub fn of_python() -> Self {
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
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub endpoint: String,
    pub revision: String,
    pub token: Option<String>,
    pub cache: PathBuf,
    pub offline: bool,
    /// Before a request is repeated; doubled each time.
    pub retry_delay: Duration,
    /// How long a server that is sent something may be silent.
    pub upload_silence: Duration,
}

impl Settings {
    pub fn new(options: &HubOptions, places: &Places, variable: impl Fn(&str) -> Option<String>) -> Self {
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
            // A commit may take the Hub as long.
            upload_silence: Duration::from_secs(120),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

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
