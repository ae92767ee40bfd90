//! New memory, written first by the threads that will use it.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Values that one thread works on at a time.
pub const CHUNK: usize = 1 << 14;

/// `len` values, zeroed and handed to `fill` a chunk at a time on all threads: the system clears the pages of a new
/// allocation when they are touched, which on one thread takes as long as the operation itself. `fill` gets the index of
/// its chunk's first value.
pub fn build(len: usize, chunk: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    let room = &mut values.spare_capacity_mut()[..len];
    room.par_chunks_mut(chunk.max(1)).enumerate().for_each(|(index, room)| {
        room.fill(MaybeUninit::new(0.0));
        // SAFETY: all of it was written in the line above.
        fill(index * chunk.max(1), unsafe { room.assume_init_mut() });
    });
    // SAFETY: the capacity is at least `len`, and the chunks, all of which were zeroed, cover the first `len` values.
    unsafe { values.set_len(len) };
    values
}

/// `len` zeros.
pub fn zeros(len: usize) -> Vec<f32> {
    build(len, CHUNK, |_, _| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_written_once() {
        for len in [0, 1, 5, 6, 1000] {
            for chunk in [0, 1, 6, 1000] {
                let values = build(len, chunk, |start, values| {
                    values.iter_mut().enumerate().for_each(|(i, value)| *value += (start + i) as f32);
                });
                assert_eq!(values, (0..len).map(|i| i as f32).collect::<Vec<_>>(), "{len} {chunk}");
            }
        }
        let many = if cfg!(miri) { 2 * CHUNK } else { 100_000 };
        assert_eq!(zeros(many), vec![0.0; many]);
    }
}
