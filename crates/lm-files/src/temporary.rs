//! Files that must not outlive the process: who ends it early removes them first.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static REGISTERED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file that is removed by [`remove_temporaries`] until this is dropped; dropping it leaves the file alone.
#[derive(Debug)]
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    /// Registers a path, best before the file is made.
    pub fn new(path: &Path) -> Self {
        registered().push(path.to_owned());
        Self(path.to_owned())
    }

    /// Makes a file and registers it, if that succeeds, before [`remove_temporaries`] can pass it by.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn made<T, E>(path: &Path, make: impl FnOnce() -> Result<T, E>) -> Result<(T, Self), E> {
        let mut registered = registered();
        let made = make()?;
        registered.push(path.to_owned());
        Ok((made, Self(path.to_owned())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut registered = registered();
        if let Some(at) = registered.iter().position(|path| *path == self.0) {
            registered.swap_remove(at);
        }
    }
}

/// Removes every file that is registered, for a process that ends without unwinding; until what is returned is dropped nobody
/// can make another. Files that are gone already are no trouble; nothing else can be done about one that stays.
#[must_use = "hold it until the process ends"]
pub fn remove_temporaries() -> impl Sized {
    let mut registered = registered();
    for path in registered.drain(..) {
        let _ = fs::remove_file(path);
    }
    registered
}

/// A list of paths that no panic leaves half-changed.
fn registered() -> MutexGuard<'static, Vec<PathBuf>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_registered_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["part", "kept", "done"] {
            fs::write(path(name), "x").expect("written");
        }
        let _part = Temporary::new(&path("part"));
        let (_, _made) = Temporary::made(&path("made"), || fs::write(path("made"), "x")).expect("made");
        Temporary::made(&path("kept"), || Err::<(), _>("in use")).expect_err("not made");
        drop(Temporary::new(&path("done")));
        drop(remove_temporaries());
        assert!(!path("part").exists() && !path("made").exists() && path("kept").exists() && path("done").exists());
    }
}
