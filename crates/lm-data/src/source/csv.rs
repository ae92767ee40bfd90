//! Records of a csv file with a header, as pandas reads them for the Python scripts: quoted fields may hold commas,
//! quotes and line ends, blank lines are skipped, a record may lack trailing columns but not have extra ones.
//! An empty field is an empty text (Python stops there with a type error).

use std::fs::File;
use std::io::{self, BufReader, Chain, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};

use super::column::{Cell, Sample, listed};
use super::error::{LONGEST_ROW, SourceError, failed};
use super::format::{Format, RowReader, Start, open, push_utf8};

pub(super) const FORMAT: Format = Format {
    name: "Csv",
    extensions: &["csv"],
    sample: Some(sample),
    open: |start| Ok(Box::new(Reader::open(start)?)),
};

/// Read after the end of the file, it comes back as a record of its own only if every quote has been closed.
const END: &[u8] = b"\n\0end of file\0";

type Records = csv::Reader<Limited<Chain<BufReader<File>, &'static [u8]>>>;

struct Reader {
    path: PathBuf,
    input: Records,
    record: ByteRecord,
    columns: usize,
    column: usize,
    column_name: String,
    origin: (u64, u64),
}

impl Reader {
    fn open(&Start { path, column, byte, line, .. }: &Start<'_>) -> Result<Self, SourceError> {
        let column = column.name.as_str();
        let (mut reader, names) = Self::start(path)?;
        reader.column = names.iter().position(|name| name == column).ok_or_else(|| SourceError::Column {
            path: path.into(),
            line: 1,
            column: column.into(),
            columns: listed(&names),
        })?;
        reader.column_name = column.into();
        if byte > 0 {
            reader.input = records(path, byte)?;
            reader.origin = (byte, line);
        }
        Ok(reader)
    }

    /// A reader of the first record after the header, and the names of the columns, of which it takes the first.
    fn start(path: &Path) -> Result<(Self, Vec<String>), SourceError> {
        let mut reader = Self {
            path: path.into(),
            input: records(path, 0)?,
            record: ByteRecord::new(),
            columns: 0,
            column: 0,
            column_name: String::new(),
            origin: (0, 1),
        };
        if !reader.next_record()? {
            return Err(SourceError::Row { path: path.into(), line: 1, reason: "no header line".into() });
        }
        let mut names = Vec::new();
        for field in &reader.record {
            let mut name = String::new();
            push_utf8(&mut name, field, path, 1)?;
            names.push(name);
        }
        reader.columns = names.len();
        Ok((reader, names))
    }

    /// The next record that is no blank line; false at the end.
    fn next_record(&mut self) -> Result<bool, SourceError> {
        loop {
            let start = self.position();
            self.input.get_mut().left = LONGEST_ROW;
            let more = self.input.read_byte_record(&mut self.record).map_err(|error| match error.into_kind() {
                csv::ErrorKind::Io(_) if self.input.get_ref().left == 0 => SourceError::TooLong {
                    path: self.path.clone(),
                    line: start.1,
                    what: "the row",
                    hint: "is a quote opened and never closed?",
                },
                csv::ErrorKind::Io(source) => failed(&self.path, source),
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
        SourceError::Row { path: self.path.clone(), line: self.line(), reason }
    }

    /// The line on which the record starts, for messages: the reader's count lies before the blank lines it skipped.
    fn line(&self) -> u64 {
        let (byte, line) = self.record.position().map_or((0, 1), |at| (at.byte(), at.line()));
        let blank = || -> std::io::Result<usize> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.origin.0 + byte))?;
            let mut lines = 0;
            for byte in BufReader::new(file).bytes() {
                match byte? {
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
            return Err(self.broken(format!("{fields} fields, but the header names {}", self.columns)));
        }
        let Some(field) = self.record.get(self.column) else {
            let columns = self.columns;
            let reason = format!("only {fields} of {columns} fields: column `{}` is missing", self.column_name);
            return Err(self.broken(reason));
        };
        match std::str::from_utf8(field) {
            Ok(field) => text.push_str(field),
            Err(_) => push_utf8(text, field, &self.path, self.line())?,
        }
        Ok(true)
    }

    fn position(&self) -> (u64, u64) {
        let position = self.input.position();
        (self.origin.0 + position.byte(), self.origin.1 + position.line() - 1)
    }
}

fn records(path: &Path, byte: u64) -> Result<Records, SourceError> {
    let mut file = open(path)?;
    file.seek(SeekFrom::Start(byte)).map_err(|source| failed(path, source))?;
    let input = Limited { input: BufReader::with_capacity(1 << 18, file).chain(END), left: LONGEST_ROW };
    Ok(ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input))
}

/// The header, and what stands below the name of the first column.
fn sample(path: &Path) -> Result<Sample, SourceError> {
    let (mut reader, columns) = Reader::start(path)?;
    let mut sample = Sample { line: 1, columns, first: Vec::new() };
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
