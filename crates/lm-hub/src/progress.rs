//! How far a download is.

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};

use super::repo::Repo;

/// A bar over the bytes of all files; indicatif draws it only on a terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(repo: &Repo, files: usize, bytes: u64) -> Self {
        tracing::info!("downloading {files} files of {repo}, {}", BinaryBytes(bytes));
        let style = ProgressStyle::with_template("{msg} {percent:>3}% {wide_bar} {total_bytes} {bytes_per_sec} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::new(bytes).with_style(style).with_message(format!("Downloading {repo}")))
    }

    /// More bytes are there.
    pub(super) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Bytes that were counted have to be fetched, or counted, again.
    pub(super) fn forget(&self, bytes: u64) {
        self.0.dec(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
