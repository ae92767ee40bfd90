//! What a name on the Hub means: an address there, and a folder in the cache.

use std::fmt;

use hf_hub::{RepoType, RepoTypeAny};
use reqwest::Url;

/// A repository of the Hub. Its kind, a model's or a data set's, decides where it is found.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    pub kind: RepoTypeAny,
    /// `name` or `owner/name`.
    pub name: String,
}

impl Repo {
    /// None if no repository can have this name: the rules of `REPO_ID_REGEX` in huggingface_hub.
    pub fn new(kind: RepoTypeAny, id: &str) -> Option<Self> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let part = |text: &str| {
            text.chars().all(|c| is_word(c) || c == '-' || c == '.')
                && text.starts_with(is_word)
                && text.ends_with(is_word)
        };
        let (owner, name) = id.split_once('/').unwrap_or(("owner", id));
        let allowed = part(owner)
            && part(name)
            && name.len() <= 96
            && !id.contains("--")
            && !id.contains("..")
            && !id.ends_with(".git");
        allowed.then(|| Self { kind, name: id.to_string() })
    }

    /// What it is called in messages.
    pub fn noun(&self) -> &'static str {
        self.kind.singular()
    }

    /// `models--OWNER--NAME`
    pub fn cache_folder(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.name.replace('/', "--"))
    }

    /// Where `what` is told of a revision: `revision`, or `tree`, the list of its files, for data sets those in folders too.
    pub fn api(&self, endpoint: &Url, what: &str, revision: &str) -> Url {
        let mut url = below(endpoint, &["api", self.kind.plural()], &[&self.name]);
        url = below(&url, &[what, revision], &[]);
        if what == "tree" && self.kind == RepoTypeAny::Dataset {
            url.query_pairs_mut().append_pair("recursive", "true");
        }
        url
    }

    /// Its page, for people.
    pub fn page(&self, endpoint: &str) -> String {
        format!("{endpoint}/{}{}", self.kind.url_prefix(), self.name)
    }

    /// Where a file of a commit lies.
    pub fn file(&self, endpoint: &Url, commit: &str, path: &str) -> Url {
        let url = below(endpoint, &[], &[self.kind.url_prefix(), &self.name]);
        below(&url, &["resolve", commit], &[path])
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// An address below another: first `names`, in which `/` is no separator, then the parts of `paths`.
fn below(base: &Url, names: &[&str], paths: &[&str]) -> Url {
    let mut url = base.clone();
    // What has no path was refused as an endpoint.
    if let Ok(mut path) = url.path_segments_mut() {
        let parts = paths.iter().flat_map(|path| path.split('/')).filter(|part| !part.is_empty());
        path.pop_if_empty().extend(names).extend(parts);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_repository_can_have() {
        for name in ["gpt2", "owner/name", "a_b/c.d-e", "é/ü"] {
            assert!(Repo::new(RepoTypeAny::Model, name).is_some(), "{name}");
        }
        let long = "x".repeat(97);
        for name in ["", "a/b/c", "-x", "a--b", "a..b", "x.git", "a b", "~/model", "./absent", "/a", "a/", &long] {
            assert!(Repo::new(RepoTypeAny::Model, name).is_none(), "{name}");
        }
    }

    /// The addresses and folders of huggingface_hub.
    #[test]
    fn models_and_data_sets_have_their_places() {
        let endpoint = Url::parse("https://huggingface.co").unwrap();
        let places = |kind| {
            let repo = Repo::new(kind, "owner/name").unwrap();
            let urls = [
                repo.api(&endpoint, "revision", "refs/pr/1"),
                repo.api(&endpoint, "tree", "abc"),
                repo.file(&endpoint, "abc", "data/a b#.csv"),
            ];
            (repo.cache_folder(), urls.map(|url| url.as_str().replacen("https://huggingface.co/", "", 1)))
        };
        let model = [
            "api/models/owner/name/revision/refs%2Fpr%2F1",
            "api/models/owner/name/tree/abc",
            "owner/name/resolve/abc/data/a%20b%23.csv",
        ];
        assert_eq!(places(RepoTypeAny::Model), ("models--owner--name".into(), model.map(String::from)));
        let data_set = [
            "api/datasets/owner/name/revision/refs%2Fpr%2F1",
            "api/datasets/owner/name/tree/abc?recursive=true",
            "datasets/owner/name/resolve/abc/data/a%20b%23.csv",
        ];
        assert_eq!(places(RepoTypeAny::Dataset), ("datasets--owner--name".into(), data_set.map(String::from)));
        // A mirror below a path.
        let mirror = Url::parse("https://host/hf/").unwrap();
        let repo = Repo::new(RepoTypeAny::Model, "gpt2").unwrap();
        assert_eq!(repo.file(&mirror, "abc", "a").as_str(), "https://host/hf/gpt2/resolve/abc/a");
    }
}
