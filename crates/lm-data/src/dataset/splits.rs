//! The splits of a repository of files: configuration, patterns, and the format by the commonest suffix, as
//! `HubDatasetModuleFactory` and `infer_module_for_data_files` of Python's `datasets`.

use std::collections::HashMap;

use regex::Regex;
use serde_json::Map;

use super::card::{self, Card, Config, Repository, is_split_name};
use super::error::DatasetError;
use super::patterns::{base_name, has_wildcards, matching, within};
use super::reading::Reading;
use crate::source::METADATA;

/// The files of one split, in the order in which they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitFiles {
    /// Such as `train`.
    pub name: String,
    /// Paths as the repository has them.
    pub files: Vec<String>,
}

/// What a configuration consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// In the order in which they are found.
    pub splits: Vec<SplitFiles>,
    /// How their files are read.
    pub reading: Reading,
}

/// What tells a split in the names of files and folders.
const KEYWORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];
const SHARDED: &str = "-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*.*";

/// Suffixes and what reads them; where two are as common, the first wins.
const KINDS: [(&str, &str); 10] = [
    ("parquet", "parquet"),
    ("arrow", "arrow"),
    ("jsonl", "json"),
    ("json", "json"),
    ("csv", "csv"),
    ("txt", "text"),
    ("tsv", "tsv"),
    ("ndjson", "json"),
    ("geoparquet", "parquet"),
    ("gpq", "parquet"),
];
/// Suffixes that `datasets` reads and that hold no text.
const OTHERS: &[&str] = &[
    "conll", "conllu", "tar", "xml", "hdf5", "h5", "eval", "lance", "tsfile", "jpg", "jpeg", "png", "gif", "bmp",
    "tif", "tiff", "webp", "wav", "mp3", "flac", "ogg", "opus", "m4a", "mp4", "mkv", "avi", "mov", "webm", "pdf",
    "nii",
];
/// Archives count for what they hold, which their reader finds out.
const ARCHIVE: &str = "zip";

/// The splits of a configuration; the default one if none is named.
///
/// # Errors
/// If there is no such configuration, or no file that can be read, or not as the configuration says.
pub fn splits(repository: &Repository<'_>, config: Option<&str>) -> Result<Found, DatasetError> {
    splits_at(None, repository, card::read(repository)?, config)
}

/// The same, where the repository is the folder `root` and its card is read.
pub(super) fn splits_at(
    root: Option<&str>,
    repository: &Repository<'_>,
    card: Card,
    config: Option<&str>,
) -> Result<Found, DatasetError> {
    let Card { mut configs, columns } = card;
    let only = match &columns[..] {
        [(name, _)] => Some(name.as_str()),
        _ => None,
    };
    // What says nothing of configurations has none that could be asked for, but where it says the columns of one alone.
    let mut says = true;
    if configs.is_empty() {
        says = config.is_some() || only.is_some();
        configs.push(Config {
            name: "default".into(),
            data_files: None,
            data_dir: None,
            default: true,
            options: Map::new(),
        });
    }
    let mut config = choose(repository, &configs, config, only)?.clone();
    let columns = columns.into_iter().filter(|(name, _)| says && *name == config.name);
    config.options.extend(columns.filter_map(|(_, columns)| Some(("features".to_owned(), columns?))));
    of_config(repository, &config, root)
}

/// The splits of what the Hub converted to Parquet, in which each configuration is a folder.
///
/// # Errors
/// As [`splits`].
pub fn converted_splits(repository: &Repository<'_>, config: Option<&str>) -> Result<Found, DatasetError> {
    let mut folders: Vec<&str> = repository
        .files
        .iter()
        .filter_map(|file| Some(file.split_once('/')?.0))
        .filter(|name| !name.starts_with('.'))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    let configs: Vec<Config> = folders
        .into_iter()
        .map(|name| Config {
            name: name.into(),
            data_files: None,
            data_dir: Some(name.into()),
            default: false,
            options: Map::new(),
        })
        .collect();
    of_config(repository, choose(repository, &configs, config, None)?, None)
}

fn of_config(repository: &Repository<'_>, config: &Config, root: Option<&str>) -> Result<Found, DatasetError> {
    let path = |folder: &str, path: &str| {
        let outside = || DatasetError::Outside { name: repository.name.into(), path: path.into() };
        within(root, folder, path, repository.files).ok_or_else(outside)
    };
    // Patterns begin at the configuration's folder.
    let folder = path("", config.data_dir.as_deref().unwrap_or_default())?;
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let all: Vec<&str> = repository.files.iter().map(String::as_str).collect();
    let below: Vec<&str> = repository.files.iter().filter_map(|file| file.strip_prefix(&prefix)).collect();
    let patterns = match &config.data_files {
        Some(patterns) => patterns.clone(),
        None => inferred(repository.name, &below)?,
    };
    let mut found = Vec::new();
    for (split, patterns) in patterns {
        let mut files = Vec::new();
        for pattern in &patterns {
            let whole = path(&folder, pattern)?;
            // Wildcards of the folder's name are none.
            let (prefix, pattern, among) = match whole.strip_prefix(&prefix) {
                Some(pattern) => (prefix.as_str(), pattern, &below),
                None => ("", whole.as_str(), &all),
            };
            let mut matches = matching(repository.name, pattern, among)?;
            matches.retain(|file| suffixes(file).any(is_known));
            if matches.is_empty() && !has_wildcards(pattern) {
                return Err(DatasetError::NoFile { name: repository.name.into(), pattern: pattern.into() });
            }
            files.extend(matches.into_iter().map(|file| format!("{prefix}{file}")));
        }
        found.push(SplitFiles { name: split, files });
    }
    let (kind, splits) = of_one_kind(repository.name, found)?;
    let builder = if kind == "tsv" { "csv" } else { kind };
    let reading = Reading::of(repository.name, &config.name, &config.options, builder)?;
    Ok(Found { splits, reading })
}

/// `NAME.py`, the script that older versions of `datasets` ran, if the repository has it.
pub fn script<'a>(name: &str, files: &'a [String]) -> Option<&'a str> {
    let script = format!("{}.py", base_name(name));
    files.iter().find(|file| **file == script).map(String::as_str)
}

/// The one named, else the only one, the one called `default`, or the one marked so, or the only one whose columns are said.
fn choose<'a>(
    repository: &Repository<'_>,
    configs: &'a [Config],
    wanted: Option<&str>,
    only: Option<&str>,
) -> Result<&'a Config, DatasetError> {
    let name = || repository.name.to_string();
    let known = || configs.iter().map(|config| config.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = wanted {
        let missing = || DatasetError::Configuration { name: name(), config: wanted.into(), known: known() };
        return configs.iter().find(|config| config.name == wanted).ok_or_else(missing);
    }
    let mut defaults = configs.iter().filter(|config| configs.len() == 1 || config.name == "default" || config.default);
    match (defaults.next(), defaults.next()) {
        (Some(config), None) => Ok(config),
        (None, _) if configs.iter().any(|config| Some(config.name.as_str()) == only) => {
            choose(repository, configs, only, None)
        }
        _ => Err(DatasetError::WhichConfiguration { name: name(), known: known() }),
    }
}

/// The patterns of the first group that finds a file: shards, names of folders, names of files, everything.
fn inferred(name: &str, files: &[&str]) -> Result<Vec<(String, Vec<String>)>, DatasetError> {
    let shards = matching(name, &format!("data/*{SHARDED}"), files)?;
    if !shards.is_empty() {
        return sharded(name, &shards);
    }
    let sep = "[-._ 0-9]";
    let folders = |k: &str| {
        [format!("**/{k}/**"), format!("**/{k}{sep}*/**"), format!("**/*{sep}{k}/**"), format!("**/*{sep}{k}{sep}*/**")]
            .to_vec()
    };
    let names = |k: &str| [format!("**/{k}{sep}*"), format!("**/*{sep}{k}{sep}*")].to_vec();
    for by_folder in [true, false] {
        let group = |k: &str| if by_folder { folders(k) } else { names(k) };
        let mut splits = Vec::new();
        for (split, keywords) in KEYWORDS {
            let patterns: Vec<String> = keywords.iter().flat_map(|keyword| group(keyword)).collect();
            let mut any = false;
            for pattern in &patterns {
                any = any || !matching(name, pattern, files)?.is_empty();
            }
            if any {
                splits.push((split.to_string(), patterns));
            }
        }
        if !splits.is_empty() {
            return Ok(splits);
        }
    }
    Ok(vec![("train".into(), vec!["**".into()])])
}

/// `data/SPLIT-00000-of-00001.parquet`: any word can be a split's name; the known ones come first.
fn sharded(name: &str, shards: &[&str]) -> Result<Vec<(String, Vec<String>)>, DatasetError> {
    let mut names: Vec<&str> = shards.iter().filter_map(|shard| shard_split(base_name(shard))).collect();
    if let Some(split) = names.iter().find(|split| !is_split_name(split)) {
        return Err(DatasetError::SplitName { name: name.into(), split: split.to_string() });
    }
    let rank = |name: &str| KEYWORDS.iter().position(|(split, _)| *split == name).unwrap_or(KEYWORDS.len());
    names.sort_by_key(|name| (rank(name), name.to_string()));
    names.dedup();
    Ok(names.into_iter().map(|name| (name.to_string(), vec![format!("data/{name}{SHARDED}")])).collect())
}

/// What stands before the last `-NNNNN-of-NNNNN`.
fn shard_split(file: &str) -> Option<&str> {
    let shard = Regex::new(r"^(.+)-[0-9]{5}-of-[0-9]{5}[^/]*\.").ok()?;
    Some(shard.captures(file)?.get(1)?.as_str())
}

/// Drops what is not in the commonest format, which must be that of all splits. Tables of commas and of tabs are one.
fn of_one_kind(name: &str, mut splits: Vec<SplitFiles>) -> Result<(&'static str, Vec<SplitFiles>), DatasetError> {
    let mut kinds = Vec::new();
    for split in &splits {
        kinds.push(kind(name, &split.files)?);
    }
    let Some(first) = kinds.first().copied().flatten() else { return Err(DatasetError::NoData { name: name.into() }) };
    if kinds.iter().any(|kind| *kind != Some(first)) {
        let kinds =
            splits.iter().zip(&kinds).map(|(split, kind)| format!("{}: {}", split.name, kind.unwrap_or("none")));
        return Err(DatasetError::Kinds { name: name.into(), kinds: kinds.collect::<Vec<_>>().join(", ") });
    }
    let alike = |kind: &str| kind == first || [kind, first].iter().all(|kind| ["csv", "tsv"].contains(kind));
    for split in &mut splits {
        split.files.retain(|file| suffixes(file).any(|suffix| suffix == ARCHIVE || kind_of(suffix).is_some_and(alike)));
    }
    Ok((first, splits))
}

/// The format of the commonest suffix, that of metadata only where there is no other; None without files.
fn kind(name: &str, files: &[String]) -> Result<Option<&'static str>, DatasetError> {
    let mut counts: HashMap<(bool, String), usize> = HashMap::new();
    for file in files {
        let is_data = !METADATA.contains(&base_name(file));
        for suffix in suffixes(file) {
            *counts.entry((is_data, suffix.to_lowercase())).or_default() += 1;
        }
    }
    let rank =
        |suffix: &str| KINDS.iter().take(5).position(|(known, _)| *known == suffix).map_or(0, |at| KINDS.len() - at);
    let known = counts.into_iter().filter(|((_, suffix), _)| is_known(suffix));
    let order = |((is_data, suffix), count): &((bool, String), usize)| (*is_data, *count, rank(suffix), suffix.clone());
    let Some(((_, suffix), _)) = known.max_by_key(order) else {
        return Ok(None);
    };
    if suffix == ARCHIVE {
        return Ok(Some(ARCHIVE));
    }
    kind_of(&suffix).map(Some).ok_or(DatasetError::Kind { name: name.into(), suffix })
}

fn kind_of(suffix: &str) -> Option<&'static str> {
    KINDS.iter().find(|(known, _)| *known == suffix).map(|(_, kind)| *kind)
}

fn is_known(suffix: &str) -> bool {
    kind_of(suffix).is_some() || suffix == ARCHIVE || OTHERS.contains(&suffix)
}

/// All suffixes of a file's name: `jsonl` and `gz` of `x.jsonl.gz`.
fn suffixes(file: &str) -> impl Iterator<Item = &str> {
    base_name(file).split('.').skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str], readme: Option<&str>, config: Option<&str>) -> Result<Vec<(String, Vec<String>)>, String> {
        let files: Vec<String> = files.iter().map(|file| file.to_string()).collect();
        let repository = Repository { name: "d", files: &files, cards: [readme, None, None] };
        let splits = splits(&repository, config).map_err(|error| error.to_string())?.splits;
        Ok(splits.into_iter().map(|split| (split.name, split.files)).collect())
    }

    fn split(name: &str, files: &[&str]) -> (String, Vec<String>) {
        (name.into(), files.iter().map(|file| file.to_string()).collect())
    }

    /// What `load_dataset` finds in repositories of these files.
    #[test]
    fn splits_are_those_of_datasets() {
        let shard = |name: &str| format!("data/{name}-00000-of-00001.parquet");
        let (a, b, c, dotted) = (shard("unsupervised"), shard("test"), shard("train"), shard("é.b_1"));
        for (files, expected) in [
            (
                vec![a.as_str(), &b, &c, "train.txt"],
                vec![split("train", &[&c]), split("test", &[&b]), split("unsupervised", &[&a])],
            ),
            (
                vec!["train/a.csv", "test/a.csv", "validation.csv"],
                vec![split("train", &["train/a.csv"]), split("test", &["test/a.csv"])],
            ),
            (vec!["x/my-train-1/a.csv"], vec![split("train", &["x/my-train-1/a.csv"])]),
            (
                vec!["train-2.txt", "train-1.txt", "dev-1.txt"],
                vec![split("train", &["train-1.txt", "train-2.txt"]), split("validation", &["dev-1.txt"])],
            ),
            (
                vec!["train.jsonl.gz", "eval.jsonl.gz"],
                vec![split("train", &["train.jsonl.gz"]), split("test", &["eval.jsonl.gz"])],
            ),
            (vec!["wikitrain.txt", "notes.txt"], vec![split("train", &["notes.txt", "wikitrain.txt"])]),
            (vec!["a.txt", "b.txt", "c.json", "README.md", "x.py"], vec![split("train", &["a.txt", "b.txt"])]),
            (vec!["a.txt", "b.json"], vec![split("train", &["b.json"])]),
            (vec!["train.txt", ".cache/train.txt", "__pycache__/train.txt"], vec![split("train", &["train.txt"])]),
            (vec!["train.zip"], vec![split("train", &["train.zip"])]),
            (vec!["a.csv", "b.csv", "c.tsv", "d.txt"], vec![split("train", &["a.csv", "b.csv", "c.tsv"])]),
            (vec!["metadata.jsonl", "s/metadata.jsonl", "a.txt"], vec![split("train", &["a.txt"])]),
            (vec!["metadata.csv", "a.txt"], vec![split("train", &["a.txt"])]),
            (vec![dotted.as_str()], vec![split("é.b_1", &[&dotted])]),
            (vec!["metadata.jsonl", "a.jsonl"], vec![split("train", &["a.jsonl", "metadata.jsonl"])]),
            (vec!["metadata.jsonl", "a.foo"], vec![split("train", &["metadata.jsonl"])]),
            (vec!["metadata.json", "a.txt"], vec![split("train", &["metadata.json"])]),
        ] {
            assert_eq!(found(&files, None, None).unwrap(), expected, "{files:?}");
        }
    }

    #[test]
    fn configurations_choose_files() {
        let files = ["en/train.txt", "en/dev.txt", "de.txt", "sub/x.csv"];
        let card = "---\nconfigs:\n- config_name: en\n  data_dir: en\n- config_name: de\n  data_files: de.*\n- config_name: s\n  \
                    data_dir: sub\n  data_files: x.csv\n- config_name: gone\n  data_files: gone.txt\n- config_name: up\n  data_dir: ./en/../sub\n  \
                    data_files: ../de.txt\n- config_name: out\n  data_files: ../de.txt\n- config_name: s\n  data_files: \
                    sub/../sub/x.csv\n---\n";
        let found = |config| found(&files, Some(card), config);
        let en = vec![split("train", &["en/train.txt"]), split("validation", &["en/dev.txt"])];
        assert_eq!(found(Some("en")).unwrap(), en);
        assert_eq!(found(Some("de")).unwrap(), [split("train", &["de.txt"])]);
        assert_eq!(found(Some("s")).unwrap(), [split("train", &["sub/x.csv"])]);
        assert_eq!(found(Some("up")).unwrap(), [split("train", &["de.txt"])]);
        for (config, part) in [
            (Some("out"), "../de.txt: the configuration leads out of the data set"),
            (None, "no default: give --dataset_config_name, one of en, de, s, gone, up, out"),
            (Some("fr"), "no configuration `fr`: give --dataset_config_name, one of en, de, s, gone, up, out"),
            (Some("gone"), "gone.txt: the configuration names a file that is not there"),
        ] {
            let error = found(config).unwrap_err();
            assert!(error.starts_with("d: ") && error.contains(part), "{error}");
        }
    }

    /// The first column in `load_dataset`, of `{"id": …, "body": …}`.
    #[test]
    fn the_card_says_the_order_of_columns() {
        let features = |names: [&str; 2]| names.map(|name| format!("  - name: {name}\n    dtype: string\n")).concat();
        let (body, id) = (features(["body", "id"]), features(["id", "body"]));
        let config = "configs:\n- config_name: x\n  data_files: a.jsonl\n";
        let info = |name: &str, columns: &str| format!("- config_name: {name}\n  features:\n{columns}");
        for (card, config, expected) in [
            (format!("dataset_info:\n  features:\n{body}"), None, Some("body")),
            (format!("dataset_info:\n{}{}", info("default", &body), info("o", &id)), None, None),
            (format!("dataset_info:\n{}{}", info("default", &body), info("o", &id)), Some("default"), Some("body")),
            (format!("dataset_info:\n{}{config}", info("x", &body)), None, Some("body")),
            (format!("dataset_info:\n{}{config}", info("y", &body)), None, None),
            (format!("dataset_info:\n{}{config}  features:\n{id}", info("x", &body)), None, Some("body")),
            (format!("dataset_info:\n{}{config}  features:\n{body}", info("x", &id)), None, Some("id")),
            (format!("dataset_info:\n  features:\n{config}  features:\n{body}"), None, Some("body")),
            (format!("dataset_info:\n{}{config}- config_name: y\n", info("x", &body)), None, Some("body")),
            ("dataset_info: abc\n".into(), None, None),
        ] {
            let (files, readme) = (["a.jsonl".to_string()], format!("---\n{card}---\n"));
            let repository = Repository { name: "d", files: &files, cards: [Some(&readme), None, None] };
            let found = splits(&repository, config).unwrap();
            assert_eq!(found.reading.column.as_deref(), expected, "{card}");
        }
    }

    #[test]
    fn what_holds_no_text_is_named() {
        for (files, part) in [
            (vec!["README.md", "d.py"], "no data files"),
            (vec!["train/a.jpg", "train/b.jpg", "train/c.csv"], "are jpg files"),
            (vec!["train.csv", "test.json"], "different formats (train: csv, test: json)"),
            (vec!["data/my-split-00000-of-00001.jsonl"], "`my-split` is no name of a split"),
        ] {
            let error = found(&files, None, None).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let files = ["a/train/0000.parquet", "a/test/0000.parquet", "b/partial-train/0000.parquet", ".gitattributes"];
        let files = files.map(String::from);
        let repository = Repository { name: "d", files: &files, cards: [None; 3] };
        let expected = [("train", "a/train/0000.parquet"), ("test", "a/test/0000.parquet")]
            .map(|(name, file)| SplitFiles { name: name.into(), files: vec![file.into()] });
        assert_eq!(converted_splits(&repository, Some("a")).unwrap().splits, expected);
        assert_eq!(converted_splits(&repository, Some("b")).unwrap().splits[0].files, ["b/partial-train/0000.parquet"]);
        let error = converted_splits(&repository, None).unwrap_err().to_string();
        assert!(error.contains("one of a, b"), "{error}");
        assert_eq!(script("owner/d", &["d.py".to_string()]), Some("d.py"));
    }
}
