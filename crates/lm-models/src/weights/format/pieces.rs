//! A file that is read at any place, never beyond its end, however large the pieces are that it claims to have.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// An open file and its length when it was opened.
pub(super) struct Pieces {
    file: Mutex<File>,
    length: u64,
}

impl Pieces {
    pub fn open(path: &Path) -> Result<Self> {
        let file = lm_files::open_regular(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file: Mutex::new(file), length })
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends `length` bytes from `start` on.
    pub fn read_into(&self, start: u64, length: u64, bytes: &mut Vec<u8>) -> Result<()> {
        if start.checked_add(length).is_none_or(|end| end > self.length) {
            let reason = format!("{length} bytes from {start} on are wanted, the file has {}", self.length);
            return Err(Error::new(ErrorKind::UnexpectedEof, reason));
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        let read = file.by_ref().take(length).read_to_end(bytes)?;
        if read as u64 != length {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the file became shorter"));
        }
        Ok(())
    }
}
