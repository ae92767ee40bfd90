//! A data set that is a folder of this machine.

use std::path::{Path, PathBuf};

use super::card::{CARD_FILES, Repository};
use super::error::DatasetError;
use super::splits::{SplitFiles, splits};
use crate::source::files_below;

/// The splits of a folder, with the paths of their files from where the program runs.
///
/// # Errors
/// As [`splits`], and if the folder cannot be read.
pub fn folder_splits(folder: &Path, config: Option<&str>) -> Result<Vec<SplitFiles>, DatasetError> {
    let files = files_below(folder)?;
    let mut cards = [None, None];
    for (card, file) in cards.iter_mut().zip(CARD_FILES) {
        if files.iter().any(|found| found == file) {
            let path = folder.join(file);
            *card = Some(lm_files::read_to_string(&path, lm_files::SMALL).map_err(|source| fails(&path, source))?);
        }
    }
    let name = folder.display().to_string();
    let [readme, standalone] = &cards;
    let repository =
        Repository { name: &name, files: &files, readme: readme.as_deref(), standalone: standalone.as_deref() };
    let mut splits = splits(&repository, config)?;
    for file in splits.iter_mut().flat_map(|split| &mut split.files) {
        *file = folder.join(&*file).display().to_string();
    }
    Ok(splits)
}

fn fails(path: &Path, source: std::io::Error) -> DatasetError {
    DatasetError::Io { path: PathBuf::from(path), source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;
    use sha2::{Digest, Sha256};

    use std::fs;

    use super::*;
    use crate::dataset::{Corpus, SplitPart, files_of};
    use crate::{DataConfig, DataError};

    /// Rows and the hash over them, each after its length.
    fn read(files: &[String], parts: Vec<SplitPart>) -> Result<(u64, String), DataError> {
        let cache = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&DataConfig {
            train_files: files.to_vec(),
            train_parts: parts,
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

    /// A folder with configurations, and all repositories that Python's `load_dataset` was asked for, if they are there.
    #[test]
    fn folders_have_the_splits_of_datasets() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/.hidden")).unwrap();
        for file in ["a/train.txt", "a/valid.txt", "a/.hidden/train.txt"] {
            fs::write(folder.path().join(file), "one\ntwo\n").unwrap();
        }
        fs::write(folder.path().join("README.md"), "---\nconfigs:\n- config_name: x\n  data_dir: a\n---\n").unwrap();
        let found = folder_splits(folder.path(), None).unwrap();
        let names: Vec<_> = found.iter().map(|split| (split.name.as_str(), split.files.len())).collect();
        assert_eq!(names, [("train", 1), ("validation", 1)]);
        assert_eq!(read(&found[0].files, vec![]).unwrap().0, 2);

        let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/datasets");
        let more = std::env::var_os("LM_DATASET_DIRS").unwrap_or_default();
        let differences: Vec<_> =
            std::env::split_paths(&more).chain([reference]).flat_map(|folder| differences(&folder)).collect();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    /// How the data sets of a folder differ from its `expected.json`.
    fn differences(reference: &Path) -> Vec<String> {
        let Ok(text) = fs::read_to_string(reference.join("expected.json")) else { return Vec::new() };
        let expected: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&text).unwrap();
        let mut different = Vec::new();
        let mut check = |holds: bool, what: String| different.extend((!holds).then_some(what));
        for (name, configs) in expected {
            let slices = configs.get("slices").and_then(Value::as_object).into_iter().flatten();
            // Of the large configuration, if there are several.
            let config = configs.contains_key("large").then_some("large");
            for (wanted, facts) in slices {
                let found = folder_splits(&reference.join(&name), config).unwrap();
                let read = files_of(&name, wanted, &found).map(|(files, parts)| read(&files, parts));
                let read = read.map_err(|error| error.to_string()).and_then(|read| read.map_err(|e| e.to_string()));
                check(same(facts, &read), format!("{name} {wanted}: {read:?}, expected {facts}"));
            }
            for (config, facts) in configs.iter().filter(|(config, _)| *config != "slices") {
                let config = Some(config.as_str()).filter(|config| !config.is_empty());
                let found = match folder_splits(&reference.join(&name), config) {
                    Ok(found) => found,
                    Err(error) => {
                        check(facts.get("error").is_some(), format!("{name} {config:?}: {error}, expected {facts}"));
                        continue;
                    }
                };
                let facts = facts.as_object().unwrap();
                let names: Vec<_> = found.iter().map(|split| &split.name).collect();
                let failed = facts.contains_key("error");
                check(failed || names == facts.keys().collect::<Vec<_>>(), format!("{name} {config:?}: {names:?}"));
                for split in &found {
                    let facts = facts.get(&split.name).or_else(|| facts.get("error")).unwrap_or(&Value::Null);
                    let read = read(&split.files, vec![]).map_err(|error| error.to_string());
                    // A text that is missing has a hash of its own there.
                    let null = name == "null-texts" && read.as_ref().is_ok_and(|(rows, _)| *rows == facts["rows"]);
                    let what = format!("{name} {config:?} {}: {read:?}, expected {facts}", split.name);
                    check(null || same(facts, &read), what);
                }
            }
        }
        different
    }

    /// Whether these are the rows and the hash that were to be found, or an error one that was to be expected.
    fn same(facts: &Value, read: &Result<(u64, String), String>) -> bool {
        match read {
            Ok((rows, hash)) => facts["rows"] == *rows && facts["sha256"] == *hash,
            Err(_) => facts.get("error").is_some() || facts.is_string(),
        }
    }
}
