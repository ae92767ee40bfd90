//! From the Hub into the cache: files side by side, each checked before it gets its name.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::HubError;
use super::cache::Kept;
use super::error::plain;
use super::hash::{Check, Hash};
use super::http::Failure;
use super::progress::Progress;
use super::snapshot::Snapshot;
use super::transfer::Transfer;

/// Files that are fetched at the same time.
const AT_ONCE: usize = 4;
/// How often a download that breaks off is taken up again.
const ATTEMPTS: usize = 3;
const BUFFER: usize = 1 << 18;
/// Bytes per second; what comes slower, after a minute, is one that keeps the connection open for ever.
const SLOWEST: u64 = 1 << 10;

impl Snapshot<'_> {
    /// Brings into the cache what it does not have of these files.
    ///
    /// # Errors
    /// See [`HubError`].
    pub(super) fn download(&self, files: &[impl AsRef<str>]) -> Result<(), HubError> {
        self.fetch(files).map_err(|failure| self.revision.explain(failure))
    }

    fn fetch(&self, files: &[impl AsRef<str>]) -> Result<(), Failure> {
        let (repo, cache) = (self.revision.repo, &self.revision.cache);
        let mut wanted = Vec::new();
        for file in files.iter().map(AsRef::as_ref) {
            match cache.find(&self.commit, file) {
                Kept::Whole(size) if size == self.size(file) => continue,
                Kept::Nothing => {}
                kept => {
                    let why = if let Kept::Damaged(why) = kept { why } else { "its size is not the one listed" };
                    tracing::warn!("{repo}: {file} in the cache is damaged ({why}): fetching it again");
                    cache.discard(&self.commit, file)?;
                }
            }
            wanted.push(file);
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let total = wanted.iter().fold(0, |total: u64, file| total.saturating_add(self.size(file)));
        if let Some(free) = cache.free().filter(|free| total > *free) {
            let error = format!("{total} bytes are to be downloaded, and {free} are free");
            return Err(Failure::Cache(std::io::Error::other(error)));
        }
        let progress = Progress::new(repo, wanted.len(), total);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(wanted.len()) {
                scope.spawn(|| {
                    let fetch_in_turn = || {
                        let transfer = Transfer::new(self.revision.settings, repo, self.attempts)?;
                        while let Some(file) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                            if failed.load(Ordering::Relaxed) {
                                break;
                            }
                            self.fetch_one(file, &transfer, &progress, &failed)?;
                        }
                        Ok(())
                    };
                    if let Err(error) = fetch_in_turn() {
                        failed.store(true, Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                });
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn size(&self, file: &str) -> u64 {
        self.sizes.get(file).copied().unwrap_or(0)
    }

    fn fetch_one(
        &self,
        file: &str,
        transfer: &Transfer,
        progress: &Progress,
        stop: &AtomicBool,
    ) -> Result<(), Failure> {
        let described = self.hub.describe(self.url(file))?;
        if let Some(commit) = described.commit.filter(|commit| *commit != self.commit) {
            return Err(Failure::Nonsense(format!("{file} of another commit ({})", plain(&commit))));
        }
        let hash = Hash::from_etag(&described.etag).ok_or_else(|| {
            Failure::Nonsense(format!("{file} with an ETag that is no hash to check it by: {}", plain(&described.etag)))
        })?;
        let _lock = self.revision.cache.lock(&hash)?;
        match self.revision.cache.find_blob(&hash) {
            Kept::Whole(size) if size == self.size(file) => progress.add(size),
            _ => self.fetch_bytes(file, transfer, &hash, progress, stop)?,
        }
        Ok(self.revision.cache.link(&self.commit, file, &hash)?)
    }

    /// The bytes, taken up again where they broke off.
    fn fetch_bytes(
        &self,
        file: &str,
        transfer: &Transfer,
        hash: &Hash,
        progress: &Progress,
        stop: &AtomicBool,
    ) -> Result<(), Failure> {
        let (path, mut partial) = self.revision.cache.partial(hash)?;
        let mut attempt = 1;
        loop {
            match self.receive(file, transfer, hash, &mut partial, progress, stop) {
                Ok(true) => return Ok(self.revision.cache.keep(&partial, &path, hash)?),
                // What an earlier download left may be what is wrong; from here on there is nothing of it.
                Ok(false) => partial.set_len(0)?,
                Err(Failure::Broken(detail)) if attempt < ATTEMPTS && !stop.load(Ordering::Relaxed) => {
                    tracing::warn!("{}: the download broke off ({detail}), trying again", self.revision.repo);
                    attempt += 1;
                }
                Err(error) => {
                    if !matches!(error, Failure::Broken(_) | Failure::Unreachable(_)) {
                        discard(&path, &partial);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Completes the file. False if its hash is wrong and something of it was there before.
    fn receive(
        &self,
        file: &str,
        transfer: &Transfer,
        hash: &Hash,
        partial: &mut File,
        progress: &Progress,
        stop: &AtomicBool,
    ) -> Result<bool, Failure> {
        let size = self.size(file);
        let mut check = hash.check(size);
        let there = partial.metadata()?.len();
        let mut done = if there <= size { there } else { 0 };
        let mut incoming = None;
        if done < size || size == 0 {
            incoming = transfer.open(self.url(file), &self.commit, file, done, size)?;
            if incoming.is_none() {
                done = 0;
                incoming = transfer.open(self.url(file), &self.commit, file, 0, size)?;
            }
        }
        partial.set_len(done)?;
        partial.seek(SeekFrom::Start(0))?;
        hash_all(partial, &mut check)?;
        let before = done;
        progress.add(before);
        let begun = Instant::now();
        while let Some(incoming) = &mut incoming {
            let bytes = match incoming.next() {
                Ok(bytes) => bytes,
                Err(detail) => {
                    progress.forget(done);
                    return Err(Failure::Broken(format!("{file} has {done} of {size} bytes: {detail}")));
                }
            };
            let Some(bytes) = bytes.filter(|_| !stop.load(Ordering::Relaxed)) else { break };
            let bytes = bytes.as_ref();
            done += bytes.len() as u64;
            if done > size {
                return Err(Failure::Nonsense(format!("{file} with more than the {size} bytes that it lists")));
            }
            check.update(bytes);
            partial.write_all(bytes)?;
            progress.add(bytes.len() as u64);
            if done < size && is_too_slow(begun.elapsed(), done - before) {
                progress.forget(done);
                let speed = format!("less than {SLOWEST} bytes a second");
                return Err(Failure::Broken(format!("{file} has {done} of {size} bytes: {speed}")));
            }
        }
        if done < size {
            progress.forget(done);
            return Err(Failure::Broken(format!("{file} has {done} of {size} bytes")));
        }
        match check.holds() {
            true => Ok(true),
            false if before > 0 => {
                progress.forget(done);
                Ok(false)
            }
            false => Err(Failure::WrongBytes { file: file.to_string(), hash: hash.to_string() }),
        }
    }
}

fn is_too_slow(elapsed: Duration, received: u64) -> bool {
    elapsed.as_secs() > 60 + received / SLOWEST
}

/// Nothing stays of a file whose bytes are wrong.
fn discard(path: &Path, partial: &File) {
    // If neither can be done, the next download finds that the hash is wrong, and begins anew.
    let _ = partial.set_len(0);
    let _ = std::fs::remove_file(path);
}

fn hash_all(file: &mut File, check: &mut Check) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => check.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_line_is_waited_for_and_a_dripping_one_is_not() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert!(!is_too_slow(minutes(1), 0) && is_too_slow(minutes(2), 100));
        assert!(!is_too_slow(minutes(60), 5000 * 3600) && is_too_slow(minutes(60), 500 * 3600));
    }
}
