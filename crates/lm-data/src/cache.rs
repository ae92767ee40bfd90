//! The folder of tokenized text: which stores are in use, and which go when they take too much room.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Marks the store of this name as used now, and as in use for as long as the file is open. None where the folder allows no
/// locks: what cannot be locked is never removed either.
pub(crate) fn in_use(folder: &Path, name: &str) -> Option<File> {
    fs::create_dir_all(folder).ok()?;
    let file = open_lock(folder, name).ok()?;
    file.lock_shared().ok()?;
    file.set_modified(SystemTime::now()).ok()?;
    Some(file)
}

fn open_lock(folder: &Path, name: &str) -> std::io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(lock_path(folder, name))
}

fn lock_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".tokens-{name}.lock"))
}

/// The name of part `number` of a store.
pub(crate) fn part_path(folder: &Path, name: &str, number: usize) -> PathBuf {
    folder.join(format!("tokens-{name}-{number:03}.bin"))
}

/// The store that a file is part of; none of anything else.
fn store_of(file: &str) -> Option<&str> {
    let (name, number) = file.strip_prefix("tokens-")?.strip_suffix(".bin")?.split_at_checked(32)?;
    // Earlier versions had one file, without a number.
    let is_number = number.is_empty() || number.strip_prefix('-').is_some_and(|digits| digits.parse::<u32>().is_ok());
    (is_number && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}

/// What a store takes.
struct Store {
    bytes: u64,
    used: SystemTime,
    files: Vec<PathBuf>,
}

/// Removes those stores that were not used for longest, until all together have no more than `limit` bytes. One that is in
/// use stays, and so does every file that is no store.
pub(crate) fn trim(folder: &Path, limit: u64) {
    let mut stores = stores(folder);
    let mut total: u64 = stores.values().map(|store| store.bytes).sum();
    while total > limit
        && let Some(name) = stores.iter().min_by_key(|(_, store)| store.used).map(|(name, _)| name.clone())
        && let Some(store) = stores.remove(&name)
    {
        let Some(lock) = open_lock(folder, &name).ok().filter(|lock| lock.try_lock().is_ok()) else { continue };
        let removed = store.files.iter().filter(|file| fs::remove_file(file).is_ok()).count();
        // Nobody waits for the lock of what is gone.
        drop(lock);
        let _ = fs::remove_file(lock_path(folder, &name));
        if removed == store.files.len() {
            total -= store.bytes;
            let mebibytes = store.bytes.div_ceil(1 << 20);
            tracing::info!("{}: {mebibytes} MiB of tokenized text removed (--data_cache_limit)", folder.display());
        }
    }
}

fn stores(folder: &Path) -> BTreeMap<String, Store> {
    let mut stores = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(store_of) else { continue };
        // A link is not followed.
        let Some(metadata) = entry.metadata().ok().filter(|metadata| metadata.is_file()) else { continue };
        let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let used = || lock_path(folder, name).metadata().and_then(|lock| lock.modified()).unwrap_or(written);
        let store =
            stores.entry(name.to_owned()).or_insert_with(|| Store { bytes: 0, used: used(), files: Vec::new() });
        store.bytes += metadata.len();
        store.files.push(entry.path());
    }
    stores
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const C: &str = "cccccccccccccccccccccccccccccccc";

    /// A store of two parts with 100 bytes together, last used so many seconds ago.
    fn store(folder: &Path, name: &str, age: u64) {
        for number in 0..2 {
            fs::write(part_path(folder, name, number), [0; 50]).unwrap();
        }
        let lock = in_use(folder, name).unwrap();
        lock.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        stores(folder).into_keys().collect()
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        store(folder, A, 30);
        store(folder, B, 50);
        store(folder, C, 40);
        trim(folder, 300);
        assert_eq!(names(folder), [A, B, C]);
        trim(folder, 299);
        assert_eq!(names(folder), [A, C], "the oldest goes, whole");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 6, "with its lock");
        in_use(folder, C).unwrap();
        trim(folder, 100);
        assert_eq!(names(folder), [C], "the other was used since");
        trim(folder, 0);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }

    #[test]
    fn what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        store(folder, A, 30);
        store(folder, B, 20);
        let used = [in_use(folder, A).unwrap(), in_use(folder, A).unwrap()];
        used[0].set_modified(SystemTime::UNIX_EPOCH).unwrap();
        trim(folder, 0);
        assert_eq!(names(folder), [A]);
        drop(used);
        trim(folder, 0);
        assert!(names(folder).is_empty());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let others = [
            "tokens-mine.bin".to_owned(),
            format!("tokens-{A}-x.bin"),
            format!("tokens-{A}-001.bin.bak"),
            format!("tokens-{A}001.bin"),
            format!("tokens-{}-001.bin", "é".repeat(16)),
            format!("my-tokens-{A}-001.bin"),
            "train.txt".to_owned(),
            "known-files-0.json".to_owned(),
        ];
        for name in &others {
            fs::write(folder.join(name), [0; 50]).unwrap();
        }
        fs::create_dir(part_path(folder, B, 7)).unwrap();
        // A store of an earlier version.
        fs::write(folder.join(format!("tokens-{C}.bin")), [0; 50]).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.join("train.txt"), part_path(folder, B, 8)).unwrap();
        trim(folder, 0);
        assert!(others.iter().all(|name| folder.join(name).exists()) && part_path(folder, B, 7).exists());
        assert_eq!(fs::read_dir(folder).unwrap().count(), others.len() + 1 + usize::from(cfg!(unix)));
    }
}
