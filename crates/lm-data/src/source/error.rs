//! What can be wrong with files of text.

use std::io;
use std::path::{Path, PathBuf};

/// The most bytes of a row. Python has no such limit, and takes ten times the memory; whatever is longer is no row but a
/// file without line ends, or a quote that was never closed.
pub(super) const LONGEST_ROW: usize = 256 << 20;

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
    /// A pipe or device where a file is expected.
    #[error("{0}: not a regular file")]
    NotAFile(PathBuf),
    /// A file of no bytes.
    #[error("{0}: the file is empty")]
    Empty(PathBuf),
    /// A name that tells no known format.
    #[error("{path}: unknown kind of file; supported are {known}")]
    Extension {
        /// The file.
        path: PathBuf,
        /// How names of files may end.
        known: String,
    },
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
    /// A file, archive or folder that no text can be read from.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The file, archive or folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The operating system refuses to read.
    #[error("{path}: cannot read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Weights of files that are mixed.
    #[error("{0}: {1}")]
    Weight(String, &'static str),
    /// Somebody writes to it meanwhile.
    #[error("{0}: was changed while it was read; start again when it stays as it is")]
    Changed(PathBuf),
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
    /// A row longer than any may be.
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

pub(super) fn failed(path: &Path, source: io::Error) -> SourceError {
    SourceError::Io { path: path.into(), source }
}
