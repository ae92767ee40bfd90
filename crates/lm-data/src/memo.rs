//! What was found out about files, remembered until one of them changes: a start takes as long for a terabyte of text as
//! for a megabyte.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What tells a file from any other, and from itself before a change, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    size: u64,
    /// Nanoseconds since 1970 at the last change of the content.
    modified: i128,
    /// The same of content, name or rights; 0 where the system does not tell, as the two below.
    changed: i128,
    device: u64,
    inode: u64,
}

/// Clocks of file systems may tick as slowly as this.
const TICK: Duration = Duration::from_secs(2);

impl Stamp {
    /// Of the file as it is now.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        let modified = match metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        };
        let stamp = Self { size: metadata.len(), modified, changed: 0, device: 0, inode: 0 };
        #[cfg(unix)]
        let stamp = {
            use std::os::unix::fs::MetadataExt;
            let changed = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
            Self { changed, device: metadata.dev(), inode: metadata.ino(), ..stamp }
        };
        Ok(stamp)
    }

    /// Of a file that never changes, of so many bytes.
    pub fn unchanging(size: u64) -> Self {
        Self { size, modified: 0, changed: 0, device: 0, inode: 0 }
    }

    /// Whether the file is old enough for a change to show in its time.
    pub fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i128);
        now - self.modified > TICK.as_nanos() as i128
    }
}

/// Files by their names and stamps.
#[derive(Clone)]
pub(crate) struct Identity {
    digest: Sha256,
    settled: bool,
}

impl Identity {
    /// Of no file, for a purpose that differs from others'.
    pub fn new(purpose: &str) -> Self {
        Self { digest: Sha256::new().chain_update(purpose).chain_update([0]), settled: true }
    }

    /// Adds a file.
    pub fn add(&mut self, path: &Path) -> io::Result<()> {
        let path = path.canonicalize()?;
        self.add_stamped(&path, &Stamp::of(&path)?);
        Ok(())
    }

    /// Adds a file by its name from the root, or its address.
    pub fn add_stamped(&mut self, path: &Path, stamp: &Stamp) {
        self.digest.update(format!("{}\0{stamp:?}\0", path.display()));
        self.settled &= stamp.is_settled();
    }

    /// As bytes.
    pub fn key(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
    }
}

/// What `find` finds about the files of this identity; taken from a small file in `folder` if it was found before, unless
/// `anew`.
pub(crate) fn remembered<T: Serialize + DeserializeOwned, E>(
    folder: &Path,
    identity: &Identity,
    anew: bool,
    find: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let path = file_of(folder, identity);
    if !anew
        && let Ok(text) = lm_files::read(&path, lm_files::SMALL)
        && let Ok(found) = serde_json::from_slice(&text)
    {
        return Ok(found);
    }
    let found = find()?;
    if identity.settled {
        remember(folder, identity, &found);
    }
    Ok(found)
}

/// Remembers what is known about files, however young they are: nobody else can have written them since.
pub(crate) fn remember<T: Serialize>(folder: &Path, identity: &Identity, known: &T) {
    let path = file_of(folder, identity);
    let written = serde_json::to_vec(known).map_err(io::Error::from).and_then(|text| {
        std::fs::create_dir_all(folder)?;
        lm_files::write(&path, &text)
    });
    if let Err(error) = written {
        tracing::warn!("{}: cannot be written, so the next start reads the text again: {error}", path.display());
    }
}

fn file_of(folder: &Path, identity: &Identity) -> PathBuf {
    let name: String = identity.key().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    folder.join(format!("known-{name}.json"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn found_once_and_again_when_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let searches = Cell::new(0);
        let find = |purpose: &str, anew: bool| {
            let mut identity = Identity::new(purpose);
            identity.add(&path).unwrap();
            remembered(&folder.path().join("cache"), &identity, anew, || {
                searches.set(searches.get() + 1);
                Ok::<_, io::Error>(fs::read_to_string(&path)?.len())
            })
            .unwrap()
        };
        let write = |content: &str, age: u64| {
            fs::write(&path, content).unwrap();
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(SystemTime::now() - Duration::from_secs(age))
                .unwrap();
        };
        write("abc", 60);
        assert_eq!((find("a", false), find("a", false), searches.get()), (3, 3, 1));
        assert_eq!((find("b", false), searches.get()), (3, 2), "another purpose");
        assert_eq!((find("a", true), searches.get()), (3, 3), "asked to look again");
        write("abcd", 60);
        assert_eq!((find("a", false), searches.get()), (4, 4), "another size");
        write("efgh", 50);
        assert_eq!((find("a", false), searches.get()), (4, 5), "another time");
        write("efgh", 0);
        assert_eq!((find("a", false), find("a", false), searches.get()), (4, 4, 7), "a file that may still change");
    }

    #[test]
    fn a_memo_that_is_damaged_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::new("a");
        let find = || remembered(folder.path(), &identity, false, || Ok::<u64, io::Error>(7)).unwrap();
        find();
        let memo = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        fs::write(&memo, "{").unwrap();
        assert_eq!(find(), 7);
        assert_eq!(fs::read(&memo).unwrap(), b"7");
    }
}
