//! Records of a csv or tsv file, as pandas reads them for the Python scripts: quoted fields may hold commas, quotes and line
//! ends, blank lines are skipped, a record may lack trailing columns but not have extra ones. An empty field is an empty
//! text (Python stops there with a type error), and a csv file whose fields are separated by semicolons or tabs is read so
//! (Python makes one column of them).

use std::io::{self, Chain, Read};

use csv::{ByteRecord, ReaderBuilder};

use super::column::{Cell, Sample, listed};
use super::compression::{self, Input, data_extension};
use super::error::{LONGEST_ROW, SourceError, failed};
use super::format::{Format, RowOptions, RowReader, Start, push_utf8};
use super::place::Place;

pub(super) const FORMAT: Format = Format {
    name: "Csv",
    extensions: &["csv", "tsv"],
    begins: None,
    may_be_empty: false,
    sample: Some(sample),
    groups: None,
    open: |start| Ok(Box::new(Reader::open(start)?)),
};

/// Read after the end of the file, it comes back as a record of its own only if every quote has been closed.
const END: &[u8] = b"\n\0end of file\0";

type Records = csv::Reader<Limited<Chain<Input, &'static [u8]>>>;

struct Reader {
    place: Place,
    delimiter: &'static Delimiter,
    input: Records,
    record: ByteRecord,
    columns: usize,
    /// What names the columns, for messages.
    named_by: &'static str,
    column: usize,
    column_name: String,
    origin: (u64, u64),
}

impl Reader {
    fn open(&Start { place, column, options, byte, line }: &Start<'_>) -> Result<Self, SourceError> {
        let column = column.name.as_str();
        let (mut reader, names) = Self::start(place, options)?;
        reader.column = names.iter().position(|name| name == column).ok_or_else(|| SourceError::Column {
            path: place.path.clone(),
            line: 1,
            column: column.into(),
            columns: listed(&names),
        })?;
        reader.column_name = column.into();
        if byte > 0 {
            reader.input = records(place, byte, reader.delimiter.byte)?;
            reader.origin = (byte, line);
        }
        Ok(reader)
    }

    /// A reader of the first record after the header, and the names of the columns, of which it takes the first.
    fn start(place: &Place, options: &RowOptions) -> Result<(Self, Vec<String>), SourceError> {
        let delimiter = delimiter(place, &options.column_names)?;
        let mut reader = Self {
            place: place.clone(),
            delimiter,
            input: records(place, 0, delimiter.byte)?,
            record: ByteRecord::new(),
            columns: options.column_names.len(),
            named_by: "--column_names",
            column: 0,
            column_name: String::new(),
            origin: (0, 1),
        };
        if !options.column_names.is_empty() {
            return Ok((reader, options.column_names.clone()));
        }
        if !reader.next_record()? {
            return Err(SourceError::Row { path: place.path.clone(), line: 1, reason: "no header line".into() });
        }
        let mut names = Vec::new();
        for field in &reader.record {
            let mut name = String::new();
            push_utf8(&mut name, field, &place.path, 1)?;
            names.push(name);
        }
        (reader.columns, reader.named_by) = (names.len(), "the header");
        Ok((reader, names))
    }

    /// The next record that is no blank line; false at the end.
    fn next_record(&mut self) -> Result<bool, SourceError> {
        loop {
            let start = self.position();
            self.input.get_mut().left = LONGEST_ROW;
            let more = self.input.read_byte_record(&mut self.record).map_err(|error| match error.into_kind() {
                csv::ErrorKind::Io(_) if self.input.get_ref().left == 0 => SourceError::TooLong {
                    path: self.place.path.clone(),
                    line: start.1,
                    what: "the row",
                    hint: "is a quote opened and never closed?",
                },
                csv::ErrorKind::Io(source) => failed(&self.place.path, source),
                kind => self.broken(format!("{kind:?}")),
            })?;
            let last = self.record.iter().next_back().unwrap_or_default();
            if !more || (self.record.len() == 1 && last == &END[1..]) {
                return Ok(false);
            }
            if last.ends_with(&END[1..]) {
                return Err(self.broken("a quote is opened in this record and never closed".into()));
            }
            if self.record.len() > 1 || !last.trim_ascii().is_empty() || self.columns == 1 && last.is_empty() {
                return Ok(true);
            }
        }
    }

    fn broken(&self, reason: String) -> SourceError {
        SourceError::Row { path: self.place.path.clone(), line: self.line(), reason }
    }

    /// The line on which the record starts, for messages: the reader's count lies before the blank lines it skipped.
    fn line(&self) -> u64 {
        let (byte, line) = self.record.position().map_or((0, 1), |at| (at.byte(), at.line()));
        let blank = || -> Result<usize, SourceError> {
            let mut lines = 0;
            for byte in compression::open(&self.place, self.origin.0 + byte)?.bytes() {
                match byte.map_err(|source| failed(&self.place.path, source))? {
                    b'\n' => lines += 1,
                    b'\r' => {}
                    _ => break,
                }
            }
            Ok(lines)
        };
        self.origin.1 + line - 1 + blank().unwrap_or(0) as u64
    }
}

impl RowReader for Reader {
    fn read(&mut self, text: &mut String) -> Result<bool, SourceError> {
        if !self.next_record()? {
            return Ok(false);
        }
        let fields = self.record.len();
        if fields > self.columns {
            return Err(self.broken(format!("{fields} fields, but {} names {}", self.named_by, self.columns)));
        }
        let Some(field) = self.record.get(self.column) else {
            let columns = self.columns;
            let reason = format!("only {fields} of {columns} fields: column `{}` is missing", self.column_name);
            return Err(self.broken(reason));
        };
        match std::str::from_utf8(field) {
            Ok(field) => text.push_str(field),
            Err(_) => push_utf8(text, field, &self.place.path, self.line())?,
        }
        Ok(true)
    }

    fn position(&self) -> (u64, u64) {
        let position = self.input.position();
        (self.origin.0 + position.byte(), self.origin.1 + position.line() - 1)
    }
}

fn records(place: &Place, byte: u64, delimiter: u8) -> Result<Records, SourceError> {
    let input = Limited { input: compression::open(place, byte)?.chain(END), left: LONGEST_ROW };
    Ok(ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(input))
}

/// What separates fields.
struct Delimiter {
    byte: u8,
    name: &'static str,
}

static COMMA: Delimiter = Delimiter { byte: b',', name: "commas" };
static TAB: Delimiter = Delimiter { byte: b'\t', name: "tabs" };
static SEMICOLON: Delimiter = Delimiter { byte: b';', name: "semicolons" };

/// What separates the fields of a file: tabs by its name, else commas, unless these make one field of the header (or not as
/// many as there are names) and another delimiter makes equally many of all the first records.
fn delimiter(place: &Place, names: &[String]) -> Result<&'static Delimiter, SourceError> {
    /// Records and bytes that are looked at.
    const RECORDS: usize = 20;
    const BYTES: u64 = 1 << 16;
    if data_extension(&place.path) == "tsv" {
        return Ok(&TAB);
    }
    let mut start = Vec::new();
    compression::open(place, 0)?.take(BYTES).read_to_end(&mut start).map_err(|source| failed(&place.path, source))?;
    let fields = |delimiter: &Delimiter| -> Vec<usize> {
        let mut reader = ReaderBuilder::new();
        let reader = reader.has_headers(false).flexible(true).delimiter(delimiter.byte).from_reader(&start[..]);
        let records = reader.into_byte_records().take(RECORDS).map_while(Result::ok);
        let mut counts: Vec<usize> =
            records.filter(|record| !record.as_slice().trim_ascii().is_empty()).map(|record| record.len()).collect();
        // The last one may be cut.
        if start.len() as u64 == BYTES && counts.len() > 1 {
            counts.pop();
        }
        counts
    };
    let fits = |count: usize| if names.is_empty() { count > 1 } else { count == names.len() };
    let alike = |counts: &[usize]| {
        counts.first().is_some_and(|&first| fits(first) && counts.iter().all(|&count| count == first))
    };
    let counts = fields(&COMMA);
    // A header says more than the rows below it.
    if alike(&counts) || (names.is_empty() && counts.first().is_some_and(|&header| fits(header))) {
        return Ok(&COMMA);
    }
    let separates = |delimiter: &&Delimiter| {
        let counts = fields(delimiter);
        alike(&counts) && counts[0] > 1
    };
    Ok([&TAB, &SEMICOLON].into_iter().find(separates).unwrap_or(&COMMA))
}

/// The header, and what stands below the name of the first column.
fn sample(place: &Place, options: &RowOptions) -> Result<Sample, SourceError> {
    let (mut reader, columns) = Reader::start(place, options)?;
    let found = !std::ptr::eq(reader.delimiter, &COMMA) && data_extension(&place.path) != "tsv";
    let mut sample =
        Sample { line: 1, columns, first: Vec::new(), separated_by: found.then_some(reader.delimiter.name) };
    while !Sample::is_full(sample.first.len(), reader.position().0 as usize) && reader.next_record()? {
        let first = reader.record.get(0).unwrap_or_default();
        sample.first.push(Cell::Text(String::from_utf8_lossy(first).into_owned()));
    }
    Ok(sample)
}

/// Gives no more than so many bytes, which are counted anew for each record.
struct Limited<R> {
    input: R,
    left: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("a row without end"));
        }
        let most = buffer.len().min(self.left);
        let read = self.input.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}
