//! One process at a time.
//!
//! The lock is the operating system's (`flock` on Unix), which ends with its process however that dies; the file's text
//! only says who holds it. So a file that a killed process left behind never stands in the way.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::Temporary;

/// Exclusive use of what a file stands for, until dropped; then the file goes.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
    _temporary: Temporary,
    previous_owner: Option<String>,
}

/// Why a lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{path}: held by another process ({owner})", path = path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
        /// What it says of itself.
        owner: String,
    },
    /// Something else has the lock file's name.
    #[error("{path}: a link, folder or device, where a lock file belongs", path = path.display())]
    Foreign {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be made.
    #[error("{path}: cannot be locked: {source}", path = path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock of a file, which is made if it is not there, in a folder that is; `owner` tells others who has it.
    ///
    /// # Errors
    /// When another process holds it, or the lock file cannot be written.
    pub fn acquire(path: &Path, owner: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        loop {
            // A link would lead the owner's name into somebody's file, and a pipe has no end.
            if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
                return Err(LockError::Foreign { path: path.to_owned() });
            }
            // Nobody else's file is removed, and none of ours is left, whenever a signal comes.
            let (mut file, temporary) = Temporary::made(path, || {
                let mut file = open(path).map_err(failed)?;
                match file.try_lock() {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => {
                        return Err(LockError::InUse { path: path.to_owned(), owner: owner_of(&mut file) });
                    }
                    // Some network file systems know no locks: better to run than to refuse there for good.
                    Err(TryLockError::Error(error)) if knows_no_locks(&error) => {
                        tracing::warn!(
                            "{}: this file system has no locks: make sure that no second run writes to this folder",
                            path.display()
                        );
                    }
                    Err(TryLockError::Error(error)) => return Err(failed(error)),
                }
                Ok(file)
            })?;
            let previous_owner = Some(owner_of(&mut file)).filter(|owner| owner != UNKNOWN_OWNER);
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(owner.as_bytes()))
                .map_err(failed)?;
            // An owner removes the file when it ends, perhaps between our opening and locking it; then what we locked
            // is no longer the file that others see.
            if is_at(&file, path) {
                return Ok(Self { path: path.to_owned(), _file: file, _temporary: temporary, previous_owner });
            }
        }
    }

    /// What a process said of itself that died without giving the lock back.
    pub fn previous_owner(&self) -> Option<&str> {
        self.previous_owner.as_deref()
    }
}

/// Waits until no other process has the lock of a file, which stays; `waiting` is called if that takes time. The lock ends
/// with the file that is returned. Where a file system has no locks there is none: this is for what is only a waste if it
/// is done twice.
///
/// # Errors
/// If the file cannot be opened, or the lock not be waited for.
pub fn wait_for_lock(path: &Path, waiting: impl FnOnce()) -> io::Result<File> {
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        fs::remove_file(path)?;
    }
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            waiting();
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => tracing::debug!("{}: no lock: {error}", path.display()),
    }
    Ok(file)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked here, so nobody else's file is removed. If it stays, the next run takes it over.
        let _ = fs::remove_file(&self.path);
    }
}

const UNKNOWN_OWNER: &str = "pid unknown";

/// What the lock file says about its owner. Only printed, so anything unreadable will do as "unknown".
fn owner_of(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(200).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.split_whitespace().collect::<Vec<_>>().join(" "),
        _ => UNKNOWN_OWNER.to_owned(),
    }
}

/// ENOLCK, ENOSYS and ENOTSUP, of NFS without its lock service and of some file systems in user space.
fn knows_no_locks(error: &io::Error) -> bool {
    const NUMBERS: &[i32] = if cfg!(target_os = "linux") { &[37, 38, 95] } else { &[77, 78, 45] };
    error.kind() == io::ErrorKind::Unsupported
        || (cfg!(unix) && error.raw_os_error().is_some_and(|number| NUMBERS.contains(&number)))
}

/// Whether `path` still leads to this open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Elsewhere a file that is open keeps its name.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(folder: &Path) -> Result<Lock, LockError> {
        Lock::acquire(&folder.join(".run.lock"), "pid 1 on here")
    }

    #[test]
    fn a_second_owner_is_refused_and_told_by_whom() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = acquire(folder.path()).expect("free");
        let refusal = acquire(folder.path()).expect_err("taken").to_string();
        // What is locked on Windows nobody else can read.
        let owner = if cfg!(windows) { UNKNOWN_OWNER } else { "pid 1 on here" };
        assert!(refusal.contains(&format!("({owner})")), "{refusal}");
        assert!(refusal.contains(&folder.path().display().to_string()) && !refusal.contains('\n'), "{refusal}");
        drop(first);
        assert!(!folder.path().join(".run.lock").exists(), "nothing stays behind");
        let again = acquire(folder.path()).expect("free again");
        assert_eq!(again.previous_owner(), None);
    }

    #[test]
    fn the_lock_of_the_dead_is_taken_over() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(".run.lock"), "pid 4194303 on elsewhere").expect("a left-over");
        let lock = acquire(folder.path()).expect("nobody holds it");
        assert_eq!(lock.previous_owner(), Some("pid 4194303 on elsewhere"));
        assert_eq!(fs::read_to_string(folder.path().join(".run.lock")).expect("the file"), "pid 1 on here");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_of_that_name_is_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (precious, lock) = (folder.path().join("thesis.txt"), folder.path().join(".run.lock"));
        fs::write(&precious, "years of work").expect("written");
        std::os::unix::fs::symlink(&precious, &lock).expect("a link");
        let error = acquire(folder.path()).expect_err("foreign").to_string();
        assert!(error.contains(".run.lock: a link"), "{error}");
        drop(wait_for_lock(&lock, || panic!("nobody has it")).expect("a lock of its own"));
        assert!(!lock.is_symlink());
        assert_eq!(fs::read_to_string(&precious).expect("read"), "years of work");
    }

    #[test]
    fn who_waits_goes_on_when_the_lock_is_free() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.lock");
        let first = wait_for_lock(&path, || panic!("nobody has it")).expect("free");
        let (waits, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| wait_for_lock(&path, move || waits.send(()).expect("heard")).map(drop));
            told.recv().expect("it waits");
            drop(first);
            second.join().expect("ended").expect("free");
        });
        assert!(path.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_without_locks_does_not_refuse_for_good() {
        for number in [37, 38, 95] {
            assert!(knows_no_locks(&io::Error::from_raw_os_error(number)), "{number}");
        }
        assert!(!knows_no_locks(&io::Error::from_raw_os_error(13)), "no permission is another matter");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = acquire(Path::new("/nowhere/at/all")).expect_err("no folder").to_string();
        assert!(error.contains("/nowhere/at/all/.run.lock"), "{error}");
    }

    #[test]
    fn many_threads_never_hold_it_together() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let holders = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Ok(_lock) = acquire(folder.path()) {
                            let before = holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            assert_eq!(before, 0, "somebody else holds the lock");
                            holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }
}
