//! What a format of text consists of. Each is a file of this folder and a line of the list in mod.rs.

use std::fmt;
use std::fs::File;
use std::path::Path;

use super::column::{Column, Sample};
use super::error::{SourceError, failed};

/// Finds the columns of a file, as far as its beginning shows them.
type ReadSample = fn(&Path) -> Result<Sample, SourceError>;

/// How rows are read from files of one kind.
pub(super) struct Format {
    /// It is part of what tokenized examples are known by, so it stays as it is.
    pub name: &'static str,
    /// How the names of such files end, in small letters.
    pub extensions: &'static [&'static str],
    /// None if rows are nothing but text.
    pub sample: Option<ReadSample>,
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
    pub path: &'a Path,
    /// The column that is the text.
    pub column: &'a Column,
    /// Lines of text files keep their `\n`.
    pub keep_linebreaks: bool,
    /// Byte of the first row to read; 0 is the start of the file, header included.
    pub byte: u64,
    /// Its line, from 1, for messages.
    pub line: u64,
}

/// One open file.
pub(super) trait RowReader: Send {
    /// Appends the next row to `text`; false at the end.
    fn read(&mut self, text: &mut String) -> Result<bool, SourceError>;
    /// Byte and line of the next row.
    fn position(&self) -> (u64, u64);
}

pub(super) fn open(path: &Path) -> Result<File, SourceError> {
    File::open(path).map_err(|source| failed(path, source))
}

/// Appends bytes that must be UTF-8.
pub(super) fn push_utf8(text: &mut String, bytes: &[u8], path: &Path, line: u64) -> Result<(), SourceError> {
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
