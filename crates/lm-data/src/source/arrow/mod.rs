//! Arrow files and streams (`save_to_disk` of Python's `datasets` writes the latter): one column, a record batch at a time;
//! other columns, and batches before the first row wanted, are not read. A text that is missing (null) is an empty one.
//!
//! The library reads the messages' headers. Their buffers are taken here: it would read all columns, and panics where a
//! header lies.

mod batch;
mod layout;

use std::io;
use std::sync::Arc;

use arrow_ipc::{MessageHeader, root_as_message};

use self::batch::{Strings, read_strings, read_up_to};
use self::layout::{Layout, Schema};
use super::column::Sample;
use super::columnar::{self, Groups, Table};
use super::compression;
use super::error::{SourceError, failed};
use super::format::{Format, RowOptions, RowReader, Start};
use super::place::{Place, ReadSeek};

pub(super) const FORMAT: Format = Format {
    name: "Arrow",
    extensions: &["arrow"],
    begins: Some(|start| start.starts_with(MAGIC) || start.starts_with(&CONTINUATION)),
    may_be_empty: false,
    sample: Some(sample),
    // Its batches are small, and one is found by the headers of all before it.
    groups: Some(|place| Index::read(place).map(|Index { table, .. }| Groups { starts: vec![0, table.rows], table })),
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

/// Rows that follow one another.
#[derive(Debug)]
struct Batch {
    message: Message,
    /// The first of its rows, and how many there are.
    start: u64,
    rows: u64,
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

/// Where everything in a file lies, as the headers of its messages say.
struct Index {
    file: Box<dyn ReadSeek>,
    table: Table,
    schema: Schema,
    batches: Vec<Batch>,
    dictionaries: Vec<Dictionary>,
}

impl Index {
    fn read(place: &Place) -> Result<Self, SourceError> {
        let (path, opened) = (&*place.path, compression::open_file(place)?);
        let known = |bytes: io::Result<u64>| bytes.map_err(|source| failed(path, source));
        let (bytes, mut file) = (known(opened.bytes())?, opened.seekable());
        let damaged = |reason: String| SourceError::Unreadable { path: path.into(), reason };
        let (mut at, end) = bounds(&mut *file, bytes)
            .map_err(|source| failed(path, source))?
            .ok_or_else(|| damaged("no Arrow file, or one that is cut off: it does not end with ARROW1".into()))?;
        let is_file = end < bytes;
        let mut schema = None;
        let (mut batches, mut dictionaries, mut rows) = (Vec::new(), Vec::<Dictionary>::new(), 0u64);
        loop {
            let broken = |reason: String| match schema {
                None => damaged(format!("no Arrow file, or a damaged one: {reason}")),
                Some(_) => columnar::broken(path, rows, format!("the record batch that begins here {reason}")),
            };
            let Some((header, metadata)) = next_header(&mut *file, at, end).map_err(|source| failed(path, source))?
            else {
                break;
            };
            let Some(metadata) = metadata else { return Err(broken("is cut off: the file ends in its header".into())) };
            let message = root_as_message(&metadata).map_err(|_| broken("has a header that is damaged".into()))?;
            let start = header.0 + header.1;
            let length = u64::try_from(message.bodyLength()).unwrap_or(u64::MAX);
            if length > end.saturating_sub(start) {
                return Err(broken(format!(
                    "is damaged or cut off: it should have {length} bytes, and {} follow",
                    end.saturating_sub(start)
                )));
            }
            let place = Message { header, body: (start, length) };
            match message.header_type() {
                MessageHeader::Schema if schema.is_none() => {
                    let found = message.header_as_schema().ok_or_else(|| broken("it has no schema".into()))?;
                    schema = Some(Schema::of(&found, message.version()).map_err(broken)?);
                }
                MessageHeader::DictionaryBatch => {
                    let Some(batch) = message.header_as_dictionary_batch() else { break };
                    dictionaries.push(Dictionary { message: place, id: batch.id(), is_delta: batch.isDelta() });
                }
                MessageHeader::RecordBatch if schema.is_some() => {
                    let count = message.header_as_record_batch().and_then(|batch| u64::try_from(batch.length()).ok());
                    let sum = count.and_then(|count| rows.checked_add(count)).filter(|&sum| sum <= i64::MAX as u64);
                    let (Some(count), Some(sum)) = (count, sum) else {
                        return Err(broken("is damaged: its number of rows cannot be".into()));
                    };
                    batches.push(Batch { message: place, start: rows, rows: count, dictionaries: dictionaries.len() });
                    rows = sum;
                }
                _ => return Err(broken("is damaged: it is a message of a kind that does not belong here".into())),
            }
            at = start + length;
        }
        let schema = schema.ok_or_else(|| damaged("no Arrow file, or one that is cut off: it has no schema".into()))?;
        if is_file {
            // Here dictionaries may follow what uses them.
            batches.iter_mut().for_each(|batch| batch.dictionaries = dictionaries.len());
        }
        let table = Table { path: path.into(), bytes: known(place.bytes())?, rows };
        Ok(Self { file, table, schema, batches, dictionaries })
    }
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

/// The next message's header, None at the end of messages; and no bytes of it if the file ends in it.
#[expect(clippy::type_complexity, reason = "two cases of an end")]
fn next_header(file: &mut dyn ReadSeek, at: u64, end: u64) -> io::Result<Option<((u64, u64), Option<Vec<u8>>)>> {
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
    if !whole || length > end.saturating_sub(start).min(MOST_HEADER) {
        return Ok(Some(((start, 0), None)));
    }
    let mut metadata = vec![0; length as usize];
    let read = read_up_to(file, start, &mut metadata)?;
    Ok(Some(((start, length), (read == metadata.len()).then_some(metadata))))
}

struct Reader {
    index: Index,
    column: String,
    layout: Layout,
    /// The next row.
    row: u64,
    /// The batch in which it lies: its first row, the row after it, and its texts.
    batch: Option<(u64, u64, Strings)>,
    /// The entries of the dictionary in use, and by how many messages.
    entries: (usize, Arc<Vec<Strings>>),
}

impl Reader {
    fn open(start: &Start<'_>) -> Result<Self, SourceError> {
        let index = Index::read(start.place)?;
        let at = columnar::place_of(&start.place.path, start.column, &index.schema.names, &index.schema.kinds)?;
        let layout = index.schema.layouts[at].clone();
        let column = start.column.name.clone();
        Ok(Self { index, column, layout, row: start.line - 1, batch: None, entries: (0, Arc::default()) })
    }

    /// The batch of the next row.
    fn fill(&mut self) -> Result<(), SourceError> {
        let number = self.index.batches.partition_point(|batch| batch.start + batch.rows <= self.row);
        let Some(&Batch { message, start, rows, dictionaries }) = self.index.batches.get(number) else { return Ok(()) };
        let strings = self.entries(dictionaries).and_then(|entries| {
            let dictionary = self.layout.dictionary.is_some().then_some(entries);
            read_strings(&mut *self.index.file, message.header, message.body, &self.layout, dictionary)
        });
        let strings = strings.and_then(|strings| match strings.len() {
            length if length == rows => Ok(strings),
            length => Err(format!("its column has {length} rows")),
        });
        let strings = strings.map_err(|reason| {
            let reason = format!(
                "record batch {number} (rows {} to {}) is damaged or cut off: {reason}",
                start + 1,
                start + rows
            );
            self.index.table.broken(self.row, reason)
        })?;
        self.batch = Some((start, start + rows, strings));
        Ok(())
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
        if self.row >= self.index.table.rows {
            return Ok(false);
        }
        if self.batch.as_ref().is_none_or(|(_, end, _)| self.row >= *end) {
            self.fill()?;
        }
        let Some((start, _, strings)) = &self.batch else { return Ok(false) };
        let value = strings.get(self.row - start).map_err(|reason| {
            let reason = format!("the value of column `{}` is damaged: {reason}", self.column);
            self.index.table.broken(self.row, reason)
        })?;
        if let Some(value) = value {
            self.index.table.push(text, self.row, &self.column, value)?;
        }
        self.row += 1;
        Ok(true)
    }

    fn position(&self) -> (u64, u64) {
        self.index.table.position(self.row)
    }
}

fn sample(place: &Place, options: &RowOptions) -> Result<Sample, SourceError> {
    let Index { schema: Schema { names, kinds, .. }, .. } = Index::read(place)?;
    columnar::sample(names, &kinds, |column| {
        let mut reader = Reader::open(&Start { place, column, options, byte: 0, line: 1 })?;
        columnar::first_cells(|text| reader.read(text))
    })
}
