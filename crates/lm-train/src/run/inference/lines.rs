//! The texts that a model is given: one on the command line, or the lines of a file or of standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::args::Inference;

/// More bytes than any line of text has: 64 MiB.
const LONGEST_LINE: u64 = 64 << 20;

/// A text, and where it stands: for messages.
pub struct Line {
    pub place: String,
    pub text: String,
}

/// Lines as they are read, the last one with or without a line break.
pub struct Lines {
    reader: Box<dyn BufRead>,
    name: String,
    number: u64,
}

/// The lines of a file, or of standard input.
///
/// # Errors
/// If there is no such file.
pub fn of_file(path: &Path) -> Result<Lines> {
    if path == Path::new(Inference::STDIN) {
        return Ok(Lines::new(BufReader::new(io::stdin()), "standard input"));
    }
    let file: File = lm_files::open_regular(path).with_context(|| path.display().to_string())?;
    Ok(Lines::new(BufReader::new(file), &path.display().to_string()))
}

/// The value of a flag, or the lines of standard input that are not blank, as they come.
pub fn given<'a>(flag: &str, text: &'a str) -> Box<dyn Iterator<Item = Result<Line>> + 'a> {
    if text != Inference::STDIN {
        return Box::new(std::iter::once(Ok(Line { place: flag.to_owned(), text: text.to_owned() })));
    }
    let lines = Lines::new(BufReader::new(io::stdin()), "standard input");
    Box::new(lines.filter(|line| line.as_ref().map_or(true, |line| !line.text.trim().is_empty())))
}

impl Lines {
    fn new(reader: impl BufRead + 'static, name: &str) -> Self {
        Self { reader: Box::new(reader), name: name.to_owned(), number: 0 }
    }

    fn read(&mut self) -> Result<Option<Line>> {
        self.number += 1;
        let place = format!("{}:{}", self.name, self.number);
        let mut bytes = Vec::new();
        self.reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes).with_context(|| place.clone())?;
        if bytes.is_empty() {
            return Ok(None);
        }
        if bytes.len() as u64 == LONGEST_LINE && !bytes.ends_with(b"\n") {
            bail!("{place}: the line is longer than 64 MiB; break it into several");
        }
        let Ok(mut text) = String::from_utf8(bytes) else {
            bail!("{place}: not valid UTF-8; convert the text to UTF-8");
        };
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(Some(Line { place, text }))
    }
}

impl Iterator for Lines {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<String>> {
        let lines = Lines::new(io::Cursor::new(bytes.to_vec()), "text");
        lines.map(|line| line.map(|line| format!("{}|{}", line.place, line.text))).collect()
    }

    #[test]
    fn lines_end_as_they_may() -> Result<()> {
        assert_eq!(read(b"one\r\n\n two \nlast")?, ["text:1|one", "text:2|", "text:3| two ", "text:4|last"]);
        assert_eq!(read(b"one\n")?, ["text:1|one"]);
        assert!(read(b"")?.is_empty());
        let line = read(b"one\n\xff\n").expect_err("no text").to_string();
        assert!(line.starts_with("text:2: not valid UTF-8"), "{line}");
        Ok(())
    }

    #[test]
    fn a_value_is_one_text() -> Result<()> {
        let texts: Vec<Line> = given("--fill", "a\nb").collect::<Result<_>>()?;
        assert_eq!((texts.len(), texts[0].text.as_str(), texts[0].place.as_str()), (1, "a\nb", "--fill"));
        Ok(())
    }
}
