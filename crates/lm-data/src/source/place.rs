//! Where the bytes of a text lie: in a file, in a member of a zip archive, or in a file on another machine.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bzip2::read::BzDecoder;
use flate2::read::DeflateDecoder;
use lzma_rust2::LzmaReader;
use zip::{CompressionMethod, ZipArchive};

use super::error::{SourceError, failed};
use super::remote::{RemoteFile, Sought};
use crate::memo::Stamp;

/// A file, or a member of an archive.
#[derive(Clone)]
pub(super) struct Place {
    /// What messages call it: the file, or the archive and the member's name in it.
    pub path: PathBuf,
    lies: Lies,
}

#[derive(Clone)]
enum Lies {
    OnDisk,
    Elsewhere(Arc<dyn RemoteFile>),
    In(Arc<Member>),
}

struct Member {
    archive: Place,
    name: String,
    start: u64,
    compressed_bytes: u64,
    bytes: u64,
    crc32: u32,
    packed_by: PackedBy,
}

/// The most memory for unpacking a member packed by LZMA, which says itself what it needs.
const LZMA_DICTIONARY: u32 = 512 << 20;

/// How a member of a zip archive is packed.
#[derive(Clone, Copy)]
enum PackedBy {
    Nothing,
    Deflate,
    Bzip2,
    Lzma,
}

impl PackedBy {
    /// The methods that Python's `zipfile` knows.
    fn of(method: CompressionMethod) -> Option<Self> {
        match method {
            CompressionMethod::STORE => Some(Self::Nothing),
            CompressionMethod::DEFLATE => Some(Self::Deflate),
            CompressionMethod::BZIP2 => Some(Self::Bzip2),
            CompressionMethod::LZMA => Some(Self::Lzma),
            _ => None,
        }
    }
}

/// Opens a file on the disk, whose opens tests count.
pub(super) fn open_on_disk(path: &Path) -> io::Result<File> {
    #[cfg(test)]
    opened::count(path);
    File::open(path)
}

/// Bytes in which places are sought.
pub(super) trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// How an archive begins.
pub(super) const ZIP: &[u8] = b"PK\x03\x04";

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.fmt(f)
    }
}

impl Place {
    pub fn file(path: PathBuf) -> Self {
        Self { path, lies: Lies::OnDisk }
    }

    /// The file of an address.
    pub fn elsewhere(address: &str, file: &Arc<dyn RemoteFile>) -> Self {
        Self { path: address.into(), lies: Lies::Elsewhere(Arc::clone(file)) }
    }

    /// The file, which an archive may be.
    fn file_of(&self) -> &Self {
        match &self.lies {
            Lies::In(member) => member.archive.file_of(),
            _ => self,
        }
    }

    /// The name of the file.
    pub fn file_name(&self) -> &Path {
        &self.file_of().path
    }

    /// Its name from the root of the file system, or its address.
    pub fn full_path(&self) -> io::Result<PathBuf> {
        match &self.lies {
            Lies::OnDisk => self.path.canonicalize(),
            Lies::Elsewhere(_) => Ok(self.path.clone()),
            Lies::In(member) => Ok(PathBuf::from(format!("{}/{}", member.archive.full_path()?.display(), member.name))),
        }
    }

    /// What tells whether it has changed.
    pub fn stamp(&self) -> io::Result<Stamp> {
        match &self.file_of().lies {
            Lies::Elsewhere(file) => Ok(Stamp::unchanging(file.bytes())),
            _ => Stamp::of(self.file_name()),
        }
    }

    /// The file, if it is all of one on the disk.
    pub fn on_disk(&self) -> Option<&Path> {
        matches!(self.lies, Lies::OnDisk).then_some(&self.path)
    }

    /// The file, if it lies on another machine.
    pub fn remote(&self) -> Option<&Arc<dyn RemoteFile>> {
        match &self.lies {
            Lies::Elsewhere(file) => Some(file),
            _ => None,
        }
    }

    /// Bytes that are read for all of it.
    pub fn bytes(&self) -> io::Result<u64> {
        match &self.lies {
            Lies::OnDisk => Ok(self.path.metadata()?.len()),
            Lies::Elsewhere(file) => Ok(file.bytes()),
            Lies::In(member) => Ok(member.compressed_bytes),
        }
    }

    /// The bytes from one of them on.
    pub fn open(&self, byte: u64) -> io::Result<Box<dyn Read + Send>> {
        match &self.lies {
            Lies::OnDisk => {
                let mut file = open_on_disk(&self.path)?;
                file.seek(SeekFrom::Start(byte))?;
                Ok(Box::new(file))
            }
            Lies::Elsewhere(file) => file.open(byte, file.bytes()),
            Lies::In(member) => {
                let mut member: Box<dyn Read + Send> = Box::new(member.open()?);
                io::copy(&mut member.by_ref().take(byte), &mut io::sink())?;
                Ok(member)
            }
        }
    }

    /// The bytes of a file, to seek places in.
    fn seekable(&self) -> io::Result<Box<dyn ReadSeek>> {
        Ok(match self.remote() {
            Some(file) => Box::new(Sought::new(Arc::clone(file))),
            None => Box::new(io::BufReader::new(open_on_disk(&self.path)?)),
        })
    }

    /// The members of an archive that may hold text, in the order in which `datasets` reads what it unpacked: the files of a
    /// folder before the folders in it, each by name, and none that is hidden.
    ///
    /// # Errors
    /// If the archive is damaged, or a member cannot be read: an encrypted one, or one packed by a method of its own.
    pub fn members(&self, wanted: impl Fn(&Path) -> bool) -> Result<Vec<Self>, SourceError> {
        let path = &self.path;
        let broken = |reason: String| SourceError::Unreadable { path: path.into(), reason };
        let file = self.seekable().map_err(|source| failed(path, source))?;
        let damaged = |error: zip::result::ZipError| {
            broken(format!("the zip archive is damaged or cut off ({error}); check it with unzip -t"))
        };
        let mut archive = ZipArchive::new(file).map_err(damaged)?;
        let mut members = Vec::new();
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?.into_owned();
            if entry.is_dir() || is_hidden(&name) || !wanted(Path::new(&name)) {
                continue;
            }
            if entry.encrypted() {
                return Err(broken(format!("its member {name} is encrypted; unpack it with its password: unzip")));
            }
            let method = entry.compression();
            let packed_by = PackedBy::of(method)
                .ok_or_else(|| broken(format!("its member {name} is packed by {method}; unpack it: unzip, or 7z x")))?;
            let start = entry.data_start().ok_or_else(|| broken(format!("its member {name} has no beginning")))?;
            let (compressed_bytes, bytes, crc32) = (entry.compressed_size(), entry.size(), entry.crc32());
            let member =
                Member { archive: self.clone(), name: name.clone(), start, compressed_bytes, bytes, crc32, packed_by };
            let path = PathBuf::from(format!("{}/{name}", path.display()));
            members.push((name, Self { path, lies: Lies::In(Arc::new(member)) }));
        }
        members.sort_by(|(a, _), (b, _)| walk_order(a, b));
        Ok(members.into_iter().map(|(_, place)| place).collect())
    }
}

/// Whether a part of the path begins with a dot or with two underscores.
pub(super) fn is_hidden(name: &str) -> bool {
    name.split(['/', '\\']).any(|part| part.starts_with('.') || part.starts_with("__"))
}

/// The order of Python's `os.walk` with sorted names.
pub(super) fn walk_order(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a.split('/').peekable(), b.split('/').peekable());
    while let (Some(first), Some(second)) = (a.next(), b.next()) {
        // A file comes before all folders beside it.
        let order = (a.peek().is_some(), first).cmp(&(b.peek().is_some(), second));
        if order.is_ne() {
            return order;
        }
    }
    std::cmp::Ordering::Equal
}

impl Member {
    fn open(&self) -> io::Result<Checked> {
        let mut packed = io::BufReader::new(self.archive.open(self.start)?).take(self.compressed_bytes);
        let input: Box<dyn Read + Send> = match self.packed_by {
            PackedBy::Nothing => Box::new(packed),
            PackedBy::Deflate => Box::new(DeflateDecoder::new(packed)),
            PackedBy::Bzip2 => Box::new(BzDecoder::new(packed)),
            PackedBy::Lzma => {
                // A version, the length of what follows, the properties, and the size of the dictionary (APPNOTE 5.8.8).
                let mut head = [0; 9];
                packed.read_exact(&mut head)?;
                let dictionary = u32::from_le_bytes([head[5], head[6], head[7], head[8]]);
                if dictionary > LZMA_DICTIONARY {
                    let reason =
                        format!("a member of the zip archive takes a dictionary of {dictionary} bytes to unpack");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
                Box::new(LzmaReader::new_with_props(packed, self.bytes, head[4], dictionary, None)?)
            }
        };
        Ok(Checked { input, read: 0, expected: (self.bytes, self.crc32), crc: crc32fast::Hasher::new() })
    }
}

/// A member, whose end is compared with what the archive says of it.
struct Checked {
    input: Box<dyn Read + Send>,
    read: u64,
    expected: (u64, u32),
    crc: crc32fast::Hasher,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let damaged = |reason: String| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the member of the zip archive is damaged or cut off ({reason}); check it with unzip -t"),
            )
        };
        let read = self.input.read(buffer).map_err(|error| damaged(format!("after {} bytes: {error}", self.read)))?;
        self.crc.update(&buffer[..read]);
        self.read += read as u64;
        let (bytes, crc32) = self.expected;
        if self.read > bytes || (read == 0 && !buffer.is_empty() && self.read < bytes) {
            return Err(damaged(format!("it should have {bytes} bytes and has {}", self.read)));
        }
        if read == 0 && !buffer.is_empty() && self.crc.clone().finalize() != crc32 {
            return Err(damaged("another CRC-32".into()));
        }
        Ok(read)
    }
}

/// How often tests open files.
#[cfg(test)]
pub(crate) mod opened {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    static OPENED: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

    /// Counts an opening of a file.
    pub(super) fn count(path: &Path) {
        *OPENED.lock().unwrap().entry(path.into()).or_default() += 1;
    }

    /// How often files in a folder were opened: all together, and that which was opened most often.
    pub(crate) fn in_folder(folder: &Path) -> (usize, usize) {
        let opened = OPENED.lock().unwrap();
        let counts = || opened.iter().filter(|(path, _)| path.starts_with(folder)).map(|(_, count)| *count);
        (counts().sum(), counts().max().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_a_walk() {
        let mut names = ["b/c.txt", "b.txt", "a/z/y.txt", "a/x.txt", "a.txt", "a/b/c.txt"];
        names.sort_by(|a, b| walk_order(a, b));
        // >>> [os.path.join(d, f) for d, dirs, fs in os.walk(".") for f in (dirs.sort(), sorted(fs))[1]]
        assert_eq!(names, ["a.txt", "b.txt", "a/x.txt", "a/b/c.txt", "a/z/y.txt", "b/c.txt"]);
        assert!(is_hidden("__MACOSX/._a.txt") && is_hidden("a/.b/c.txt") && !is_hidden("a/b_.txt"));
    }
}
