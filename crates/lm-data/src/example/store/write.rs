//! Writing the parts of a store in constant memory.

use std::fs::{DirEntry, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use lm_files::NewFile;
use sha2::{Digest, Sha256};

use super::{Codes, HEADER, Header, MAGIC, Statistics, StoreError, VERSION, checksum};
use crate::digest;

/// Removes what killed processes have left in the folder: unfinished parts that nobody has written to for a day.
fn remove_abandoned(folder: &Path) {
    let old = |file: &DirEntry| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|time| time.elapsed().ok());
        name.starts_with(".tokens-") && name.ends_with(".tmp") && age.is_some_and(|age| age.as_secs() > 24 * 3600)
    };
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(old) {
        // A file that cannot be removed is in nobody's way.
        let _ = std::fs::remove_file(file.path());
    }
}

/// Writes a part example by example in constant memory; nothing has the final name before [`PartWriter::finish`].
pub(crate) struct PartWriter {
    path: PathBuf,
    file: NewFile,
    ends: BufWriter<File>,
    codes: Codes,
    body: Vec<u8>,
    digest: Sha256,
    pub statistics: Statistics,
}

impl PartWriter {
    pub fn create(path: &Path, codes: Codes) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { path: path.into(), action: "create", source };
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        remove_abandoned(folder);
        let mut file = NewFile::create(path).map_err(failed)?;
        let ends = tempfile::tempfile_in(folder).map_err(failed)?;
        file.file().write_all(&[0; HEADER]).map_err(failed)?;
        Ok(Self {
            path: path.into(),
            file,
            ends: BufWriter::new(ends),
            codes,
            body: Vec::with_capacity(2 * digest::PIECE),
            digest: Sha256::new(),
            statistics: Statistics::default(),
        })
    }

    /// Appends an example given as packed tokens.
    pub fn write(&mut self, example: &[u32]) -> Result<(), StoreError> {
        if example.len() as u64 > self.statistics.longest {
            (self.statistics.longest, self.statistics.longest_at) = (example.len() as u64, self.statistics.examples);
        }
        self.statistics.tokens += example.len() as u64;
        self.statistics.examples += 1;
        let end = self.statistics.tokens.to_ne_bytes();
        let written = self.codes.append(&mut self.body, example).and_then(|()| self.ends.write_all(&end));
        written.and_then(|()| self.flush_pieces()).map_err(|source| self.failed(source))
    }

    /// Bytes of the part so far.
    pub fn bytes(&self) -> u64 {
        self.codes.bytes(self.statistics.tokens).unwrap_or(u64::MAX) + 8 * self.statistics.examples
    }

    /// Writes the header, flushes to the disk and gives the part its name. `next` says how the text goes on after it; it is
    /// empty after the last part.
    pub fn finish(mut self, key: [u8; 32], number: usize, next: &[u8]) -> Result<(), StoreError> {
        self.complete(key, number, next).map_err(|source| self.failed(source))?;
        self.file.publish().map_err(|source| StoreError::Io { path: self.path, action: "write", source })
    }

    fn complete(&mut self, key: [u8; 32], number: usize, next: &[u8]) -> io::Result<()> {
        // All pieces written so far are whole, so that the body is as aligned as the file.
        self.body.resize(self.body.len().next_multiple_of(8), 0);
        self.ends.rewind()?;
        while self.ends.get_ref().take(digest::PIECE as u64).read_to_end(&mut self.body)? > 0 {
            self.flush_pieces()?;
        }
        self.body.extend_from_slice(next);
        self.flush_pieces()?;
        if !self.body.is_empty() {
            self.digest.update(Sha256::digest(&self.body));
            self.file.file().write_all(&self.body)?;
        }
        let mut header = Header {
            magic: MAGIC,
            version: VERSION,
            key,
            checksum: [0; 32],
            number: number as u64,
            next: next.len() as u64,
            codes: self.codes,
            statistics: self.statistics,
        };
        header.checksum = checksum(&header, self.digest.clone().finalize().into());
        self.file.file().seek(SeekFrom::Start(0))?;
        self.file.file().write_all(bytemuck::bytes_of(&header))
    }

    /// Writes out the full pieces of the body, so that a piece of the checksum is a piece of the file.
    fn flush_pieces(&mut self) -> io::Result<()> {
        let full = self.body.len() / digest::PIECE * digest::PIECE;
        if full == 0 {
            return Ok(());
        }
        for piece in self.body[..full].chunks(digest::PIECE) {
            self.digest.update(Sha256::digest(piece));
        }
        self.file.file().write_all(&self.body[..full])?;
        self.body.drain(..full);
        Ok(())
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), action: "write", source }
    }
}
