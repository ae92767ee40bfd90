//! Arrow files and streams (`save_to_disk` of Python's `datasets` writes the latter): one column, a record batch at a time;
//! other columns are not read. A text that is missing (null) is an empty one. Batches follow one another, and a row is found
//! from where its batch begins, without those before it; only entries of a dictionary lie anywhere before.
//!
//! The library reads the messages' headers. Their buffers are taken here: it would read all columns, and panics where a
//! header lies.

mod batch;
mod layout;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_ipc::{MessageHeader, root_as_message};

use self::batch::{Strings, read_strings, read_up_to};
use self::layout::{Layout, Schema};
use super::column::Sample;
use super::columnar::{self, Groups, Table};
use super::compression;
use super::error::{SourceError, failed};
use super::format::{Format, RowOptions, RowReader, Start};
use super::mark::Mark;
use super::place::{Place, ReadSeek};

pub(super) const FORMAT: Format = Format {
    name: "Arrow",
    extensions: &["arrow"],
    begins: Some(|start| start.starts_with(MAGIC) || start.starts_with(&CONTINUATION)),
    may_be_empty: false,
    sample: Some(sample),
    groups: Some(groups),
    open: |start| Ok(Box::new(Reader::open(start)?)),
};

/// What a file begins and ends with; a stream does not.
const MAGIC: &[u8] = b"ARROW1";
const CONTINUATION: [u8; 4] = [0xff; 4];
/// The most bytes of a header.
const MOST_HEADER: u64 = 256 << 20;

/// A message: a header, and a body that it describes.
#[derive(Clone, Copy, Debug)]
struct Message {
    header: (u64, u64),
    body: (u64, u64),
}

/// Rows that follow one another; at least one.
#[derive(Clone, Copy, Debug)]
struct Batch {
    message: Message,
    /// Where the batch before it ends.
    from: u64,
    /// The first of its rows, and the one after the last.
    start: u64,
    end: u64,
    /// How many messages of dictionaries count for it.
    dictionaries: usize,
}

/// A message of a dictionary.
#[derive(Debug)]
struct Dictionary {
    message: Message,
    id: i64,
    /// Adds entries, where else it replaces them.
    is_delta: bool,
}

impl Batch {
    /// Where it ends.
    fn to(&self) -> u64 {
        self.message.body.0 + self.message.body.1
    }
}

/// Where everything in a file lies, as far as the headers of its messages were read.
struct Index {
    path: PathBuf,
    file: Box<dyn ReadSeek>,
    schema: Schema,
    /// The end of a file says again where all lies, and dictionaries may follow what uses them.
    is_file: bool,
    /// Batches that are still to be read.
    batches: VecDeque<Batch>,
    dictionaries: Vec<Dictionary>,
    /// The next header, and where headers end.
    at: u64,
    end: u64,
    /// Where the last batch that has rows ends, and the row after it.
    from: u64,
    rows: u64,
}

impl Index {
    /// Reads the schema.
    fn open(place: &Place) -> Result<Self, SourceError> {
        let (path, opened) = (&*place.path, compression::open_file(place)?);
        let bytes = opened.bytes().map_err(|source| failed(path, source))?;
        let mut file = opened.seekable();
        let damaged = |reason: String| SourceError::Unreadable { path: path.into(), reason };
        let (at, end) = bounds(&mut *file, bytes)
            .map_err(|source| failed(path, source))?
            .ok_or_else(|| damaged("no Arrow file, or one that is cut off: it does not end with ARROW1".into()))?;
        let broken = |reason: String| damaged(format!("no Arrow file, or a damaged one: {reason}"));
        let found = next_message(&mut *file, at, end).map_err(|source| failed(path, source))?;
        let (place, metadata) = found
            .ok_or_else(|| damaged("no Arrow file, or one that is cut off: it has no schema".into()))?
            .map_err(|reason| broken(format!("its schema {reason}")))?;
        let message =
            root_as_message(&metadata).map_err(|_| broken("its schema has a header that is damaged".into()))?;
        let schema = message.header_as_schema().ok_or_else(|| broken("it does not begin with a schema".into()))?;
        let schema = Schema::of(&schema, message.version()).map_err(broken)?;
        let (at, is_file) = (place.body.0 + place.body.1, end < bytes);
        Ok(Self {
            path: path.into(),
            file,
            schema,
            is_file,
            batches: VecDeque::new(),
            dictionaries: Vec::new(),
            at,
            end,
            from: at,
            rows: 0,
        })
    }

    /// Goes to the batch that is found from this byte and begins with this row.
    fn go_to(&mut self, byte: u64, row: u64) -> Result<(), SourceError> {
        if byte > self.end {
            return Err(columnar::broken(&self.path, row, "the file ends before the record batch of this row".into()));
        }
        (self.at, self.from, self.rows) = (byte, byte, row);
        Ok(())
    }

    /// Reads the next header; false if there is none.
    fn grow(&mut self) -> Result<bool, SourceError> {
        let (path, rows) = (&*self.path, self.rows);
        let broken = |reason: &str| columnar::broken(path, rows, format!("the record batch that begins here {reason}"));
        let found = next_message(&mut *self.file, self.at, self.end).map_err(|source| failed(path, source))?;
        let Some(found) = found else { return Ok(false) };
        let (place, metadata) = found.map_err(|reason| broken(&reason))?;
        let message = root_as_message(&metadata).map_err(|_| broken("has a header that is damaged"))?;
        match message.header_type() {
            MessageHeader::DictionaryBatch => {
                let batch =
                    message.header_as_dictionary_batch().ok_or_else(|| broken("has a header that is damaged"))?;
                self.dictionaries.push(Dictionary { message: place, id: batch.id(), is_delta: batch.isDelta() });
            }
            MessageHeader::RecordBatch => {
                let count = message.header_as_record_batch().and_then(|batch| u64::try_from(batch.length()).ok());
                let end = count.and_then(|count| rows.checked_add(count)).filter(|&end| end <= i64::MAX as u64);
                let end = end.ok_or_else(|| broken("is damaged: its number of rows cannot be"))?;
                if end > rows {
                    let (from, dictionaries) = (self.from, self.dictionaries.len());
                    let batch = Batch { message: place, from, start: rows, end, dictionaries };
                    (self.from, self.rows) = (batch.to(), end);
                    self.batches.push_back(batch);
                }
            }
            _ => return Err(broken("is damaged: it is a message of a kind that does not belong here")),
        }
        self.at = place.body.0 + place.body.1;
        Ok(true)
    }
}

/// All batches, by their headers.
fn groups(place: &Place) -> Result<Groups, SourceError> {
    let mut index = Index::open(place)?;
    while index.grow()? {}
    let bytes = place.bytes().map_err(|source| failed(&place.path, source))?;
    let starts = index.batches.iter().map(|batch| batch.start).chain([index.rows]).collect();
    let froms = index.batches.iter().map(|batch| batch.from).collect();
    let together = index.schema.layouts.iter().any(|layout| layout.dictionary.is_some());
    let table = Table { path: index.path, bytes, rows: index.rows };
    Ok(Groups { table, starts, bytes: Some(froms), together })
}

/// Where messages begin and where they end at the latest; None if a file has not both of its marks.
fn bounds(file: &mut dyn ReadSeek, bytes: u64) -> io::Result<Option<(u64, u64)>> {
    let mut start = [0; 8];
    let read = read_up_to(file, 0, &mut start)?;
    if !start[..read].starts_with(MAGIC) {
        return Ok(Some((0, bytes)));
    }
    // The footer, which says again where all lies, its length and the mark.
    const TAIL: u64 = 4 + MAGIC.len() as u64;
    let mut tail = [0; TAIL as usize];
    if bytes < 8 + TAIL || read_up_to(file, bytes - TAIL, &mut tail)? < tail.len() || !tail.ends_with(MAGIC) {
        return Ok(None);
    }
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    Ok((bytes - TAIL).checked_sub(footer).filter(|&end| end >= 8).map(|end| (8, end)))
}

/// A message's place and its header, or why it cannot be read.
type Header = Result<(Message, Vec<u8>), String>;

/// The next message; None at the end of messages.
fn next_message(file: &mut dyn ReadSeek, at: u64, end: u64) -> io::Result<Option<Header>> {
    let mut prefix = [0; 8];
    let length = usize::try_from(end.saturating_sub(at)).unwrap_or(8).min(8);
    let read = read_up_to(file, at, &mut prefix[..length])?;
    if read == 0 {
        return Ok(None);
    }
    let [a, b, c, d, e, f, g, h] = prefix;
    // Older files have no mark before the length.
    let (start, length, whole) = match [a, b, c, d] {
        CONTINUATION => (at + 8, u32::from_le_bytes([e, f, g, h]), read == 8),
        length => (at + 4, u32::from_le_bytes(length), read >= 4),
    };
    let length = u64::from(length);
    if whole && length == 0 {
        return Ok(None);
    }
    let cut = || Ok(Some(Err("is cut off: the file ends in its header".into())));
    if !whole || length > end.saturating_sub(start).min(MOST_HEADER) {
        return cut();
    }
    let mut metadata = vec![0; length as usize];
    if read_up_to(file, start, &mut metadata)? < metadata.len() {
        return cut();
    }
    let Ok(message) = root_as_message(&metadata) else {
        return Ok(Some(Err("has a header that is damaged".into())));
    };
    let (body, left) = (u64::try_from(message.bodyLength()).unwrap_or(u64::MAX), end.saturating_sub(start + length));
    if body > left {
        return Ok(Some(Err(format!("is damaged or cut off: it should have {body} bytes, and {left} follow"))));
    }
    Ok(Some(Ok((Message { header: (start, length), body: (start + length, body) }, metadata))))
}

struct Reader {
    index: Index,
    column: String,
    layout: Layout,
    /// The next row.
    row: u64,
    /// The batch in which it lies, and its texts.
    batch: Option<(Batch, Strings)>,
    /// The entries of the dictionary in use, and by how many messages.
    entries: (usize, Arc<Vec<Strings>>),
}

impl Reader {
    fn open(&Start { place, column, mark, .. }: &Start<'_>) -> Result<Self, SourceError> {
        let mut index = Index::open(place)?;
        let at = columnar::place_of(&place.path, column, &index.schema.names, &index.schema.kinds)?;
        let (layout, row) = (index.schema.layouts[at].clone(), mark.line - 1);
        if layout.dictionary.is_none() {
            if let Some(first) = mark.batch.filter(|first| *first <= row) {
                index.go_to(mark.byte, first)?;
            }
        } else if index.is_file {
            while index.grow()? {}
            let all = index.dictionaries.len();
            index.batches.iter_mut().for_each(|batch| batch.dictionaries = all);
        }
        Ok(Self { index, column: column.name.clone(), layout, row, batch: None, entries: (0, Arc::default()) })
    }

    /// Reads the batch of the next row; false if there is none.
    fn fill(&mut self) -> Result<bool, SourceError> {
        let batch = loop {
            match self.index.batches.pop_front() {
                Some(batch) if batch.end > self.row => break batch,
                Some(_) => {}
                None if !self.index.grow()? => return Ok(false),
                None => {}
            }
        };
        let Batch { message, start, end, dictionaries, .. } = batch;
        let strings = self.entries(dictionaries).and_then(|entries| {
            let dictionary = self.layout.dictionary.is_some().then_some(entries);
            read_strings(&mut *self.index.file, message.header, message.body, &self.layout, dictionary)
        });
        let strings = strings.and_then(|strings| match strings.len() {
            length if length == end - start => Ok(strings),
            length => Err(format!("its column has {length} rows")),
        });
        let strings = strings.map_err(|reason| {
            let reason = format!("its record batch (rows {} to {end}) is damaged or cut off: {reason}", start + 1);
            columnar::broken(&self.index.path, self.row, reason)
        })?;
        self.batch = Some((batch, strings));
        Ok(true)
    }

    /// The entries of the column's dictionary after so many messages of dictionaries.
    fn entries(&mut self, messages: usize) -> Result<Arc<Vec<Strings>>, String> {
        let Some(id) = self.layout.dictionary.as_ref().map(|dictionary| dictionary.id) else {
            return Ok(Arc::default());
        };
        if self.entries.0 != messages {
            let all = &self.index.dictionaries[..messages];
            let first = all.iter().rposition(|dictionary| dictionary.id == id && !dictionary.is_delta).unwrap_or(0);
            let mut entries = Vec::new();
            for Dictionary { message, .. } in all[first..].iter().filter(|dictionary| dictionary.id == id) {
                let layout = Layout::of_entries(&self.layout);
                entries.push(read_strings(&mut *self.index.file, message.header, message.body, &layout, None)?);
            }
            self.entries = (messages, Arc::new(entries));
        }
        Ok(Arc::clone(&self.entries.1))
    }
}

impl RowReader for Reader {
    fn read(&mut self, text: &mut String) -> Result<bool, SourceError> {
        if self.batch.as_ref().is_none_or(|(batch, _)| self.row >= batch.end) && !self.fill()? {
            return Ok(false);
        }
        let Some((batch, strings)) = &self.batch else { return Ok(false) };
        let path = &self.index.path;
        let value = strings.get(self.row - batch.start).map_err(|reason| {
            columnar::broken(path, self.row, format!("the value of column `{}` is damaged: {reason}", self.column))
        })?;
        if let Some(value) = value {
            columnar::push(path, text, self.row, &self.column, value)?;
        }
        self.row += 1;
        Ok(true)
    }

    fn position(&self) -> Mark {
        let line = self.row + 1;
        match &self.batch {
            Some((batch, _)) if self.row < batch.end => Mark { byte: batch.from, line, batch: Some(batch.start) },
            Some((batch, _)) => Mark { byte: batch.to(), line, batch: Some(batch.end) },
            None => Mark::at(0, line),
        }
    }
}

fn sample(place: &Place, options: &RowOptions) -> Result<Sample, SourceError> {
    let Index { schema: Schema { names, kinds, .. }, .. } = Index::open(place)?;
    columnar::sample(names, &kinds, |column| {
        let mut reader = Reader::open(&Start { place, column, options, mark: Mark::at(0, 1) })?;
        columnar::first_cells(|text| reader.read(text))
    })
}
