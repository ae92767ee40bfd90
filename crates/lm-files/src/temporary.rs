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
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut registered = registered();
        if let Some(at) = registered.iter().position(|path| *path == self.0) {
            registered.swap_remove(at);
        }
    }
}

/// Removes every file that is registered, for a process that ends without unwinding. Files that are gone already are no
/// trouble; nothing else can be done about one that stays.
pub fn remove_temporaries() {
    for path in registered().drain(..) {
        let _ = fs::remove_file(path);
    }
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
        drop(Temporary::new(&path("done")));
        remove_temporaries();
        assert!(!path("part").exists() && path("kept").exists() && path("done").exists());
    }
}
