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
        let Ok(text) = fs::read_to_string(reference.join("expected.json")) else { return };
        let expected: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&text).unwrap();
        for (name, configs) in expected {
            let slices = configs.get("slices").and_then(Value::as_object).into_iter().flatten();
            // Of the large configuration, if there are several.
            let config = configs.contains_key("large").then_some("large");
            for (wanted, facts) in slices {
                let found = folder_splits(&reference.join(&name), config).unwrap();
                let read = files_of(&name, wanted, &found).map(|(files, parts)| read(&files, parts).unwrap());
                match facts.get("error") {
                    Some(_) => assert!(read.is_err(), "{name} {wanted}"),
                    None => {
                        let (rows, hash) = read.unwrap_or_else(|error| panic!("{name} {wanted}: {error}"));
                        assert_eq!((&facts["rows"], &facts["sha256"]), (&rows.into(), &hash.into()), "{name} {wanted}");
                    }
                }
            }
            for (config, facts) in configs.iter().filter(|(config, _)| *config != "slices") {
                let found =
                    folder_splits(&reference.join(&name), Some(config.as_str()).filter(|config| !config.is_empty()));
                if facts.get("error").is_some() {
                    assert!(found.is_err(), "{name} {config}");
                    continue;
                }
                let found = found.unwrap_or_else(|error| panic!("{name} {config}: {error}"));
                let names: Vec<_> = found.iter().map(|split| &split.name).collect();
                let facts = facts.as_object().unwrap();
                assert_eq!(names, facts.keys().collect::<Vec<_>>(), "{name} {config}");
                for split in &found {
                    let facts = &facts[&split.name];
                    let (rows, hash) = read(&split.files, vec![]).unwrap();
                    assert_eq!(rows, facts["rows"], "{name} {config} {}", split.name);
                    // A text that is missing has a hash of its own in Python.
                    assert!(facts["sha256"] == hash || name == "null-texts", "{name} {config} {}", split.name);
                }
            }
        }
    }
}
