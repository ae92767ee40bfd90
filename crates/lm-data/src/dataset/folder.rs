//! A data set that is a folder of this machine.

use std::fs;
use std::path::{Path, PathBuf};

use super::card::{CARD_FILES, Repository};
use super::error::DatasetError;
use super::splits::{SplitFiles, splits};

/// The splits of a folder, with the paths of their files from where the program runs.
///
/// # Errors
/// As [`splits`], and if the folder cannot be read.
pub fn folder_splits(folder: &Path, config: Option<&str>) -> Result<Vec<SplitFiles>, DatasetError> {
    let mut files = Vec::new();
    list(folder, "", &mut files)?;
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

/// All files below a folder, by their paths in it; links to folders are not followed, as in Python.
fn list(root: &Path, below: &str, files: &mut Vec<String>) -> Result<(), DatasetError> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).map_err(|source| fails(&folder, source))? {
        let entry = entry.map_err(|source| fails(&folder, source))?;
        // What is no UTF-8 has no pattern.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let kind = entry.file_type().map_err(|source| fails(&entry.path(), source))?;
        if kind.is_dir() {
            list(root, &path, files)?;
        } else if entry.path().is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn fails(path: &Path, source: std::io::Error) -> DatasetError {
    DatasetError::Io { path: PathBuf::from(path), source }
}
