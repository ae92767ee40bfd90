//! Names, patterns, folders and archives to files.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compression::{self, data_extension};
use super::error::{SourceError, failed};
use super::format::Format;
use super::mark::Mark;
use super::place::{Place, ZIP, is_hidden, walk_order};
use super::remote::RemoteFiles;
use super::{FORMATS, kind};

/// A file that rows are read from.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    pub place: Place,
    pub format: &'static Format,
    /// Size of the file as it is, compressed or not.
    pub bytes: u64,
    /// Begins with a byte order mark.
    pub marked: bool,
    /// The rows that are read.
    pub piece: Piece,
}

/// Rows of a file that follow one another: all, unless it is said where they begin and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// The first row; 0 and 0 are the start of the file, header included.
    pub start: Mark,
    /// The row after the last; None is the end of the file.
    pub end: Option<Mark>,
}

impl SourceFile {
    /// Size of the piece that is read.
    pub fn piece_bytes(&self) -> u64 {
        self.piece.end.map_or(self.bytes, |end| end.byte.min(self.bytes)).saturating_sub(self.piece.start.byte)
    }
}

/// Files that describe a data set, and hold no text.
pub(crate) const DESCRIPTIONS: &[&str] =
    &["README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip", "dataset_dict.json"];

/// Files that describe the others, such as pictures: data only where there is nothing else.
pub(crate) const METADATA: &[&str] =
    &["metadata.csv", "metadata.jsonl", "metadata.parquet", "latest_version_hint.json"];

/// The files that names, patterns and folders stand for, each looked at.
///
/// # Errors
/// If there is none, or one that is no text.
pub fn find_files(names: &[String]) -> Result<Vec<PathBuf>, SourceError> {
    let found = find(names, &RemoteFiles::default())?;
    let mut paths: Vec<PathBuf> = found.into_iter().map(|file| file.place.file_name().into()).collect();
    paths.dedup();
    Ok(paths)
}

/// Each looked at; of those that lie on other machines and whose names end alike, the first.
pub(super) fn find(names: &[String], remote: &RemoteFiles) -> Result<Vec<SourceFile>, SourceError> {
    let mut files: Vec<SourceFile> = Vec::new();
    let mut known: BTreeMap<String, &'static Format> = BTreeMap::new();
    for name in names {
        if let Some(file) = remote.get(name) {
            let (place, ending) = (Place::elsewhere(name, file), data_extension(Path::new(name)));
            match known.get(&ending) {
                Some(format) if file.bytes() == 0 => drop(empty(place.path, Some(format))?),
                Some(format) => {
                    let (bytes, piece) = (file.bytes(), Piece::default());
                    files.push(SourceFile { place, format, bytes, marked: false, piece });
                }
                None => {
                    let found = look_into(place)?;
                    known.extend(found.first().filter(|_| ending != "zip").map(|file| (ending, file.format)));
                    files.extend(found);
                }
            }
            continue;
        }
        if Path::new(name).exists() {
            files.extend(look_at(Path::new(name))?);
            continue;
        }
        for part in name.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if Path::new(part).exists() {
                files.extend(look_at(Path::new(part))?);
            } else if part.contains(['*', '?', '[']) {
                for path in expand(part)? {
                    files.extend(look_at(&path)?);
                }
            } else {
                return Err(SourceError::Missing(PathBuf::from(part)));
            }
        }
    }
    match names.first() {
        Some(name) if files.is_empty() => Err(SourceError::Empty(name.into())),
        _ => Ok(files),
    }
}

/// A file, the text files of an archive, or those of a folder and the folders in it.
fn look_at(path: &Path) -> Result<Vec<SourceFile>, SourceError> {
    let metadata = path.metadata().map_err(|source| failed(path, source))?;
    if metadata.is_dir() {
        return folder(path);
    }
    if !metadata.is_file() {
        return Err(SourceError::NotAFile(path.into()));
    }
    look_into(Place::file(path.into()))
}

/// A file, or the text files of an archive.
fn look_into(place: Place) -> Result<Vec<SourceFile>, SourceError> {
    let path = &place.path;
    let mut start = Vec::new();
    place
        .open(0)
        .and_then(|file| file.take(ZIP.len() as u64).read_to_end(&mut start))
        .map_err(|source| failed(path, source))?;
    if start != ZIP {
        return Ok(inspect(place)?.into_iter().collect());
    }
    let members = place.members(|name| format_of(name).is_some())?;
    let members = members.into_iter().filter_map(|member| inspect(member).transpose());
    let members = members.collect::<Result<Vec<_>, _>>()?;
    of_one_format(path, members, "a zip archive (or an office document)")
}

/// The text files of a folder, those that are hidden or describe a data set left out. Splits of a data set are not mixed.
fn folder(path: &Path) -> Result<Vec<SourceFile>, SourceError> {
    let parted = |name: &str| {
        let (folder, base) = name.rsplit_once('/').unwrap_or(("", name));
        (folder.to_owned(), base.to_owned())
    };
    let mut names = files_below(path)?;
    names.retain(|name| !is_hidden(name));
    names.sort_by(|a, b| walk_order(a, b));
    let mut listed = BTreeMap::new();
    for (below, base) in names.iter().map(|name| parted(name)) {
        let folder = if below.is_empty() { path.to_owned() } else { path.join(&below) };
        if base == SPLITS && saved_splits(&folder)?.is_some_and(|splits| splits.len() > 1) {
            let name = folder.display();
            let reason = format!(
                "holds the splits of a data set, which are not read as one: give it with --dataset_name {name}, or one of its folders"
            );
            return Err(SourceError::Unreadable { path: folder, reason });
        }
        if base == STATE
            && let Some(files) = saved_files(&folder)?
        {
            let whole = |file| if below.is_empty() { file } else { format!("{below}/{file}") };
            let files: Vec<String> = files.into_iter().map(whole).collect();
            listed.insert(below, files);
        }
    }
    let mut taken = Vec::new();
    for name in names {
        let (below, base) = parted(&name);
        match listed.get_mut(&below) {
            Some(files) => taken.append(files),
            None if DESCRIPTIONS.contains(&base.as_str()) => {}
            None => taken.push(name),
        }
    }
    let mut files = Vec::new();
    for name in taken {
        if format_of(Path::new(&name)).is_some() || data_extension(Path::new(&name)) == "zip" {
            files.extend(look_at(&path.join(&name))?);
        }
    }
    of_one_format(path, files, "a folder")
}

/// What `save_to_disk` of Python's `datasets` writes beside the files of a data set, and of one with splits.
const STATE: &str = "state.json";
const SPLITS: &str = "dataset_dict.json";

/// The files of a data set that was saved to a folder, in their order: what else lies there, such as what `map` left, is none
/// of its. None if none was.
pub(crate) fn saved_files(folder: &Path) -> Result<Option<Vec<String>>, SourceError> {
    let path = folder.join(STATE);
    let fails = |reason: &str| SourceError::Unreadable { path: path.clone(), reason: reason.into() };
    let Some(state) = saved(&path)? else { return Ok(None) };
    let Some(entries) = state.get("_data_files").and_then(Value::as_array) else { return Ok(None) };
    if state.get("_indices_data_files").and_then(Value::as_array).is_some_and(|files| !files.is_empty()) {
        return Err(fails(
            "its rows have an order of their own: save them anew, with save_to_disk of a newer datasets",
        ));
    }
    let name = |entry: &Value| Some(entry.get("filename")?.as_str()?.to_owned());
    let files: Option<Vec<String>> = entries.iter().map(name).collect();
    let files = files.ok_or_else(|| fails("does not name its files as save_to_disk does"))?;
    match files.iter().find(|file| !folder.join(file).is_file()) {
        Some(missing) => Err(SourceError::Missing(folder.join(missing))),
        None => Ok(Some(files)),
    }
}

/// The splits of a data set that was saved to a folder, each in a folder of its name. None if none was.
pub(crate) fn saved_splits(folder: &Path) -> Result<Option<Vec<String>>, SourceError> {
    let Some(splits) = saved(&folder.join(SPLITS))? else { return Ok(None) };
    let names = splits.get("splits").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Ok(names
        .iter()
        .map(|name| Some(name.as_str()?.to_owned()))
        .collect::<Option<Vec<_>>>()
        .filter(|all| !all.is_empty()))
}

/// None if there is no such file, or one that is no JSON or too large to be one of these.
fn saved(path: &Path) -> Result<Option<Value>, SourceError> {
    if !path.metadata().is_ok_and(|file| file.is_file() && file.len() <= lm_files::SMALL) {
        return Ok(None);
    }
    let text = lm_files::read(path, lm_files::SMALL).map_err(|source| failed(path, source))?;
    Ok(serde_json::from_slice(&text).ok())
}

/// All files below a folder, by their paths in it.
pub(crate) fn files_below(root: &Path) -> Result<Vec<String>, SourceError> {
    lm_files::files_below(root).map_err(|(path, source)| failed(&path, source))
}

/// The files of the commonest format, of two that are as common the first of the list; the others are left out, which is
/// said.
fn of_one_format(path: &Path, files: Vec<SourceFile>, what: &str) -> Result<Vec<SourceFile>, SourceError> {
    let describes = |file: &SourceFile| {
        let name = file.place.path.file_name().unwrap_or_default();
        METADATA.iter().any(|metadata| name == *metadata)
    };
    let count = |format: &Format, all: bool| {
        files.iter().filter(|file| file.format.name == format.name && (all || !describes(file))).count()
    };
    let Some(commonest) = FORMATS
        .iter()
        .rev()
        .max_by_key(|format| (count(format, false), count(format, true)))
        .filter(|format| count(format, true) > 0)
    else {
        let reason = format!("is {what} without a file of text in it; supported are {}", listed_extensions());
        return Err(SourceError::Unreadable { path: path.into(), reason });
    };
    let (kept, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.format.name == commonest.name);
    if let Some(first) = others.first() {
        tracing::info!(
            "{}: {} files are read as {}; {} of other kinds are left out, such as {}",
            path.display(),
            kept.len(),
            commonest.name.to_ascii_lowercase(),
            others.len(),
            first.place.path.display()
        );
    }
    Ok(kept)
}

/// By the name.
fn format_of(path: &Path) -> Option<&'static Format> {
    let extension = data_extension(path);
    FORMATS.iter().find(|format| format.extensions.contains(&extension.as_str()))
}

/// A file without a byte: none, where that is one without rows.
fn empty(path: PathBuf, format: Option<&'static Format>) -> Result<Option<SourceFile>, SourceError> {
    match format {
        Some(format) if format.may_be_empty => {
            tracing::info!("{}: the file is empty, and left out", path.display());
            Ok(None)
        }
        _ => Err(SourceError::Empty(path)),
    }
}

/// Looks at a file's name, size and first bytes.
fn inspect(place: Place) -> Result<Option<SourceFile>, SourceError> {
    let bytes = place.bytes().map_err(|source| failed(&place.path, source))?;
    let mut start = Vec::new();
    let beginning = compression::open(&place, 0)?.take(kind::START).read_to_end(&mut start);
    beginning.map_err(|source| failed(&place.path, source))?;
    let path = || place.path.clone();
    let named = format_of(&place.path);
    let format = match FORMATS.iter().find(|format| format.begins.is_some_and(|begins| begins(&start))) {
        Some(format) => {
            if named.is_none_or(|named| named.name != format.name) {
                tracing::info!("{}: is read as a file of {}, by its content", place.path.display(), format.name);
            }
            format
        }
        None => {
            if let Some(kind) = kind::of(&start) {
                return Err(SourceError::NotText { path: path(), what: kind.name, remedy: kind.remedy });
            }
            named.ok_or_else(|| SourceError::Extension { path: path(), known: listed_extensions() })?
        }
    };
    let bare = start.strip_prefix(kind::BYTE_ORDER_MARK);
    if bare.unwrap_or(&start).is_empty() {
        return empty(path(), Some(format));
    }
    let marked = bare.is_some();
    Ok(Some(SourceFile { place, format, bytes, marked, piece: Piece::default() }))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The names of the files that a folder with these stands for.
    fn found<T: AsRef<[u8]>>(files: &[(&str, T)]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        for (file, content) in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let root = folder.path().display().to_string();
        let found = find_files(std::slice::from_ref(&root)).map_err(|error| error.to_string().replace(&root, "d"))?;
        let below = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
        Ok(found.into_iter().map(below).collect())
    }

    #[test]
    fn metadata_decide_nothing() {
        let json = "{\"text\": \"a\"}\n";
        let names = |names: &[&str]| Ok(names.iter().map(|name| name.to_string()).collect());
        assert_eq!(found(&[("metadata.jsonl", json), ("s/metadata.jsonl", json), ("a.txt", "a")]), names(&["a.txt"]));
        assert_eq!(found(&[("metadata.jsonl", json)]), names(&["metadata.jsonl"]));
    }

    #[test]
    fn saved_data_sets_are_the_files_they_list() {
        let names = |names: &[&str]| Ok(names.iter().map(|name| name.to_string()).collect());
        let arrow = fs::read(crate::testing::fixture("columns/stream.arrow")).unwrap();
        let state =
            br#"{"_data_files": [{"filename": "d-1.arrow"}, {"filename": "d-0.arrow"}], "_split": null}"#.to_vec();
        let with = |below: &str, state: &[u8]| -> Vec<(String, Vec<u8>)> {
            let file = |name: &str, content: &[u8]| (format!("{below}{name}"), content.to_vec());
            let arrows = ["cache-0a.arrow", "d-0.arrow", "d-1.arrow", "tmp3x"].map(|name| file(name, &arrow));
            [&arrows[..], &[file("state.json", state), file("dataset_info.json", b"{}")]].concat()
        };
        let found = |sets: &[Vec<(String, Vec<u8>)>]| {
            let files = sets.concat();
            found(&files.iter().map(|(name, content)| (name.as_str(), content)).collect::<Vec<_>>())
        };
        assert_eq!(found(&[with("", &state)]), names(&["d-1.arrow", "d-0.arrow"]));
        let two = [with("b/", &state), with("a/", &state)];
        assert_eq!(found(&two), names(&["a/d-1.arrow", "a/d-0.arrow", "b/d-1.arrow", "b/d-0.arrow"]));
        for other in ["no json", "{}", "[]"] {
            let all = names(&["cache-0a.arrow", "d-0.arrow", "d-1.arrow"]);
            assert_eq!(found(&[with("", other.as_bytes())]), all, "{other}");
        }
        for (state, error) in [
            (r#"{"_data_files": [{"filename": "gone.arrow"}]}"#, "d/gone.arrow: no such file"),
            (r#"{"_data_files": ["d-0.arrow"]}"#, "d/state.json: does not name its files as save_to_disk does"),
            (
                r#"{"_data_files": [], "_indices_data_files": [{"filename": "i.arrow"}]}"#,
                "d/state.json: its rows have an order of their own: save them anew, with save_to_disk of a newer datasets",
            ),
        ] {
            assert_eq!(found(&[with("", state.as_bytes())]), Err(error.into()));
        }
        let splits = |splits: &str| vec![("dataset_dict.json".to_string(), splits.as_bytes().to_vec())];
        let parts = [with("train/", &state), with("test/", &state), splits(r#"{"splits": ["train", "test"]}"#)];
        let error = found(&parts).unwrap_err();
        assert!(
            error.starts_with("d: holds the splits of a data set") && error.contains("--dataset_name d,"),
            "{error}"
        );
        let one = [with("train/", &state), splits(r#"{"splits": ["train"]}"#)];
        assert_eq!(found(&one), names(&["train/d-1.arrow", "train/d-0.arrow"]));
    }
}
