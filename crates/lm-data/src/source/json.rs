//! Objects of a json file: one object per line, or one array of objects (or of strings), read element by element.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{RowReader, SourceError, failed, open, push_utf8};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(super) struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    byte: u64,
    line: u64,
    layout: Layout,
    column: Column,
    record: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Lines,
    Array { first: bool },
    Finished,
}

#[derive(Default)]
struct Column {
    name: String,
    /// Taken because it is the first, no column being called `text`.
    only_by_default: bool,
}

impl Reader {
    pub(super) fn open(path: &Path, column: Option<&str>, byte: u64, line: u64) -> Result<Self, SourceError> {
        let input = BufReader::with_capacity(1 << 18, open(path)?);
        let mut reader = Self {
            path: path.into(),
            input,
            byte: 0,
            line: 1,
            layout: Layout::Lines,
            column: Column::default(),
            record: Vec::new(),
        };
        reader.start().map_err(|source| failed(path, source))?;
        let (start, layout) = ((reader.byte, reader.line), reader.layout);
        reader.column = match column {
            Some(name) => Column { name: name.into(), only_by_default: false },
            None => reader.default_column()?,
        };
        let end = reader.input.get_ref().metadata().map_err(|source| failed(path, source))?.len();
        (reader.byte, reader.line) = if byte == 0 { start } else { (byte, line) };
        reader.input.seek(SeekFrom::Start(reader.byte)).map_err(|source| failed(path, source))?;
        reader.layout = match layout {
            Layout::Array { .. } if byte >= end => Layout::Finished,
            Layout::Array { .. } => Layout::Array { first: byte == 0 },
            other => other,
        };
        Ok(reader)
    }

    /// Skips what precedes the first record and tells the layout.
    fn start(&mut self) -> io::Result<()> {
        if self.input.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            self.advance(BYTE_ORDER_MARK.len());
        }
        if self.skip_blank()? == Some(b'[') {
            self.advance(1);
            self.layout = Layout::Array { first: true };
        }
        Ok(())
    }

    /// Column `text` if the first record has it, else its first.
    fn default_column(&mut self) -> Result<Column, SourceError> {
        let line = self.line;
        match self.next_value()? {
            Some((_, Value::Object(fields))) if !fields.contains_key("text") => match fields.keys().next() {
                Some(name) => Ok(Column { name: name.clone(), only_by_default: true }),
                None => Err(self.broken(line, "an object without columns")),
            },
            _ => Ok(Column { name: "text".into(), only_by_default: false }),
        }
    }

    /// The next record and the line it starts on; None at the end.
    fn next_value(&mut self) -> Result<Option<(u64, Value)>, SourceError> {
        let found = match self.layout {
            Layout::Lines => self.next_line(),
            Layout::Array { first } => self.next_element(first),
            Layout::Finished => return Ok(None),
        };
        let line = match found.map_err(|source| failed(&self.path, source))? {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(None),
            Err(reason) => return Err(self.broken(self.line, reason)),
        };
        let mut text = String::new();
        push_utf8(&mut text, self.record.trim_ascii_end(), &self.path, line)?;
        let value = serde_json::from_str(&text).map_err(|error| {
            let at = line + error.line().saturating_sub(1) as u64;
            let rule = if self.layout == Layout::Lines { "; each line must be one whole object" } else { "" };
            self.broken(at, format!("not valid JSON at column {}: {}{rule}", error.column(), bare(&error)))
        })?;
        Ok(Some((line, value)))
    }

    /// Takes the next line that is not blank; the inner error is one of content.
    fn next_line(&mut self) -> io::Result<Result<Option<u64>, &'static str>> {
        if self.skip_blank()?.is_none() {
            return Ok(Ok(None));
        }
        let line = self.line;
        self.record.clear();
        let length = self.input.read_until(b'\n', &mut self.record)?;
        self.byte += length as u64;
        self.line += 1;
        Ok(Ok(Some(line)))
    }

    /// Takes the next element of the array and the comma or bracket after it.
    fn next_element(&mut self, first: bool) -> io::Result<Result<Option<u64>, &'static str>> {
        let line = match self.skip_blank()? {
            Some(b']') if first => return self.finish().map(|end| end.map(|()| None)),
            Some(b'{' | b'"') => self.line,
            Some(_) => return Ok(Err("expected an object or a string as element of the array")),
            None => return Ok(Err("the file ends inside the array: the closing ] is missing")),
        };
        if !self.take_element()? {
            return Ok(Err("the file ends inside an element of the array"));
        }
        match self.skip_blank()? {
            Some(b',') => {
                self.advance(1);
                self.layout = Layout::Array { first: false };
            }
            Some(b']') => match self.finish()? {
                Ok(()) => {}
                Err(reason) => return Ok(Err(reason)),
            },
            Some(_) => return Ok(Err("expected a comma or ] after an element of the array")),
            None => return Ok(Err("the file ends inside the array: the closing ] is missing")),
        }
        Ok(Ok(Some(line)))
    }

    /// Takes bytes up to the end of one object or string; false if the file ends before.
    fn take_element(&mut self) -> io::Result<bool> {
        self.record.clear();
        let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let end = buffer.iter().position(|&byte| {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_string => escaped = true,
                    b'"' => in_string = !in_string,
                    _ if in_string => {}
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                depth == 0 && !in_string
            });
            let length = end.map_or(buffer.len(), |end| end + 1);
            self.record.extend_from_slice(&buffer[..length]);
            self.advance(length);
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    /// Takes the closing bracket, after which nothing may follow.
    fn finish(&mut self) -> io::Result<Result<(), &'static str>> {
        self.advance(1);
        self.layout = Layout::Finished;
        Ok(if self.skip_blank()?.is_none() { Ok(()) } else { Err("there is more after the end of the array") })
    }

    /// Skips white space and looks at the byte after it.
    fn skip_blank(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.input.fill_buf()?;
            let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let next = buffer.get(blank).copied();
            if next.is_some() || buffer.is_empty() {
                self.advance(blank);
                return Ok(next);
            }
            self.advance(blank);
        }
    }

    /// Consumes bytes of the buffer and counts their lines.
    fn advance(&mut self, bytes: usize) {
        let lines = self.input.buffer().iter().take(bytes).filter(|&&byte| byte == b'\n').count();
        self.input.consume(bytes);
        self.byte += bytes as u64;
        self.line += lines as u64;
    }

    fn broken(&self, line: u64, reason: impl Into<String>) -> SourceError {
        SourceError::Row { path: self.path.clone(), line, reason: reason.into() }
    }
}

impl RowReader for Reader {
    fn read(&mut self, text: &mut String) -> Result<bool, SourceError> {
        let array = self.layout != Layout::Lines;
        let Some((line, value)) = self.next_value()? else { return Ok(false) };
        let mut fields = match value {
            Value::Object(fields) => fields,
            Value::String(element) if array => {
                text.push_str(&element);
                return Ok(true);
            }
            other => return Err(self.broken(line, format!("{}, where an object is expected", kind(&other)))),
        };
        if self.column.only_by_default && fields.contains_key("text") {
            let reason = format!(
                "has a column `text`, the first record has not (there `{}` is taken); choose one with --text_column",
                self.column.name
            );
            return Err(self.broken(line, reason));
        }
        match fields.remove(&self.column.name) {
            Some(Value::String(value)) => text.push_str(&value),
            Some(other) => {
                let reason = format!("column `{}` is {}, not a string", self.column.name, kind(&other));
                return Err(self.broken(line, reason));
            }
            None => {
                let columns: Vec<&str> = fields.keys().map(String::as_str).collect();
                return Err(SourceError::Column {
                    path: self.path.clone(),
                    line,
                    column: self.column.name.clone(),
                    columns: columns.join(", "),
                });
            }
        }
        Ok(true)
    }

    fn position(&self) -> (u64, u64) {
        (self.byte, self.line)
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The parser's message without its own line and column, which count within the record.
fn bare(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map_or(message.clone(), |(reason, _)| reason.to_owned())
}
