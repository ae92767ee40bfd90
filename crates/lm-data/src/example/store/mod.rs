//! The store of examples on disk: parts, each a header, the tokens of its examples one after another, and where each ends.
//!
//! ```text
//! header  magic, version, key of what it was built from, number of the part, counts, SHA-256 of everything else
//! tokens  of 16 bits where the vocabulary allows, else of 32, those marked that the tokenizer adds; padded to 8 bytes
//! ends    u64 each: example i of the part is tokens[ends[i-1]..ends[i]]
//! next    how the text goes on after the part (JSON); nothing after the last
//! ```
//! A part is written under a temporary name, flushed and renamed: it is whole or absent, and building goes on after the last
//! that is there. That it is whole is remembered until the file changes; then, and where nothing is remembered, all of it is
//! checked when it is opened.
//! Examples are read one by one where they lie: mapped into memory, a file that somebody truncates would end the process.
//! Numbers are in the byte order of the machine: a file from a machine of the other order does not match and is built again.

mod codes;
mod read;
mod write;

use std::io;
use std::path::PathBuf;

use bytemuck::{Pod, Zeroable};
use serde::Serialize;
use sha2::{Digest, Sha256};

pub(crate) use codes::Codes;
pub use read::ExampleStore;
pub(crate) use read::{Check, Part};
pub(crate) use write::PartWriter;

const MAGIC: u64 = u64::from_le_bytes(*b"LMTOKENS");
const VERSION: u64 = 3;

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
    /// Adds those of the part that follows.
    fn add(&mut self, part: &Self) {
        if part.longest > self.longest {
            (self.longest, self.longest_at) = (part.longest, self.examples + part.longest_at);
        }
        self.rows += part.rows;
        self.examples += part.examples;
        self.tokens += part.tokens;
        self.truncated += part.truncated;
        self.dropped += part.dropped;
    }

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
    /// Of the part, from 0.
    number: u64,
    /// Bytes that say how the text goes on; 0 after the last part.
    next: u64,
    codes: Codes,
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

/// Bytes that the tokens take in the file.
fn token_bytes(codes: Codes, statistics: &Statistics) -> Option<u64> {
    codes.bytes(statistics.tokens)?.checked_next_multiple_of(8)
}

/// Length of the file.
fn length(header: &Header) -> Option<u64> {
    let tokens = token_bytes(header.codes, &header.statistics)?;
    let body = tokens.checked_add(header.statistics.examples.checked_mul(8)?)?.checked_add(header.next)?;
    body.checked_add(HEADER as u64)
}

fn checksum(header: &Header, body: [u8; 32]) -> [u8; 32] {
    let header = Header { checksum: body, ..*header };
    Sha256::digest(bytemuck::bytes_of(&header)).into()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::Example;
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn part(path: &Path, number: usize, examples: &[Vec<u32>], next: &[u8]) {
        let codes = if examples.iter().flatten().all(|id| *id < 1000) { Codes::NARROW } else { Codes::WIDE };
        let mut writer = PartWriter::create(path, codes).unwrap();
        examples.iter().for_each(|example| writer.write(example).unwrap());
        assert!(!path.exists(), "nothing has the name before the end");
        writer.finish(KEY, number, next).unwrap();
    }

    fn written(path: &Path, examples: &[Vec<u32>]) {
        part(path, 0, examples, &[]);
    }

    fn open(path: &Path, key: &[u8; 32]) -> Result<ExampleStore, StoreError> {
        Ok(ExampleStore::new(*key, vec![Part::open(path, key, 0, Check::Once)?.0]))
    }

    fn read(store: &ExampleStore) -> Vec<Example> {
        (0..store.len()).map(|index| store.get(index).unwrap().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn gives_back_what_was_written(examples in proptest::collection::vec(
            proptest::collection::vec(any::<u32>(), 0..9), 0..20), part_size in 1usize..21) {
            let folder = tempfile::tempdir().unwrap();
            let parts: Vec<Part> = examples.chunks(part_size).enumerate().map(|(number, examples)| {
                let path = folder.path().join(format!("new/{number}"));
                part(&path, number, examples, &vec![7; number]);
                assert!(Part::open(&path, &KEY, number + 1, Check::Once).is_err(), "another part");
                let (part, next) = Part::open(&path, &KEY, number, Check::Once).unwrap();
                assert_eq!(next, vec![7; number]);
                part
            }).collect();
            let store = ExampleStore::new(KEY, parts);
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
        let store = open(&path, &KEY).unwrap();
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
            matches!(open(&path, &KEY), Err(StoreError::Damaged { .. }))
        };
        for byte in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1;
            assert!(damaged(&flipped), "byte {byte} changed");
            assert!(damaged(&whole[..byte]), "cut to {byte} bytes");
        }
        assert!(damaged(&[&whole[..], &[0]].concat()), "a byte too many");
        assert!(!damaged(&whole));
        assert!(open(&path, &[8; 32]).is_err(), "another key");
    }

    /// Whatever happens to the file while it is open, reading gives an error or an example, and the process lives.
    #[test]
    fn a_store_truncated_in_use_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        written(&path, &[vec![1, 2, 3], vec![4, 5]]);
        let store = open(&path, &KEY).unwrap();
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
        let open = || open(&path, &KEY);
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
