//! Lines, paragraphs or the whole of a text file. Lines are those of Python's universal newlines: `\n`, `\r\n` and `\r` end
//! one, nothing else does.
//! A byte order mark at the start is left out, which Python makes part of the first line.

use std::io::BufRead;
use std::path::PathBuf;

use super::compression::{self, Input};
use super::error::{LONGEST_ROW, SourceError, failed};
use super::format::{Format, RowOptions, RowReader, SampleBy, Start, not_utf8};
use super::kind::BYTE_ORDER_MARK;
use super::mark::Mark;

pub(super) const FORMAT: Format = Format {
    name: "Txt",
    extensions: &["txt"],
    begins: None,
    may_be_empty: true,
    sample: None,
    groups: None,
    open: |start| Ok(Box::new(Reader::open(start)?)),
};

struct Reader {
    path: PathBuf,
    input: Input,
    keep_linebreaks: bool,
    sample_by: SampleBy,
    /// Bytes that a row is known to have about.
    expected: usize,
    byte: u64,
    line: u64,
}

impl Reader {
    fn open(&Start { place, options, mark: Mark { byte, line, .. }, .. }: &Start<'_>) -> Result<Self, SourceError> {
        let input = compression::open(place, byte)?;
        let &RowOptions { keep_linebreaks, sample_by, .. } = options;
        let left = match sample_by {
            SampleBy::Document => place.bytes().map_err(|source| failed(&place.path, source))?.saturating_sub(byte),
            _ => 0,
        };
        let expected = usize::try_from(left).map_or(LONGEST_ROW, |left| left.min(LONGEST_ROW));
        let mut reader = Self { path: place.path.clone(), input, keep_linebreaks, sample_by, expected, byte, line };
        if byte == 0
            && reader.input.fill_buf().map_err(|source| failed(&place.path, source))?.starts_with(BYTE_ORDER_MARK)
        {
            reader.advance(BYTE_ORDER_MARK.len());
        }
        Ok(reader)
    }

    /// Adds the next line, without its ending, which it may lack at the end of the file: then false. None where there is
    /// no more, or more than a row may have.
    fn read_line(&mut self, bytes: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
        let before = bytes.len();
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() || bytes.len() > LONGEST_ROW {
                return Ok(if bytes.len() == before { None } else { Some(false) });
            }
            let Some(end) = buffer.iter().position(|&byte| byte == b'\n' || byte == b'\r') else {
                let length = buffer.len();
                bytes.extend_from_slice(buffer);
                self.advance(length);
                continue;
            };
            let carriage_return = buffer[end] == b'\r';
            bytes.extend_from_slice(&buffer[..end]);
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

    /// One line; whether there was one.
    fn read_one_line(&mut self, bytes: &mut Vec<u8>) -> std::io::Result<bool> {
        let Some(ended) = self.read_line(bytes)? else { return Ok(false) };
        if ended && self.keep_linebreaks {
            bytes.push(b'\n');
        }
        self.line += 1;
        Ok(true)
    }

    /// Lines, joined by `\n`, up to the next two line ends in a row if `paragraph`, else to the end; none of nothing. As
    /// the text files of `datasets`, a paragraph before a third line end begins with it, and the last one keeps its own.
    fn read_lines(&mut self, bytes: &mut Vec<u8>, paragraph: bool) -> std::io::Result<bool> {
        while let Some(ended) = self.read_line(bytes)? {
            if bytes.len() > LONGEST_ROW {
                return Ok(true);
            }
            if ended {
                bytes.push(b'\n');
                self.line += 1;
            }
            if paragraph && bytes.ends_with(b"\n\n") {
                bytes.truncate(bytes.len() - 2);
                if !bytes.is_empty() {
                    return Ok(true);
                }
            }
        }
        Ok(!bytes.is_empty())
    }
}

impl RowReader for Reader {
    fn read(&mut self, text: &mut String) -> Result<bool, SourceError> {
        // A row may be a whole document: it is not copied.
        let (mut bytes, line) = (std::mem::take(text).into_bytes(), self.line);
        bytes.reserve_exact(std::mem::take(&mut self.expected));
        let (more, what) = match self.sample_by {
            SampleBy::Line => (self.read_one_line(&mut bytes), "the line"),
            SampleBy::Paragraph => (self.read_lines(&mut bytes, true), "the paragraph"),
            SampleBy::Document => (self.read_lines(&mut bytes, false), "the document"),
        };
        if !more.map_err(|source| failed(&self.path, source))? {
            return Ok(false);
        }
        if bytes.len() > LONGEST_ROW {
            return Err(SourceError::TooLong {
                path: self.path.clone(),
                line,
                what,
                hint: "break it into lines, such as one per paragraph",
            });
        }
        *text = String::from_utf8(bytes)
            .map_err(|error| not_utf8(error.as_bytes(), error.utf8_error(), &self.path, line))?;
        Ok(true)
    }

    fn position(&self) -> Mark {
        Mark::at(self.byte, self.line)
    }
}
