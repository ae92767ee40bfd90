//! Opening a store and reading its examples.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::super::Example;
use super::{Codes, HEADER, Header, MAGIC, Statistics, StoreError, VERSION, body_length, checksum, token_bytes};
use crate::digest;
use crate::memo::{Identity, remembered};

/// Tokenized examples on disk; clones share the open file.
#[derive(Clone)]
pub struct ExampleStore {
    file: Arc<File>,
    path: Arc<Path>,
    /// When it was written.
    modified: SystemTime,
    key: [u8; 32],
    codes: Codes,
    /// Where the ends of the examples lie in the file.
    ends: u64,
    statistics: Statistics,
    length: usize,
}

/// How much of a store is looked at before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Its header and size: this process has just written it.
    Header,
    /// All of it, unless that was done since it last changed.
    Once,
    /// All of it.
    Whole,
}

impl ExampleStore {
    /// Opens a store and checks that it is whole and was built from what `key` stands for.
    pub(crate) fn open(path: &Path, key: &[u8; 32], check: Check) -> Result<Self, StoreError> {
        let damaged = |reason| StoreError::Damaged { path: path.into(), reason };
        let failed = |source| StoreError::Io { path: path.into(), action: "read", source };
        let file = lm_files::open_regular(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let length = metadata.len();
        let mut header = Header::default();
        if length < HEADER as u64 {
            return Err(damaged("shorter than its header"));
        }
        read_at(&file, 0, bytemuck::bytes_of_mut(&mut header)).map_err(failed)?;
        if header.magic != MAGIC || header.version != VERSION {
            return Err(damaged("not a store of this version"));
        }
        if header.key != *key {
            return Err(damaged("built from other data or options"));
        }
        let (codes, statistics) = (header.codes, header.statistics);
        let body = body_length(codes, &statistics).filter(|_| codes.is_known());
        let ends = token_bytes(codes, &statistics)
            .filter(|_| body.and_then(|body| body.checked_add(HEADER as u64)) == Some(length));
        let Some(ends) = ends else { return Err(damaged("its length does not match its header")) };
        if check != Check::Header {
            let mut identity = Identity::new("a store that is whole");
            identity.add(path).map_err(failed)?;
            let folder = path.parent().unwrap_or(Path::new("."));
            // Only what is whole is remembered.
            remembered(folder, &identity, check == Check::Whole, || {
                let mut body = &file;
                body.seek(SeekFrom::Start(HEADER as u64)).map_err(failed)?;
                let body = digest::of_reader(body).map_err(failed)?;
                let whole = header.checksum == checksum(&header, body);
                if whole { Ok(true) } else { Err(damaged("its checksum does not match its content")) }
            })?;
        }
        Ok(Self {
            file: Arc::new(file),
            path: path.into(),
            modified: metadata.modified().map_err(failed)?,
            key: header.key,
            codes,
            ends: HEADER as u64 + ends,
            length: statistics.examples as usize,
            statistics,
        })
    }

    /// What the store was built from, in hexadecimal: a digest of the text, the tokenizer and the options.
    pub fn key(&self) -> String {
        self.key.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The same store, cut to its first `count` examples.
    pub fn take(&self, count: usize) -> Self {
        let mut store = self.clone();
        store.length = self.length.min(count);
        store
    }

    /// Example `index`; None past the end.
    ///
    /// # Errors
    /// If the file cannot be read, or is not what it was.
    pub fn get(&self, index: usize) -> Result<Option<Example>, StoreError> {
        if index >= self.length {
            return Ok(None);
        }
        let (start, end) = self.bounds(index)?;
        let mut tokens = vec![0; self.codes.bytes(end - start).unwrap_or(0) as usize];
        self.read(HEADER as u64 + self.codes.bytes(start).unwrap_or(0), &mut tokens)?;
        // Something else may have been written over it.
        let modified = self.file.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| modified != self.modified) {
            return Err(StoreError::Changed { path: self.path.to_path_buf() });
        }
        Ok(Some(Example::from_packed(&self.codes.packed(&tokens))))
    }

    /// Number of tokens of example `index`; 0 past the end.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn length(&self, index: usize) -> Result<usize, StoreError> {
        if index >= self.length {
            return Ok(0);
        }
        let (start, end) = self.bounds(index)?;
        Ok((end - start) as usize)
    }

    /// Number of tokens of all examples.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn total_tokens(&self) -> Result<u64, StoreError> {
        match self.length.checked_sub(1) {
            None => Ok(0),
            Some(_) if self.length as u64 == self.statistics.examples => Ok(self.statistics.tokens),
            Some(last) => Ok(self.bounds(last)?.1),
        }
    }

    /// Which example is the longest; of several the first.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn longest(&self) -> Result<usize, StoreError> {
        if self.statistics.longest_at < self.length as u64 {
            return Ok(self.statistics.longest_at as usize);
        }
        let (mut longest, mut most) = (0, 0);
        for index in 0..self.length {
            let length = self.length(index)?;
            if length > most {
                (longest, most) = (index, length);
            }
        }
        Ok(longest)
    }

    /// Size of the file of the whole store.
    pub fn bytes(&self) -> u64 {
        self.ends + 8 * self.statistics.examples
    }

    /// What was counted while building; of the whole store, also when it is cut to fewer examples.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Where an example that there is begins and ends, in tokens.
    fn bounds(&self, index: usize) -> Result<(u64, u64), StoreError> {
        let mut bounds = [0u64; 2];
        match index.checked_sub(1) {
            None => self.read(self.ends, bytemuck::bytes_of_mut(&mut bounds[1]))?,
            Some(before) => self.read(self.ends + 8 * before as u64, bytemuck::cast_slice_mut(&mut bounds))?,
        }
        let [start, end] = bounds;
        let lies_within = start <= end && end <= self.statistics.tokens && end - start <= self.statistics.longest;
        if lies_within { Ok((start, end)) } else { Err(StoreError::Changed { path: self.path.to_path_buf() }) }
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        read_at(&self.file, at, bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => StoreError::Changed { path: self.path.to_path_buf() },
            _ => StoreError::Io { path: self.path.to_path_buf(), action: "read", source },
        })
    }
}

/// Fills `bytes` from a place in a file that several threads read.
#[cfg(unix)]
fn read_at(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut at: u64, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                at += read as u64;
                bytes = &mut bytes[read..];
            }
        }
    }
    Ok(())
}

#[cfg(test)]
impl ExampleStore {
    /// A store of these examples.
    pub(crate) fn of(examples: &[Vec<u32>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let mut writer = super::StoreWriter::create(&path, Codes::WIDE).unwrap();
        writer.write(examples).unwrap();
        writer.finish([0; 32]).unwrap();
        Self::open(&path, &[0; 32], Check::Header).unwrap()
    }
}
