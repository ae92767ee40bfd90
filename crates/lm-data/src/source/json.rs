//! Objects of a json file: one after another, on lines of their own or not, or in one array (which may hold strings
//! instead), read one by one. The array may be the value of a key of the file's only object (`field` of `datasets`).

use std::io::{self, BufRead};
use std::path::PathBuf;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use super::column::{Cell, Column, NULL, Sample, listed};
use super::compression::{self, Input};
use super::error::{LONGEST_ROW, SourceError, failed};
use super::format::{Format, RowOptions, RowReader, Start, push_utf8};
use super::kind::BYTE_ORDER_MARK;
use super::mark::Mark;
use super::place::Place;

pub(super) const FORMAT: Format = Format {
    name: "Json",
    extensions: &["json", "jsonl", "ndjson"],
    begins: None,
    may_be_empty: true,
    sample: Some(sample),
    groups: None,
    open: |start| Ok(Box::new(Reader::open(start)?)),
};

struct Reader {
    path: PathBuf,
    input: Input,
    byte: u64,
    line: u64,
    layout: Layout,
    column: Column,
    /// The key whose value is the array.
    field: Option<String>,
    record: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Objects,
    Array { first: bool },
    Finished,
}

/// An object's keys and values, in their order.
struct Object(Vec<(String, Cell)>);

/// A record of the file.
enum Record {
    Object(Object),
    String(String),
}

/// How deep in a value the bytes are that were looked at.
#[derive(Default)]
struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    fn is_outside(&self) -> bool {
        self.depth == 0 && !self.in_string
    }

    /// How many of the bytes that follow belong to an object, an array or a string; None if all do, and more.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.iter().position(|&byte| {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.is_outside()
        });
        end.map(|end| end + 1)
    }
}

impl Reader {
    fn open(&Start { place, column, options, mark }: &Start<'_>) -> Result<Self, SourceError> {
        let Mark { byte, line, .. } = mark;
        let (input, path) = (compression::open(place, 0)?, &place.path);
        let mut reader = Self {
            path: path.into(),
            input,
            byte: 0,
            line: 1,
            layout: Layout::Objects,
            column: column.clone(),
            field: options.field.clone(),
            record: Vec::new(),
        };
        reader.start(byte > 0)?;
        if byte > 0 {
            (reader.byte, reader.line) = (byte, line);
            reader.input = compression::open(place, byte)?;
            let at_end = reader.input.fill_buf().map_err(|source| failed(path, source))?.is_empty();
            reader.layout = match reader.layout {
                Layout::Array { .. } if at_end => Layout::Finished,
                Layout::Array { .. } => Layout::Array { first: false },
                other => other,
            };
        }
        Ok(reader)
    }

    /// Skips what precedes the first record and tells the layout, which of a `field` is known where reading `resumes`.
    fn start(&mut self, resumes: bool) -> Result<(), SourceError> {
        let marked = self.input.fill_buf().map(|start| start.starts_with(BYTE_ORDER_MARK));
        if marked.map_err(|source| failed(&self.path, source))? {
            self.advance(BYTE_ORDER_MARK.len());
        }
        let first = self.peek()?;
        let array = match self.field.clone() {
            None => first == Some(b'['),
            Some(_) if resumes => true,
            Some(field) => {
                if first != Some(b'{') {
                    return Err(self.broken(self.line, format!("no object, of whose key `{field}` the rows are read")));
                }
                self.advance(1);
                if !self.find(&field, true)? {
                    return Err(
                        self.broken(self.line, format!("the object has no key `{field}`, of which the rows are read"))
                    );
                }
                if self.peek()? != Some(b'[') {
                    return Err(self.broken(self.line, format!("the value of `{field}` is no array of rows")));
                }
                true
            }
        };
        if array {
            if !resumes {
                self.advance(1);
            }
            self.layout = Layout::Array { first: true };
        }
        Ok(())
    }

    /// Goes past keys and values of an object, of which some were read unless this is the `first`, up to the value of
    /// `field`; false at the object's end.
    fn find(&mut self, field: &str, mut first: bool) -> Result<bool, SourceError> {
        loop {
            let mut next = self.peek()?;
            if next == Some(b'}') {
                self.advance(1);
                return Ok(false);
            }
            if next == Some(b',') && !first {
                self.advance(1);
                next = self.peek()?;
            } else if !first {
                return Err(self.broken(self.line, "expected a comma or } after a value of the object"));
            }
            first = false;
            if next != Some(b'"') {
                return Err(self.broken(self.line, "expected a key of the object"));
            }
            let line = self.line;
            self.take_record(line)?;
            let key: String = self.parse(line)?;
            if self.peek()? != Some(b':') {
                return Err(self.broken(self.line, "expected a colon after a key of the object"));
            }
            self.advance(1);
            if key == field {
                return Ok(true);
            }
            self.peek()?;
            self.skip_value()?;
        }
    }

    /// Goes past a value, whatever it is.
    fn skip_value(&mut self) -> Result<(), SourceError> {
        let (line, mut nesting) = (self.line, Nesting::default());
        loop {
            let buffer = self.input.fill_buf().map_err(|source| failed(&self.path, source))?;
            if buffer.is_empty() {
                return Err(self.broken(line, "the file ends inside the value that begins here"));
            }
            let is_end = |byte: u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
            // A number or a name ends where something else begins.
            let bare = nesting.is_outside() && !matches!(buffer[0], b'"' | b'{' | b'[');
            let end = if bare { buffer.iter().position(|&byte| is_end(byte)) } else { nesting.end(buffer) };
            let length = end.unwrap_or(buffer.len());
            self.advance(length);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// The next record and the line it starts on; None at the end.
    fn next_record(&mut self) -> Result<Option<(u64, Record)>, SourceError> {
        let next = self.peek()?;
        let line = self.line;
        match (self.layout, next) {
            (Layout::Finished, _) | (Layout::Objects, None) => return Ok(None),
            (Layout::Array { first: true }, Some(b']')) => {
                self.finish()?;
                return Ok(None);
            }
            (_, Some(b'{')) | (Layout::Array { .. }, Some(b'"')) => {}
            (Layout::Array { .. }, Some(_)) => {
                return Err(self.broken(line, "expected an object or a string as element of the array"));
            }
            (Layout::Array { .. }, None) => {
                return Err(self.broken(line, "the file ends inside the array: the closing ] is missing"));
            }
            (Layout::Objects, Some(byte)) => {
                return Err(self.broken(line, format!("{}, where an object is expected", begun(byte))));
            }
        }
        self.take_record(line)?;
        let record = match self.record.first() {
            Some(b'"') => Record::String(self.parse(line)?),
            _ => Record::Object(self.parse(line)?),
        };
        if self.layout != Layout::Objects {
            self.after_element()?;
        }
        Ok(Some((line, record)))
    }

    /// The bytes taken, which begin on this line, as a value.
    fn parse<T: DeserializeOwned>(&self, line: u64) -> Result<T, SourceError> {
        let mut text = String::new();
        push_utf8(&mut text, &self.record, &self.path, line)?;
        lm_files::json::from_str(&text).map_err(|error| {
            // A line break that must not be there counts as the beginning of the next line.
            let (at, place) = match (line + error.line().saturating_sub(1) as u64, error.column()) {
                (at, 0) if at > line => (at - 1, "the end of the line".to_owned()),
                (at, column) => (at, format!("column {column}")),
            };
            self.broken(at, format!("not valid JSON at {place}: {}", bare(&error)))
        })
    }

    /// Why the record that begins on this line has no end: a mistake in it, or nothing but the end of the file.
    fn unclosed(&self, line: u64) -> SourceError {
        match serde_json::from_slice::<serde::de::IgnoredAny>(&self.record) {
            Err(error) if !error.is_eof() => self.parse::<Object>(line).err(),
            _ => None,
        }
        .unwrap_or_else(|| self.broken(line, "the file ends inside the record that begins here"))
    }

    /// Takes the comma or bracket after an element of the array.
    fn after_element(&mut self) -> Result<(), SourceError> {
        match self.peek()? {
            Some(b',') => {
                self.advance(1);
                self.layout = Layout::Array { first: false };
                Ok(())
            }
            Some(b']') => self.finish(),
            Some(_) => Err(self.broken(self.line, "expected a comma or ] after an element of the array")),
            None => Err(self.broken(self.line, "the file ends inside the array: the closing ] is missing")),
        }
    }

    /// Takes bytes up to the end of the object or string that begins on this line.
    fn take_record(&mut self, line: u64) -> Result<(), SourceError> {
        self.record.clear();
        let mut nesting = Nesting::default();
        loop {
            let buffer = self.input.fill_buf().map_err(|source| failed(&self.path, source))?;
            if buffer.is_empty() {
                return Err(self.unclosed(line));
            }
            let end = nesting.end(buffer);
            let length = end.unwrap_or(buffer.len());
            self.record.extend_from_slice(&buffer[..length]);
            self.advance(length);
            if self.record.len() > LONGEST_ROW {
                return Err(SourceError::TooLong {
                    path: self.path.clone(),
                    line,
                    what: "the record",
                    hint: "is a quote or a brace opened and never closed?",
                });
            }
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// Takes the closing bracket, after which nothing may follow but, of a field, the rest of the object.
    fn finish(&mut self) -> Result<(), SourceError> {
        self.advance(1);
        self.layout = Layout::Finished;
        let Some(field) = self.field.clone() else { return self.nothing_follows("array") };
        if self.find(&field, false)? {
            return Err(self.broken(self.line, format!("the object has the key `{field}` twice")));
        }
        self.nothing_follows("object")
    }

    fn nothing_follows(&mut self, what: &str) -> Result<(), SourceError> {
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(self.broken(self.line, format!("there is more after the end of the {what}"))),
        }
    }

    /// The byte after white space, which is skipped; None at the end.
    fn peek(&mut self) -> Result<Option<u8>, SourceError> {
        self.skip_blank().map_err(|source| failed(&self.path, source))
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

    /// The value of the wanted column.
    fn text_of(&self, line: u64, Object(mut fields): Object) -> Result<String, SourceError> {
        let name = &self.column.name;
        if self.column.is_first && fields.iter().any(|(key, _)| key == "text") {
            let reason = format!(
                "has a column `text`, which the first rows have not (there `{name}` is taken); choose one with --text_column"
            );
            return Err(self.broken(line, reason));
        }
        // Of a name that comes twice the last one counts, as in Python.
        match fields.iter().rposition(|(key, _)| key == name).map(|at| fields.swap_remove(at).1) {
            Some(Cell::Text(text)) => Ok(text),
            // As in files of columns.
            Some(Cell::Other(NULL)) => Ok(String::new()),
            Some(Cell::Other(kind)) => Err(self.broken(line, format!("column `{name}` is {kind}, not a string"))),
            None => {
                let columns: Vec<String> = fields.into_iter().map(|(key, _)| key).collect();
                Err(SourceError::Column {
                    path: self.path.clone(),
                    line,
                    column: name.clone(),
                    columns: listed(&columns),
                })
            }
        }
    }
}

impl RowReader for Reader {
    fn read(&mut self, text: &mut String) -> Result<bool, SourceError> {
        match self.next_record()? {
            None => return Ok(false),
            Some((_, Record::String(element))) => *text = element,
            Some((line, Record::Object(object))) => *text = self.text_of(line, object)?,
        }
        Ok(true)
    }

    fn position(&self) -> Mark {
        Mark::at(self.byte, self.line)
    }
}

/// The columns of the first records, and what the first of them holds. Strings make one column, `text`, as in Python.
fn sample(place: &Place, options: &RowOptions) -> Result<Sample, SourceError> {
    let mut reader = Reader::open(&Start { place, column: &Column::default(), options, mark: Mark::at(0, 1) })?;
    let mut sample = Sample { line: reader.line, ..Sample::default() };
    let mut rows = 0;
    while !Sample::is_full(rows, reader.byte as usize) {
        let Some((line, record)) = reader.next_record()? else { break };
        rows += 1;
        let fields = match record {
            Record::Object(Object(fields)) => fields,
            Record::String(element) => vec![("text".to_owned(), Cell::Text(element))],
        };
        if rows == 1 {
            sample.line = line;
            if fields.is_empty() {
                return Err(reader.broken(line, "an object without columns"));
            }
        }
        for (name, cell) in fields {
            if !sample.columns.contains(&name) {
                sample.columns.push(name.clone());
            }
            if sample.columns.first() == Some(&name) {
                sample.first.push(cell);
            }
        }
    }
    Ok(sample)
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// What begins with this byte.
fn begun(byte: u8) -> String {
    match byte {
        b'[' => "an array".into(),
        b'"' => "a string".into(),
        b'-' | b'0'..=b'9' => "a number".into(),
        b',' => "a comma (objects follow one another without one, or stand in an array)".into(),
        b'!'..=b'~' => format!("`{}`", char::from(byte)),
        _ => "something else than JSON".into(),
    }
}

/// The parser's message without its own line and column, which count within the record.
fn bare(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map_or(message.clone(), |(reason, _)| reason.to_owned())
}
