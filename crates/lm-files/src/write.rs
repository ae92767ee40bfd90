//! Writing that a kill, a full disk or a second reader never sees half of.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tempfile::{Builder, TempPath};

use crate::Temporary;

/// Makes `path` a file of these bytes: whoever opens it, and whoever comes after a crash, finds the old content or the new
/// one. A link of that name is replaced, never followed.
///
/// # Errors
/// What the system says; the old file is untouched then.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// As [`write()`], with content that is made while it is written.
///
/// # Errors
/// What the system or `content` says; the old file is untouched then.
pub fn write_with(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut new = NewFile::create(path)?;
    let mut buffered = BufWriter::with_capacity(1 << 18, new.file());
    content(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    new.publish()
}

/// A file that is being written, called `.NAME.XXXXXX.tmp` until [`Self::publish`]. It goes if it is dropped before, or
/// the process ends early ([`crate::remove_temporaries`]).
#[derive(Debug)]
pub struct NewFile {
    file: File,
    beside: TempPath,
    path: PathBuf,
    _until_named: Temporary,
}

impl NewFile {
    /// A new file beside `path`, in a folder that exists.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("is no name of a file"))?.to_string_lossy();
        let prefix = format!(".{name}.");
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        // As any new file is made, less what the process masks; tempfile's own choice shuts out everybody else.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let (file, beside) = builder.tempfile_in(folder_of(path))?.into_parts();
        let _until_named = Temporary::new(&beside);
        Ok(Self { file, beside, path: path.to_owned(), _until_named })
    }

    /// Where the content goes.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Brings the content to the disk, for who has several files that are to get their names together.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Brings the content to the disk, gives the file its name and brings that to the disk too.
    ///
    /// # Errors
    /// What the system says; a file that had the name before is untouched then.
    pub fn publish(self) -> io::Result<()> {
        self.sync()?;
        let mut unnamed = Some(self.beside);
        retried(|| match unnamed.take().map(|beside| beside.persist(&self.path)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(refused)) => {
                unnamed = Some(refused.path);
                Err(refused.error)
            }
        })?;
        sync_folder(folder_of(&self.path))
    }
}

/// Gives a file or folder whose content is on the disk another name, and brings that to the disk too. A file of that name
/// is replaced.
///
/// # Errors
/// What the system says.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    retried(|| fs::rename(from, to))?;
    let (old, new) = (folder_of(from), folder_of(to));
    sync_folder(new)?;
    if old == new { Ok(()) } else { sync_folder(old) }
}

/// Brings a file to the disk that something else has written.
///
/// # Errors
/// What the system says.
pub fn sync_file(path: &Path) -> io::Result<()> {
    // Windows flushes only what was opened for writing.
    File::options().write(true).open(path)?.sync_all()
}

/// Brings the names in a folder to the disk, where a system has that: Windows opens no folder as a file, and NTFS keeps a
/// journal of names.
///
/// # Errors
/// What the system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    }
}

/// Windows refuses to rename what a virus scanner or an indexer has open, as they have new files for a moment.
fn retried(rename: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    // ERROR_SHARING_VIOLATION is 32.
    let is_in_use =
        |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied || error.raw_os_error() == Some(32);
    again_while(rename, |error| cfg!(windows) && is_in_use(error), Duration::from_millis(10))
}

/// Tries eight times, waiting twice as long each time, as long as the error is one that passes.
fn again_while(
    mut attempt: impl FnMut() -> io::Result<()>,
    passes: impl Fn(&io::Error) -> bool,
    mut pause: Duration,
) -> io::Result<()> {
    for _ in 1..8 {
        match attempt() {
            Err(error) if passes(&error) => thread::sleep(pause),
            result => return result,
        }
        pause *= 2;
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_or_new_and_nothing_beside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.json");
        write(&path, b"old").expect("written");
        write(&path, b"new").expect("written");
        let failed = write_with(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("the disk is full"))
        });
        assert_eq!(failed.expect_err("an error").to_string(), "the disk is full");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
        assert!(write(&folder.path().join("nowhere/a"), b"").is_err() && write(Path::new("/"), b"").is_err());
    }

    #[test]
    fn several_files_get_their_names_when_all_are_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let mut new = ["a", "b"].map(|name| NewFile::create(&path(name)).expect("created"));
        for new in &mut new {
            new.file().write_all(b"x").expect("written");
            new.sync().expect("flushed");
        }
        assert!(!path("a").exists() && !path("b").exists());
        let [one, other] = new;
        one.publish().expect("named");
        drop(other);
        assert!(path("a").exists() && fs::read_dir(folder.path()).expect("listed").count() == 1);
    }

    #[test]
    fn a_name_changes_within_a_folder_and_between_two() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("inner")).expect("a folder");
        fs::write(path("a"), "new").expect("written");
        fs::write(path("inner/b"), "old").expect("written");
        sync_file(&path("a")).expect("flushed");
        rename(&path("a"), &path("inner/b")).expect("renamed");
        rename(&path("inner"), &path("outer")).expect("renamed");
        assert_eq!(fs::read(path("outer/b")).expect("read"), b"new");
        assert_eq!(rename(&path("a"), &path("c")).expect_err("gone").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_passes_is_waited_for() {
        let trying = |successes_after: usize, passes: bool| {
            let mut tries = 0;
            let attempt = || {
                tries += 1;
                if tries > successes_after { Ok(()) } else { Err(io::Error::other("in use")) }
            };
            (again_while(attempt, |_| passes, Duration::ZERO).is_ok(), tries)
        };
        assert_eq!([trying(0, true), trying(3, true), trying(9, true)], [(true, 1), (true, 4), (false, 8)]);
        assert_eq!(trying(3, false), (false, 1));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_not_followed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let (precious, link) = (folder.path().join("thesis.txt"), folder.path().join("README.md"));
        fs::write(&precious, "years of work").expect("written");
        std::os::unix::fs::symlink(&precious, &link).expect("a link");
        write(&link, b"card").expect("written");
        assert_eq!(fs::read_to_string(&precious).expect("read"), "years of work");
        assert!(!link.is_symlink() && fs::read(&link).expect("read") == b"card");
        let usual = fs::metadata(&precious).expect("metadata").permissions().mode();
        assert_eq!(fs::metadata(&link).expect("metadata").permissions().mode(), usual, "as any new file");
    }
}
