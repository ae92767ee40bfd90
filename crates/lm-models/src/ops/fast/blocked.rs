//! Matrix products by blocks that stay in cache and a kernel whose sums stay in registers (Goto and van de Geijn, 2008).
//!
//! The order in which an element is summed depends on the length of the sum alone, so neither the blocks nor the number
//! of threads that share them change a bit.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::{Pod, Zeroable};
use half::bf16;
use rayon::prelude::*;

use super::matrix::{Matrix, Right, Start};
use super::panels::Side;
use super::simd::{LANES, prefetch, simd};

/// How the sums of a tile, `M` rows and `N` columns of the result, are taken, and how what they are taken of is laid out.
pub trait Kernel<const M: usize, const N: usize>: Copy + Sync {
    /// What panels consist of.
    type Word: Pod + Send + Sync;

    /// Terms of a sum in a word.
    const TERMS: usize;

    /// Terms of a sum that lie together: panels are filled up with zeros to a multiple.
    const STEP: usize;

    /// Panels of `M` rows of the left side, one after the other, each as deep as `along` is long.
    fn left(self, side: Side, across: Range<usize>, along: Range<usize>, out: &mut [Self::Word]);

    /// Panels of `N` columns of the right side.
    fn right(self, side: Side, across: Range<usize>, along: Range<usize>, out: &mut [Self::Word]);

    /// The same of a side in bfloat16.
    fn right_of_16_bits(self, side: Side<bf16>, across: Range<usize>, along: Range<usize>, out: &mut [Self::Word]);

    /// `Σ left(k) ⊗ right(k)` for a panel of each side.
    fn sums(self, left: &[Self::Word], right: &[Self::Word]) -> [[f32; N]; M];

    /// The same for a tile that lies inside the result, from this row and column on.
    ///
    /// # Safety
    ///
    /// As of [`Out::store`], for all these elements.
    #[inline(always)]
    unsafe fn tile(
        self,
        left: &[Self::Word],
        right: &[Self::Word],
        out: Out,
        (row, column): (usize, usize),
        start: Start,
    ) {
        // SAFETY: the caller's.
        unsafe { out.store_tile((row, column), &self.sums(left, right), start) };
    }

    /// Does some work with the kernel: what the processor needs for it is there meanwhile.
    #[inline(always)]
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        simd(work)
    }
}

/// Terms of a sum that are added up in registers before the result is touched. Half as many, of which panels fit the first
/// cache, cost a twentieth more time: the result is then read and written more often. Miri, which is slow, meets several of
/// everything in small matrices.
pub(super) const DEPTH: usize = if cfg!(miri) { 8 } else { 768 };

/// Rows and columns of a block: two of them, as deep as said, fit the second cache.
pub(super) const BLOCK: usize = if cfg!(miri) { 12 } else { 96 };

/// Values of the smaller side that are laid out at once, for all threads.
const SHARED: usize = if cfg!(miri) { 1 << 8 } else { 1 << 20 };

/// Panels that a thread lays out at a time.
const PANELS: usize = 2;

/// A cache line, so that panels begin with one: a vector that lies in two takes twice as long to load.
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Line([f32; LANES]);

thread_local! {
    /// What a thread laid out for itself, and for all; kept for the next product.
    static OWN: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static COMMON: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Room for `len` words.
fn room<W: Pod>(lines: &mut Vec<Line>, len: usize) -> &mut [W] {
    let words = size_of::<Line>() / size_of::<W>();
    lines.resize(lines.len().max(len.div_ceil(words)), Line::zeroed());
    &mut bytemuck::cast_slice_mut(lines)[..len]
}

/// The result: rows laid end to end, written by several threads in different places.
#[derive(Clone, Copy)]
pub struct Out {
    first: *mut f32,
    columns: usize,
}

// SAFETY: a pointer whose users write to different places, see `Out::store`.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Out {
    #[cfg(target_arch = "x86_64")]
    pub fn columns(self) -> usize {
        self.columns
    }

    pub fn place(self, row: usize, column: usize) -> *mut f32 {
        self.first.wrapping_add(row * self.columns + column)
    }

    /// `width` elements of a row, from `column` on, become `sums` and what the product is added to.
    ///
    /// # Safety
    ///
    /// The elements are inside the result, nobody else uses them meanwhile, and they hold values if `start` reads them.
    #[inline(always)]
    unsafe fn store<const N: usize>(self, row: usize, column: usize, width: usize, sums: &[f32; N], start: Start) {
        let place = self.place(row, column);
        if width == N {
            let place = place.cast::<[f32; N]>();
            let result = match start {
                Start::Zero => *sums,
                Start::Row(row) => {
                    let row = &row[column..column + N];
                    std::array::from_fn(|i| sums[i] + row[i])
                }
                Start::Result => {
                    // SAFETY: the caller's; `[f32; N]` is aligned as `f32` is.
                    let before = unsafe { place.read() };
                    std::array::from_fn(|i| sums[i] + before[i])
                }
            };
            // SAFETY: as above. No reference to what may not hold values yet.
            return unsafe { place.write(result) };
        }
        for (i, &sum) in sums[..width].iter().enumerate() {
            let place = place.wrapping_add(i);
            let result = match start {
                Start::Zero => sum,
                Start::Row(row) => sum + row[column + i],
                // SAFETY: the caller's.
                Start::Result => sum + unsafe { place.read() },
            };
            // SAFETY: as above.
            unsafe { place.write(result) };
        }
    }

    /// The same for a whole tile, from this row and column on.
    ///
    /// # Safety
    ///
    /// As of [`Self::store`], for all these elements.
    #[inline(always)]
    pub unsafe fn store_tile<const M: usize, const N: usize>(
        self,
        (row, column): (usize, usize),
        sums: &[[f32; N]; M],
        start: Start,
    ) {
        for (i, sums) in sums.iter().enumerate() {
            // SAFETY: the caller's.
            unsafe { self.store(row + i, column, N, sums, start) };
        }
    }
}

/// The product of panels, for some rows and columns of the result.
///
/// # Safety
///
/// As of [`Out::store`], for all these elements.
#[inline(always)]
unsafe fn block<K: Kernel<M, N>, const M: usize, const N: usize>(
    kernel: K,
    out: Out,
    (rows, columns): (Range<usize>, Range<usize>),
    (left, right): (&[K::Word], &[K::Word]),
    deep: usize,
    start: Start,
) {
    for (column, right) in columns.clone().step_by(N).zip(right.chunks_exact(N * deep)) {
        let width = N.min(columns.end - column);
        for (row, left) in rows.clone().step_by(M).zip(left.chunks_exact(M * deep)) {
            let height = M.min(rows.end - row);
            for i in 0..M {
                (0..N).step_by(LANES).for_each(|j| prefetch(out.place(row + i, column + j)));
                prefetch(out.place(row + i, column + N - 1));
            }
            if (height, width) == (M, N) {
                // SAFETY: the caller's.
                unsafe { kernel.tile(left, right, out, (row, column), start) };
                continue;
            }
            let sums = kernel.sums(left, right);
            for (i, sums) in sums.iter().enumerate().take(height) {
                // SAFETY: the caller's.
                unsafe { out.store(row + i, column, width, sums, start) };
            }
        }
    }
}

/// `out = a b` and what it is added to, by tiles of `M × N` sums.
///
/// # Safety
///
/// `out` is valid for writes of `a.rows * b.columns` values that nobody else uses meanwhile, and that are initialised if
/// `start` reads them. No extent is zero, and `a` and `b` stay inside their slices.
pub unsafe fn multiply<K: Kernel<M, N>, const M: usize, const N: usize>(
    kernel: K,
    out: *mut f32,
    a: Matrix,
    b: Right,
    start: Start,
    many: bool,
) {
    let (rows, columns, terms) = (a.rows, b.columns(), a.columns);
    let out = Out { first: out, columns };
    let left = Side { values: a.values, across: a.strides.0, along: a.strides.1 };
    let lay_out_right = |across: Range<usize>, along: Range<usize>, out: &mut [K::Word]| match b {
        Right::Float32(Matrix { values, strides, .. }) => {
            kernel.right(Side { values, across: strides.1, along: strides.0 }, across, along, out);
        }
        Right::BFloat16(Matrix { values, strides, .. }) => {
            kernel.right_of_16_bits(Side { values, across: strides.1, along: strides.0 }, across, along, out);
        }
    };
    let threads = if many { rayon::current_num_threads() } else { 1 };
    // As deep as can be, and about equally so.
    let depth = terms.div_ceil(terms.div_ceil(DEPTH)).next_multiple_of(K::STEP);
    // Words of a panel for each of the elements across.
    let deep = |along: &Range<usize>| along.len().next_multiple_of(K::STEP) / K::TERMS;
    // The shorter side is laid out once for all; the longer one is shared out, and laid out by who works on it.
    let share_left = rows <= columns;
    let (short, long, tile) = if share_left { (rows, columns, N) } else { (columns, rows, M) };
    let short_len = short.next_multiple_of(if share_left { M } else { N });
    let at_once = (SHARED / short_len / depth).max(1) * depth;
    let part = BLOCK.min(long).next_multiple_of(tile);

    let mut common_lines = COMMON.take();
    for from in (0..terms).step_by(at_once) {
        let depths: Vec<_> =
            (from..terms.min(from + at_once)).step_by(depth).map(|k| k..terms.min(k + depth)).collect();
        let ends = depths.iter().scan(0, |end, along| {
            *end += short_len * deep(along);
            Some(*end)
        });
        let ends: Vec<_> = ends.collect();
        let common = room(&mut common_lines, ends.last().copied().unwrap_or(0));
        let lay_out = |(across, along, out): Piece<K::Word>| {
            if share_left { kernel.left(left, across, along, out) } else { lay_out_right(across, along, out) }
        };
        let jobs = pieces(common, short, PANELS * if share_left { M } else { N }, &depths, short_len, deep);
        if threads == 1 {
            jobs.into_iter().for_each(lay_out)
        } else {
            jobs.into_par_iter().for_each(lay_out)
        }

        let common = &*common;
        let work = |tiles: Range<usize>| {
            let across = tiles.start * tile..long.min(tiles.end * tile);
            let mut own_lines = OWN.take();
            let own = room(&mut own_lines, part * depth / K::TERMS);
            for (along, &end) in depths.iter().zip(&ends) {
                let start = if along.start == 0 { start } else { Start::Result };
                let deep = deep(along);
                let common = &common[end - short_len * deep..end];
                // SAFETY: the caller's; each task has rows or columns of its own.
                let compute = |rows, columns, left: &[K::Word], right: &[K::Word]| unsafe {
                    kernel.run(
                        #[inline(always)]
                        || block(kernel, out, (rows, columns), (left, right), deep, start),
                    )
                };
                if share_left {
                    lay_out_right(across.clone(), along.clone(), own);
                    for row in (0..rows).step_by(BLOCK) {
                        compute(row..rows.min(row + BLOCK), across.clone(), &common[row * deep..], own);
                    }
                } else {
                    kernel.left(left, across.clone(), along.clone(), own);
                    compute(across.clone(), 0..columns, own, common);
                }
            }
            OWN.set(own_lines);
        };
        share_out(long.div_ceil(tile), part / tile, threads, work);
    }
    COMMON.set(common_lines);
}

/// Calls `work` with parts of `0..count`, of at most so many, on this many threads. The parts become smaller towards the end,
/// so that no thread waits long for the last.
fn share_out(count: usize, most: usize, threads: usize, work: impl Fn(Range<usize>) + Sync) {
    let next = AtomicUsize::new(0);
    let end = |from: usize| {
        let part = if threads == 1 { most } else { ((count - from) / (2 * threads)).clamp(1, most) };
        count.min(from + part)
    };
    let taken = |from: usize| (from < count).then(|| end(from));
    let take = || {
        while let Ok(from) = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken) {
            work(from..end(from));
        }
    };
    if threads == 1 { take() } else { (0..threads).into_par_iter().with_max_len(1).for_each(|_| take()) }
}

/// Elements across and along, and room for their panels.
type Piece<'a, W> = (Range<usize>, Range<usize>, &'a mut [W]);

/// Cuts room for panels into pieces of at most `width` elements across: depth by depth, panel by panel.
fn pieces<'a, W>(
    mut room: &'a mut [W],
    count: usize,
    width: usize,
    depths: &[Range<usize>],
    padded: usize,
    deep: impl Fn(&Range<usize>) -> usize,
) -> Vec<Piece<'a, W>> {
    let mut pieces = Vec::new();
    for along in depths {
        for first in (0..count).step_by(width) {
            let (piece, rest) = room.split_at_mut((padded - first).min(width) * deep(along));
            room = rest;
            pieces.push((first..count.min(first + width), along.clone(), piece));
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ops::tests::on_threads;

    #[test]
    fn everything_is_shared_out_once_in_parts_that_are_not_too_large() {
        for threads in [1, 2, 3] {
            for (count, most) in [(0, 1), (1, 1), (7, 3), (100, 8), (101, 1000)] {
                let parts = Mutex::new(Vec::new());
                on_threads(threads, || share_out(count, most, threads, |part| parts.lock().unwrap().push(part)));
                let mut parts = parts.into_inner().unwrap();
                parts.sort_by_key(|part| part.start);
                assert!(parts.iter().all(|part| (1..=most).contains(&part.len())), "{parts:?}");
                assert!(parts.into_iter().flatten().eq(0..count), "{count} by {most} on {threads} threads");
            }
        }
    }
}
