//! A data set that is a folder of this machine.

use std::path::{Path, PathBuf};

use super::card::{self, CARD_FILES, Repository};
use super::error::DatasetError;
use super::reading::Reading;
use super::splits::{Found, SplitFiles, splits_at};
use crate::source::{files_below, saved_files, saved_splits};

/// The splits of a folder, with the paths of their files from where the program runs.
///
/// # Errors
/// As [`splits`](super::splits()), and if the folder cannot be read.
pub fn folder_splits(folder: &Path, config: Option<&str>) -> Result<Found, DatasetError> {
    let files = files_below(folder)?;
    let mut cards = [const { None }; CARD_FILES.len()];
    for (card, file) in cards.iter_mut().zip(CARD_FILES) {
        if files.iter().any(|found| found == file) {
            let path = folder.join(file);
            *card = Some(lm_files::read_to_string(&path, lm_files::SMALL).map_err(|source| fails(&path, source))?);
        }
    }
    let name = folder.display().to_string();
    let repository = Repository { name: &name, files: &files, cards: cards.each_ref().map(Option::as_deref) };
    // A card that lists configurations was written for what lies there now.
    let card = card::read(&repository)?;
    let saved = if card.configs.is_empty() { saved(folder)? } else { None };
    if let Some(splits) = saved {
        let known = "default".to_owned();
        return match config.filter(|config| *config != known) {
            Some(config) => Err(DatasetError::Configuration { name, config: config.into(), known }),
            None => Ok(Found { splits, reading: Reading::default() }),
        };
    }
    let root = folder.canonicalize().ok().map(|root| root.display().to_string());
    let mut found = splits_at(root.as_deref(), &repository, card, config)?;
    for file in found.splits.iter_mut().flat_map(|split| &mut split.files) {
        *file = folder.join(&*file).display().to_string();
    }
    Ok(found)
}

/// The splits of a data set that `save_to_disk` of `datasets` wrote: their folders say which files are theirs. One without
/// splits is `train`.
fn saved(folder: &Path) -> Result<Option<Vec<SplitFiles>>, DatasetError> {
    let split = |name: &str, folder: &Path| -> Result<Option<SplitFiles>, DatasetError> {
        let Some(files) = saved_files(folder)? else { return Ok(None) };
        let files = files.into_iter().map(|file| folder.join(file).display().to_string()).collect();
        Ok(Some(SplitFiles { name: name.into(), files }))
    };
    match saved_splits(folder)? {
        Some(names) => names.iter().map(|name| split(name, &folder.join(name))).collect(),
        None => Ok(split("train", folder)?.map(|split| vec![split])),
    }
}

fn fails(path: &Path, source: std::io::Error) -> DatasetError {
    DatasetError::Io { path: PathBuf::from(path), source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};

    use std::fs;

    use super::*;
    use crate::dataset::{Corpus, SplitPart, files_of};
    use crate::testing::fixture;
    use crate::{DataConfig, DataError};

    /// Rows and the hash over them, each after its length.
    fn read(files: &[String], parts: Vec<SplitPart>, reading: &Reading) -> Result<(u64, String), DataError> {
        let cache = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&DataConfig {
            train_files: files.to_vec(),
            train_parts: parts,
            rows: reading.rows.clone(),
            text_column: reading.column.clone(),
            validation_split_percentage: 0,
            cache_dir: cache.path().into(),
            ..DataConfig::default()
        })?;
        let (mut rows, mut hash) = (0, Sha256::new());
        for text in corpus.train_rows()? {
            let text = text?;
            rows += 1;
            hash.update((text.len() as i64).to_le_bytes());
            hash.update(text);
        }
        Ok((rows, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// A folder with configurations, and all repositories that Python's `load_dataset` was asked for, there and in the folders
    /// of `LM_DATASET_DIRS`.
    #[test]
    fn folders_have_the_splits_of_datasets() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/.hidden")).unwrap();
        for file in ["a/train.txt", "a/valid.txt", "a/.hidden/train.txt"] {
            fs::write(folder.path().join(file), "one\ntwo\n").unwrap();
        }
        fs::write(folder.path().join("README.md"), "---\nconfigs:\n- config_name: x\n  data_dir: a\n---\n").unwrap();
        let found = folder_splits(folder.path(), None).unwrap();
        let names: Vec<_> = found.splits.iter().map(|split| (split.name.as_str(), split.files.len())).collect();
        assert_eq!(names, [("train", 1), ("validation", 1)]);
        assert_eq!(read(&found.splits[0].files, vec![], &found.reading).unwrap().0, 2);

        let more = std::env::var_os("LM_DATASET_DIRS").unwrap_or_default();
        let more = std::env::split_paths(&more).filter(|folder| folder.is_dir());
        let folders = more.chain([fixture("repositories")]);
        let differences: Vec<_> = folders.flat_map(|folder| differences(&folder)).collect();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    /// `load_from_disk` knows the files by state.json: what `map` left beside them is not read.
    #[test]
    fn saved_folders_are_what_they_say() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, content: &[u8]| {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let arrow = fs::read(fixture("columns/stream.arrow")).unwrap();
        for below in ["one", "all/train", "all/foo", "all/test"] {
            for file in ["data-00000-of-00001.arrow", "cache-05d0da7628244b17.arrow", "tmpab12"] {
                write(&format!("{below}/{file}"), &arrow);
            }
            write(&format!("{below}/state.json"), br#"{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}"#);
        }
        write("all/dataset_dict.json", br#"{"splits": ["train", "test", "foo"]}"#);
        let found = |name: &str, config: Option<&str>| folder_splits(&folder.path().join(name), config);
        let path = |file: &str| folder.path().join(file).join("data-00000-of-00001.arrow").display().to_string();
        let split = |name: &str, file: &str| SplitFiles { name: name.into(), files: vec![path(file)] };
        let all = [split("train", "all/train"), split("test", "all/test"), split("foo", "all/foo")];
        assert_eq!(found("all", None).unwrap().splits, all);
        assert_eq!(found("one", Some("default")).unwrap().splits, [split("train", "one")]);
        let error = found("one", Some("en")).unwrap_err().to_string();
        assert!(error.contains("has no configuration `en`"), "{error}");
        write("one/README.md", b"---\nconfigs:\n- config_name: en\n  data_files: cache-*\n---\n");
        assert!(found("one", Some("en")).unwrap().splits[0].files[0].contains("cache-"));
        fs::remove_file(folder.path().join("all/foo/state.json")).unwrap();
        assert_eq!(found("all", None).unwrap().splits.len(), 2, "what only looks like it is a folder like others");
    }

    /// Data sets whose README.md says how their files are read, with what `load_dataset` of datasets 5.0.1 made of them.
    #[test]
    fn files_are_read_as_the_card_says() {
        let text = fs::read_to_string(fixture("readings.json")).unwrap();
        let sets: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut expected = BTreeMap::new();
        for (name, set) in sets {
            for (file, content) in set["files"].as_object().unwrap() {
                let path = folder.path().join(&name).join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content.as_str().unwrap()).unwrap();
            }
            expected.insert(name, BTreeMap::from([("", set["splits"].clone())]));
        }
        assert!(expected.len() > 20);
        fs::write(folder.path().join("expected.json"), serde_json::to_string(&expected).unwrap()).unwrap();
        assert_eq!(differences(folder.path()), [""; 0]);
    }

    /// What would change the rows in another way than is known is refused by its name, and what is no option is said.
    #[test]
    fn what_a_card_says_is_not_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let found = |file: &str, content: &str, options: &str| {
            let set = folder.path().join("d");
            let _ = fs::remove_dir_all(&set);
            fs::create_dir(&set).unwrap();
            fs::write(set.join(file), content).unwrap();
            let card = format!("---\nconfigs:\n- config_name: c\n  {options}\n---\n");
            fs::write(set.join("README.md"), card).unwrap();
            let found = folder_splits(&set, None).map_err(|error| error.to_string());
            let found = found.and_then(|found| {
                let read = read(&found.splits[0].files, vec![], &found.reading);
                read.map(|(rows, _)| (rows, found.reading.column)).map_err(|error| error.to_string())
            });
            found.map_err(|error| error.replace(&format!("{}/", folder.path().display()), ""))
        };
        for (file, option, reason) in [
            ("a.csv", "skiprows: 1", "this is not known here"),
            ("a.csv", "on_bad_lines: skip", "this is not known here"),
            ("a.csv", "sep: \\s+", "one ASCII character"),
            ("a.csv", "header: 2", "infer, 0 and null"),
            ("a.csv", "quoting: 4", "0 to 3"),
            ("a.csv", "encoding: latin-1", "text is read as UTF-8"),
            ("a.txt", "encoding_errors: ignore", "this is not known here"),
            ("a.txt", "sample_by: page", "line, paragraph and document"),
            ("a.json", "newlines_in_values: true", "this is not known here"),
            ("a.parquet", "filters: [[id, ==, 0]]", "this is not known here"),
            ("a.parquet", "columns: [body, title]", "one column, or one called text"),
            ("a.zip", "skiprows: 1", "this is not known here"),
        ] {
            let error = found(file, "text\na\n", option).unwrap_err();
            let key = option.split(':').next().unwrap();
            assert!(error.starts_with(&format!("d: its configuration c has its files read with `{key}: ")), "{error}");
            assert!(error.contains(reason), "{option}: {error}");
        }
        assert_eq!(found("a.txt", "a\nb\n", "sep: x").unwrap(), (2, None), "no option of text");
        assert_eq!(found("a.csv", "id,body\n1,a\n", "usecols: [body]").unwrap(), (1, Some("body".into())));
        let rows = |content: &str| found("a.json", content, "field: data").map(|(rows, _)| rows);
        assert_eq!(rows("{\"a\": {\"data\": [1]}, \"b\": -1.5e3, \"c\": null, \"data\": [\"x\", \"y\"]}"), Ok(2));
        for (content, reason) in [
            ("[{\"text\": \"a\"}]", "1: no object, of whose key `data` the rows are read"),
            ("{\"rows\": [],\n\"more\": 1}", "2: the object has no key `data`, of which the rows are read"),
            ("{\"data\": {\"text\": [\"a\"]}}", "1: the value of `data` is no array of rows"),
            ("{\"data\": [\"a\"],\n\"data\": [\"b\"]}", "2: the object has the key `data` twice"),
            ("{\"data\": [\"a\"]} x", "1: there is more after the end of the object"),
            ("{\"data\": [\"a\"]", "1: expected a comma or } after a value of the object"),
            ("{\"data\" [\"a\"]}", "1: expected a colon after a key of the object"),
            ("{data: [\"a\"]}", "1: expected a key of the object"),
            ("{\"a\": [1, \"data\": [\"a\"]", "1: the file ends inside the value that begins here"),
        ] {
            assert_eq!(rows(content), Err(format!("d/a.json:{reason}")), "{content}");
        }
    }

    /// How the data sets of a folder differ from its `expected.json`.
    fn differences(reference: &Path) -> Vec<String> {
        let text = fs::read_to_string(reference.join("expected.json")).unwrap();
        let expected: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&text).unwrap();
        let mut different = Vec::new();
        let mut compare = |what: String, facts: &Value, found: Result<Value, String>| {
            let says = |error: &String| {
                let words = facts["says"].as_array().into_iter().flatten();
                words.filter_map(Value::as_str).all(|word| error.contains(word))
            };
            let holds = match (&found, facts.get("error")) {
                // The names of splits in their order.
                (Ok(found), None) => {
                    found == facts && found.as_object().unwrap().keys().eq(facts.as_object().unwrap().keys())
                }
                (Err(error), Some(_)) => says(error),
                _ => false,
            };
            different.extend((!holds).then(|| format!("{what}: {found:?}, expected {facts}")));
        };
        for (name, mut configs) in expected {
            let folder = reference.join(&name);
            let facts = |(rows, sha256): (u64, String)| json!({"rows": rows, "sha256": sha256});
            let slices = configs.remove("slices").unwrap_or_default();
            // Of the large configuration, if there are several.
            let config = configs.contains_key("large").then_some("large");
            for (wanted, expected) in slices.as_object().into_iter().flatten() {
                let found = folder_splits(&folder, config).unwrap();
                let read = files_of(&name, wanted, &found.splits)
                    .map_err(|error| error.to_string())
                    .and_then(|(files, parts)| read(&files, parts, &found.reading).map_err(|error| error.to_string()));
                compare(format!("{name} {wanted}"), expected, read.map(facts));
            }
            for (config, expected) in &configs {
                let wanted = Some(config.as_str()).filter(|config| !config.is_empty());
                let found = folder_splits(&folder, wanted).map_err(|error| error.to_string()).and_then(|found| {
                    let read = |split: &SplitFiles| {
                        let read = read(&split.files, vec![], &found.reading).map_err(|error| error.to_string());
                        Ok((split.name.clone(), facts(read?)))
                    };
                    found.splits.iter().map(read).collect::<Result<Value, String>>()
                });
                compare(format!("{name} {config}"), expected, found);
            }
        }
        different
    }
}
