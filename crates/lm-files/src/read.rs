//! Reading of files that may be anything: a pipe without a writer, /dev/zero, a link that leads to itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// Far more than any configuration, tokenizer or index is long: 512 MiB.
pub const SMALL: u64 = 512 << 20;

/// Opens an existing regular file for reading.
///
/// # Errors
/// What the system says; for a folder, pipe, socket or device, at once, that it is none that can be read to its end.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    // A pipe that nobody writes to would be waited for.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, O_NONBLOCK);
    // Opening some devices does something, such as rewinding a tape: look first, and again at what was opened.
    regular(&fs::metadata(path)?)?;
    let file = options.open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// The bytes of a regular file, if there are at most `most`.
///
/// # Errors
/// As [`open_regular`]; and if there are more.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let too_long = || io::Error::other(format!("is longer than the {most} bytes that are read of such a file"));
    if file.metadata()?.len() > most {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long()) } else { Ok(bytes) }
}

/// The text of a regular file, if there are at most `most` bytes.
///
/// # Errors
/// As [`read`]; and if it is not UTF-8.
pub fn read_to_string(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::new(io::ErrorKind::InvalidData, format!("is not UTF-8 text (byte {at})"))
    })
}

/// Whether two names lead to one file, over links and hard links; false where one of them is missing.
pub fn same_file(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        match (fs::metadata(one), fs::metadata(other)) {
            (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// O_NONBLOCK of fcntl.h, which differs between systems.
#[cfg(any(target_os = "linux", target_os = "android"))]
const O_NONBLOCK: i32 = 0o4000;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const O_NONBLOCK: i32 = 0x4;

fn regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "a folder" } else { "a pipe, socket or device" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        fs::write(&path, "abc").expect("written");
        assert_eq!(read(&path, 3).expect("read"), b"abc");
        assert!(read(&path, 2).expect_err("too long").to_string().contains("longer than the 2 bytes"));
        assert_eq!(read_to_string(&path, SMALL).expect("read"), "abc");
        fs::write(&path, b"ab\xff").expect("written");
        assert!(read_to_string(&path, SMALL).expect_err("bytes").to_string().contains("not UTF-8 text (byte 2)"));
        assert!(read(folder.path(), 9).expect_err("a folder").to_string().contains("is a folder"));
        assert_eq!(read(&folder.path().join("b"), 9).expect_err("none").kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_devices_and_loops_are_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let (pipe, circle) = (folder.path().join("pipe"), folder.path().join("circle"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        std::os::unix::fs::symlink(&circle, &circle).expect("a link");
        for path in [&pipe, Path::new("/dev/zero")] {
            assert!(read(path, 9).expect_err("no file").to_string().contains("not a regular file"));
        }
        assert!(read(&circle, 9).is_err());
        assert!(!same_file(&circle, &circle) && !same_file(&pipe, Path::new("/dev/zero")));
    }

    #[test]
    fn one_file_under_two_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "abc").expect("written");
        fs::hard_link(&one, &other).expect("a link");
        assert!(same_file(&one, &other) && same_file(&one, &folder.path().join("./one")));
        assert!(!same_file(&one, folder.path()) && !same_file(&one, &folder.path().join("none")));
    }
}
