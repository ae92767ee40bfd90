//! The memory allocator of every program that links this crate: mimalloc, told to keep what it has, and asked for nothing
//! that may fail.
//!
//! A step frees what the next one takes again, in the same sizes. Given back to the system in between, each page would be
//! fetched and cleared anew, which cost an eighth of all processor time. The first step takes memory in another order than
//! all others, so what it has freed is given back ([`give_back`]).
//!
//! Where memory cannot be had, Rust aborts the process. Here the program says so in one line and ends with code 1, or
//! begins again with less to do (`--auto_find_batch_size`).

use std::alloc::{GlobalAlloc, Layout};
use std::io::{self, Write};
use std::sync::OnceLock;

use libmimalloc_sys::{mi_collect, mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

use super::restart;

#[global_allocator]
static ALLOCATOR: OrExit = OrExit;

/// The name that the last line begins with.
static PROGRAM: OnceLock<&'static str> = OnceLock::new();

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name: milliseconds until free memory goes back to the
/// system.
const PURGE_DELAY: mi_option_t = 15;

/// A year. With -1, for never, the allocator would not note what could be given back when it is asked to.
const NEVER: std::ffi::c_long = if size_of::<std::ffi::c_long>() == 8 { 31_536_000_000 } else { 100_000_000 };

/// Keeps freed memory in the process, unless the environment's `MIMALLOC_PURGE_DELAY` says otherwise. From here on a lack
/// of memory is told under the name `program`.
pub fn keep_memory(program: &'static str) {
    // Of two calls the first counts.
    let _ = PROGRAM.set(program);
    // SAFETY: sets a number in a table of the allocator's, before other threads run.
    unsafe { mi_option_set_default(PURGE_DELAY, NEVER) }
}

/// Gives free memory back to the system, once.
pub fn give_back() {
    // SAFETY: looks through free memory; nothing that is in use is touched.
    unsafe { mi_collect(true) }
}

/// mimalloc, but what it cannot give ends the program.
struct OrExit;

// SAFETY: every call goes to mimalloc, which is an allocator; what differs never returns.
unsafe impl GlobalAlloc for OrExit {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        given(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        given(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are the same.
        given(unsafe { MiMalloc.realloc(memory, layout, size) }, size)
    }
}

#[inline]
fn given(memory: *mut u8, size: usize) -> *mut u8 {
    if memory.is_null() { exhausted(size) } else { memory }
}

/// Says that there is no memory and ends the program, without taking any for it. Checkpoints are whole or absent, so those
/// that are there can be gone on from.
#[cold]
fn exhausted(size: usize) -> ! {
    restart::begin();
    let mut line = [0; 512];
    let mut rest = &mut line[..];
    // There is nowhere left to report a failure of this.
    let _ = writeln!(
        rest,
        "{}: error: memory exhausted: {size} bytes could not be had; try a smaller --per_device_train_batch_size (with \
         more --gradient_accumulation_steps) or --per_device_eval_batch_size, shorter sequences, \
         --gradient_checkpointing or a smaller model, and look whether an input file is damaged",
        PROGRAM.get().unwrap_or(&"run_lm")
    );
    let left = rest.len();
    let length = line.len() - left;
    let _ = io::stderr().write_all(&line[..length]);
    signal_hook::low_level::exit(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_the_environment_names() {
        let expected = std::env::var("MIMALLOC_PURGE_DELAY").ok().and_then(|value| value.parse().ok()).unwrap_or(NEVER);
        keep_memory("test");
        // SAFETY: reads a number from the allocator's table.
        assert_eq!(unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }, expected);
    }
}
