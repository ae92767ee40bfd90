//! The memory allocator of every program that links this crate: [`Blocks`] for what is large and mimalloc for the rest, both
//! told to keep what they have, and asked for nothing that may fail.
//!
//! A step frees what the next one takes again, in the same sizes. Given back to the system in between, each page would be
//! fetched and cleared anew, which cost an eighth of all processor time.
//!
//! Where memory cannot be had, Rust aborts the process. Here the program says so in one line and ends with code 1, or
//! begins again with less to do (`--auto_find_batch_size`).

use std::alloc::{GlobalAlloc, Layout};
use std::io::{self, Write};
use std::sync::OnceLock;

use libmimalloc_sys::{mi_option_get, mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

use super::large::{self, Blocks};
use super::restart;

#[global_allocator]
static ALLOCATOR: OrExit = OrExit;

/// The name that the last line begins with.
static PROGRAM: OnceLock<&'static str> = OnceLock::new();

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name: milliseconds until free memory goes back to the
/// system.
const PURGE_DELAY: mi_option_t = 15;

const NEVER: std::ffi::c_long = -1;

/// Keeps freed memory in the process, unless the environment's `MIMALLOC_PURGE_DELAY` says otherwise; then large blocks go
/// back to the system at once. From here on a lack of memory is told under the name `program`.
pub fn keep_memory(program: &'static str) {
    // Of two calls the first counts.
    let _ = PROGRAM.set(program);
    // SAFETY: sets and reads a number in a table of the allocator's, before other threads run.
    let delay = unsafe {
        mi_option_set_default(PURGE_DELAY, NEVER);
        mi_option_get(PURGE_DELAY)
    };
    if delay >= 0 {
        LARGE.empty_gaps();
    }
}

/// Large blocks.
static LARGE: Blocks = Blocks::new();

/// mimalloc, and [`Blocks`] for what is large; what they cannot give ends the program.
struct OrExit;

// SAFETY: every call goes to one of two allocators, by what the layout says, which is the same when a block comes back; what
// differs from them never returns.
unsafe impl GlobalAlloc for OrExit {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return given(LARGE.take(layout.size()), layout.size());
        }
        // SAFETY: the caller's promises are the same.
        given(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            let memory = given(LARGE.take(layout.size()), layout.size());
            // SAFETY: as many bytes were taken.
            unsafe { memory.write_bytes(0, layout.size()) };
            return memory;
        }
        // SAFETY: the caller's promises are the same.
        given(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if is_large(layout) {
            // SAFETY: a block of this layout was taken there.
            return unsafe { LARGE.give(memory, layout.size()) };
        }
        // SAFETY: the caller's promises are the same.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size, rounded up to the alignment, is no more than an isize holds.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_large(layout), is_large(wanted)) {
            // SAFETY: the caller's promises are the same.
            (false, false) => given(unsafe { MiMalloc.realloc(memory, layout, size) }, size),
            // SAFETY: a block of this layout was taken there, and the caller uses no more than the new size.
            (true, true) if unsafe { LARGE.resize(memory, layout.size(), size) } => memory,
            _ => {
                // SAFETY: both blocks hold what is copied; the old one, which the caller gives up, is another one.
                unsafe {
                    let moved = self.alloc(wanted);
                    moved.copy_from_nonoverlapping(memory, layout.size().min(size));
                    self.dealloc(memory, layout);
                    moved
                }
            }
        }
    }
}

#[inline]
fn is_large(layout: Layout) -> bool {
    cfg!(unix) && layout.size() >= large::LEAST && layout.align() <= large::GRANULE
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
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, expected);
    }
}
