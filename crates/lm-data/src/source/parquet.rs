//! Parquet files: one column, read page by page. Row groups before the first row wanted, and other columns, are not touched.
//! A text that is missing (null) is an empty one.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::basic::{ConvertedType, Encoding, LogicalType, Repetition, Type as Physical};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::{ParquetError, Result as Parsed};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use parquet::schema::types::Type;

use super::column::{ARRAY, NUMBER, Sample};
use super::columnar::{self, Groups, Table};
use super::compression::{self, Opened};
use super::error::{SourceError, failed};
use super::format::{Format, RowOptions, RowReader, Start};
use super::mark::Mark;
use super::place::Place;
use super::remote::{RemoteFile, Unread, Window};
use crate::caught::caught;

pub(super) const FORMAT: Format = Format {
    name: "Parquet",
    extensions: &["parquet"],
    begins: Some(|start| start.starts_with(b"PAR1")),
    may_be_empty: false,
    sample: Some(sample),
    groups: Some(|place| {
        Footer::read(place).map(|Footer { table, starts, .. }| Groups { table, starts, bytes: None, together: false })
    }),
    open: |start| Ok(Box::new(Reader::open(start)?)),
};

/// Values decoded at a time.
const BATCH: usize = 1024;
/// Values of a dictionary, and of a page that says how many it has before it shows them: for more no memory is reserved.
const MOST_ENTRIES: u64 = 1 << 24;
const MOST_VALUES: u64 = 1 << 28;
/// Bytes that most headers of pages have.
const HEADER: usize = 256;

/// What the end of a file says about it.
struct Footer {
    table: Table,
    input: Arc<Input>,
    metadata: ParquetMetaData,
    /// The columns, those with others in them too.
    names: Vec<String>,
    /// What each holds, if it is no text.
    kinds: Vec<Option<&'static str>>,
    /// The first row of each row group, and the number of all rows.
    starts: Vec<u64>,
}

impl Footer {
    fn read(place: &Place) -> Result<Self, SourceError> {
        let (path, opened) = (&*place.path, compression::open_file(place)?);
        let bytes = |bytes: io::Result<u64>| bytes.map_err(|source| failed(path, source));
        let length = bytes(opened.bytes())?;
        let input = Arc::new(Input::new(opened, length));
        let broken = |reason: String| SourceError::Unreadable {
            path: path.into(),
            reason: format!("no Parquet file, or one whose end is damaged or cut off: {reason}"),
        };
        let metadata = said(|| ParquetMetaDataReader::new().parse_and_finish(&*input));
        let metadata = metadata.map_err(|fault| fault.of(path, broken))?;
        let (mut starts, mut rows) = (vec![0], 0u64);
        for (number, group) in metadata.row_groups().iter().enumerate() {
            let count = u64::try_from(group.num_rows()).ok();
            let sum = count.and_then(|count| rows.checked_add(count)).filter(|&sum| sum <= i64::MAX as u64);
            rows = sum.ok_or_else(|| broken(format!("row group {number} has {} rows", group.num_rows())))?;
            starts.push(rows);
        }
        let fields = said(|| Ok(metadata.file_metadata().schema().get_fields().to_vec()));
        let fields = fields.map_err(|fault| fault.of(path, broken))?;
        let names = fields.iter().map(|field| field.name().to_string()).collect();
        let kinds = fields.iter().map(|field| kind(field)).collect();
        let table = Table { path: path.into(), bytes: bytes(place.bytes())?, rows };
        Ok(Self { table, input, metadata, names, kinds, starts })
    }
}

/// What a column holds, if it is no text.
fn kind(field: &Type) -> Option<&'static str> {
    let info = field.get_basic_info();
    let (converted, logical) = (info.converted_type(), info.logical_type_ref());
    let repeated = info.has_repetition() && info.repetition() == Repetition::REPEATED;
    if repeated || converted == ConvertedType::LIST || matches!(logical, Some(LogicalType::List)) {
        return Some(ARRAY);
    }
    if field.is_group() {
        return Some("an object");
    }
    match field.get_physical_type() {
        Physical::BYTE_ARRAY if converted == ConvertedType::DECIMAL => Some(NUMBER),
        Physical::BYTE_ARRAY => None,
        Physical::BOOLEAN => Some("a truth value"),
        Physical::FIXED_LEN_BYTE_ARRAY => Some("bytes"),
        Physical::INT32 | Physical::INT64 | Physical::INT96 | Physical::FLOAT | Physical::DOUBLE => Some(NUMBER),
    }
}

struct Reader {
    footer: Footer,
    column_name: String,
    /// Place of the column among those that have none in them.
    leaf: usize,
    /// The next row.
    row: u64,
    /// The rest of the row group in which it lies, and the row after it.
    group: Option<(ColumnReaderImpl<ByteArrayType>, u64)>,
    batch: Batch,
}

/// Rows that are decoded.
#[derive(Default)]
struct Batch {
    /// Of each row, whether it has a value; empty if all have one.
    present: Vec<i16>,
    values: Vec<ByteArray>,
    rows: usize,
    /// Of these, how many have been given out.
    next_row: usize,
    next_value: usize,
}

impl Reader {
    fn open(start: &Start<'_>) -> Result<Self, SourceError> {
        let footer = Footer::read(start.place)?;
        let path = &start.place.path;
        columnar::place_of(path, start.column, &footer.names, &footer.kinds)?;
        let columns = footer.metadata.file_metadata().schema_descr().columns();
        let is_it = |parts: &[String]| matches!(parts, [name] if *name == start.column.name);
        let leaf = columns.iter().position(|column| is_it(column.path().parts())).ok_or_else(|| {
            columnar::broken(path, 0, format!("column `{}` is not among those stored", start.column.name))
        })?;
        let column_name = start.column.name.clone();
        Ok(Self { footer, column_name, leaf, row: start.mark.line - 1, group: None, batch: Batch::default() })
    }

    /// Decodes the next rows; false at the end.
    fn fill(&mut self) -> Result<bool, SourceError> {
        let Footer { table, starts, .. } = &self.footer;
        if self.row >= table.rows {
            return Ok(false);
        }
        let number = starts.partition_point(|&start| start <= self.row) - 1;
        let (first, end) = (starts[number], starts[number + 1]);
        let damaged = |reason: String| {
            table.broken(
                self.row,
                format!("row group {number} (rows {} to {end}) is damaged or cut off: {reason}", first + 1),
            )
        };
        let mut group = match self.group.take().filter(|(_, of)| *of == end) {
            Some((group, _)) => group,
            None => self.open_group(number, self.row - first).map_err(|fault| fault.of(&table.path, damaged))?,
        };
        let wanted = usize::try_from(end - self.row).unwrap_or(BATCH).min(BATCH);
        let mut batch = Batch::default();
        let read = said(|| group.read_records(wanted, Some(&mut batch.present), None, &mut batch.values));
        let (rows, ..) = read.map_err(|fault| fault.of(&table.path, damaged))?;
        let optional = self.footer.metadata.file_metadata().schema_descr().column(self.leaf).max_def_level() > 0;
        let values = if optional { batch.present.iter().filter(|&&level| level > 0).count() } else { rows };
        if rows == 0 || rows > wanted || values != batch.values.len() || (optional && batch.present.len() != rows) {
            return Err(damaged(format!("it has fewer rows than its {}", end - first)));
        }
        batch.rows = rows;
        (self.batch, self.group) = (batch, Some((group, end)));
        Ok(true)
    }

    /// A row group from one of its rows on.
    fn open_group(&self, number: usize, skip: u64) -> Result<ColumnReaderImpl<ByteArrayType>, Fault> {
        let metadata = &self.footer.metadata;
        said(|| {
            let column = metadata.row_group(number).column(self.leaf);
            if let Some(file) = column.file_path() {
                return Err(ParquetError::General(format!("its values lie in another file, {file}")));
            }
            let descriptor = column.column_descr_ptr();
            let rows = metadata.row_group_num_rows(number)?;
            let (start, length) = column.byte_range();
            let input = self.footer.input.up_to(start.saturating_add(length));
            let pages = SerializedPageReader::new(input, column, rows, None)?;
            let pages = Checked { pages, optional: descriptor.max_def_level() > 0 };
            let mut reader = ColumnReaderImpl::new(descriptor, Box::new(pages));
            let skip = usize::try_from(skip)?;
            match reader.skip_records(skip)? {
                skipped if skipped == skip => Ok(reader),
                skipped => Err(ParquetError::General(format!("it ends after {skipped} rows"))),
            }
        })
    }
}

impl RowReader for Reader {
    fn read(&mut self, text: &mut String) -> Result<bool, SourceError> {
        if self.batch.next_row == self.batch.rows && !self.fill()? {
            return Ok(false);
        }
        let Batch { present, values, next_row, next_value, .. } = &mut self.batch;
        if present.get(*next_row).is_none_or(|&level| level > 0)
            && let Some(value) = values.get(*next_value)
        {
            columnar::push(&self.footer.table.path, text, self.row, &self.column_name, value.data())?;
            *next_value += 1;
        }
        *next_row += 1;
        self.row += 1;
        Ok(true)
    }

    fn position(&self) -> Mark {
        self.footer.table.position(self.row)
    }
}

fn sample(place: &Place, options: &RowOptions) -> Result<Sample, SourceError> {
    let Footer { names, kinds, .. } = Footer::read(place)?;
    columnar::sample(names, &kinds, |column| {
        let mut reader = Reader::open(&Start { place, column, options, mark: Mark::at(0, 1) })?;
        columnar::first_cells(|text| reader.read(text))
    })
}

/// Why something could not be read.
enum Fault {
    /// The bytes are not what they should be.
    Bytes(String),
    /// Another machine does not give them.
    Io(io::Error),
}

impl Fault {
    fn of(self, path: &Path, damaged: impl FnOnce(String) -> SourceError) -> SourceError {
        match self {
            Self::Bytes(reason) => damaged(reason),
            Self::Io(source) => failed(path, source),
        }
    }
}

/// What the crate makes of a file, which may be an error or a panic.
fn said<T>(work: impl FnOnce() -> Parsed<T>) -> Result<T, Fault> {
    let reason = |reason: String| Fault::Bytes(reason.replace('\n', " "));
    caught(work).map_err(reason)?.map_err(|error| match error {
        ParquetError::General(text) | ParquetError::NYI(text) | ParquetError::EOF(text) => reason(text),
        // Decoders have such errors too.
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) if error.get_ref().is_some_and(|cause| cause.is::<Unread>()) => Fault::Io(*error),
            Ok(error) => reason(error.to_string()),
            Err(error) => reason(error.to_string()),
        },
        other => reason(other.to_string()),
    })
}

/// A file. The crate reserves memory for as much as a file says it has; no part of it is longer than itself.
struct Input {
    lies: Lies,
    bytes: u64,
}

enum Lies {
    Disk(File),
    Elsewhere(Arc<dyn RemoteFile>, Arc<Mutex<Window>>),
}

impl Input {
    fn new(opened: Opened, bytes: u64) -> Self {
        let lies = match opened {
            Opened::Disk(file) => Lies::Disk(file),
            Opened::Elsewhere(file) => Lies::elsewhere(file, bytes),
        };
        Self { lies, bytes }
    }

    /// The same, of which nothing beyond a place is read.
    fn up_to(self: &Arc<Self>, end: u64) -> Arc<Self> {
        match &self.lies {
            Lies::Disk(_) => Arc::clone(self),
            Lies::Elsewhere(file, _) => {
                Arc::new(Self { lies: Lies::elsewhere(Arc::clone(file), end), bytes: self.bytes })
            }
        }
    }
}

impl Lies {
    fn elsewhere(file: Arc<dyn RemoteFile>, end: u64) -> Self {
        let window = Window::of_part(Arc::clone(&file), end);
        Self::Elsewhere(file, Arc::new(Mutex::new(window)))
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Input {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> Parsed<Self::T> {
        Ok(match &self.lies {
            Lies::Disk(file) => Box::new(file.get_read(start)?),
            Lies::Elsewhere(_, window) => {
                Box::new(BufReader::with_capacity(HEADER, Following { window: Arc::clone(window), at: start }))
            }
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Parsed<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.bytes) {
            let reason = format!("{length} bytes from byte {start} on are not in a file of {} bytes", self.bytes);
            return Err(ParquetError::EOF(reason));
        }
        match &self.lies {
            Lies::Disk(file) => file.get_bytes(start, length),
            Lies::Elsewhere(_, window) => {
                Ok(window.lock().unwrap_or_else(PoisonError::into_inner).bytes(start, length as u64)?)
            }
        }
    }
}

/// Bytes of a window from a place on.
struct Following {
    window: Arc<Mutex<Window>>,
    at: u64,
}

impl Read for Following {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.window.lock().unwrap_or_else(PoisonError::into_inner).some(self.at, buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Pages that say how many values they have before they show them are believed only as far as memory allows.
struct Checked {
    pages: SerializedPageReader<Input>,
    /// Whether values may be missing, so that a page begins by saying which.
    optional: bool,
}

impl Checked {
    fn check(&self, page: &Page) -> Parsed<()> {
        let fails = |what: &str| Err(ParquetError::General(format!("a page says that it has {what}")));
        let (values, buffer, levels) = match page {
            Page::DictionaryPage { buf, num_values, .. } => {
                // Each begins with its length.
                let most = (buf.len() as u64 / 4).min(MOST_ENTRIES);
                return if u64::from(*num_values) > most { fails("more entries than it can hold") } else { Ok(()) };
            }
            Page::DataPage { buf, num_values, .. } if self.optional => {
                let length = buf.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
                (*num_values, buf, length.saturating_add(4))
            }
            Page::DataPage { buf, num_values, .. } => (*num_values, buf, 0),
            Page::DataPageV2 { buf, num_values, def_levels_byte_len, rep_levels_byte_len, .. } => {
                (*num_values, buf, *def_levels_byte_len as usize + *rep_levels_byte_len as usize)
            }
        };
        let lists = match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
            Encoding::DELTA_BYTE_ARRAY => 2,
            _ => 0,
        };
        let mut bytes = buffer.get(levels..).unwrap_or_default();
        for _ in 0..lists {
            let Some((count, rest)) = delta_list(bytes) else { return fails("lengths that end too soon") };
            if count > u64::from(values).min(MOST_VALUES) {
                return fails("more values than it can have");
            }
            bytes = rest;
        }
        Ok(())
    }
}

/// Numbers in DELTA_BINARY_PACKED: how many there are, and what follows.
fn delta_list(bytes: &[u8]) -> Option<(u64, &[u8])> {
    fn varint<'a>(bytes: &mut &'a [u8]) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest): (&u8, &'a [u8]) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
    let mut rest = bytes;
    let (block, parts, count) = (varint(&mut rest)?, varint(&mut rest)?, varint(&mut rest)?);
    varint(&mut rest)?;
    let part = block.checked_div(parts)?;
    let mut left = count.saturating_sub(1);
    while left > 0 && part > 0 {
        varint(&mut rest)?;
        let widths = rest.get(..usize::try_from(parts).ok()?)?;
        rest = &rest[widths.len()..];
        for &width in widths {
            if left == 0 {
                break;
            }
            let packed = u64::from(width).checked_mul(part)? / 8;
            rest = rest.get(usize::try_from(packed).ok()?..)?;
            left = left.saturating_sub(part);
        }
    }
    Some((count, rest))
}

impl Iterator for Checked {
    type Item = Parsed<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Checked {
    fn get_next_page(&mut self) -> Parsed<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.as_ref().map_or(Ok(()), |page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Parsed<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Parsed<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Parsed<Option<Page>> {
        let page = self.pages.take_deferred_dictionary()?;
        page.as_ref().map_or(Ok(()), |page| self.check(page))?;
        Ok(page)
    }

    fn at_record_boundary(&mut self) -> Parsed<bool> {
        self.pages.at_record_boundary()
    }
}
