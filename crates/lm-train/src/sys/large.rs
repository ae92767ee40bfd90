//! Large blocks of memory: the smallest gap that fits, joined with its neighbours when it is free again.
//!
//! A step takes blocks of some ten lengths from one to a hundred MiB, activations first and gradients in their place.
//! mimalloc, which is for many small blocks, took 30 % more for them than they are long; this takes 5 %.

use std::collections::{BTreeMap, BTreeSet};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The shortest block that is taken from here, in bytes.
pub const LEAST: usize = 128 << 10;

/// Every block begins at a multiple of this and ends at one.
pub const GRANULE: usize = 4096;

/// What the system is asked for at once, at least: a huge page's multiple.
const GROWTH: usize = 16 << 20;

/// Blocks from this length on lie at the ends of gaps, others at their beginnings: among the short ones, which come and go in
/// other orders, a gap for the next long one would not come back.
const LONG: usize = 16 << 20;

/// Memory of which blocks are taken.
pub struct Blocks {
    gaps: Mutex<Gaps>,
    /// Whether gaps hold no memory; their addresses stay the process's.
    empties_gaps: AtomicBool,
}

/// What is free, by its place and by its length. No gap touches another.
struct Gaps {
    lengths: BTreeMap<usize, usize>,
    places: BTreeSet<(usize, usize)>,
}

impl Blocks {
    pub const fn new() -> Self {
        let gaps = Mutex::new(Gaps { lengths: BTreeMap::new(), places: BTreeSet::new() });
        Self { gaps, empties_gaps: AtomicBool::new(false) }
    }

    /// Gives the memory of every block that is taken back from now on to the system, on Linux alone.
    pub fn empty_gaps(&self) {
        self.empties_gaps.store(true, Ordering::Relaxed);
    }

    /// A block of at least `size` bytes, which hold anything; null if the system gives no more.
    pub fn take(&self, size: usize) -> *mut u8 {
        let Some(length) = size.checked_next_multiple_of(GRANULE) else { return ptr::null_mut() };
        self.with(|gaps| {
            let place = gaps.take(length).or_else(|| {
                gaps.grow(length)?;
                gaps.take(length)
            });
            place.map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
        })
    }

    /// Takes back a block.
    ///
    /// # Safety
    ///
    /// It was taken here, with this size or resized to it, and nothing uses it any more.
    pub unsafe fn give(&self, block: *mut u8, size: usize) {
        let length = size.next_multiple_of(GRANULE);
        // SAFETY: the block, which nothing uses any more.
        unsafe { self.empty(block, length) };
        self.with(|gaps| gaps.give(block.addr(), length));
    }

    /// Whether the block has `to` bytes now, where it lies.
    ///
    /// # Safety
    ///
    /// It was taken here, with `from` bytes or resized to them, and nothing uses what is beyond `to`.
    pub unsafe fn resize(&self, block: *mut u8, from: usize, to: usize) -> bool {
        let Some(wanted) = to.checked_next_multiple_of(GRANULE) else { return false };
        let end = block.addr() + from.next_multiple_of(GRANULE);
        match block.addr().checked_add(wanted) {
            Some(new_end) if new_end < end => {
                // SAFETY: what the caller cuts off of the block.
                unsafe { self.empty(block.add(wanted), end - new_end) };
                self.with(|gaps| gaps.give(new_end, end - new_end));
                true
            }
            Some(new_end) => self.with(|gaps| gaps.take_at(end, new_end - end)),
            None => false,
        }
    }

    /// Gives memory back to the system, if gaps are to hold none.
    ///
    /// # Safety
    ///
    /// The memory is this process's, whole granules long, and nothing uses what it holds.
    unsafe fn empty(&self, memory: *mut u8, length: usize) {
        #[cfg(target_os = "linux")]
        if self.empties_gaps.load(Ordering::Relaxed) {
            // SAFETY: the caller's promises. A system whose pages are longer than a granule may refuse; then it stays.
            let _ = unsafe { rustix::mm::madvise(memory.cast(), length, rustix::mm::Advice::LinuxDontNeed) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (memory, length);
    }

    fn with<R>(&self, then: impl FnOnce(&mut Gaps) -> R) -> R {
        then(&mut self.gaps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Gaps {
    fn insert(&mut self, start: usize, length: usize) {
        self.lengths.insert(start, length);
        self.places.insert((length, start));
    }

    fn remove(&mut self, start: usize, length: usize) {
        self.lengths.remove(&start);
        self.places.remove(&(length, start));
    }

    /// Of the shortest gaps that fit the first.
    fn take(&mut self, length: usize) -> Option<usize> {
        let &(all, start) = self.places.range((length, 0)..).next()?;
        self.remove(start, all);
        let rest = all - length;
        let (place, gap) = if length < LONG { (start, start + length) } else { (start + rest, start) };
        if rest > 0 {
            self.insert(gap, rest);
        }
        Some(place)
    }

    /// Whether there is a gap of this length at `start`, which then is taken.
    fn take_at(&mut self, start: usize, length: usize) -> bool {
        if length == 0 {
            return true;
        }
        let Some(all) = self.lengths.get(&start).copied().filter(|all| *all >= length) else { return false };
        self.remove(start, all);
        if all > length {
            self.insert(start + length, all - length);
        }
        true
    }

    fn give(&mut self, mut start: usize, mut length: usize) {
        if let Some((&before, &of_before)) = self.lengths.range(..start).next_back()
            && before + of_before == start
        {
            self.remove(before, of_before);
            (start, length) = (before, of_before + length);
        }
        if let Some(of_after) = self.lengths.get(&(start + length)).copied() {
            self.remove(start + length, of_after);
            length += of_after;
        }
        self.insert(start, length);
    }

    /// Asks the system for a gap of at least this length, which stays the process's.
    fn grow(&mut self, length: usize) -> Option<()> {
        let map = |length| memmap2::MmapOptions::new().len(length).map_anon().ok();
        let mut memory = length.checked_next_multiple_of(GROWTH).and_then(map).or_else(|| map(length))?;
        #[cfg(target_os = "linux")]
        // Speed alone; a system without huge pages says no.
        let _ = memory.advise(memmap2::Advice::HugePage);
        let (start, length) = (memory.as_mut_ptr().expose_provenance(), memory.len());
        std::mem::forget(memory);
        self.give(start, length);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes of all gaps.
    fn free(blocks: &Blocks) -> usize {
        blocks.with(|gaps| {
            assert!(gaps.lengths.iter().all(|(start, length)| gaps.places.contains(&(*length, *start))));
            assert_eq!(gaps.lengths.len(), gaps.places.len());
            let mut end = 0;
            for (start, length) in &gaps.lengths {
                assert!(*length > 0 && *start > end, "two gaps touch or overlap");
                end = start + length;
            }
            gaps.lengths.values().sum()
        })
    }

    /// A block as its user sees it.
    struct Held {
        memory: *mut u8,
        size: usize,
        mark: u8,
    }

    impl Held {
        /// Writes both ends and the granules between.
        fn write(&self) {
            for at in (0..self.size).step_by(GRANULE).chain([self.size - 1]) {
                // SAFETY: within the block.
                unsafe { self.memory.add(at).write(self.mark) };
            }
        }

        fn is_as_written(&self) -> bool {
            // SAFETY: within the block, and written.
            (0..self.size)
                .step_by(GRANULE)
                .chain([self.size - 1])
                .all(|at| unsafe { *self.memory.add(at) == self.mark })
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_held_is_nobody_elses(
            steps in prop::collection::vec((0..4, 0..64usize, 1..400_000usize), 1..200),
            empty_gaps in any::<bool>(),
        ) {
            let blocks = Blocks::new();
            if empty_gaps {
                blocks.empty_gaps();
            }
            let mut held: Vec<Held> = Vec::new();
            for (mark, (step, which, size)) in steps.into_iter().enumerate() {
                match (step, held.len()) {
                    (0 | 1, _) | (_, 0) => {
                        let block = Held { memory: blocks.take(size), size, mark: mark as u8 };
                        prop_assert!(block.memory.addr().is_multiple_of(GRANULE) && !block.memory.is_null());
                        block.write();
                        held.push(block);
                    }
                    (2, number) => {
                        let block = held.swap_remove(which % number);
                        prop_assert!(block.is_as_written());
                        // SAFETY: taken above, and forgotten here.
                        unsafe { blocks.give(block.memory, block.size) };
                    }
                    (_, number) => {
                        let block = &mut held[which % number];
                        // SAFETY: taken above, and what is cut off is not read.
                        if unsafe { blocks.resize(block.memory, block.size, size) } {
                            block.size = size;
                            block.write();
                        } else {
                            prop_assert!(size > block.size);
                        }
                    }
                }
                prop_assert!(held.iter().all(Held::is_as_written));
            }
            let mapped = free(&blocks) + held.iter().map(|block| block.size.next_multiple_of(GRANULE)).sum::<usize>();
            for block in held {
                // SAFETY: taken above, and gone.
                unsafe { blocks.give(block.memory, block.size) };
            }
            prop_assert_eq!(free(&blocks), mapped);
            prop_assert_eq!(mapped % GROWTH, 0);
        }
    }

    #[test]
    fn long_blocks_lie_at_the_ends_of_gaps() {
        let blocks = Blocks::new();
        let gap = blocks.take(3 * LONG);
        // SAFETY: taken above.
        unsafe { blocks.give(gap, 3 * LONG) };
        let [short, long] = [LONG - GRANULE, LONG].map(|size| blocks.take(size));
        assert_eq!((short, long), (gap, gap.wrapping_add(2 * LONG)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn gaps_hold_no_memory_where_they_are_to_hold_none() {
        let blocks = Blocks::new();
        let block = Held { memory: blocks.take(4 * GRANULE), size: 4 * GRANULE, mark: 1 };
        // SAFETY: within the block, which is taken; the system's pages, which it may have given back, are cleared.
        let first_byte = |granule: usize| unsafe { *block.memory.add(granule * GRANULE) };
        for (empty_gaps, expected) in [(false, [1, 1, 1, 1]), (true, [0, 0, 0, 0])] {
            if empty_gaps {
                blocks.empty_gaps();
            }
            block.write();
            // SAFETY: taken above; what is cut off and given back is not read before it is taken again.
            unsafe {
                assert!(blocks.resize(block.memory, 4 * GRANULE, 3 * GRANULE));
                blocks.give(block.memory, 3 * GRANULE);
            }
            assert_eq!(blocks.take(4 * GRANULE), block.memory);
            assert_eq!([0, 1, 2, 3].map(first_byte), expected);
        }
    }

    #[test]
    fn the_shortest_gap_that_fits_is_taken() {
        let blocks = Blocks::new();
        let [long, wall, short, end] = [8, 1, 4, 1].map(|granules| blocks.take(granules * GRANULE));
        // SAFETY: taken above.
        unsafe {
            blocks.give(long, 8 * GRANULE);
            blocks.give(short, 4 * GRANULE);
        }
        assert_eq!(blocks.take(3 * GRANULE + 1), short);
        assert_eq!(blocks.take(5 * GRANULE), long);
        // SAFETY: taken above.
        unsafe {
            assert!(blocks.resize(long, 5 * GRANULE, 8 * GRANULE), "up to the wall");
            assert!(!blocks.resize(long, 8 * GRANULE, 8 * GRANULE + 1), "beyond it");
            assert!(blocks.resize(long, 8 * GRANULE, GRANULE));
        }
        assert!(wall < end && blocks.take(7 * GRANULE) == long.wrapping_add(GRANULE));
    }

    #[test]
    fn what_nobody_has_is_null() {
        let blocks = Blocks::new();
        assert!(blocks.take(usize::MAX - GRANULE).is_null());
        assert!(blocks.take(isize::MAX as usize).is_null());
        assert!(!blocks.take(1).is_null());
    }
}
