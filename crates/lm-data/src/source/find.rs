//! Names and patterns to files.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{SourceError, failed};
use super::format::{Format, open};
use super::{FORMATS, kind};

/// A file that rows are read from.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    pub path: PathBuf,
    pub format: &'static Format,
    pub bytes: u64,
    /// Begins with a byte order mark.
    pub marked: bool,
}

/// The files that names and patterns stand for, each looked at.
///
/// # Errors
/// If there is none, or one that is no text.
pub fn find_files(names: &[String]) -> Result<Vec<PathBuf>, SourceError> {
    Ok(find(names)?.into_iter().map(|file| file.path).collect())
}

/// Each looked at.
pub(super) fn find(names: &[String]) -> Result<Vec<SourceFile>, SourceError> {
    let mut files = Vec::new();
    for name in names {
        if Path::new(name).exists() {
            files.push(inspect(PathBuf::from(name))?);
            continue;
        }
        for part in name.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if Path::new(part).exists() {
                files.push(inspect(PathBuf::from(part))?);
            } else if part.contains(['*', '?', '[']) {
                for path in expand(part)? {
                    files.push(inspect(path)?);
                }
            } else {
                return Err(SourceError::Missing(PathBuf::from(part)));
            }
        }
    }
    Ok(files)
}

/// Looks at a file's name, size and first bytes.
fn inspect(path: PathBuf) -> Result<SourceFile, SourceError> {
    let metadata = path.metadata().map_err(|source| failed(&path, source))?;
    if !metadata.is_file() {
        return Err(SourceError::NotAFile(path));
    }
    let mut start = Vec::new();
    open(&path)?.take(kind::START).read_to_end(&mut start).map_err(|source| failed(&path, source))?;
    if let Some(kind) = kind::of(&start) {
        return Err(SourceError::NotText { path, what: kind.name, remedy: kind.remedy });
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    let Some(format) = FORMATS.iter().find(|format| format.extensions.contains(&extension.as_str())) else {
        return Err(SourceError::Extension { path, known: listed_extensions() });
    };
    let bare = start.strip_prefix(kind::BYTE_ORDER_MARK);
    if bare.unwrap_or(&start).is_empty() {
        return Err(SourceError::Empty(path));
    }
    let marked = bare.is_some();
    Ok(SourceFile { path, format, bytes: metadata.len(), marked })
}

fn expand(pattern: &str) -> Result<Vec<PathBuf>, SourceError> {
    let invalid = |reason: String| SourceError::Pattern { pattern: pattern.into(), reason };
    let mut paths = Vec::new();
    for path in glob::glob(pattern).map_err(|error| invalid(error.msg.into()))? {
        let path = path.map_err(|error| SourceError::Io { path: error.path().into(), source: error.into() })?;
        if path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() { Err(SourceError::NoMatch(pattern.into())) } else { Ok(paths) }
}

/// How the names of text files may end, in small letters.
pub fn extensions() -> impl Iterator<Item = &'static str> {
    FORMATS.iter().flat_map(|format| format.extensions).copied()
}

/// `.a, .b and .c`
fn listed_extensions() -> String {
    let names: Vec<String> = extensions().map(|name| format!(".{name}")).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}
