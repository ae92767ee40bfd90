//! Lines of a text file as Python's universal newlines see them: `\n`, `\r\n` and `\r` end a line, nothing else does.
//! A byte order mark at the start is left out, which Python makes part of the first line.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use super::error::{LONGEST_ROW, SourceError, failed};
use super::format::{Format, RowReader, Start, open, push_utf8};
use super::kind::BYTE_ORDER_MARK;

pub(super) const FORMAT: Format =
    Format { name: "Txt", extensions: &["txt"], sample: None, open: |start| Ok(Box::new(Reader::open(start)?)) };

struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    bytes: Vec<u8>,
    keep_linebreaks: bool,
    byte: u64,
    line: u64,
}

impl Reader {
    fn open(&Start { path, keep_linebreaks, byte, line, .. }: &Start<'_>) -> Result<Self, SourceError> {
        let mut file = open(path)?;
        file.seek(SeekFrom::Start(byte)).map_err(|source| failed(path, source))?;
        let input = BufReader::with_capacity(1 << 18, file);
        let mut reader = Self { path: path.into(), input, bytes: Vec::new(), keep_linebreaks, byte, line };
        if byte == 0 && reader.input.fill_buf().map_err(|source| failed(path, source))?.starts_with(BYTE_ORDER_MARK) {
            reader.advance(BYTE_ORDER_MARK.len());
        }
        Ok(reader)
    }

    /// Reads up to and including the end of the line, or more than a line may have; the ending itself is not kept. None
    /// at the end of the file.
    fn read_line(&mut self) -> std::io::Result<Option<bool>> {
        self.bytes.clear();
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() || self.bytes.len() > LONGEST_ROW {
                return Ok(if self.bytes.is_empty() { None } else { Some(false) });
            }
            let Some(end) = buffer.iter().position(|&byte| byte == b'\n' || byte == b'\r') else {
                let length = buffer.len();
                self.bytes.extend_from_slice(buffer);
                self.advance(length);
                continue;
            };
            let carriage_return = buffer[end] == b'\r';
            self.bytes.extend_from_slice(&buffer[..end]);
            self.advance(end + 1);
            if carriage_return && self.input.fill_buf()?.first() == Some(&b'\n') {
                self.advance(1);
            }
            return Ok(Some(true));
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.input.consume(bytes);
        self.byte += bytes as u64;
    }
}

impl RowReader for Reader {
    fn read(&mut self, text: &mut String) -> Result<bool, SourceError> {
        let Some(ended) = self.read_line().map_err(|source| failed(&self.path, source))? else { return Ok(false) };
        if self.bytes.len() > LONGEST_ROW {
            return Err(SourceError::TooLong {
                path: self.path.clone(),
                line: self.line,
                what: "the line",
                hint: "break it into lines, such as one per paragraph",
            });
        }
        push_utf8(text, &self.bytes, &self.path, self.line)?;
        if ended && self.keep_linebreaks {
            text.push('\n');
        }
        self.line += 1;
        Ok(true)
    }

    fn position(&self) -> (u64, u64) {
        (self.byte, self.line)
    }
}
