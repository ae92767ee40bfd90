//! The kernel of matrix products in float32.

use std::ops::Range;

use half::bf16;

use super::blocked::{Kernel, Out};
use super::matrix::Start;
use super::panels::{Side, pack};
#[cfg(target_arch = "x86_64")]
use super::simd::{Vectors, vectors};
use super::simd::{narrow, wide};

/// Products in float32.
#[derive(Clone, Copy)]
pub struct Float32 {
    /// Whether operands are rounded to bfloat16 first, for processors without instructions for it.
    pub rounded: bool,
}

impl Float32 {
    fn round(self, values: &mut [f32]) {
        if self.rounded {
            values.iter_mut().for_each(|value| *value = wide(narrow(*value)));
        }
    }
}

impl<const M: usize, const N: usize> Kernel<M, N> for Float32 {
    type Word = f32;

    const TERMS: usize = 1;
    const STEP: usize = 1;

    fn left(self, side: Side, across: Range<usize>, along: Range<usize>, out: &mut [f32]) {
        let len = across.len().next_multiple_of(M) * along.len();
        pack::<M, _>(side, across, along, out);
        self.round(&mut out[..len]);
    }

    fn right(self, side: Side, across: Range<usize>, along: Range<usize>, out: &mut [f32]) {
        let len = across.len().next_multiple_of(N) * along.len();
        pack::<N, _>(side, across, along, out);
        self.round(&mut out[..len]);
    }

    fn right_of_16_bits(self, side: Side<bf16>, across: Range<usize>, along: Range<usize>, out: &mut [f32]) {
        pack::<N, _>(side, across, along, out);
    }

    #[inline(always)]
    fn sums(self, left: &[f32], right: &[f32]) -> [[f32; N]; M] {
        let (left, right) = (left.as_chunks().0, right.as_chunks().0);
        #[cfg(target_arch = "x86_64")]
        if N == avx512::COLUMNS && vectors() == Vectors::Avx512 {
            // SAFETY: the processor has the instructions, as was found.
            return unsafe { avx512::sums_of_edge(left, right) };
        }
        kernel(left, right)
    }

    #[inline(always)]
    unsafe fn tile(self, left: &[f32], right: &[f32], out: Out, place: (usize, usize), start: Start) {
        #[cfg(target_arch = "x86_64")]
        if N == avx512::COLUMNS && vectors() == Vectors::Avx512 {
            let (left, right) = (left.as_chunks::<M>().0, right.as_chunks::<N>().0);
            // SAFETY: the processor has the instructions, as was found; the rest is the caller's.
            return unsafe { avx512::tile(left, right, out, place, start) };
        }
        // SAFETY: the caller's.
        unsafe { out.store_tile::<M, N>(place, &self.sums(left, right), start) };
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
mod avx512 {
    use std::arch::x86_64::*;

    use super::super::blocked::Out;
    use super::super::matrix::Start;
    use super::super::simd::{LANES, prefetch};

    /// Of a tile.
    pub const COLUMNS: usize = 2 * LANES;

    /// Terms before they are needed at which both sides are asked for: panels lie in the second cache.
    const AHEAD: (usize, usize) = (12, 4);

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn sums<const M: usize, const N: usize>(left: &[[f32; M]], right: &[[f32; N]]) -> [[__m512; 2]; M] {
        let mut sums = [[_mm512_setzero_ps(); 2]; M];
        for (left, right) in left.iter().zip(right) {
            prefetch(left.as_ptr().wrapping_add(AHEAD.0 * M));
            (0..N).step_by(LANES).for_each(|j| prefetch(right.as_ptr().wrapping_add(AHEAD.1 * N + j)));
            let right: [__m512; 2] = std::array::from_fn(|j| bytemuck::cast(right.as_chunks::<LANES>().0[j]));
            for (sums, &left) in sums.iter_mut().zip(left) {
                let left = _mm512_set1_ps(left);
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm512_fmadd_ps(left, right, *sum);
                }
            }
        }
        sums
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn sums_of_edge<const M: usize, const N: usize>(left: &[[f32; M]], right: &[[f32; N]]) -> [[f32; N]; M] {
        let mut result = [[0.0; N]; M];
        for (result, sums) in result.iter_mut().zip(sums(left, right)) {
            for (result, sum) in result.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
                *result = bytemuck::cast(sum);
            }
        }
        result
    }

    /// From the registers to the result: by way of arrays it takes a twentieth longer.
    ///
    /// # Safety
    ///
    /// As of [`Out::store_tile`].
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub unsafe fn tile<const M: usize, const N: usize>(
        left: &[[f32; M]],
        right: &[[f32; N]],
        out: Out,
        (row, column): (usize, usize),
        start: Start,
    ) {
        let before = match start {
            Start::Zero => None,
            Start::Row(row) => Some((row[column..column + N].as_ptr(), 0)),
            Start::Result => Some((out.place(row, column).cast_const(), out.columns())),
        };
        for (i, sums) in sums(left, right).into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                // SAFETY: the caller's for the result; the row has `N` values from the column on.
                unsafe {
                    let sum = match before {
                        None => sum,
                        Some((first, stride)) => {
                            _mm512_add_ps(sum, _mm512_loadu_ps(first.wrapping_add(i * stride + j * LANES)))
                        }
                    };
                    _mm512_storeu_ps(out.place(row + i, column + j * LANES), sum);
                }
            }
        }
    }
}
