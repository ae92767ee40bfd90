//! The memory allocator of every program that links this crate: mimalloc, told to keep what it has.
//!
//! A step frees what the next one takes again, in the same sizes. Given back to the system in between, each page would be
//! fetched and cleared anew, which cost an eighth of all processor time.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name: milliseconds until free memory goes back to the
/// system; -1 for never.
const PURGE_DELAY: mi_option_t = 15;

/// Keeps freed memory in the process, unless the environment's `MIMALLOC_PURGE_DELAY` says otherwise.
pub fn keep_memory() {
    // SAFETY: sets a number in a table of the allocator's, before other threads run.
    unsafe { mi_option_set_default(PURGE_DELAY, -1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_the_environment_names() {
        let expected = std::env::var("MIMALLOC_PURGE_DELAY").ok().and_then(|value| value.parse().ok()).unwrap_or(-1);
        keep_memory();
        // SAFETY: reads a number from the allocator's table.
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }, expected);
    }
}
