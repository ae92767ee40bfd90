//! Text files to rows, one format per module, read in constant memory from any position.
//!
//! Rows are what the Python scripts get from `datasets`: the lines of a text file, the records of a csv file, the
//! objects of a json file. Column `text` is taken, else the first; `text_column` names another. It is chosen once, for
//! all files of both splits.

mod column;
mod csv;
mod json;
mod kind;
#[cfg(test)]
mod tests;
mod txt;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::digest;
use crate::memo::Identity;
use column::Column;

/// The most bytes of a row. Python has no such limit, and takes ten times the memory; whatever is longer is no row but a
/// file without line ends, or a quote that was never closed.
pub const LONGEST_ROW: usize = 64 << 20;

/// What can be wrong with input files; every message names the file, and the line where there is one.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No file has that name.
    #[error("{0}: no such file")]
    Missing(PathBuf),
    /// A pattern that no file matches.
    #[error("{0}: no file matches this pattern")]
    NoMatch(String),
    /// A pattern that cannot be understood.
    #[error("{pattern}: not a valid file pattern: {reason}")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder, pipe or device where a file is expected.
    #[error("{0}: not a regular file; name a file, or a pattern such as {0}/*.txt")]
    NotAFile(PathBuf),
    /// A file of no bytes.
    #[error("{0}: the file is empty")]
    Empty(PathBuf),
    /// A name that tells no known format.
    #[error("{0}: unknown kind of file; supported are .txt, .csv, .json and .jsonl")]
    Extension(PathBuf),
    /// Something else than text, by its first bytes.
    #[error("{path}: is {what}, not text in UTF-8; {remedy}")]
    NotText {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What makes text of it.
        remedy: &'static str,
    },
    /// The operating system refuses to read.
    #[error("{path}: cannot read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Bytes that are no text.
    #[error("{path}:{line}: not valid UTF-8 (byte {column} of the line); convert the file to UTF-8")]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Position of the offending byte in its line or record, from 1.
        column: usize,
    },
    /// The wanted column does not exist.
    #[error("{path}:{line}: no column `{column}`; the columns are: {columns}")]
    Column {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// The wanted column.
        column: String,
        /// The columns there are.
        columns: String,
    },
    /// Without a name given the first column is the text, and holds none.
    #[error(
        "{path}: no column is called `text`, and the first, `{column}`, holds {kind}; the columns are: {columns}; {advice}"
    )]
    FirstColumn {
        /// The file.
        path: PathBuf,
        /// The first column.
        column: String,
        /// What it holds.
        kind: &'static str,
        /// The columns there are.
        columns: String,
        /// What to do.
        advice: String,
    },
    /// Files of one run with different columns.
    #[error(
        "{path}: has {problem} (its columns are: {columns}), but in {first} the text is column `{column}`; give files with the same columns, or name one that all have with --text_column"
    )]
    Disagree {
        /// The file.
        path: PathBuf,
        /// How it differs.
        problem: String,
        /// Its columns.
        columns: String,
        /// The file that the column was chosen by.
        first: PathBuf,
        /// The column.
        column: String,
    },
    /// A row longer than [`LONGEST_ROW`].
    #[error("{path}:{line}: {what} that begins here is longer than {} MiB; {hint}", LONGEST_ROW >> 20)]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What a row of this format is.
        what: &'static str,
        /// What to look at.
        hint: &'static str,
    },
    /// A row that does not follow its format.
    #[error("{path}:{line}: {reason}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Txt,
    Csv,
    Json,
}

#[derive(Clone, Debug)]
struct SourceFile {
    path: PathBuf,
    format: Format,
    bytes: u64,
    /// Begins with a byte order mark.
    marked: bool,
}

/// The place of a row: the next one to read starts here. Line counts from 1 and serves messages only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowPosition {
    /// Index of the file in the list.
    pub file: usize,
    /// Byte at which the row starts; 0 is the start of the file, header included.
    pub byte: u64,
    /// Line at which the row starts.
    pub line: u64,
}

/// The files of one split, in order. Rows run on from one file to the next.
#[derive(Clone, Debug)]
pub struct TextFiles {
    files: Arc<[SourceFile]>,
    column: Arc<Column>,
    keep_linebreaks: bool,
}

impl TextFiles {
    /// Resolves the names and patterns of the splits of a run to files, looks at each, and chooses the column that is
    /// read. A name that exists is that file, else `*`, `?` and `[…]` match in sorted order, and commas separate several.
    /// `keep_linebreaks` keeps the `\n` of lines of text files.
    pub fn resolve<const SPLITS: usize>(
        splits: [&[String]; SPLITS],
        text_column: Option<&str>,
        keep_linebreaks: bool,
    ) -> Result<[Self; SPLITS], SourceError> {
        let mut resolved = Vec::new();
        for names in splits {
            resolved.push(Self { files: find(names)?.into(), column: Arc::default(), keep_linebreaks });
        }
        for file in resolved.iter().flat_map(|split| split.files.iter()) {
            if file.marked && file.format == Format::Txt {
                tracing::info!("{}: begins with a byte order mark, which is left out", file.path.display());
            }
        }
        let column = Arc::new(column::choose(&resolved, text_column)?);
        Ok(std::array::from_fn(|split| Self { column: Arc::clone(&column), ..resolved[split].clone() }))
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files' names, for messages.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.files.iter().map(|file| file.path.display().to_string()).collect();
        column::listed(&names)
    }

    /// The file and the line of a position, for messages.
    pub fn place(&self, position: RowPosition) -> String {
        let file = self.files.get(position.file).map_or_else(String::new, |file| file.path.display().to_string());
        format!("{file}:{}", position.line.max(1))
    }

    /// Size of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Bytes of all files before a position.
    pub fn offset(&self, position: RowPosition) -> u64 {
        self.files.iter().take(position.file).map(|file| file.bytes).sum::<u64>() + position.byte
    }

    /// Number of rows of all files, and where the one of them starts that `choose` finds by that number (the end, if there
    /// are not so many). Reads all files once.
    pub fn count_rows(&self, choose: impl Fn(u64) -> u64) -> Result<(u64, RowPosition), SourceError> {
        // Every so many rows a place is kept, and when these are many every second one is forgotten.
        const PLACES: usize = 1 << 12;
        let (mut rows, mut text, mut count, mut every) = (self.rows(), String::new(), 0, 1);
        let mut places = Vec::new();
        loop {
            if count % every == 0 {
                places.push(rows.next_position());
            }
            if places.len() == PLACES {
                places = places.into_iter().step_by(2).collect();
                every *= 2;
            }
            if !rows.read(&mut text)? {
                break;
            }
            count += 1;
        }
        let wanted = choose(count).min(count);
        let before = ((wanted / every) as usize).min(places.len().saturating_sub(1));
        let mut rows = self.rows_from(places.get(before).copied().unwrap_or_default());
        for _ in before as u64 * every..wanted {
            rows.read(&mut text)?;
        }
        Ok((count, rows.next_position()))
    }

    /// All rows, from the first.
    pub fn rows(&self) -> Rows {
        self.rows_from(RowPosition::default())
    }

    /// All rows from a position that [`Rows::next_position`] gave.
    pub fn rows_from(&self, position: RowPosition) -> Rows {
        Rows { files: self.clone(), reader: None, position }
    }

    /// SHA-256 over the contents of all files, their kinds and how rows are read from them.
    pub fn digest(&self) -> Result<[u8; 32], SourceError> {
        let mut digest = Sha256::new();
        digest.update(self.reading());
        for file in self.files.iter() {
            digest.update(format!("{:?} {}", file.format, file.bytes));
            digest.update(digest::of_reader(open(&file.path)?).map_err(|source| failed(&file.path, source))?);
        }
        Ok(digest.finalize().into())
    }

    /// As [`Self::digest`], at a cost that does not grow with the files: of each its size and how it begins and ends.
    pub fn quick_digest(&self) -> Result<[u8; 32], SourceError> {
        const PART: u64 = 1 << 16;
        let mut digest = Sha256::new();
        digest.update(self.reading());
        for file in self.files.iter() {
            digest.update(format!("{:?} {}", file.format, file.bytes));
            let mut reader = open(&file.path)?;
            let mut part = |start: u64| {
                let mut bytes = Vec::new();
                reader.seek(SeekFrom::Start(start))?;
                reader.by_ref().take(PART).read_to_end(&mut bytes)?;
                digest.update(&bytes);
                Ok(())
            };
            part(0)
                .and_then(|()| part(file.bytes.saturating_sub(PART)))
                .map_err(|source| failed(&file.path, source))?;
        }
        Ok(digest.finalize().into())
    }

    /// What tells these files and this way to read them from any others without reading them.
    pub(crate) fn identity(&self, purpose: &str) -> Result<Identity, SourceError> {
        let mut identity = Identity::new(&format!("{purpose} {}", self.reading()));
        for file in self.files.iter() {
            identity.add(&file.path).map_err(|source| failed(&file.path, source))?;
        }
        Ok(identity)
    }

    /// What decides which rows these files have, besides their bytes.
    fn reading(&self) -> String {
        format!("{} {}", self.column.name, self.keep_linebreaks)
    }
}

/// Rows of a list of files, in order.
pub struct Rows {
    files: TextFiles,
    reader: Option<Box<dyn RowReader>>,
    position: RowPosition,
}

impl Rows {
    /// Where the next row starts: after the last row returned.
    pub fn next_position(&self) -> RowPosition {
        self.position
    }

    /// Replaces `text` by the next row; false at the end of the last file.
    pub fn read(&mut self, text: &mut String) -> Result<bool, SourceError> {
        text.clear();
        loop {
            let Some(file) = self.files.files.get(self.position.file) else { return Ok(false) };
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => none.insert(file.reader(&self.files, self.position)?),
            };
            if reader.read(text)? {
                (self.position.byte, self.position.line) = reader.position();
                return Ok(true);
            }
            self.reader = None;
            self.position = RowPosition { file: self.position.file + 1, byte: 0, line: 1 };
        }
    }
}

impl Iterator for Rows {
    type Item = Result<String, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = String::new();
        match self.read(&mut text) {
            Ok(true) => Some(Ok(text)),
            Ok(false) => None,
            Err(error) => {
                self.position.file = self.files.files.len();
                Some(Err(error))
            }
        }
    }
}

/// One open file.
trait RowReader: Send {
    /// Appends the next row to `text`; false at the end.
    fn read(&mut self, text: &mut String) -> Result<bool, SourceError>;
    /// Byte and line of the next row.
    fn position(&self) -> (u64, u64);
}

impl SourceFile {
    fn reader(&self, files: &TextFiles, at: RowPosition) -> Result<Box<dyn RowReader>, SourceError> {
        let (byte, line) = (at.byte, at.line.max(1));
        Ok(match self.format {
            Format::Txt => Box::new(txt::Reader::open(&self.path, files.keep_linebreaks, byte, line)?),
            Format::Csv => Box::new(csv::Reader::open(&self.path, &files.column.name, byte, line)?),
            Format::Json => Box::new(json::Reader::open(&self.path, &files.column, byte, line)?),
        })
    }
}

/// The files that names and patterns stand for, each looked at.
///
/// # Errors
/// If there is none, or one that is no text.
pub fn find_files(names: &[String]) -> Result<Vec<PathBuf>, SourceError> {
    Ok(find(names)?.into_iter().map(|file| file.path).collect())
}

fn find(names: &[String]) -> Result<Vec<SourceFile>, SourceError> {
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
    let format = match extension.as_str() {
        "txt" | "text" => Format::Txt,
        "csv" => Format::Csv,
        "json" | "jsonl" => Format::Json,
        _ => return Err(SourceError::Extension(path)),
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

fn open(path: &Path) -> Result<File, SourceError> {
    File::open(path).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> SourceError {
    SourceError::Io { path: path.into(), source }
}

/// Appends bytes that must be UTF-8.
fn push_utf8(text: &mut String, bytes: &[u8], path: &Path, line: u64) -> Result<(), SourceError> {
    let valid = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        SourceError::Utf8 {
            path: path.into(),
            line: line + before.iter().filter(|&&byte| byte == b'\n').count() as u64,
            column: before.len() - line_start + 1,
        }
    })?;
    text.push_str(valid);
    Ok(())
}
