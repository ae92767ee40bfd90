//! The terminal that all of the console shares.

use std::sync::LazyLock;

use indicatif::MultiProgress;

/// The bars of this process; whoever writes to the terminal meanwhile moves them out of the way.
pub(super) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// How wide the terminal is; none if the stream is none.
pub(super) fn width_of(stream: &console::Term) -> Option<usize> {
    stream.size_checked().map(|(_, columns)| usize::from(columns))
}
