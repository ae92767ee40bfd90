//! The files of a split: their rows one after another, and what tells them from others.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::choose::choose;
use super::column::{Column, listed};
use super::error::{SourceError, failed};
use super::find::{SourceFile, find};
use super::format::{RowReader, Start, open};
use crate::digest;
use crate::memo::Identity;

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
            if file.marked && file.format.sample.is_none() {
                tracing::info!("{}: begins with a byte order mark, which is left out", file.path.display());
            }
        }
        let column = Arc::new(choose(resolved.iter().flat_map(|split| split.files.iter()), text_column)?);
        Ok(std::array::from_fn(|split| Self { column: Arc::clone(&column), ..resolved[split].clone() }))
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files' names, for messages.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.files.iter().map(|file| file.path.display().to_string()).collect();
        listed(&names)
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

    fn open(&self, file: &SourceFile, at: RowPosition) -> Result<Box<dyn RowReader>, SourceError> {
        let RowPosition { byte, line, .. } = at;
        let (column, keep_linebreaks) = (&*self.column, self.keep_linebreaks);
        (file.format.open)(&Start { path: &file.path, column, keep_linebreaks, byte, line: line.max(1) })
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
                none => none.insert(self.files.open(file, self.position)?),
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
