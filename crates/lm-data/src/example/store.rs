//! The memory-mapped store of examples: a header, the tokens of all examples one after another, and where each ends.
//!
//! ```text
//! header  magic, version, key of what it was built from, counts, SHA-256 of everything else
//! tokens  u32 each; bit 31 marks special tokens; padded to a multiple of 8 bytes
//! ends    u64 each: example i is tokens[ends[i-1]..ends[i]]
//! ```
//! A store is written under a temporary name, flushed and renamed; opening one checks the whole of it. Numbers are in
//! the byte order of the machine: a file from a machine of the other order does not match and is built again.

use std::fs::{DirEntry, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use memmap2::Mmap;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::Example;
use crate::digest;

const MAGIC: u64 = u64::from_le_bytes(*b"LMTOKENS");
const VERSION: u64 = 1;

/// What is known of the examples of a store.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable, Serialize)]
pub struct Statistics {
    /// Rows read from the files, blank ones included.
    pub rows: u64,
    /// Examples.
    pub examples: u64,
    /// Tokens of all examples, without padding.
    pub tokens: u64,
    /// Tokens of the longest example.
    pub longest: u64,
    /// Examples that lost tokens to truncation.
    pub truncated: u64,
    /// Tokens left over at the end of groups of rows, in no example.
    pub dropped: u64,
}

impl Statistics {
    /// Share of padding if every example is padded to `length`.
    pub fn padding_share(&self, length: usize) -> f64 {
        let cells = self.examples as f64 * length as f64;
        if cells > 0.0 { 1.0 - self.tokens as f64 / cells } else { 0.0 }
    }

    /// Share of the examples that lost tokens to truncation.
    pub fn truncated_share(&self) -> f64 {
        if self.examples > 0 { self.truncated as f64 / self.examples as f64 } else { 0.0 }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
struct Header {
    magic: u64,
    version: u64,
    key: [u8; 32],
    checksum: [u8; 32],
    statistics: Statistics,
}

const HEADER: usize = size_of::<Header>();

/// Why a store cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is not the store that is looked for, or is not whole.
    #[error("{path}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: &'static str,
    },
    /// The operating system refuses.
    #[error("{path}: cannot {action} the store of tokenized examples: {source}; --data_cache_dir names another folder")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The reason.
        source: io::Error,
    },
}

/// Tokenized examples on disk, mapped into memory; clones share the map.
#[derive(Clone)]
pub struct ExampleStore {
    map: Arc<Mmap>,
    key: [u8; 32],
    statistics: Statistics,
    length: usize,
}

impl ExampleStore {
    /// Opens a store and checks that it is whole and was built from what `key` stands for.
    pub(crate) fn open(path: &Path, key: &[u8; 32]) -> Result<Self, StoreError> {
        let damaged = |reason| StoreError::Damaged { path: path.into(), reason };
        let failed = |source| StoreError::Io { path: path.into(), action: "read", source };
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the map is read-only, and the file never changes while mapped: stores are written under another name
        // and renamed into place, never edited, and a replaced file lives on for those who have it open.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        let header: Header = match map.get(..HEADER) {
            Some(bytes) => bytemuck::pod_read_unaligned(bytes),
            None => return Err(damaged("shorter than its header")),
        };
        if header.magic != MAGIC || header.version != VERSION {
            return Err(damaged("not a store of this version"));
        }
        if header.key != *key {
            return Err(damaged("built from other data or options"));
        }
        let body = &map[HEADER..];
        if header.checksum != checksum(&header, digest::of_bytes(body)) {
            return Err(damaged("its checksum does not match its content"));
        }
        let statistics = header.statistics;
        if body_length(&statistics) != Some(body.len() as u64) {
            return Err(damaged("its length does not match its header"));
        }
        let store = Self { map: Arc::new(map), key: header.key, length: statistics.examples as usize, statistics };
        let ends = store.ends();
        if !ends.is_sorted() || ends.last().copied().unwrap_or(0) != statistics.tokens {
            return Err(damaged("its examples do not lie in order"));
        }
        Ok(store)
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
    pub fn get(&self, index: usize) -> Option<Example> {
        let (start, end) = self.bounds(index)?;
        self.tokens().get(start..end).map(Example::from_packed)
    }

    /// Number of tokens of example `index`; 0 past the end.
    pub fn length(&self, index: usize) -> usize {
        self.bounds(index).map_or(0, |(start, end)| end - start)
    }

    /// Number of tokens of all examples.
    pub fn total_tokens(&self) -> u64 {
        self.length.checked_sub(1).and_then(|last| self.ends().get(last).copied()).unwrap_or(0)
    }

    /// What was counted while building; of the whole store, also when it is cut to fewer examples.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn bounds(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.length {
            return None;
        }
        let ends = self.ends();
        let start = if index == 0 { 0 } else { ends[index - 1] };
        Some((start as usize, ends[index] as usize))
    }

    fn tokens(&self) -> &[u32] {
        bytemuck::cast_slice(&self.map[HEADER..HEADER + 4 * self.statistics.tokens as usize])
    }

    fn ends(&self) -> &[u64] {
        let start = HEADER + padded(self.statistics.tokens) as usize;
        bytemuck::cast_slice(&self.map[start..start + 8 * self.statistics.examples as usize])
    }
}

/// Bytes that so many tokens take.
fn padded(tokens: u64) -> u64 {
    (4 * tokens).next_multiple_of(8)
}

fn body_length(statistics: &Statistics) -> Option<u64> {
    let tokens = statistics.tokens.checked_mul(4)?.checked_next_multiple_of(8)?;
    tokens.checked_add(statistics.examples.checked_mul(8)?)
}

fn checksum(header: &Header, body: [u8; 32]) -> [u8; 32] {
    let header = Header { checksum: body, ..*header };
    Sha256::digest(bytemuck::bytes_of(&header)).into()
}

#[cfg(test)]
impl ExampleStore {
    /// A store of these examples.
    pub(crate) fn of(examples: &[Vec<u32>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let mut writer = StoreWriter::create(&path).unwrap();
        writer.write(examples).unwrap();
        writer.finish([0; 32]).unwrap();
        Self::open(&path, &[0; 32]).unwrap()
    }
}

/// Ending of a store that is being written.
const UNFINISHED: &str = ".part";

/// Removes what killed processes have left: unfinished stores that nobody has written to for a day.
fn remove_abandoned(folder: &Path) {
    let old = |file: &DirEntry| {
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|time| time.elapsed().ok());
        file.file_name().to_string_lossy().ends_with(UNFINISHED) && age.is_some_and(|age| age.as_secs() > 24 * 3600)
    };
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(old) {
        // A file that cannot be removed is in nobody's way.
        let _ = std::fs::remove_file(file.path());
    }
}

/// Writes a store example by example in constant memory; nothing has the final name before [`StoreWriter::finish`].
pub(super) struct StoreWriter {
    path: PathBuf,
    folder: PathBuf,
    file: NamedTempFile,
    ends: File,
    body: Vec<u8>,
    digest: Sha256,
    pub statistics: Statistics,
}

impl StoreWriter {
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { path: path.into(), action: "create", source };
        let folder = path.parent().unwrap_or(Path::new(".")).to_path_buf();
        std::fs::create_dir_all(&folder).map_err(failed)?;
        remove_abandoned(&folder);
        let mut file =
            tempfile::Builder::new().prefix("tokens-").suffix(UNFINISHED).tempfile_in(&folder).map_err(failed)?;
        let ends = tempfile::tempfile_in(&folder).map_err(failed)?;
        file.write_all(&[0; HEADER]).map_err(failed)?;
        Ok(Self {
            path: path.into(),
            folder,
            file,
            ends,
            body: Vec::with_capacity(2 * digest::PIECE),
            digest: Sha256::new(),
            statistics: Statistics::default(),
        })
    }

    /// Appends examples given as packed tokens.
    pub fn write(&mut self, examples: &[Vec<u32>]) -> Result<(), StoreError> {
        let mut ends = Vec::with_capacity(8 * examples.len());
        for example in examples {
            self.statistics.tokens += example.len() as u64;
            self.statistics.examples += 1;
            self.statistics.longest = self.statistics.longest.max(example.len() as u64);
            ends.extend_from_slice(&self.statistics.tokens.to_ne_bytes());
            self.body.extend_from_slice(bytemuck::cast_slice(example));
        }
        self.ends.write_all(&ends).and_then(|()| self.flush_pieces()).map_err(|source| self.failed(source))
    }

    /// Writes the header, flushes to the disk and gives the store its name.
    pub fn finish(mut self, key: [u8; 32]) -> Result<(), StoreError> {
        self.complete(key).map_err(|source| self.failed(source))?;
        self.file.persist(&self.path).map_err(|error| StoreError::Io {
            path: self.path.clone(),
            action: "rename",
            source: error.error,
        })?;
        let flushed = File::open(&self.folder).and_then(|folder| folder.sync_all());
        flushed.map_err(|source| StoreError::Io { path: self.folder, action: "flush", source })
    }

    fn complete(&mut self, key: [u8; 32]) -> io::Result<()> {
        self.body.resize(self.body.len() + (padded(self.statistics.tokens) - 4 * self.statistics.tokens) as usize, 0);
        self.ends.seek(SeekFrom::Start(0))?;
        while (&self.ends).take(digest::PIECE as u64).read_to_end(&mut self.body)? > 0 {
            self.flush_pieces()?;
        }
        if !self.body.is_empty() {
            self.digest.update(Sha256::digest(&self.body));
            self.file.write_all(&self.body)?;
        }
        let mut header = Header { magic: MAGIC, version: VERSION, key, checksum: [0; 32], statistics: self.statistics };
        header.checksum = checksum(&header, self.digest.clone().finalize().into());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(bytemuck::bytes_of(&header))?;
        self.file.as_file().sync_all()
    }

    /// Writes out the full pieces of the body, so that a piece of the checksum is a piece of the file.
    fn flush_pieces(&mut self) -> io::Result<()> {
        let full = self.body.len() / digest::PIECE * digest::PIECE;
        for piece in self.body[..full].chunks(digest::PIECE) {
            self.digest.update(Sha256::digest(piece));
        }
        self.file.write_all(&self.body[..full])?;
        self.body.drain(..full);
        Ok(())
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), action: "write", source }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn written(path: &Path, examples: &[Vec<u32>]) {
        let mut writer = StoreWriter::create(path).unwrap();
        examples.chunks(3).for_each(|examples| writer.write(examples).unwrap());
        assert!(!path.exists(), "nothing has the name before the end");
        writer.finish(KEY).unwrap();
    }

    fn read(store: &ExampleStore) -> Vec<Example> {
        (0..store.len()).map(|index| store.get(index).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn gives_back_what_was_written(examples in proptest::collection::vec(
            proptest::collection::vec(any::<u32>(), 0..9), 0..20)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("new/store");
            written(&path, &examples);
            let store = ExampleStore::open(&path, &KEY).unwrap();
            let expected: Vec<Example> = examples.iter().map(|packed| Example::from_packed(packed)).collect();
            prop_assert_eq!(read(&store), expected);
            let total: usize = examples.iter().map(Vec::len).sum();
            prop_assert_eq!(store.total_tokens(), total as u64);
            prop_assert_eq!(store.statistics().longest, examples.iter().map(Vec::len).max().unwrap_or(0) as u64);
            prop_assert_eq!(store.get(examples.len()), None);
            let fewer = store.take(2);
            prop_assert_eq!(fewer.len(), examples.len().min(2));
            prop_assert_eq!(fewer.total_tokens(), examples.iter().take(2).map(|e| e.len() as u64).sum::<u64>());
        }
    }

    /// More than one piece of the checksum.
    #[test]
    fn large_stores_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let examples: Vec<Vec<u32>> = (0..3000u32).map(|i| (i..i + 300).collect()).collect();
        written(&path, &examples);
        let store = ExampleStore::open(&path, &KEY).unwrap();
        assert_eq!(store.get(2999).unwrap().ids, examples[2999]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn unfinished_stores_go_when_they_are_old() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("tokens-old.part"), folder.path().join("tokens-new.part"));
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
        File::create(&old).unwrap().set_modified(long_ago).unwrap();
        File::create(&new).unwrap();
        written(&folder.path().join("store"), &[]);
        assert!(!old.exists() && new.exists());
    }

    #[test]
    fn a_damaged_store_is_never_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        written(&path, &[vec![1, 2, 3], vec![], vec![4 | 1 << 31]]);
        let whole = std::fs::read(&path).unwrap();
        let damaged = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            matches!(ExampleStore::open(&path, &KEY), Err(StoreError::Damaged { .. }))
        };
        for byte in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1;
            assert!(damaged(&flipped), "byte {byte} changed");
            assert!(damaged(&whole[..byte]), "cut to {byte} bytes");
        }
        assert!(damaged(&[&whole[..], &[0]].concat()), "a byte too many");
        assert!(!damaged(&whole));
        assert!(ExampleStore::open(&path, &[8; 32]).is_err(), "another key");
    }
}
