//! The files of a split: their rows one after another, and what tells them from others.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::choose::choose;
use super::column::{Column, listed};
use super::columnar::Groups;
use super::error::{SourceError, failed};
use super::find::{Piece, SourceFile, find};
use super::format::{RowOptions, RowReader, Start};
use super::mark::Mark;
use super::remote::RemoteFiles;
use crate::memo::{Identity, Stamp};

/// The place of a row: the next one to read starts here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowPosition {
    /// Index of the file in the list.
    pub file: usize,
    /// The place in it.
    #[serde(flatten)]
    pub mark: Mark,
}

impl RowPosition {
    /// The first row of a file.
    pub const fn start_of(file: usize) -> Self {
        Self { file, mark: Mark::at(0, 1) }
    }
}

/// Groups of rows are read together that have fewer bytes than this, as far as the size of the file tells.
const SECTION: u64 = if cfg!(test) { 1 << 10 } else { 16 << 20 };

/// The rows of a file of columns: its index says how many there are, and each is found by its number.
pub(crate) struct Numbered {
    groups: Groups,
    /// The first row that is read, and the one after the last.
    rows: std::ops::Range<u64>,
}

impl Numbered {
    /// How many are read.
    pub fn count(&self) -> u64 {
        self.rows.end.saturating_sub(self.rows.start)
    }

    /// Where one of those lies that are read, the first of which is 0.
    pub fn place(&self, row: u64) -> Mark {
        self.groups.mark(self.rows.start + row)
    }
}

/// The files of one split, in order. Rows run on from one file to the next.
#[derive(Clone, Debug)]
pub struct TextFiles {
    files: Arc<[SourceFile]>,
    column: Arc<Column>,
    options: Arc<RowOptions>,
}

impl TextFiles {
    /// Resolves the names and patterns of the splits of a run to files, looks at each, and chooses the column that is
    /// read. A name that exists is that file, else `*`, `?` and `[…]` match in sorted order, and commas separate several.
    pub fn resolve<const SPLITS: usize>(
        splits: [&[String]; SPLITS],
        text_column: Option<&str>,
        options: &RowOptions,
    ) -> Result<[Self; SPLITS], SourceError> {
        Self::resolve_with(splits, &RemoteFiles::default(), text_column, options)
    }

    /// The same, where some names may be addresses of files on other machines.
    pub fn resolve_with<const SPLITS: usize>(
        splits: [&[String]; SPLITS],
        remote: &RemoteFiles,
        text_column: Option<&str>,
        options: &RowOptions,
    ) -> Result<[Self; SPLITS], SourceError> {
        let (mut resolved, options) = (Vec::new(), Arc::new(options.clone()));
        for names in splits {
            resolved.push(Self {
                files: find(names, remote)?.into(),
                column: Arc::default(),
                options: Arc::clone(&options),
            });
        }
        for file in resolved.iter().flat_map(|split| split.files.iter()) {
            if file.marked && file.format.sample.is_none() {
                tracing::info!("{}: begins with a byte order mark, which is left out", file.place.path.display());
            }
        }
        let column = Arc::new(choose(resolved.iter().flat_map(|split| split.files.iter()), text_column, &options)?);
        Ok(std::array::from_fn(|split| Self { column: Arc::clone(&column), ..resolved[split].clone() }))
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// How many files there are.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// One of the files by itself.
    pub(crate) fn single(&self, file: usize) -> Self {
        self.some(file, 1)
    }

    /// These files, by their numbers.
    pub(crate) fn only(&self, files: &[usize]) -> Self {
        Self { files: files.iter().filter_map(|&file| self.files.get(file).cloned()).collect(), ..self.clone() }
    }

    /// So many of the files, from one of them on.
    pub(crate) fn some(&self, first: usize, count: usize) -> Self {
        Self { files: self.files[first..].iter().take(count).cloned().collect(), ..self.clone() }
    }

    /// Which of the files these names are.
    pub(crate) fn named(&self, names: &[String]) -> Vec<usize> {
        let is_named = |file: &SourceFile| names.iter().any(|name| Path::new(name) == file.place.file_name());
        (0..self.len()).filter(|&file| is_named(&self.files[file])).collect()
    }

    /// Pieces of the files, by the numbers of these, as if they were files.
    pub(crate) fn pieces(&self, pieces: &[(usize, Piece)]) -> Self {
        let of = |&(file, piece): &(usize, Piece)| Some(SourceFile { piece, ..self.files.get(file)?.clone() });
        Self { files: pieces.iter().filter_map(of).collect(), ..self.clone() }
    }

    /// The rows of a file, if it has an index; None if only reading tells how many there are.
    pub(crate) fn numbered(&self, file: usize) -> Result<Option<Numbered>, SourceError> {
        let SourceFile { place, format, piece, .. } = &self.files[file];
        let Some(groups) = format.groups else { return Ok(None) };
        let groups = groups(place)?;
        let rows = groups.table.rows;
        let end = piece.end.map_or(rows, |end| end.line.saturating_sub(1).min(rows));
        Ok(Some(Numbered { rows: piece.start.line.saturating_sub(1)..end, groups }))
    }

    /// What is left of a file from a row on, in pieces that can be read side by side: groups of rows, where the format has
    /// them.
    pub(crate) fn sections(&self, from: RowPosition) -> Result<Vec<Piece>, SourceError> {
        let Some(SourceFile { place, format, piece, .. }) = self.files.get(from.file) else { return Ok(Vec::new()) };
        let (mut start, mut sections) = (self.begun(from).mark, Vec::new());
        if let Some(groups) = format.groups {
            let groups = groups(place)?;
            let borders = if groups.together { 0 } else { groups.starts.len().saturating_sub(1) };
            let borders = groups.starts.iter().take(borders).map(|&row| groups.mark(row));
            for border in borders.filter(|border| piece.end.is_none_or(|end| border.line < end.line)) {
                if border.line > start.line.max(1) && border.byte >= start.byte + SECTION {
                    sections.push(Piece { start, end: Some(border) });
                    start = border;
                }
            }
        }
        sections.push(Piece { start, end: piece.end });
        Ok(sections)
    }

    /// The files' full names, those of pieces with where they lie, and what tells whether they have changed.
    pub(crate) fn stamps(&self) -> Result<Vec<(PathBuf, Stamp)>, SourceError> {
        let stamp = |SourceFile { place, piece, .. }: &SourceFile| {
            let path = place.full_path()?;
            let path = if *piece == Piece::default() { path } else { path.join(format!("{piece:?}")) };
            Ok((path, place.stamp()?))
        };
        let stamp_of = |file: &SourceFile| stamp(file).map_err(|source| failed(&file.place.path, source));
        self.files.iter().map(stamp_of).collect()
    }

    /// Fails if a file is not what it was.
    pub(crate) fn check_unchanged(&self, stamps: &[(PathBuf, Stamp)]) -> Result<(), SourceError> {
        let now = self.stamps()?;
        match now.iter().zip(stamps).find(|(now, then)| now != then) {
            Some(((path, _), _)) => Err(SourceError::Changed(path.clone())),
            None => Ok(()),
        }
    }

    /// The files' names, for messages.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.files.iter().map(|file| file.place.path.display().to_string()).collect();
        listed(&names)
    }

    /// The file and the line of a position, for messages.
    pub fn place(&self, position: RowPosition) -> String {
        let file = self.files.get(position.file).map_or_else(String::new, |file| file.place.path.display().to_string());
        format!("{file}:{}", self.begun(position).mark.line.max(1))
    }

    /// Size of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(SourceFile::piece_bytes).sum()
    }

    /// Bytes of all files before a position, for showing progress: of a compressed file, whose places are those of its
    /// text, no more than its size.
    pub fn offset(&self, position: RowPosition) -> u64 {
        let read = |file: &SourceFile| position.mark.byte.saturating_sub(file.piece.start.byte).min(file.piece_bytes());
        self.files.iter().take(position.file).map(SourceFile::piece_bytes).sum::<u64>()
            + self.files.get(position.file).map_or(0, read)
    }

    /// All rows, from the first.
    pub fn rows(&self) -> Rows {
        self.rows_from(RowPosition::default())
    }

    /// All rows from a position that [`Rows::next_position`] gave.
    pub fn rows_from(&self, position: RowPosition) -> Rows {
        Rows { files: self.clone(), reader: None, position }
    }

    /// What tells these files from others at a cost that does not grow with them: SHA-256 over how rows are read, and of each
    /// file its size and how it begins and ends.
    pub fn quick_digest(&self) -> Result<[u8; 32], SourceError> {
        const PART: u64 = 1 << 16;
        let mut digest = Sha256::new();
        digest.update(self.reading());
        for file in self.files.iter() {
            digest.update(format!("{:?} {} {:?}", file.format, file.bytes, file.piece));
            if file.place.remote().is_some() {
                digest.update(file.place.path.as_os_str().as_encoded_bytes());
                continue;
            }
            let mut part = |start: u64| {
                let mut bytes = Vec::new();
                file.place.open(start)?.take(PART).read_to_end(&mut bytes)?;
                digest.update(&bytes);
                Ok(())
            };
            part(0)
                .and_then(|()| part(file.bytes.saturating_sub(PART)))
                .map_err(|source| failed(&file.place.path, source))?;
        }
        Ok(digest.finalize().into())
    }

    /// What tells these files and this way to read them from any others without reading them.
    pub(crate) fn identity(&self, purpose: &str) -> Result<Identity, SourceError> {
        let pieces: Vec<Piece> = self.files.iter().map(|file| file.piece).collect();
        let pieces = pieces.iter().any(|piece| *piece != Piece::default()).then_some(pieces);
        let mut identity = Identity::new(&format!("{purpose} {} {pieces:?}", self.reading()));
        for file in self.files.iter() {
            let stamped = file.place.full_path().and_then(|path| Ok((path, file.place.stamp()?)));
            let (path, stamp) = stamped.map_err(|source| failed(&file.place.path, source))?;
            identity.add_stamped(&path, &stamp);
        }
        Ok(identity)
    }

    fn open(&self, file: &SourceFile, at: RowPosition) -> Result<Box<dyn RowReader>, SourceError> {
        let mark = self.begun(at).mark;
        let (column, options, mark) = (&*self.column, &*self.options, Mark { line: mark.line.max(1), ..mark });
        (file.format.open)(&Start { place: &file.place, column, options, mark })
    }

    /// A position, that of the start of a file being where its piece starts.
    fn begun(&self, at: RowPosition) -> RowPosition {
        match self.files.get(at.file) {
            Some(file) if at.mark.is_start() => RowPosition { mark: file.piece.start, ..at },
            _ => at,
        }
    }

    /// What decides which rows these files have, besides their bytes.
    pub(crate) fn reading(&self) -> String {
        format!("{} {:?}", self.column.name, self.options)
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
            let ended = file.piece.end.is_some_and(|end| self.position.mark >= end);
            if !ended && reader.read(text)? {
                self.position.mark = reader.position();
                return Ok(true);
            }
            self.reader = None;
            self.position = RowPosition::start_of(self.position.file + 1);
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
