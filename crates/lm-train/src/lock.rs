//! One run per output folder.
//!
//! The lock is the operating system's (`flock` on Unix), which ends with its process however that dies; the file's text
//! only says who holds it. So a file that a killed run left behind never stands in the way.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use lm_files::Temporary;

/// The lock file's name in the output folder. A leading dot: it is no part of the model.
pub const LOCK_NAME: &str = ".run.lock";

/// Exclusive use of an output folder until dropped.
#[derive(Debug)]
pub struct OutputLock {
    path: PathBuf,
    _file: File,
    _temporary: Temporary,
    previous_owner: Option<String>,
}

/// Why an output folder cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run writes there.
    #[error("--output_dir {output_dir}: in use by another run ({owner}); wait for it, stop it, or choose another --output_dir", output_dir = output_dir.display())]
    InUse {
        /// The folder.
        output_dir: PathBuf,
        /// `pid N on HOST`.
        owner: String,
    },
    /// Something else has the lock file's name.
    #[error("{path}: a link, folder or device, where the lock of the output folder belongs: remove it or choose another --output_dir", path = path.display())]
    Foreign {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be made.
    #[error("{path}: cannot lock the output folder: {source}; choose an --output_dir that you may write to")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OutputLock {
    /// Takes the lock of an existing folder.
    ///
    /// # Errors
    /// When another run holds it, or the lock file cannot be written.
    pub fn acquire(output_dir: &Path) -> Result<Self, LockError> {
        let path = output_dir.join(LOCK_NAME);
        let failed = |source| LockError::Io { path: path.clone(), source };
        let me = format!("pid {} on {}", std::process::id(), gethostname::gethostname().display());
        loop {
            // A link would lead the owner's name into somebody's file, and a pipe has no end.
            if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
                return Err(LockError::Foreign { path });
            }
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::InUse { output_dir: output_dir.to_owned(), owner: owner_of(&mut file) });
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
            let previous_owner = Some(owner_of(&mut file)).filter(|owner| owner != UNKNOWN_OWNER);
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| file.write_all(me.as_bytes()))
                .map_err(failed)?;
            let temporary = Temporary::new(&path);
            // An owner removes the file when it ends, perhaps between our opening and locking it; then what we locked
            // is no longer the file that others see.
            if is_at(&file, &path) {
                return Ok(Self { path, _file: file, _temporary: temporary, previous_owner });
            }
        }
    }

    /// `pid N on HOST` of a run that died without giving the lock back.
    pub fn previous_owner(&self) -> Option<&str> {
        self.previous_owner.as_deref()
    }
}

impl Drop for OutputLock {
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

    #[test]
    fn a_second_run_is_refused_and_told_by_whom() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = OutputLock::acquire(folder.path()).expect("free");
        let refusal = OutputLock::acquire(folder.path()).expect_err("taken").to_string();
        assert!(refusal.contains(&format!("pid {} on ", std::process::id())), "{refusal}");
        assert!(refusal.contains(&folder.path().display().to_string()) && !refusal.contains('\n'), "{refusal}");
        drop(first);
        assert!(!folder.path().join(LOCK_NAME).exists(), "nothing stays behind");
        let again = OutputLock::acquire(folder.path()).expect("free again");
        assert_eq!(again.previous_owner(), None);
    }

    #[test]
    fn the_lock_of_a_dead_run_is_taken_over() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(LOCK_NAME), "pid 4194303 on elsewhere").expect("a left-over");
        let lock = OutputLock::acquire(folder.path()).expect("nobody holds it");
        assert_eq!(lock.previous_owner(), Some("pid 4194303 on elsewhere"));
        let text = fs::read_to_string(folder.path().join(LOCK_NAME)).expect("the file");
        assert!(text.starts_with(&format!("pid {} on", std::process::id())), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_of_that_name_is_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let precious = folder.path().join("thesis.txt");
        fs::write(&precious, "years of work").expect("written");
        std::os::unix::fs::symlink(&precious, folder.path().join(LOCK_NAME)).expect("a link");
        let error = OutputLock::acquire(folder.path()).expect_err("foreign").to_string();
        assert!(error.contains(".run.lock: a link"), "{error}");
        assert_eq!(fs::read_to_string(&precious).expect("read"), "years of work");
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
        let error = OutputLock::acquire(Path::new("/nowhere/at/all")).expect_err("no folder").to_string();
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
                        if let Ok(_lock) = OutputLock::acquire(folder.path()) {
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
