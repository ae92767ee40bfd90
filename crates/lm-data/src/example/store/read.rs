//! Opening a store and reading its examples.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::super::Example;
use super::{Codes, HEADER, Header, MAGIC, Statistics, StoreError, VERSION, checksum, length, token_bytes};
use crate::digest;
use crate::memo::{Identity, remember, remembered};

/// Tokenized examples on disk; clones share the open files.
#[derive(Clone)]
pub struct ExampleStore {
    /// Each with the number of examples before it.
    parts: Arc<[(u64, Arc<Part>)]>,
    /// Examples and weights of the corpora that it consists of, if these are mixed.
    corpora: Arc<[(u64, f64)]>,
    key: [u8; 32],
    statistics: Statistics,
    length: usize,
    /// Open for as long as the store must not be removed.
    locks: Vec<Arc<File>>,
}

/// An open part of a store.
pub(crate) struct Part {
    file: File,
    path: PathBuf,
    /// When it was written.
    modified: SystemTime,
    codes: Codes,
    /// Where the ends of the examples lie in the file.
    ends: u64,
    pub statistics: Statistics,
}

/// How much of a part is looked at before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Its header and size: this process has just written it.
    Header,
    /// All of it, unless that was done since it last changed.
    Once,
    /// All of it.
    Whole,
}

/// Under what is remembered that a part is whole, and where.
fn whole(path: &Path) -> io::Result<(&Path, Identity)> {
    let mut identity = Identity::new("a store that is whole");
    identity.add(path)?;
    Ok((path.parent().unwrap_or(Path::new(".")), identity))
}

impl Part {
    /// Opens a part, and checks that it is whole and was built from what `key` stands for; with what says how the text goes on
    /// after it, which is empty after the last.
    pub fn open(path: &Path, key: &[u8; 32], number: usize, check: Check) -> Result<(Self, Vec<u8>), StoreError> {
        let damaged = |reason| StoreError::Damaged { path: path.into(), reason };
        let failed = |source| StoreError::Io { path: path.into(), action: "read", source };
        let file = lm_files::open_regular(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mut header = Header::default();
        if metadata.len() < HEADER as u64 {
            return Err(damaged("shorter than its header"));
        }
        read_at(&file, 0, bytemuck::bytes_of_mut(&mut header)).map_err(failed)?;
        if header.magic != MAGIC || header.version != VERSION {
            return Err(damaged("not a store of this version"));
        }
        if header.key != *key || header.number != number as u64 {
            return Err(damaged("built from other data or options"));
        }
        let (codes, statistics) = (header.codes, header.statistics);
        let tokens = token_bytes(codes, &statistics).filter(|_| codes.is_known());
        let Some(tokens) = tokens.filter(|_| length(&header) == Some(metadata.len())) else {
            return Err(damaged("its length does not match its header"));
        };
        if check != Check::Header {
            let (folder, identity) = whole(path).map_err(failed)?;
            // Only what is whole is remembered.
            remembered(folder, &identity, check == Check::Whole, || {
                let mut body = &file;
                body.seek(SeekFrom::Start(HEADER as u64)).map_err(failed)?;
                let body = digest::of_reader(body).map_err(failed)?;
                let whole = header.checksum == checksum(&header, body);
                if whole { Ok(true) } else { Err(damaged("its checksum does not match its content")) }
            })?;
        }
        let mut next = vec![0; header.next as usize];
        read_at(&file, metadata.len() - header.next, &mut next).map_err(failed)?;
        let modified = metadata.modified().map_err(failed)?;
        let ends = HEADER as u64 + tokens;
        Ok((Self { file, path: path.into(), modified, codes, ends, statistics }, next))
    }

    /// Remembers of a part that was just written and flushed that it is whole: the next start need not read it.
    pub fn remember(&self) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { path: self.path.clone(), action: "read", source };
        let (folder, identity) = whole(&self.path).map_err(failed)?;
        remember(folder, &identity, &true);
        Ok(())
    }

    /// Size of the file, but for what says how the text goes on.
    pub fn bytes(&self) -> u64 {
        self.ends + 8 * self.statistics.examples
    }

    fn get(&self, index: u64) -> Result<Example, StoreError> {
        let (start, end) = self.bounds(index)?;
        let mut tokens = vec![0; self.codes.bytes(end - start).unwrap_or(0) as usize];
        self.read(HEADER as u64 + self.codes.bytes(start).unwrap_or(0), &mut tokens)?;
        // Something else may have been written over it.
        let modified = self.file.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| modified != self.modified) {
            return Err(StoreError::Changed { path: self.path.clone() });
        }
        Ok(Example::from_packed(&self.codes.packed(&tokens)))
    }

    /// Where an example that there is begins and ends, in tokens.
    fn bounds(&self, index: u64) -> Result<(u64, u64), StoreError> {
        let mut bounds = [0u64; 2];
        match index.checked_sub(1) {
            None => self.read(self.ends, bytemuck::bytes_of_mut(&mut bounds[1]))?,
            Some(before) => self.read(self.ends + 8 * before, bytemuck::cast_slice_mut(&mut bounds))?,
        }
        let [start, end] = bounds;
        let lies_within = start <= end && end <= self.statistics.tokens && end - start <= self.statistics.longest;
        if lies_within { Ok((start, end)) } else { Err(StoreError::Changed { path: self.path.clone() }) }
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        read_at(&self.file, at, bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => StoreError::Changed { path: self.path.clone() },
            _ => StoreError::Io { path: self.path.clone(), action: "read", source },
        })
    }
}

impl ExampleStore {
    /// Of all its parts, in order.
    pub(crate) fn new(key: [u8; 32], parts: Vec<Part>) -> Self {
        Self::of_parts(key, parts.into_iter().map(Arc::new))
    }

    fn of_parts(key: [u8; 32], parts: impl Iterator<Item = Arc<Part>>) -> Self {
        let mut statistics = Statistics::default();
        let placed = |part: Arc<Part>| {
            let before = statistics.examples;
            statistics.add(&part.statistics);
            (before, part)
        };
        let parts = parts.map(placed).collect();
        let length = statistics.examples as usize;
        Self { parts, corpora: Arc::default(), key, statistics, length, locks: Vec::new() }
    }

    /// The examples of several corpora, to be mixed by weights.
    pub(crate) fn mixed(corpora: &[(Self, f64)]) -> Self {
        let mut key = Sha256::new();
        corpora.iter().for_each(|(store, weight)| key.update([&store.key[..], &weight.to_le_bytes()].concat()));
        let parts = corpora.iter().flat_map(|(store, _)| store.parts.iter().map(|(_, part)| Arc::clone(part)));
        Self {
            corpora: corpora.iter().map(|(store, weight)| (store.statistics.examples, *weight)).collect(),
            locks: corpora.iter().flat_map(|(store, _)| store.locks.iter().cloned()).collect(),
            ..Self::of_parts(key.finalize().into(), parts)
        }
    }

    /// The same store, in use for as long as it or a clone of it is there.
    pub(crate) fn in_use(self, lock: Option<File>) -> Self {
        Self { locks: lock.into_iter().map(Arc::new).collect(), ..self }
    }

    /// Examples and weights of the corpora, if these are mixed.
    pub(crate) fn corpora(&self) -> &[(u64, f64)] {
        &self.corpora
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
        let (part, index) = self.part_of(index);
        part.get(index).map(Some)
    }

    /// The part of an example that there is, and its index there.
    fn part_of(&self, index: usize) -> (&Part, u64) {
        let index = index as u64;
        let (before, part) = &self.parts[self.parts.partition_point(|(before, _)| *before <= index) - 1];
        (part, index - before)
    }

    /// Number of tokens of example `index`; 0 past the end.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn length(&self, index: usize) -> Result<usize, StoreError> {
        if index >= self.length {
            return Ok(0);
        }
        let (part, index) = self.part_of(index);
        let (start, end) = part.bounds(index)?;
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
            Some(last) => {
                let (part, index) = self.part_of(last);
                let before = self.parts.iter().take_while(|(before, _)| before + index < last as u64);
                Ok(before.map(|(_, part)| part.statistics.tokens).sum::<u64>() + part.bounds(index)?.1)
            }
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

    /// Bytes of the whole store on the disk.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, part)| part.bytes()).sum()
    }

    /// What was counted while building; of the whole store, also when it is cut to fewer examples.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
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
    /// A store of these examples, in up to five parts.
    pub(crate) fn of(examples: &[Vec<u32>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let part = |(number, examples): (usize, &[Vec<u32>])| {
            let path = folder.path().join(number.to_string());
            let mut writer = super::PartWriter::create(&path, Codes::WIDE).unwrap();
            examples.iter().for_each(|example| writer.write(example).unwrap());
            writer.finish([0; 32], number, &[]).unwrap();
            Part::open(&path, &[0; 32], number, Check::Header).unwrap().0
        };
        Self::new([0; 32], examples.chunks(examples.len() / 4 + 1).enumerate().map(part).collect())
    }
}
