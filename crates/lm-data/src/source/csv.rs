//! Records of a csv file with a header, as pandas reads them for the Python scripts: quoted fields may hold commas,
//! quotes and line ends, blank lines are skipped, a record may lack trailing columns but not have extra ones.
//! An empty field is an empty text (Python stops there with a type error).

use std::fs::File;
use std::io::{BufReader, Chain, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};

use super::{RowReader, SourceError, failed, open, push_utf8};

/// Read after the end of the file, it comes back as a record of its own only if every quote has been closed.
const END: &[u8] = b"\n\0end of file\0";

type Records = csv::Reader<Chain<BufReader<File>, &'static [u8]>>;

pub(super) struct Reader {
    path: PathBuf,
    input: Records,
    record: ByteRecord,
    columns: usize,
    column: usize,
    column_name: String,
    origin: (u64, u64),
}

impl Reader {
    pub(super) fn open(path: &Path, column: Option<&str>, byte: u64, line: u64) -> Result<Self, SourceError> {
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
        reader.column = match column {
            None => names.iter().position(|name| name == "text").unwrap_or(0),
            Some(wanted) => names.iter().position(|name| name == wanted).ok_or_else(|| SourceError::Column {
                path: path.into(),
                line: 1,
                column: wanted.into(),
                columns: names.join(", "),
            })?,
        };
        reader.column_name = names.swap_remove(reader.column);
        if byte > 0 {
            reader.input = records(path, byte)?;
            reader.origin = (byte, line);
        }
        Ok(reader)
    }

    /// The next record that is no blank line; false at the end.
    fn next_record(&mut self) -> Result<bool, SourceError> {
        loop {
            let more = self.input.read_byte_record(&mut self.record).map_err(|error| match error.into_kind() {
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
    let input = BufReader::with_capacity(1 << 18, file).chain(END);
    Ok(ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input))
}
