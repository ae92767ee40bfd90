//! Where the bytes of a text lie: in a file, or in a member of a zip archive.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use super::error::{SourceError, failed};

/// A file, or a member of an archive.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// What messages call it: the file, or the archive and the member's name in it.
    pub path: PathBuf,
    member: Option<Member>,
}

#[derive(Clone, Debug)]
struct Member {
    archive: PathBuf,
    name: String,
    start: u64,
    compressed_bytes: u64,
    bytes: u64,
    crc32: u32,
    deflated: bool,
}

/// How an archive begins.
pub(super) const ZIP: &[u8] = b"PK\x03\x04";

impl Place {
    pub fn file(path: PathBuf) -> Self {
        Self { path, member: None }
    }

    /// The file on the disk.
    pub fn on_disk(&self) -> &Path {
        self.member.as_ref().map_or(&self.path, |member| &member.archive)
    }

    /// Its name from the root of the file system.
    pub fn full_path(&self) -> io::Result<PathBuf> {
        let path = self.on_disk().canonicalize()?;
        Ok(self
            .member
            .as_ref()
            .map_or(path.clone(), |member| PathBuf::from(format!("{}/{}", path.display(), member.name))))
    }

    /// Whether it is all of a file on the disk.
    pub fn is_file(&self) -> bool {
        self.member.is_none()
    }

    /// Bytes that are read for all of it.
    pub fn bytes(&self) -> io::Result<u64> {
        match &self.member {
            Some(member) => Ok(member.compressed_bytes),
            None => Ok(self.path.metadata()?.len()),
        }
    }

    /// The bytes from one of them on.
    pub fn open(&self, byte: u64) -> io::Result<Box<dyn Read + Send>> {
        let Some(member) = &self.member else {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(byte))?;
            return Ok(Box::new(file));
        };
        let mut member: Box<dyn Read + Send> = Box::new(member.open()?);
        io::copy(&mut member.by_ref().take(byte), &mut io::sink())?;
        Ok(member)
    }

    /// The members of an archive that may hold text, in the order in which `datasets` reads what it unpacked: the files of a
    /// folder before the folders in it, each by name, and none that is hidden.
    ///
    /// # Errors
    /// If the archive is damaged, or a member cannot be read: an encrypted one, or one packed by a method of its own.
    pub fn members(path: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<Self>, SourceError> {
        let broken = |reason: String| SourceError::Unreadable { path: path.into(), reason };
        let file = io::BufReader::new(File::open(path).map_err(|source| failed(path, source))?);
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
            let deflated = match entry.compression() {
                CompressionMethod::STORE => false,
                CompressionMethod::DEFLATE => true,
                other => {
                    return Err(broken(format!("its member {name} is packed by {other}; unpack it: unzip, or 7z x")));
                }
            };
            let start = entry.data_start().ok_or_else(|| broken(format!("its member {name} has no beginning")))?;
            let (compressed_bytes, bytes, crc32) = (entry.compressed_size(), entry.size(), entry.crc32());
            let member =
                Member { archive: path.into(), name: name.clone(), start, compressed_bytes, bytes, crc32, deflated };
            members.push((
                name.clone(),
                Self { path: PathBuf::from(format!("{}/{name}", path.display())), member: Some(member) },
            ));
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
        let mut file = File::open(&self.archive)?;
        file.seek(SeekFrom::Start(self.start))?;
        let packed = io::BufReader::new(file).take(self.compressed_bytes);
        let input: Box<dyn Read + Send> =
            if self.deflated { Box::new(DeflateDecoder::new(packed)) } else { Box::new(packed) };
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
