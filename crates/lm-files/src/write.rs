//! Writing that a kill, a full disk or a second reader never sees half of.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::Builder;

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
pub fn write_with(path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let folder = folder_of(path);
    let name = path.file_name().ok_or_else(|| io::Error::other("is no name of a file"))?.to_string_lossy().into_owned();
    let mut builder = Builder::new();
    let prefix = format!(".{name}.");
    builder.prefix(&prefix).suffix(".tmp");
    // As any new file is made, less what the process masks; tempfile's own choice shuts out everybody else.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let (file, beside) = builder.tempfile_in(folder)?.into_parts();
    let _until_named = Temporary::new(&beside);
    let mut file = BufWriter::with_capacity(1 << 18, file);
    content(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    beside.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Flushes the names in a folder, where a system has that.
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

#[cfg(test)]
mod tests {
    use std::fs;

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
