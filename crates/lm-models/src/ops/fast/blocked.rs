//! Matrix products by blocks that stay in cache and a kernel whose sums stay in registers (Goto and van de Geijn, 2008).
//!
//! The order in which an element is summed depends on the length of the sum alone, so neither the blocks nor the number
//! of threads that share them change a bit.

use std::cell::Cell;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::matrix::{Matrix, Start};
use super::panels::{Side, pack};
use super::simd::{LANES, Vectors, prefetch, simd, vectors};

/// Terms of a sum that are added up in registers before the result is touched: a panel as deep fits the first cache.
/// Miri, which is slow, meets several of everything in small matrices.
pub(super) const DEPTH: usize = if cfg!(miri) { 8 } else { 384 };

/// Rows and columns of a block: two of them, as deep as said, fit the second cache.
pub(super) const BLOCK: usize = if cfg!(miri) { 12 } else { 96 };

/// Values of the smaller side that are laid out at once, for all threads.
const SHARED: usize = if cfg!(miri) { 1 << 8 } else { 1 << 20 };

/// Panels that a thread lays out at a time.
const PANELS: usize = 8;

/// A cache line, so that panels begin with one: a vector that lies in two takes twice as long to load.
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Line([f32; LANES]);

thread_local! {
    /// What a thread laid out for itself, and for all; kept for the next product.
    static OWN: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static COMMON: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Room for `len` values.
fn room(lines: &mut Vec<Line>, len: usize) -> &mut [f32] {
    lines.resize(lines.len().max(len.div_ceil(LANES)), Line::zeroed());
    &mut bytemuck::cast_slice_mut(lines)[..len]
}

/// The result: rows laid end to end, written by several threads in different places.
#[derive(Clone, Copy)]
struct Out {
    first: *mut f32,
    columns: usize,
}

// SAFETY: a pointer whose users write to different places, see `Out::store`.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Out {
    fn place(self, row: usize, column: usize) -> *mut f32 {
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
            // SAFETY: the caller's; `[f32; N]` is aligned as `f32` is.
            let out = unsafe { &mut *place.cast::<[f32; N]>() };
            match start {
                Start::Zero => *out = *sums,
                Start::Row(row) => {
                    let row = &row[column..column + N];
                    *out = std::array::from_fn(|i| sums[i] + row[i]);
                }
                Start::Result => {
                    let before = *out;
                    *out = std::array::from_fn(|i| sums[i] + before[i]);
                }
            }
            return;
        }
        for (i, &sum) in sums[..width].iter().enumerate() {
            // SAFETY: the caller's.
            let out = unsafe { &mut *place.wrapping_add(i) };
            match start {
                Start::Zero => *out = sum,
                Start::Row(row) => *out = sum + row[column + i],
                Start::Result => *out += sum,
            }
        }
    }
}

/// `Σ left(k) ⊗ right(k)`: as many sums as the registers hold. Loops that count, over arrays of known length, are what the
/// compiler unrolls into them.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn kernel<const M: usize, const N: usize>(left: &[[f32; M]], right: &[[f32; N]]) -> [[f32; N]; M] {
    let mut sums = [[0.0f32; N]; M];
    for (left, right) in left.iter().zip(right) {
        for i in 0..M {
            for j in 0..N {
                sums[i][j] = left[i].mul_add(right[j], sums[i][j]);
            }
        }
    }
    sums
}

/// The same for rows of two vectors by instructions of AVX-512, where what the compiler makes of the loops takes a tenth
/// longer.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn kernel_avx512<const M: usize, const N: usize>(left: &[[f32; M]], right: &[[f32; N]]) -> [[f32; N]; M] {
    use std::arch::x86_64::{__m512, _mm512_fmadd_ps, _mm512_set1_ps, _mm512_setzero_ps};
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    for (left, right) in left.iter().zip(right) {
        let right: [__m512; 2] = std::array::from_fn(|j| bytemuck::cast(right.as_chunks::<LANES>().0[j]));
        for (sums, &left) in sums.iter_mut().zip(left) {
            let left = _mm512_set1_ps(left);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = _mm512_fmadd_ps(left, right, *sum);
            }
        }
    }
    let mut result = [[0.0; N]; M];
    for (result, sums) in result.iter_mut().zip(sums) {
        for (result, sum) in result.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            *result = bytemuck::cast(sum);
        }
    }
    result
}

/// The product of panels, for some rows and columns of the result.
///
/// # Safety
///
/// As of [`Out::store`], for all these elements.
#[inline(always)]
unsafe fn block<const M: usize, const N: usize>(
    out: Out,
    (rows, columns): (Range<usize>, Range<usize>),
    (left, right): (&[f32], &[f32]),
    depth: usize,
    start: Start,
) {
    let (left, right) = (left.as_chunks::<M>().0, right.as_chunks::<N>().0);
    for (column, right) in columns.clone().step_by(N).zip(right.chunks_exact(depth)) {
        let width = N.min(columns.end - column);
        for (row, left) in rows.clone().step_by(M).zip(left.chunks_exact(depth)) {
            let height = M.min(rows.end - row);
            for i in 0..M {
                (0..N).step_by(LANES).for_each(|j| prefetch(out.place(row + i, column + j)));
                prefetch(out.place(row + i, column + N - 1));
            }
            let sums = match vectors() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor has the instructions, as was found.
                Vectors::Avx512 if N == 2 * LANES => unsafe { kernel_avx512(left, right) },
                _ => kernel(left, right),
            };
            if (height, width) == (M, N) {
                // The same with numbers that the compiler knows.
                for (i, sums) in sums.iter().enumerate() {
                    // SAFETY: the caller's.
                    unsafe { out.store(row + i, column, N, sums, start) };
                }
                continue;
            }
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
pub unsafe fn multiply<const M: usize, const N: usize>(out: *mut f32, a: Matrix, b: Matrix, start: Start, many: bool) {
    let (rows, columns, terms) = (a.rows, b.columns, a.columns);
    let out = Out { first: out, columns };
    let left = Side { values: a.values, across: a.strides.0, along: a.strides.1 };
    let right = Side { values: b.values, across: b.strides.1, along: b.strides.0 };
    let threads = if many { rayon::current_num_threads() } else { 1 };
    // As deep as can be, and about equally so.
    let depth = terms.div_ceil(terms.div_ceil(DEPTH));
    // The shorter side is laid out once for all; the longer one is shared out, and laid out by who works on it.
    let share_left = rows <= columns;
    let (short, long, tile) = if share_left { (rows, columns, N) } else { (columns, rows, M) };
    let short_len = short.next_multiple_of(if share_left { M } else { N });
    let at_once = (SHARED / short_len / depth).max(1) * depth;
    let tasks = if threads == 1 { 1 } else { 4 * threads };
    let part = BLOCK.min(long.div_ceil(tasks)).next_multiple_of(tile);

    let mut common_lines = COMMON.take();
    for from in (0..terms).step_by(at_once) {
        let depths: Vec<_> =
            (from..terms.min(from + at_once)).step_by(depth).map(|k| k..terms.min(k + depth)).collect();
        let len = short_len * (terms.min(from + at_once) - from);
        let common = room(&mut common_lines, len);
        let lay_out = |(across, along, out): Piece| {
            if share_left { pack::<M>(left, across, along, out) } else { pack::<N>(right, across, along, out) }
        };
        let jobs = pieces(common, short, PANELS * if share_left { M } else { N }, &depths, short_len);
        if threads == 1 {
            jobs.into_iter().for_each(lay_out)
        } else {
            jobs.into_par_iter().for_each(lay_out)
        }

        let common = &*common;
        let work = |index: usize| {
            let across = index * part..long.min((index + 1) * part);
            let mut own_lines = OWN.take();
            let own = room(&mut own_lines, part * depth);
            for along in &depths {
                let start = if along.start == 0 { start } else { Start::Result };
                let common = &common[short_len * (along.start - from)..][..short_len * along.len()];
                // SAFETY: the caller's; each task has rows or columns of its own.
                let compute = |rows, columns, left: &[f32], right: &[f32]| unsafe {
                    simd(
                        #[inline(always)]
                        || block::<M, N>(out, (rows, columns), (left, right), along.len(), start),
                    )
                };
                if share_left {
                    pack::<N>(right, across.clone(), along.clone(), own);
                    for row in (0..rows).step_by(BLOCK) {
                        compute(row..rows.min(row + BLOCK), across.clone(), &common[row * along.len()..], own);
                    }
                } else {
                    pack::<M>(left, across.clone(), along.clone(), own);
                    compute(across.clone(), 0..columns, own, common);
                }
            }
            OWN.set(own_lines);
        };
        let count = long.div_ceil(part);
        if threads == 1 { (0..count).for_each(work) } else { (0..count).into_par_iter().for_each(work) }
    }
    COMMON.set(common_lines);
}

/// Elements across and along, and room for their panels.
type Piece<'a> = (Range<usize>, Range<usize>, &'a mut [f32]);

/// Cuts room for panels into pieces of at most `width` elements across: depth by depth, panel by panel.
fn pieces<'a>(
    mut room: &'a mut [f32],
    count: usize,
    width: usize,
    depths: &[Range<usize>],
    padded: usize,
) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    for along in depths {
        for first in (0..count).step_by(width) {
            let (piece, rest) = room.split_at_mut((padded - first).min(width) * along.len());
            room = rest;
            pieces.push((first..count.min(first + width), along.clone(), piece));
        }
    }
    pieces
}
