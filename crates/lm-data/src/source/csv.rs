//! Records of a csv or tsv file, as pandas reads them for the Python scripts: quoted fields may hold commas, quotes and line
//! ends, blank lines are skipped, a record may lack trailing columns but not have extra ones. An empty field is an empty
//! text (Python stops there with a type error), and a csv file whose fields are separated by semicolons or tabs is read so
//! (Python makes one column of them).

use std::io::{self, Chain, Read};

use csv::{ByteRecord, ReaderBuilder};

use super::column::{Cell, Sample, listed};
use super::compression::{self, Input, data_extension};
use super::error::{LONGEST_ROW, SourceError, failed};
use super::format::{CsvOptions, Format, RowOptions, RowReader, Start, push_utf8};
use super::mark::Mark;
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

/// Read after the end of the file, it comes back as a record of its own only if every quote has been closed. Nothing that can
/// separate or enclose fields is in it, and no text.
const END: &[u8] = b"\n\xff\xfe\xfd\xfe\xff";

type Records = csv::Reader<Limited<Chain<Input, &'static [u8]>>>;

struct Reader {
    place: Place,
    layout: Layout,
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
    fn open(&Start { place, column, options, mark }: &Start<'_>) -> Result<Self, SourceError> {
        let column = column.name.as_str();
        let (mut reader, names) = Self::start(place, options)?;
        reader.column = names.iter().position(|name| name == column).ok_or_else(|| SourceError::Column {
            path: place.path.clone(),
            line: 1,
            column: column.into(),
            columns: listed(&names),
        })?;
        reader.column_name = column.into();
        if mark.byte > 0 {
            reader.input = records(place, mark.byte, reader.layout)?;
            reader.origin = (mark.byte, mark.line);
        }
        Ok(reader)
    }

    /// A reader of the first record after the header, and the names of the columns, of which it takes the first.
    fn start(place: &Place, options: &RowOptions) -> Result<(Self, Vec<String>), SourceError> {
        let CsvOptions { column_names, header, .. } = &options.csv;
        let layout = Layout::of(place, &options.csv)?;
        let mut reader = Self {
            place: place.clone(),
            layout,
            input: records(place, 0, layout)?,
            record: ByteRecord::new(),
            columns: column_names.len(),
            named_by: "--column_names",
            column: 0,
            column_name: String::new(),
            origin: (0, 1),
        };
        let has_header = header.unwrap_or(column_names.is_empty());
        if (has_header || column_names.is_empty()) && !reader.next_record()? {
            let reason = if has_header { "no header line" } else { "no row" };
            return Err(SourceError::Row { path: place.path.clone(), line: 1, reason: reason.into() });
        }
        if !column_names.is_empty() {
            return Ok((reader, column_names.clone()));
        }
        let mut names = Vec::new();
        for (number, field) in reader.record.iter().enumerate() {
            let mut name = String::new();
            if has_header {
                push_utf8(&mut name, field, &place.path, 1)?;
            } else {
                name = number.to_string();
            }
            names.push(name);
        }
        (reader.columns, reader.named_by) = (names.len(), "the header");
        if !has_header {
            (reader.input, reader.named_by) = (records(place, 0, layout)?, "the first row");
        }
        Ok((reader, names))
    }

    /// The next record that is no blank line; false at the end.
    fn next_record(&mut self) -> Result<bool, SourceError> {
        loop {
            let start = self.position().line;
            self.input.get_mut().left = LONGEST_ROW;
            let more = self.input.read_byte_record(&mut self.record).map_err(|error| match error.into_kind() {
                csv::ErrorKind::Io(_) if self.input.get_ref().left == 0 => SourceError::TooLong {
                    path: self.place.path.clone(),
                    line: start,
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

    fn position(&self) -> Mark {
        let position = self.input.position();
        Mark::at(self.origin.0 + position.byte(), self.origin.1 + position.line() - 1)
    }
}

fn records(place: &Place, byte: u64, layout: Layout) -> Result<Records, SourceError> {
    let input = Limited { input: compression::open(place, byte)?.chain(END), left: LONGEST_ROW };
    Ok(layout.reader().from_reader(input))
}

/// What separates and encloses the fields of a file.
#[derive(Clone, Copy)]
struct Layout {
    delimiter: u8,
    quote: Option<u8>,
    /// The delimiter in words, if the first records told it.
    found: Option<&'static str>,
}

impl Layout {
    /// The delimiter that is said; else tabs by the file's name, else commas, unless these make one field of the header (or
    /// not as many as there are names) and another delimiter makes equally many of all the first records.
    fn of(place: &Place, options: &CsvOptions) -> Result<Self, SourceError> {
        let (quote, names) = (options.quote, &options.column_names);
        let by = |delimiter: u8| Self { delimiter, quote, found: None };
        if let Some(delimiter) = options.delimiter {
            return Ok(by(delimiter));
        }
        if data_extension(&place.path) == "tsv" {
            return Ok(by(b'\t'));
        }
        let mut start = Vec::new();
        let read = compression::open(place, 0)?.take(LOOKED_AT).read_to_end(&mut start);
        read.map_err(|source| failed(&place.path, source))?;
        let fits = |count: usize| if names.is_empty() { count > 1 } else { count == names.len() };
        let alike = |counts: &[usize]| {
            counts.first().is_some_and(|&first| fits(first) && counts.iter().all(|&count| count == first))
        };
        let counts = by(b',').fields_of(&start);
        // A header says more than the rows below it.
        if alike(&counts) || (names.is_empty() && counts.first().is_some_and(|&header| fits(header))) {
            return Ok(by(b','));
        }
        for (delimiter, name) in [(b'\t', "tabs"), (b';', "semicolons")] {
            let counts = by(delimiter).fields_of(&start);
            if alike(&counts) && counts[0] > 1 {
                return Ok(Self { found: Some(name), ..by(delimiter) });
            }
        }
        Ok(by(b','))
    }

    fn reader(self) -> ReaderBuilder {
        let mut reader = ReaderBuilder::new();
        reader.has_headers(false).flexible(true).delimiter(self.delimiter);
        match self.quote {
            Some(quote) => reader.quote(quote),
            None => reader.quoting(false),
        };
        reader
    }

    /// How many fields each of the first records has, in the beginning of a file.
    fn fields_of(self, start: &[u8]) -> Vec<usize> {
        const RECORDS: usize = 20;
        let records = self.reader().from_reader(start).into_byte_records().take(RECORDS).map_while(Result::ok);
        let mut counts: Vec<usize> =
            records.filter(|record| !record.as_slice().trim_ascii().is_empty()).map(|record| record.len()).collect();
        // The last one may be cut.
        if start.len() as u64 == LOOKED_AT && counts.len() > 1 {
            counts.pop();
        }
        counts
    }
}

/// Bytes in whose records the delimiter is looked for.
const LOOKED_AT: u64 = 1 << 16;

/// The header, and what stands below the name of the first column.
fn sample(place: &Place, options: &RowOptions) -> Result<Sample, SourceError> {
    let (mut reader, columns) = Reader::start(place, options)?;
    let mut sample = Sample { line: 1, columns, first: Vec::new(), separated_by: reader.layout.found };
    while !Sample::is_full(sample.first.len(), reader.position().byte as usize) && reader.next_record()? {
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
