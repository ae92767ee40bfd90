//! What a format of text consists of. Each is a file of this folder and a line of the list in mod.rs.

use std::fmt;
use std::path::Path;
use std::str::Utf8Error;

use super::column::{Column, Sample};
use super::columnar::Groups;
use super::error::SourceError;
use super::mark::Mark;
use super::place::Place;

/// Finds the columns of a file, as far as its beginning shows them.
type ReadSample = fn(&Place, &RowOptions) -> Result<Sample, SourceError>;

/// Finds how many rows a file has and where it can be divided.
type FindGroups = fn(&Place) -> Result<Groups, SourceError>;

/// How rows are made of files, as far as the files themselves leave it open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowOptions {
    /// `--keep_linebreaks` of run_clm: lines of text files keep their `\n`. False for the other tasks.
    pub keep_linebreaks: bool,
    /// `--sample_by`: what of a text file is a row.
    pub sample_by: SampleBy,
    /// How csv files are read.
    pub csv: CsvOptions,
    /// The key of a json file's only object that holds the rows; None if the file holds rows itself.
    pub field: Option<String>,
}

/// How csv files are read, as far as they leave it open: the options of pandas that Python's `datasets` passes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvOptions {
    /// `--column_names`; empty if the header names the columns.
    pub column_names: Vec<String>,
    /// Whether the first record is a header; None if it is one unless `column_names` says what stands there. Columns that
    /// nothing names are called by their numbers, from 0.
    pub header: Option<bool>,
    /// What separates fields; None if the file's name and its first records tell.
    pub delimiter: Option<u8>,
    /// What encloses fields in which delimiters and line ends are text; None if nothing does.
    pub quote: Option<u8>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { column_names: Vec::new(), header: None, delimiter: None, quote: Some(b'"') }
    }
}

/// What of a text file is a row, as `sample_by` of the text files of `datasets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampleBy {
    /// A line.
    #[default]
    Line,
    /// What stands between empty lines.
    Paragraph,
    /// The whole file.
    Document,
}

impl SampleBy {
    /// Every value.
    pub const ALL: &[Self] = &[Self::Line, Self::Paragraph, Self::Document];

    /// Its name in `datasets`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Paragraph => "paragraph",
            Self::Document => "document",
        }
    }
}

/// How rows are read from files of one kind.
pub(super) struct Format {
    /// It is part of what tokenized examples are known by, so it stays as it is.
    pub name: &'static str,
    /// How the names of such files end, in small letters.
    pub extensions: &'static [&'static str],
    /// Whether a file that begins so is one, whatever its name; None if only the name tells.
    pub begins: Option<fn(&[u8]) -> bool>,
    /// Whether a file without a byte is one that has no rows, as to Python, and not a broken one.
    pub may_be_empty: bool,
    /// None if rows are nothing but text.
    pub sample: Option<ReadSample>,
    /// None where only reading tells.
    pub groups: Option<FindGroups>,
    /// Opens a file at a row.
    pub open: fn(&Start<'_>) -> Result<Box<dyn RowReader>, SourceError>,
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Where and how reading starts.
pub(super) struct Start<'a> {
    pub place: &'a Place,
    /// The column that is the text.
    pub column: &'a Column,
    pub options: &'a RowOptions,
    /// The first row to read, whose line is 1 at least.
    pub mark: Mark,
}

/// One open file.
pub(super) trait RowReader: Send {
    /// Reads the next row into `text`, which is empty; false at the end.
    fn read(&mut self, text: &mut String) -> Result<bool, SourceError>;
    /// Where the next row lies.
    fn position(&self) -> Mark;
}

/// Appends bytes that must be UTF-8.
pub(super) fn push_utf8(text: &mut String, bytes: &[u8], path: &Path, line: u64) -> Result<(), SourceError> {
    let valid = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error, path, line))?;
    text.push_str(valid);
    Ok(())
}

/// The place of what is not UTF-8, in bytes whose first are in this line.
pub(super) fn not_utf8(bytes: &[u8], error: Utf8Error, path: &Path, line: u64) -> SourceError {
    let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    SourceError::Utf8 {
        path: path.into(),
        line: line + before.iter().filter(|&&byte| byte == b'\n').count() as u64,
        column: before.len() - line_start + 1,
    }
}
