//! The `tokenizers` library where it can be given files of others: it panics at some of them, and a regular expression may
//! try for ever.

use std::sync::Once;

/// How often a regular expression may go back in one search, a few seconds of work. Expressions that Python's tokenizers
/// use go back less than once a character.
const MOST_RETRIES: std::ffi::c_ulong = 100_000_000;

/// Calls `work`, which may panic; the error is what the library said.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static LIMIT: Once = Once::new();
    LIMIT.call_once(|| {
        // SAFETY: sets a number in a table of the library's, which every search reads; `Once` keeps others out.
        unsafe { onig_sys::onig_set_retry_limit_in_search(MOST_RETRIES) };
    });
    crate::caught::caught(work)
}
