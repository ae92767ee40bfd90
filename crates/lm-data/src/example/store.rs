//! The store of examples on disk: a header, the tokens of all examples one after another, and where each ends.
//!
//! ```text
//! header  magic, version, key of what it was built from, counts, SHA-256 of everything else
//! tokens  u32 each; bit 31 marks special tokens; padded to a multiple of 8 bytes
//! ends    u64 each: example i is tokens[ends[i-1]..ends[i]]
//! ```
//! A store is written under a temporary name, flushed and renamed. The whole of it is checked when it is opened the first
//! time after that, which is remembered until the file changes. Examples are read one by one where they lie: mapped into
//! memory, a file that somebody truncates would end the process. Numbers are in the byte order of the machine: a file from
//! a machine of the other order does not match and is built again.

use std::fs::{DirEntry, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytemuck::{Pod, Zeroable};
use lm_files::NewFile;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Example;
use crate::digest;
use crate::memo::{Identity, remembered};

const MAGIC: u64 = u64::from_le_bytes(*b"LMTOKENS");
const VERSION: u64 = 2;

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
    /// Which example that is; of several the first.
    pub longest_at: u64,
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
    /// The file is not what it was when it was opened.
    #[error(
        "{path}: the store of tokenized examples was truncated or changed while it was in use; start again, and it is built anew"
    )]
    Changed {
        /// The file.
        path: PathBuf,
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

/// Tokenized examples on disk; clones share the open file.
#[derive(Clone)]
pub struct ExampleStore {
    file: Arc<File>,
    path: Arc<Path>,
    /// When it was written.
    modified: SystemTime,
    key: [u8; 32],
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
        let statistics = header.statistics;
        if body_length(&statistics).and_then(|body| body.checked_add(HEADER as u64)) != Some(length) {
            return Err(damaged("its length does not match its header"));
        }
        if check == Check::Once {
            let mut identity = Identity::new("a store that is whole");
            identity.add(path).map_err(failed)?;
            let folder = path.parent().unwrap_or(Path::new("."));
            // Only what is whole is remembered.
            remembered(folder, &identity, false, || {
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
        let mut packed = vec![0u32; (end - start) as usize];
        self.read(HEADER as u64 + 4 * start, bytemuck::cast_slice_mut(&mut packed))?;
        // Something else may have been written over it.
        let modified = self.file.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| modified != self.modified) {
            return Err(StoreError::Changed { path: self.path.to_path_buf() });
        }
        Ok(Some(Example::from_packed(&packed)))
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

    /// What was counted while building; of the whole store, also when it is cut to fewer examples.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Where an example that there is begins and ends, in tokens.
    fn bounds(&self, index: usize) -> Result<(u64, u64), StoreError> {
        let ends = HEADER as u64 + padded(self.statistics.tokens);
        let mut bounds = [0u64; 2];
        match index.checked_sub(1) {
            None => self.read(ends, bytemuck::bytes_of_mut(&mut bounds[1]))?,
            Some(before) => self.read(ends + 8 * before as u64, bytemuck::cast_slice_mut(&mut bounds))?,
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
        Self::open(&path, &[0; 32], Check::Header).unwrap()
    }
}

/// Removes what killed processes have left in the folder: unfinished stores that nobody has written to for a day.
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

/// Writes a store example by example in constant memory; nothing has the final name before [`StoreWriter::finish`].
pub(super) struct StoreWriter {
    path: PathBuf,
    file: NewFile,
    ends: File,
    body: Vec<u8>,
    digest: Sha256,
    pub statistics: Statistics,
}

impl StoreWriter {
    pub fn create(path: &Path) -> Result<Self, StoreError> {
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
            if example.len() as u64 > self.statistics.longest {
                (self.statistics.longest, self.statistics.longest_at) =
                    (example.len() as u64, self.statistics.examples);
            }
            self.statistics.tokens += example.len() as u64;
            self.statistics.examples += 1;
            ends.extend_from_slice(&self.statistics.tokens.to_ne_bytes());
            self.body.extend_from_slice(bytemuck::cast_slice(example));
        }
        self.ends.write_all(&ends).and_then(|()| self.flush_pieces()).map_err(|source| self.failed(source))
    }

    /// Writes the header, flushes to the disk and gives the store its name.
    pub fn finish(mut self, key: [u8; 32]) -> Result<(), StoreError> {
        self.complete(key).map_err(|source| self.failed(source))?;
        self.file.publish().map_err(|source| StoreError::Io { path: self.path, action: "write", source })
    }

    fn complete(&mut self, key: [u8; 32]) -> io::Result<()> {
        self.body.resize(self.body.len() + (padded(self.statistics.tokens) - 4 * self.statistics.tokens) as usize, 0);
        self.ends.seek(SeekFrom::Start(0))?;
        while (&self.ends).take(digest::PIECE as u64).read_to_end(&mut self.body)? > 0 {
            self.flush_pieces()?;
        }
        if !self.body.is_empty() {
            self.digest.update(Sha256::digest(&self.body));
            self.file.file().write_all(&self.body)?;
        }
        let mut header = Header { magic: MAGIC, version: VERSION, key, checksum: [0; 32], statistics: self.statistics };
        header.checksum = checksum(&header, self.digest.clone().finalize().into());
        self.file.file().seek(SeekFrom::Start(0))?;
        self.file.file().write_all(bytemuck::bytes_of(&header))
    }

    /// Writes out the full pieces of the body, so that a piece of the checksum is a piece of the file.
    fn flush_pieces(&mut self) -> io::Result<()> {
        let full = self.body.len() / digest::PIECE * digest::PIECE;
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
        (0..store.len()).map(|index| store.get(index).unwrap().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn gives_back_what_was_written(examples in proptest::collection::vec(
            proptest::collection::vec(any::<u32>(), 0..9), 0..20)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("new/store");
            written(&path, &examples);
            let store = ExampleStore::open(&path, &KEY, Check::Once).unwrap();
            let expected: Vec<Example> = examples.iter().map(|packed| Example::from_packed(packed)).collect();
            prop_assert_eq!(read(&store), expected);
            let total: usize = examples.iter().map(Vec::len).sum();
            prop_assert_eq!(store.total_tokens().unwrap(), total as u64);
            let longest = examples.iter().map(Vec::len).max().unwrap_or(0);
            prop_assert_eq!(store.statistics().longest, longest as u64);
            let first = |count: usize| {
                let lengths = examples.iter().take(count).map(Vec::len);
                lengths.enumerate().rev().max_by_key(|(_, length)| *length).map_or(0, |(index, _)| index)
            };
            prop_assert_eq!(store.longest().unwrap(), first(examples.len()));
            prop_assert_eq!(store.get(examples.len()).unwrap(), None);
            let fewer = store.take(2);
            prop_assert_eq!(fewer.len(), examples.len().min(2));
            prop_assert_eq!(fewer.longest().unwrap(), first(2));
            prop_assert_eq!(fewer.total_tokens().unwrap(), examples.iter().take(2).map(|e| e.len() as u64).sum::<u64>());
        }
    }

    /// More than one piece of the checksum.
    #[test]
    fn large_stores_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let examples: Vec<Vec<u32>> = (0..3000u32).map(|i| (i..i + 300).collect()).collect();
        written(&path, &examples);
        let store = ExampleStore::open(&path, &KEY, Check::Once).unwrap();
        assert_eq!(store.get(2999).unwrap().unwrap().ids, examples[2999]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn unfinished_stores_go_when_they_are_old() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) =
            (folder.path().join(".tokens-old.bin.a1b2c3.tmp"), folder.path().join(".tokens-new.bin.a1b2c3.tmp"));
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
            matches!(ExampleStore::open(&path, &KEY, Check::Once), Err(StoreError::Damaged { .. }))
        };
        for byte in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1;
            assert!(damaged(&flipped), "byte {byte} changed");
            assert!(damaged(&whole[..byte]), "cut to {byte} bytes");
        }
        assert!(damaged(&[&whole[..], &[0]].concat()), "a byte too many");
        assert!(!damaged(&whole));
        assert!(ExampleStore::open(&path, &[8; 32], Check::Once).is_err(), "another key");
    }

    /// Whatever happens to the file while it is open, reading gives an error or an example, and the process lives.
    #[test]
    fn a_store_truncated_in_use_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        written(&path, &[vec![1, 2, 3], vec![4, 5]]);
        let store = ExampleStore::open(&path, &KEY, Check::Once).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let whole = file.metadata().unwrap().len();
        for length in (0..whole).rev() {
            file.set_len(length).unwrap();
            assert!(matches!(store.get(1), Err(StoreError::Changed { .. })), "{length} bytes");
        }
        file.set_len(whole).unwrap();
        assert!(matches!(store.get(1), Err(StoreError::Changed { .. })), "its ends are zeros now");
    }

    #[test]
    fn a_store_is_checked_once_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        written(&path, &[vec![1, 2, 3], vec![4, 5]]);
        let age = |seconds| {
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
            File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        };
        let memos = || std::fs::read_dir(folder.path()).unwrap().count() - 1;
        let open = || ExampleStore::open(&path, &KEY, Check::Once);
        open().unwrap();
        assert_eq!(memos(), 0, "too young to be sure of");
        age(60);
        open().unwrap();
        open().unwrap();
        assert_eq!(memos(), 1);
        let mut content = std::fs::read(&path).unwrap();
        content[HEADER] ^= 1;
        std::fs::write(&path, content).unwrap();
        age(60);
        assert!(matches!(open(), Err(StoreError::Damaged { .. })), "it was changed, and is checked again");
    }
}
