//! Parts of a matrix laid out anew in panels, as the kernel of a matrix product reads them.

use std::ops::Range;

use bytemuck::Pod;
use half::bf16;

use super::simd::{prefetch, wide};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Rows before one is read at which it is asked for: they lie too far apart for the processor to foresee it.
const AHEAD: usize = 8;

/// One side of a product. Element `p` of the result's side, `k` of the sum, is `values[p * across + k * along]`.
#[derive(Clone, Copy)]
pub struct Side<'a, T = f32> {
    pub values: &'a [T],
    pub across: usize,
    pub along: usize,
}

impl<'a, T> Side<'a, T> {
    /// The same without what lies before `across` and `along`.
    pub fn from(self, across: usize, along: usize) -> Self {
        Self { values: &self.values[across * self.across + along * self.along..], ..self }
    }
}

/// What panels are laid out of.
pub trait Value: Pod {
    fn wide<const L: usize>(values: [Self; L]) -> [f32; L];
}

impl Value for f32 {
    #[inline(always)]
    fn wide<const L: usize>(values: [Self; L]) -> [f32; L] {
        values
    }
}

impl Value for bf16 {
    #[inline(always)]
    fn wide<const L: usize>(values: [Self; L]) -> [f32; L] {
        values.map(wide)
    }
}

/// Panels of `W` elements across, each `along.len()` deep, one after the other; the last is filled up with zeros.
pub fn pack<const W: usize, T: Value>(side: Side<T>, across: Range<usize>, along: Range<usize>, out: &mut [f32]) {
    let (count, depth) = (across.len(), along.len());
    let side = side.from(across.start, along.start);
    let (out, _) = out[..count.next_multiple_of(W) * depth].as_chunks_mut::<W>();
    if side.across == 1 {
        return copy(side, count, depth, out);
    }
    for (panel, out) in out.chunks_exact_mut(depth).enumerate() {
        let side = side.from(panel * W, 0);
        let width = W.min(count - panel * W);
        #[cfg(target_arch = "x86_64")]
        if side.along == 1 && is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions, as was found above.
            unsafe { turn(side, width, out) };
            continue;
        }
        for (k, out) in out.iter_mut().enumerate() {
            let value = |w: usize| if w < width { side.values[w * side.across + k * side.along] } else { T::zeroed() };
            *out = T::wide(std::array::from_fn(value));
        }
    }
}

/// Elements of a panel lie next to each other already.
fn copy<const W: usize, T: Value>(side: Side<T>, count: usize, depth: usize, out: &mut [[f32; W]]) {
    for k in 0..depth {
        let row = &side.values[k * side.along..][..count];
        let ahead = row.as_ptr().wrapping_add(AHEAD * side.along);
        (0..count).step_by(LINE / size_of::<T>()).for_each(|p| prefetch(ahead.wrapping_add(p).cast()));
        let (whole, rest) = row.as_chunks::<W>();
        for (panel, part) in whole.iter().enumerate() {
            out[panel * depth + k] = T::wide(*part);
        }
        if !rest.is_empty() {
            let out = &mut out[whole.len() * depth + k];
            *out = T::wide(std::array::from_fn(|w| rest.get(w).copied().unwrap_or(T::zeroed())));
        }
    }
}

/// One panel, `width` elements across, of a side whose sums lie in rows: squares of 8 × 8 are transposed in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn turn<const W: usize, T: Value>(side: Side<T>, width: usize, out: &mut [[f32; W]]) {
    const SQUARE: usize = 8;
    let depth = out.len();
    let rows: [&[T]; W] = std::array::from_fn(|w| match w < width {
        true => &side.values[w * side.across..][..depth],
        false => &[],
    });
    let (squares, rest) = out.as_chunks_mut::<SQUARE>();
    for (index, out) in squares.iter_mut().enumerate() {
        for start in (0..W).step_by(SQUARE) {
            let mut square = [[0.0; SQUARE]; SQUARE];
            for (to, row) in square.iter_mut().zip(&rows[start..W.min(start + SQUARE)]) {
                if let Some(from) = row.get(index * SQUARE..).and_then(|row| row.first_chunk()) {
                    // The same place of the next panel.
                    if index % (LINE / size_of::<T>() / SQUARE) == 0 {
                        prefetch(from.as_ptr().wrapping_add(W * side.across).cast());
                    }
                    *to = T::wide(*from);
                }
            }
            let columns = W.min(start + SQUARE) - start;
            for (out, column) in out.iter_mut().zip(transpose(square)) {
                out[start..start + columns].copy_from_slice(&column[..columns]);
            }
        }
    }
    let done = depth - rest.len();
    for (k, out) in rest.iter_mut().enumerate() {
        *out = T::wide(std::array::from_fn(|w| rows[w].get(done + k).copied().unwrap_or(T::zeroed())));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    use std::arch::x86_64::*;
    let r: [__m256; 8] = rows.map(bytemuck::cast);
    // Pairs of values, then fours, then eights.
    let pairs = |a, b| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let ((a, b), (c, d), (e, f), (g, h)) = (pairs(r[0], r[1]), pairs(r[2], r[3]), pairs(r[4], r[5]), pairs(r[6], r[7]));
    let fours = |a, b| (_mm256_shuffle_ps::<0b0100_0100>(a, b), _mm256_shuffle_ps::<0b1110_1110>(a, b));
    let ((i, j), (k, l), (m, n), (o, p)) = (fours(a, c), fours(b, d), fours(e, g), fours(f, h));
    let low = |a, b| bytemuck::cast(_mm256_permute2f128_ps::<0x20>(a, b));
    let high = |a, b| bytemuck::cast(_mm256_permute2f128_ps::<0x31>(a, b));
    [low(i, m), low(j, n), low(k, o), low(l, p), high(i, m), high(j, n), high(k, o), high(l, p)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const W: usize>(count: usize, depth: usize, across: usize, along: usize) {
        let (first, from) = (2, 3);
        let len = (first + count) * across + (from + depth) * along;
        let values: Vec<bf16> = (0..len).map(|i| bf16::from_bits(i as u16)).collect();
        let wide: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
        let (across_range, along_range) = (first..first + count, from..from + depth);
        let mut out = vec![-1.0; count.next_multiple_of(W) * depth];
        let mut out_of_16_bits = out.clone();
        pack::<W, _>(Side { values: &wide, across, along }, across_range.clone(), along_range.clone(), &mut out);
        pack::<W, _>(Side { values: &values, across, along }, across_range, along_range, &mut out_of_16_bits);
        assert_eq!(out, out_of_16_bits, "{count} x {depth} by {W}, strides {across} {along}");
        for (place, &value) in out.iter().enumerate() {
            let (panel, k, w) = (place / W / depth, place / W % depth, place % W);
            let p = panel * W + w;
            let expected = if p < count { wide[(first + p) * across + (from + k) * along] } else { 0.0 };
            assert_eq!(value, expected, "{count} x {depth} by {W}, strides {across} {along}: panel {panel}, {k}, {w}");
        }
    }

    #[test]
    fn panels_of_every_size_and_layout() {
        let (counts, depths): (&[_], &[_]) =
            if cfg!(miri) { (&[1, 7, 33], &[1, 9]) } else { (&[1, 5, 6, 7, 16, 33], &[1, 7, 8, 9, 31]) };
        for &count in counts {
            for &depth in depths {
                for (across, along) in [(1, 50), (50, 1), (3, 100), (1, 1)] {
                    check::<6>(count, depth, across, along);
                    check::<12>(count, depth, across, along);
                    check::<16>(count, depth, across, along);
                    check::<32>(count, depth, across, along);
                }
            }
        }
    }
}
