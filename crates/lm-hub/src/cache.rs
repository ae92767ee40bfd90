//! The cache that Python's huggingface_hub shares. A file is named by its hash and is checked against it before it gets
//! that name, and once when it is first found under it.
//!
//! ```text
//! CACHE/models--OWNER--NAME/refs/main                      the commit
//!                          /snapshots/COMMIT/config.json   a link to
//!                          /blobs/HASH                     the bytes
//!                          /.listed/COMMIT.json            all files of the commit of a data set, and their sizes
//!                          /.checked/HASH                  that they were checked: size, time of change, inode
//!      /.locks/models--OWNER--NAME/HASH.lock               held while they are fetched
//! ```

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::hash::Hash;

/// What the cache has of a file.
#[derive(Debug, PartialEq)]
pub(super) enum Kept {
    /// All of it, this many bytes.
    Whole(u64),
    /// Nothing.
    Nothing,
    /// Something that is not the file, and why.
    Damaged(&'static str),
}

/// As many bytes as a list of files takes.
const LONGEST_LIST: u64 = 16 << 20;

/// The cache of one repository.
pub(super) struct Cache {
    repository: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn new(root: &Path, folder: &str) -> Self {
        Self { repository: root.join(folder), locks: root.join(".locks").join(folder) }
    }

    /// The commit that a branch or tag was last time, or the commit itself.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_string());
        }
        let text = lm_files::read_to_string(&self.repository.join("refs").join(revision), 1 << 12).ok()?;
        Some(text.trim().to_string()).filter(|commit| is_commit(commit))
    }

    /// Remembers what commit a branch or tag is.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> io::Result<()> {
        if is_commit(revision) || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        write(&self.repository.join("refs").join(revision), commit.as_bytes())
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repository.join("snapshots").join(commit)
    }

    /// The files of a commit with their sizes, if they were listed before.
    pub(super) fn list(&self, commit: &str) -> Option<HashMap<String, u64>> {
        let text = lm_files::read(&self.lists(commit), LONGEST_LIST).ok()?;
        let list: HashMap<String, u64> = serde_json::from_slice(&text).ok()?;
        list.keys().all(|path| is_file_path(path)).then_some(list)
    }

    /// Remembers the files of a commit.
    pub(super) fn keep_list(&self, commit: &str, list: &[u8]) -> io::Result<()> {
        write(&self.lists(commit), list)
    }

    fn lists(&self, commit: &str) -> PathBuf {
        self.repository.join(".listed").join(format!("{commit}.json"))
    }

    /// What there is of a file of a commit.
    pub(super) fn find(&self, commit: &str, file: &str) -> Kept {
        let path = self.snapshot(commit).join(file);
        let Ok(metadata) = fs::symlink_metadata(&path) else { return Kept::Nothing };
        if metadata.is_file() {
            // A copy, where there are no links: nobody wrote down its hash.
            return Kept::Whole(metadata.len());
        }
        let Ok(target) = fs::read_link(&path) else { return Kept::Damaged("it is neither a file nor a link") };
        let target = path.parent().unwrap_or(&path).join(target);
        let name = target.file_name().and_then(|name| name.to_str()).and_then(Hash::new);
        let inside = || Some(target.parent()?.canonicalize().ok()? == self.blobs().canonicalize().ok()?);
        match name {
            _ if inside() != Some(true) => Kept::Damaged("it leads out of the cache"),
            Some(hash) => self.find_blob(&hash),
            None => Kept::Damaged("it is not named by its hash"),
        }
    }

    /// What there is under the name of a hash.
    pub(super) fn find_blob(&self, hash: &Hash) -> Kept {
        let path = self.blob(hash);
        match fs::symlink_metadata(&path) {
            Ok(_) => match self.is_whole(hash) {
                Ok((true, size)) => Kept::Whole(size),
                Ok((false, _)) => Kept::Damaged("its bytes do not have the hash that is its name"),
                Err(_) => Kept::Damaged("it cannot be read"),
            },
            Err(_) => Kept::Nothing,
        }
    }

    fn is_whole(&self, hash: &Hash) -> io::Result<(bool, u64)> {
        let mut file = lm_files::open_regular(&self.blob(hash))?;
        let (size, mark) = (file.metadata()?.len(), mark(&file)?);
        let checked = self.repository.join(".checked").join(hash.to_string());
        if lm_files::read_to_string(&checked, 1 << 12).is_ok_and(|text| text == mark) {
            return Ok((true, size));
        }
        let mut check = hash.check(size);
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => check.update(&buffer[..count]),
            }
        }
        let whole = check.holds();
        if whole {
            // In a cache that cannot be written, the file is checked each time.
            let _ = write(&checked, mark.as_bytes());
        }
        Ok((whole, size))
    }

    /// Removes a file of a commit, and the bytes under its name if they lie in the cache.
    pub(super) fn discard(&self, commit: &str, file: &str) -> io::Result<()> {
        let path = self.snapshot(commit).join(file);
        let hash = fs::read_link(&path).ok().and_then(|target| Hash::new(target.file_name()?.to_str()?));
        if let Some(hash) = hash
            && !matches!(self.find_blob(&hash), Kept::Whole(_))
        {
            remove(&self.blob(&hash))?;
        }
        remove(&path)
    }

    /// Gives the bytes of a hash the name of a file of a commit.
    pub(super) fn link(&self, commit: &str, file: &str, hash: &Hash) -> io::Result<()> {
        let path = self.snapshot(commit).join(file);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        remove(&path)?;
        #[cfg(unix)]
        match std::os::unix::fs::symlink(
            format!("{}../../blobs/{hash}", "../".repeat(file.matches('/').count())),
            &path,
        ) {
            Ok(()) => return Ok(()),
            // Another program was faster, with the same link.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => tracing::debug!("{}: no link: {error}", path.display()),
        }
        // A drive without links has a copy.
        lm_files::write_with(&path, |copy| io::copy(&mut File::open(self.blob(hash))?, copy).map(drop))
    }

    /// Keeps bytes that were checked while they arrived.
    pub(super) fn keep(&self, file: &File, partial: &Path, hash: &Hash) -> io::Result<()> {
        file.sync_all()?;
        lm_files::rename(partial, &self.blob(hash))?;
        write(&self.repository.join(".checked").join(hash.to_string()), mark(file)?.as_bytes())
    }

    /// A file for the bytes of a hash while they arrive, with those that an earlier download left.
    pub(super) fn partial(&self, hash: &Hash) -> io::Result<(PathBuf, File)> {
        let path = self.blobs().join(format!("{hash}.incomplete"));
        fs::create_dir_all(self.blobs())?;
        if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            remove(&path)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        Ok((path, file))
    }

    /// Waits until no other program fetches these bytes. The lock ends with the file; two downloads at once, where there are
    /// no locks, are a waste, and the hash tells if they clash.
    pub(super) fn lock(&self, hash: &Hash) -> io::Result<File> {
        fs::create_dir_all(&self.locks)?;
        let path = self.locks.join(format!("{hash}.lock"));
        lm_files::wait_for_lock(&path, || {
            tracing::info!("another program downloads the same file: waiting for it ({})", path.display());
        })
    }

    /// Bytes that are free where the cache lies, if the system tells.
    pub(super) fn free(&self) -> Option<u64> {
        fs::create_dir_all(self.blobs()).ok()?;
        lm_files::free_space(&self.blobs()).ok()
    }

    fn blobs(&self) -> PathBuf {
        self.repository.join("blobs")
    }

    fn blob(&self, hash: &Hash) -> PathBuf {
        self.blobs().join(hash.to_string())
    }
}

/// A commit: 40 hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && Hash::new(text).is_some()
}

/// The name of one file, on every system: no folder, no drive, nothing above.
pub(super) fn is_file_name(name: &str) -> bool {
    let plain = |character: char| !character.is_control() && !"/\\:*?\"<>|".contains(character);
    !name.is_empty() && name.len() < 256 && name.chars().all(plain) && !matches!(name, "." | "..")
}

/// The path of a file below a folder, likewise.
pub(super) fn is_file_path(path: &str) -> bool {
    path.split('/').all(is_file_name)
}

/// By this a file is known again that nobody has changed.
fn mark(file: &File) -> io::Result<String> {
    let metadata = file.metadata()?;
    let changed = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Ok(format!("{} {changed} {inode}", metadata.len()))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    lm_files::write(path, bytes)
}

/// Removes a file or link, never what it leads to; done if there is none.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        for name in ["config.json", "model-00001-of-00002.safetensors", "..a", "a b", "é"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in ["", ".", "..", "../a", "/etc/a", "a/b", "..\\x", "C:a", "a\0b", "a\nb", &"x".repeat(256)] {
            assert!(!is_file_name(name), "{name:?}");
        }
        assert!(is_file_path("data/train-00000-of-00001.parquet") && is_file_path("a"));
        for path in ["data/../../a", "/a", "a/", "a//b", "data/./a"] {
            assert!(!is_file_path(path), "{path:?}");
        }
        for commit in ["main", "../../escaped", &"g".repeat(40), &"a".repeat(39), &"a".repeat(64)] {
            assert!(!is_commit(commit), "{commit}");
        }
    }
}
