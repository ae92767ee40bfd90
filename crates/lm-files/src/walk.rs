//! What lies below a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// All files below a folder, by their paths in it, with `/`. Links to folders are not followed, as in Python; names that are
/// no UTF-8 are left out.
///
/// # Errors
/// If a folder cannot be read: which, and why.
pub fn files_below(root: &Path) -> Result<Vec<String>, (PathBuf, io::Error)> {
    let (mut files, mut folders) = (Vec::new(), vec![String::new()]);
    while let Some(below) = folders.pop() {
        let folder = root.join(&below);
        for entry in fs::read_dir(&folder).map_err(|source| (folder.clone(), source))? {
            let entry = entry.map_err(|source| (folder.clone(), source))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            if entry.file_type().map_err(|source| (entry.path(), source))?.is_dir() {
                folders.push(path);
            } else if entry.path().is_file() {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_their_paths_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for file in ["x", "a/y", "a/b/.z"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../x", folder.path().join("a/link")).unwrap();
            std::os::unix::fs::symlink("a", folder.path().join("again")).unwrap();
            std::os::unix::fs::symlink("nowhere", folder.path().join("gone")).unwrap();
        }
        let mut files = files_below(folder.path()).unwrap();
        files.sort();
        let expected = if cfg!(unix) { &["a/b/.z", "a/link", "a/y", "x"][..] } else { &["a/b/.z", "a/y", "x"] };
        assert_eq!(files, expected);
        let (path, _) = files_below(&folder.path().join("none")).unwrap_err();
        assert_eq!(path, folder.path().join("none"));
    }
}
