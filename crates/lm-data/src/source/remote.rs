//! Files that lie on another machine: read as their bytes are needed, and stored nowhere.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// A file on another machine, which never changes.
pub trait RemoteFile: Send + Sync {
    /// How many bytes it has.
    fn bytes(&self) -> u64;

    /// Its bytes from one of them up to another, as they come.
    ///
    /// # Errors
    /// If it cannot be read; reading what comes may fail too.
    fn open(&self, from: u64, to: u64) -> io::Result<Box<dyn Read + Send>>;
}

/// Files on other machines, by the addresses that stand for them among the names of files.
#[derive(Clone, Default)]
pub struct RemoteFiles(Arc<BTreeMap<String, Arc<dyn RemoteFile>>>);

impl RemoteFiles {
    /// These files. An address has `://` in it and stands for the same content for ever.
    pub fn new(files: BTreeMap<String, Arc<dyn RemoteFile>>) -> Self {
        Self(Arc::new(files))
    }

    /// The file of an address.
    pub fn get(&self, address: &str) -> Option<&Arc<dyn RemoteFile>> {
        self.0.get(address)
    }
}

impl fmt::Debug for RemoteFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Of equal addresses: what these stand for does not change.
impl PartialEq for RemoteFiles {
    fn eq(&self, other: &Self) -> bool {
        self.0.keys().eq(other.0.keys())
    }
}

/// Whether a name is an address.
pub(crate) fn is_address(name: &Path) -> bool {
    name.to_str().is_some_and(|name| name.contains("://"))
}

/// What another machine did not give, where others might take it for damage.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Unread(io::Error);

/// Bytes that are asked for at least, where others are likely to follow.
const AHEAD: u64 = if cfg!(test) { 256 } else { 4 << 20 };
/// The same where places are sought that lie far from one another.
const AHEAD_OF_A_PLACE: u64 = 1 << 16;

/// The bytes of a remote file around the place that is read.
pub(super) struct Window {
    file: Arc<dyn RemoteFile>,
    /// Beyond it nothing is asked for.
    end: u64,
    ahead: u64,
    /// Where what is held begins.
    start: u64,
    held: Bytes,
}

impl Window {
    /// On a part of a file that is read from its beginning to its end.
    pub fn of_part(file: Arc<dyn RemoteFile>, end: u64) -> Self {
        Self { end: end.min(file.bytes()), file, ahead: AHEAD, start: 0, held: Bytes::new() }
    }

    /// On a file in which places are sought.
    fn of_places(file: Arc<dyn RemoteFile>) -> Self {
        Self { end: file.bytes(), file, ahead: AHEAD_OF_A_PLACE, start: 0, held: Bytes::new() }
    }

    /// So many bytes from a place on; fewer at the end.
    pub fn bytes(&mut self, from: u64, count: u64) -> io::Result<Bytes> {
        let to = from.saturating_add(count).min(self.end);
        if from >= to {
            return Ok(Bytes::new());
        }
        let held_to = self.start + self.held.len() as u64;
        if from < self.start || to > held_to {
            let kept = if (self.start..held_to).contains(&from) {
                self.held.slice((from - self.start) as usize..)
            } else {
                Bytes::new()
            };
            let next = from + kept.len() as u64;
            let last = to.max(next.saturating_add(self.ahead).min(self.end));
            // As many are taken into memory as come, not as many as are said to.
            let mut bytes = kept.to_vec();
            let before = kept.len() as u64;
            let input = self.file.open(next, last);
            let read = input.and_then(|input| input.take(last - next).read_to_end(&mut bytes));
            let read = read.map_err(|error| io::Error::other(Unread(error)))? as u64;
            if read < last - next {
                let reason = format!("it ends after {} bytes of its {}", from + before + read, self.file.bytes());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
            }
            (self.start, self.held) = (from, bytes.into());
        }
        let at = (from - self.start) as usize;
        Ok(self.held.slice(at..at + (to - from) as usize))
    }

    /// Some bytes from a place on; none at the end.
    pub fn some(&mut self, from: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes(from, 1)?;
        let held = self.start + self.held.len() as u64;
        let bytes = self.bytes(from, held.saturating_sub(from).min(buffer.len() as u64))?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

/// A remote file as one on the disk, in which places are sought.
pub(super) struct Sought {
    window: Window,
    at: u64,
}

impl Sought {
    pub fn new(file: Arc<dyn RemoteFile>) -> Self {
        Self { window: Window::of_places(file), at: 0 }
    }
}

impl Read for Sought {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // What is larger than is held of one place is asked for as a whole.
        let read = if buffer.len() as u64 > AHEAD_OF_A_PLACE {
            let bytes = self.window.bytes(self.at, buffer.len() as u64)?;
            buffer[..bytes.len()].copy_from_slice(&bytes);
            bytes.len()
        } else {
            self.window.some(self.at, buffer)?
        };
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Sought {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        let at = match place {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.window.file.bytes().checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the beginning"))?;
        Ok(self.at)
    }
}
