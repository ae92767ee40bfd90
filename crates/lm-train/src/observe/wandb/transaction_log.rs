//! The file of a run of Weights & Biases: a log of records, as LevelDB writes it, with a header of its own and with the CRC-32
//! of zlib in place of CRC-32C.
//!
//! ```text
//! file   = ":W&B" 0xBEE1 (u16) 0 (u8), then pieces in blocks of 32 KiB; the first block counts these 7 bytes
//! piece  = CRC-32 of kind and data (u32), length (u16), kind (u8), data
//! record = one FULL piece, or FIRST, MIDDLE …, LAST, each in a block of its own
//! ```
//!
//! Numbers are little-endian. Fewer than 7 bytes at the end of a block hold no piece and are zero.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

const BLOCK: usize = 1 << 15;
/// Of the file, and of a piece.
const HEADER: usize = 7;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// A log that is written.
#[derive(Debug)]
pub(super) struct TransactionLog {
    file: File,
    /// Bytes of the last block that are written.
    used: usize,
}

impl TransactionLog {
    /// Begins a file, which must not be there.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(b":W&B\xe1\xbe\0")?;
        Ok(Self { file, used: HEADER })
    }

    /// Appends a record, in one write.
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(record.len() + 2 * HEADER);
        let (mut rest, mut first) = (record, true);
        loop {
            let room = BLOCK - self.used;
            if room < HEADER {
                bytes.resize(bytes.len() + room, 0);
                self.used = 0;
                continue;
            }
            let (data, later) = rest.split_at(rest.len().min(room - HEADER));
            let kind = match (first, later.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            let mut checksum = crc32fast::Hasher::new();
            checksum.update(&[kind]);
            checksum.update(data);
            bytes.extend(checksum.finalize().to_le_bytes());
            // A piece is shorter than a block.
            bytes.extend((data.len() as u16).to_le_bytes());
            bytes.push(kind);
            bytes.extend(data);
            self.used += HEADER + data.len();
            (rest, first) = (later, false);
            if rest.is_empty() {
                return self.file.write_all(&bytes);
            }
        }
    }

    /// Waits until all is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// The records of a log, for tests: what wandb's own `DataStore.scan_data` reads.
#[cfg(test)]
pub(super) fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(&bytes[..HEADER], b":W&B\xe1\xbe\0");
    let (mut records, mut at) = (Vec::new(), HEADER);
    while at < bytes.len() {
        let room = BLOCK - at % BLOCK;
        if room < HEADER {
            assert!(bytes[at..at + room].iter().all(|byte| *byte == 0));
            at += room;
            continue;
        }
        let length = usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        let (kind, end) = (bytes[at + 6], at + HEADER + length);
        let checksum = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        assert_eq!(checksum, crc32fast::hash(&bytes[at + 6..end]));
        assert!(HEADER + length <= room, "a piece lies in one block");
        let data = &bytes[at + HEADER..end];
        match kind {
            FULL | FIRST => records.push(data.to_vec()),
            MIDDLE | LAST => records.last_mut().expect("a first piece").extend(data),
            kind => panic!("kind {kind}"),
        }
        at = end;
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_all_lengths_cross_the_blocks() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("run.wandb");
        let mut log = TransactionLog::create(&path).expect("created");
        // Around each end of a block: 0 to 9 bytes of it left, with and without room for a header.
        let lengths = (0..10).map(|left| BLOCK - 2 * HEADER - left).chain([0, 1, 100, BLOCK, 3 * BLOCK, 5]);
        let written: Vec<Vec<u8>> =
            lengths.enumerate().map(|(i, length)| (0..length).map(|at| (i + at) as u8).collect()).collect();
        written.iter().for_each(|record| log.append(record).expect("appended"));
        log.sync().expect("on disk");
        assert_eq!(records(&std::fs::read(&path).expect("read")), written);
        assert!(TransactionLog::create(&path).is_err(), "nothing is written over");
    }

    #[test]
    fn the_bytes_are_those_of_wandb() {
        // wandb 0.19: DataStore().open_for_write(…); _write_data(b"abc"), then b"" .
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("run.wandb");
        let mut log = TransactionLog::create(&path).expect("created");
        log.append(b"abc").expect("appended");
        log.append(b"").expect("appended");
        let hex: String = std::fs::read(&path).expect("read").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "3a572642e1be00a9209d530300016162631bdf05a5000001");
    }
}
