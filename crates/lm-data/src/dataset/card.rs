//! The configurations that README.md and .huggingface.yaml name: `MetadataConfigs` of Python's `datasets`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{DatasetError, NO_SPLIT_NAME};
use super::yaml;

/// What is read of a repository to find its splits: README.md, what stands above it, and what old ones have below it.
pub const CARD_FILES: [&str; 3] = ["README.md", ".huggingface.yaml", "dataset_infos.json"];

/// A repository of the Hub or a folder.
#[derive(Clone, Copy, Debug)]
pub struct Repository<'a> {
    /// For messages.
    pub name: &'a str,
    /// Paths of all files in it, with `/`.
    pub files: &'a [String],
    /// The texts of [`CARD_FILES`].
    pub cards: [Option<&'a str>; CARD_FILES.len()],
}

/// What the card says.
#[derive(Debug, PartialEq)]
pub(super) struct Card {
    /// None where it names none.
    pub configs: Vec<Config>,
    /// The columns of configurations, in their order: `dataset_info` and dataset_infos.json.
    pub columns: Vec<(String, Option<Value>)>,
}

/// One configuration of the card.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    pub name: String,
    /// Patterns by split; None where the names of files tell.
    pub data_files: Option<Vec<(String, Vec<String>)>>,
    /// The folder that patterns and names begin at.
    pub data_dir: Option<String>,
    pub default: bool,
    /// What else it says: how its files are read.
    pub options: Map<String, Value>,
}

/// Keys that say nothing of how files are read as text; `drop_labels` and `drop_metadata` are about pictures and sounds.
const KEYS: &[&str] =
    &["config_name", "data_files", "data_dir", "default", "description", "version", "drop_labels", "drop_metadata"];

/// `.huggingface.yaml` stands above README.md, key by key, and both above dataset_infos.json, configuration by configuration.
pub(super) fn read(repository: &Repository<'_>) -> Result<Card, DatasetError> {
    let mut keys = BTreeMap::new();
    let [readme, standalone, infos] = repository.cards;
    let [readme_name, standalone_name, infos_name] = CARD_FILES;
    for (file, text) in [(readme_name, readme.and_then(front_matter)), (standalone_name, standalone)] {
        let fails =
            |reason: String| DatasetError::Card { name: repository.name.into(), file, reason: one_line(&reason) };
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { continue };
        match yaml::read(text) {
            Ok(Value::Object(found)) => keys.extend(found.into_iter().map(|(key, value)| (key, (file, value)))),
            Ok(Value::Null) => {}
            Ok(_) => return Err(fails("is no list of keys and values".into())),
            Err(error) => return Err(fails(format!("its YAML cannot be read: {error}"))),
        }
    }
    let card = |file, reason| DatasetError::Card { name: repository.name.into(), file, reason };
    let (mut found, mut columns) = (Vec::new(), Vec::new());
    if let Some((file, value)) = keys.remove("configs") {
        found = configs(&value).map_err(|reason| card(file, reason))?;
    }
    if let Some(infos) = infos {
        columns = columns_of_infos(infos).map_err(|reason| card(infos_name, reason))?;
    }
    if let Some((file, value)) = keys.remove("dataset_info") {
        let above = columns_of(&value).map_err(|reason| card(file, reason))?;
        columns.retain(|(name, _)| !above.iter().any(|(found, _)| found == name));
        columns.extend(above);
    }
    Ok(Card { configs: found, columns })
}

fn configs(value: &Value) -> Result<Vec<Config>, String> {
    let entries = match value {
        Value::Null => return Ok(Vec::new()),
        value => value.as_array().ok_or("`configs` is no list")?,
    };
    let mut configs: Vec<Config> = Vec::new();
    for entry in entries {
        let config = config(entry)?;
        // As in Python, the last of a name counts, in the place of the first.
        match configs.iter_mut().find(|found| found.name == config.name) {
            Some(same) => *same = config,
            None => configs.push(config),
        }
    }
    Ok(configs)
}

/// `features` by configuration, of one or of a list; what is neither says nothing.
fn columns_of(info: &Value) -> Result<Vec<(String, Option<Value>)>, String> {
    let entries = match info {
        Value::Array(entries) => entries.as_slice(),
        Value::Object(_) => std::slice::from_ref(info),
        _ => &[],
    };
    let mut columns: Vec<(String, Option<Value>)> = Vec::new();
    for entry in entries.iter() {
        let name = match entry.get("config_name") {
            None if entry.is_object() => Some("default".to_owned()),
            name => name.and_then(scalar),
        };
        let name = name.ok_or("dataset_info: an entry is no mapping with the name of a configuration")?;
        let is_column = |column: &Value| column.get("name").is_some_and(Value::is_string);
        let features = match entry.get("features") {
            None | Some(Value::Null) => None,
            Some(Value::Array(entries)) if entries.iter().all(is_column) => entry.get("features").cloned(),
            Some(_) => return Err(format!("dataset_info: the features of {name} are no list of columns with names")),
        };
        columns.retain(|(found, _)| *found != name);
        columns.push((name, features));
    }
    Ok(columns)
}

/// The same, of dataset_infos.json, which `push_to_hub` of old versions wrote. The name of an only configuration is made of the
/// repository's, and says nothing.
fn columns_of_infos(text: &str) -> Result<Vec<(String, Option<Value>)>, String> {
    let infos: Value = lm_files::json::from_str(text).map_err(|error| format!("its JSON cannot be read: {error}"))?;
    let infos = infos.as_object().ok_or("is no mapping of configurations")?;
    let mut columns = Vec::new();
    for (name, info) in infos {
        let info = info.as_object().ok_or_else(|| format!("{name} is no mapping"))?;
        let features = match info.get("features") {
            None | Some(Value::Null) => None,
            Some(Value::Object(features)) => {
                Some(features.keys().map(|column| serde_json::json!({ "name": column })).collect())
            }
            Some(_) => return Err(format!("the features of {name} are no mapping of columns")),
        };
        let name = if infos.len() == 1 { "default" } else { name };
        columns.push((name.to_owned(), features));
    }
    Ok(columns)
}

/// The YAML between the dashes at the top of README.md.
fn front_matter(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let text = text.strip_prefix("---")?;
    let text = text.strip_prefix("\r\n").or_else(|| text.strip_prefix('\n'))?;
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_end_matches(['\r', '\n']) == "---" {
            return text.get(..end);
        }
        end += line.len();
    }
    None
}

fn config(entry: &Value) -> Result<Config, String> {
    let name = entry.get("config_name").ok_or("a configuration without config_name")?;
    let name = scalar(name).ok_or_else(|| format!("config_name: {name} is no string: put it in quotes"))?;
    let data_files = match entry.get("data_files") {
        None | Some(Value::Null) => None,
        Some(files) => Some(data_files(files).map_err(|reason| format!("configuration {name}: {reason}"))?),
    };
    let data_dir = match entry.get("data_dir") {
        None | Some(Value::Null) => None,
        Some(Value::String(folder)) => Some(folder.clone()),
        Some(other) => {
            return Err(format!("configuration {name}: data_dir: {other} is no string: put it in quotes"));
        }
    };
    let default = entry.get("default").is_some_and(is_true);
    let mut options = entry.as_object().cloned().unwrap_or_default();
    options.retain(|key, _| !KEYS.contains(&key.as_str()));
    Ok(Config { name, data_files, data_dir, default, options })
}

/// A string, a list, or a list of splits with a string or a list each; without splits all is `train`.
fn data_files(files: &Value) -> Result<Vec<(String, Vec<String>)>, String> {
    const SPLIT: &str = "data_files: an entry is no pair of split and path";
    let mut splits: Vec<(String, Vec<String>)> = Vec::new();
    let has_splits = files.as_array().is_some_and(|entries| entries.iter().any(Value::is_object));
    match files {
        Value::Array(entries) if has_splits => {
            for entry in entries {
                let split = entry.get("split").and_then(scalar).ok_or(SPLIT)?;
                if !is_split_name(&split) {
                    return Err(format!("data_files: `{split}` {NO_SPLIT_NAME}"));
                }
                if splits.iter().any(|(name, _)| *name == split) {
                    return Err(format!("data_files: the split {split} stands twice"));
                }
                splits.push((split, paths(entry.get("path").ok_or(SPLIT)?)?));
            }
        }
        value => splits.push(("train".into(), paths(value)?)),
    }
    Ok(splits)
}

fn paths(value: &Value) -> Result<Vec<String>, String> {
    const PATH: &str = "data_files: a path is no string";
    match value {
        Value::Array(entries) => entries.iter().map(|entry| scalar(entry).ok_or_else(|| PATH.into())).collect(),
        value => Ok(vec![scalar(value).ok_or(PATH)?]),
    }
}

/// What Python takes for true: `'false'` is, as any text but none.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_true) => *is_true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(entries) => !entries.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

/// YAML reads a name such as 2020 as a number.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().take(40).collect::<Vec<_>>().join(" ")
}

/// Whether a split can have this name: `_split_re` of Python's `datasets`.
pub(super) fn is_split_name(name: &str) -> bool {
    let letter = |letter: char| letter.is_alphanumeric() || letter == '_';
    name.split('.').all(|part| !part.is_empty() && part.chars().all(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(readme: &str, standalone: Option<&str>) -> Result<Vec<Config>, DatasetError> {
        let repository = Repository { name: "d", files: &[], cards: [Some(readme), standalone, None] };
        Ok(super::read(&repository)?.configs)
    }

    #[test]
    fn all_forms_of_data_files() {
        let card = "---\r\nlicense: mit\r\nconfigs:\r\n- config_name: 2020\r\n  data_files: a.txt\r\n- config_name: b\r\n  \
                    data_files: [x.csv, y.csv]\r\n  data_dir: sub\r\n  default: true\r\n- config_name: c\r\n  data_files:\r\n  - \
                    split: test\r\n    path: t/*\r\n  - split: train\r\n    path: [u, v]\r\n- config_name: d\r\n---\r\n# Title";
        let found = read(card, None).unwrap();
        let split =
            |name: &str, paths: &[&str]| (name.to_string(), paths.iter().map(|path| path.to_string()).collect());
        let config = |name: &str, data_files, data_dir: Option<&str>, default| Config {
            name: name.into(),
            data_files,
            data_dir: data_dir.map(String::from),
            default,
            options: Map::new(),
        };
        let expected = [
            config("2020", Some(vec![split("train", &["a.txt"])]), None, false),
            config("b", Some(vec![split("train", &["x.csv", "y.csv"])]), Some("sub"), true),
            config("c", Some(vec![split("test", &["t/*"]), split("train", &["u", "v"])]), None, false),
            config("d", None, None, false),
        ];
        assert_eq!(found, expected);
        let read_otherwise = "---\nconfigs:\n- config_name: a\n  sep: ;\n  drop_labels: true\n  names: [x]\n---\n";
        let options = read(read_otherwise, None).unwrap().remove(0).options;
        assert_eq!(Value::from(options), serde_json::json!({"sep": ";", "names": ["x"]}));
        let words = "---\nconfigs:\n- config_name: y\n  data_dir: n\n- config_name: 1e3\n  data_dir: ''\n---\n";
        let expected = [config("y", None, Some("n"), false), config("1e3", None, Some(""), false)];
        assert_eq!(read(words, None).unwrap(), expected);
        for (value, expected) in [
            ("yes", true),
            ("y", true),
            ("n", true),
            ("'false'", true),
            ("1", true),
            ("[0]", true),
            ("no", false),
            ("''", false),
            ("0", false),
            ("0.0", false),
            ("{}", false),
            ("", false),
        ] {
            let card = format!("---\nconfigs:\n- config_name: a\n  default: {value}\n---\n");
            assert_eq!(read(&card, None).unwrap(), [config("a", None, None, expected)], "{value}");
        }
        let standalone = "configs:\n- config_name: e\n";
        assert_eq!(read(card, Some(standalone)).unwrap(), [config("e", None, None, false)]);
        for none in ["no card", "---\nlicense: mit\n---\n", "---\nconfigs:\n- config_name: x\n", "---\n---\n"] {
            assert!(read(none, None).unwrap().is_empty(), "{none}");
        }
        for (bad, part) in [
            ("---\na: [\n---\n", "YAML cannot be read"),
            ("---\nconfigs: 3\n---\n", "no list"),
            ("---\nconfigs:\n- x: 3\n---\n", "without config_name"),
            ("---\nconfigs:\n- config_name: yes\n---\n", "config_name: true is no string"),
            ("---\nconfigs:\n- config_name: a\n  data_dir: no\n---\n", "a: data_dir: false is no string"),
            ("---\nconfigs:\n- config_name: a\n  data_dir: 3\n---\n", "a: data_dir: 3 is no string"),
            (
                "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: t\n    path: x\n  - split: t\n    path: y\n---\n",
                "stands twice",
            ),
            ("---\nconfigs:\n- config_name: a\n  data_files:\n    train: x\n---\n", "a path is no string"),
            ("---\ndataset_info:\n  features:\n    text: string\n---\n", "features of default are no list of columns"),
            ("---\ndataset_info:\n- text\n---\n", "dataset_info: an entry is no mapping"),
            (
                "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: a-b\n    path: x\n---\n",
                "`a-b` is no name of a split",
            ),
        ] {
            let error = read(bad, None).unwrap_err().to_string();
            assert!(error.starts_with("d: README.md: ") && error.contains(part) && !error.contains('\n'), "{error}");
        }
    }

    /// Which columns `load_dataset` finds by it is in tests/fixtures/repositories.
    #[test]
    fn old_descriptions_are_read_or_refused() {
        let columns = |infos: &str| {
            let repository = Repository { name: "d", files: &[], cards: [None, None, Some(infos)] };
            super::read(&repository).map(|card| card.columns).map_err(|error| error.to_string())
        };
        let body = r#"{"features": {"body": {"dtype": "string"}}, "splits": NaN}"#;
        let expected = serde_json::json!([{"name": "body"}]);
        assert_eq!(columns(&format!("{{\"a--b\": {body}}}")), Ok(vec![("default".into(), Some(expected.clone()))]));
        let both = columns(&format!("{{\"b\": {{}}, \"a\": {body}}}"));
        assert_eq!(both, Ok(vec![("b".into(), None), ("a".into(), Some(expected))]));
        assert_eq!(columns("{}"), Ok(vec![]));
        for (bad, part) in [
            ("", "its JSON cannot be read: EOF"),
            ("[]", "is no mapping of configurations"),
            (r#"{"a": 3}"#, "a is no mapping"),
            (r#"{"a": {"features": ["text"]}}"#, "the features of a are no mapping of columns"),
        ] {
            let error = columns(bad).unwrap_err();
            assert!(error.starts_with("d: dataset_infos.json: ") && error.contains(part), "{error}");
        }
    }
}
