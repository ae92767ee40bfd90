//! Libraries that read files of others, and panic at some of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `work`, which may panic; the error is what the library said. What the work may have left half-done is given up with
/// it.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        text.replace('\n', " ")
    })
}
