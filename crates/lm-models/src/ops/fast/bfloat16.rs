//! The kernels of matrix products in bfloat16, for processors that multiply such numbers: operands are rounded while they
//! are laid out in panels, sums are float32.
//!
//! A word is two neighbouring terms of a sum. 32 terms lie together: for each row of the left side 16 words, for each of
//! 16 words of the right side the columns, as AMX reads its tiles and AVX-512 its vectors.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::OnceLock;

use bytemuck::Pod;
use half::bf16;

use super::blocked::{Kernel, Out};
use super::matrix::Start;
use super::panels::Side;
use super::simd::{LANES, prefetch};

/// Terms of a sum in a word.
const TERMS: usize = 2;

/// Terms of a sum that lie together.
const STEP: usize = TERMS * LANES;

/// Words of 16 rows or columns, or their transpose.
type Square = [[u32; LANES]; LANES];

/// Instructions for products of bfloat16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// `vdpbf16ps` (AVX-512 BF16).
    Vectors,
    /// `tdpbf16ps` (AMX).
    Tiles,
}

/// Those that this processor has, the system lets a program use, and that are faster than float32's. Intel's vectors are
/// not: measured on Sapphire Rapids, they reach two thirds of it, and twice as much on AMD's Zen 5.
pub fn instructions() -> Option<Instructions> {
    static FOUND: OnceLock<Option<Instructions>> = OnceLock::new();
    *FOUND.get_or_init(|| match has_vectors() {
        true if tiles() => Some(Instructions::Tiles),
        true if is_amd() => Some(Instructions::Vectors),
        _ => None,
    })
}

/// Whether the processor has `vdpbf16ps`, and what panels are laid out with.
pub fn has_vectors() -> bool {
    is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
}

fn is_amd() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

/// Whether the processor has AMX with bfloat16, and Linux gives this process the room to keep the tiles in.
fn tiles() -> bool {
    if !cfg!(target_os = "linux") || cfg!(miri) {
        return false;
    }
    const TILE: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & (TILE | BF16) != TILE | BF16 {
        return false;
    }
    // Linux, arch/x86/include/uapi/asm/prctl.h: the state is large, so who wants it asks.
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let refused: i64;
    // SAFETY: the call changes nothing but what this process may use; the registers are those that the kernel changes.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => refused,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    refused == 0
}

/// Sums by AVX-512's instructions.
#[derive(Clone, Copy)]
pub struct Vectors;

/// Sums by AMX's instructions.
#[derive(Clone, Copy)]
pub struct Tiles;

impl<const M: usize, const N: usize> Kernel<M, N> for Vectors {
    type Word = u32;

    const TERMS: usize = TERMS;
    const STEP: usize = STEP;

    fn left(self, side: Side, across: Range<usize>, along: Range<usize>, out: &mut [u32]) {
        // SAFETY: the kernel is taken where the processor has the instructions.
        unsafe { left::<M>(side, across, along, out) }
    }

    fn right(self, side: Side, across: Range<usize>, along: Range<usize>, out: &mut [u32]) {
        // SAFETY: as above.
        unsafe { right::<N, f32>(side, across, along, out) }
    }

    fn right_of_16_bits(self, side: Side<bf16>, across: Range<usize>, along: Range<usize>, out: &mut [u32]) {
        // SAFETY: as above.
        unsafe { right::<N, bf16>(side, across, along, out) }
    }

    #[inline(always)]
    fn sums(self, left: &[u32], right: &[u32]) -> [[f32; N]; M] {
        // SAFETY: as above.
        unsafe { by_vectors(left, right) }
    }
}

impl Kernel<32, 32> for Tiles {
    type Word = u32;

    const TERMS: usize = TERMS;
    const STEP: usize = STEP;

    fn left(self, side: Side, across: Range<usize>, along: Range<usize>, out: &mut [u32]) {
        // SAFETY: as above.
        unsafe { left::<32>(side, across, along, out) }
    }

    fn right(self, side: Side, across: Range<usize>, along: Range<usize>, out: &mut [u32]) {
        // SAFETY: as above.
        unsafe { right::<32, f32>(side, across, along, out) }
    }

    fn right_of_16_bits(self, side: Side<bf16>, across: Range<usize>, along: Range<usize>, out: &mut [u32]) {
        // SAFETY: as above.
        unsafe { right::<32, bf16>(side, across, along, out) }
    }

    #[inline(always)]
    fn sums(self, left: &[u32], right: &[u32]) -> [[f32; 32]; 32] {
        let mut sums = [[0.0; 32]; 32];
        // SAFETY: `ZEROS` holds a row, and `sums` 32 of them.
        unsafe { by_tiles(left, right, (ZEROS.as_ptr(), 0), (sums.as_mut_ptr().cast(), 32)) };
        sums
    }

    #[inline(always)]
    unsafe fn tile(self, left: &[u32], right: &[u32], out: Out, (row, column): (usize, usize), start: Start) {
        let (place, stride) = (out.place(row, column), out.columns());
        let before = match start {
            Start::Zero => (ZEROS.as_ptr(), 0),
            Start::Row(row) => (row[column..column + 32].as_ptr(), 0),
            Start::Result => (place.cast_const(), stride),
        };
        // SAFETY: the caller's for the result; the row has 32 values from the column on.
        unsafe { by_tiles(left, right, before, (place, stride)) }
    }

    #[inline(always)]
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        /// Gives the tiles back, also where the work panics.
        struct Configured;

        impl Drop for Configured {
            fn drop(&mut self) {
                // SAFETY: the tile registers return to their initial state, as they were found.
                unsafe { asm!("tilerelease", options(nostack, nomem)) }
            }
        }

        // SAFETY: the kernel is taken where the processor has the instructions and the system allows them.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly)) }
        let _configured = Configured;
        work()
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn left<const M: usize>(side: Side, across: Range<usize>, along: Range<usize>, out: &mut [u32]) {
    let side = side.from(across.start, along.start);
    let (count, terms) = (across.len(), along.len());
    let panel_len = M * terms.div_ceil(STEP) * LANES;
    for (p, panel) in (0..count).step_by(M).zip(out.chunks_exact_mut(panel_len)) {
        for (k, rows) in (0..terms).step_by(STEP).zip(panel.as_chunks_mut::<LANES>().0.chunks_exact_mut(M)) {
            for (from, rows) in (p..).step_by(LANES).zip(rows.chunks_mut(LANES)) {
                let width = count.saturating_sub(from).min(rows.len());
                let square = words(side, from..from + width, k..terms.min(k + STEP));
                let square = if side.along == 1 { square } else { transpose(square) };
                rows.iter_mut().zip(&square).for_each(|(row, words)| *row = *words);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn right<const N: usize, T: Term>(side: Side<T>, across: Range<usize>, along: Range<usize>, out: &mut [u32]) {
    let side = side.from(across.start, along.start);
    let (count, terms) = (across.len(), along.len());
    let panel_len = N * terms.div_ceil(STEP) * LANES;
    for (p, panel) in (0..count).step_by(N).zip(out.chunks_exact_mut(panel_len)) {
        for (k, rows) in (0..terms).step_by(STEP).zip(panel.chunks_exact_mut(N * LANES)) {
            for offset in (0..N).step_by(LANES) {
                let from = p + offset;
                let width = count.saturating_sub(from).min(LANES);
                let square = words(side, from..from + width, k..terms.min(k + STEP));
                let square = if side.along == 1 { transpose(square) } else { square };
                for (row, words) in rows.chunks_exact_mut(N).zip(&square) {
                    row[offset..offset + LANES].copy_from_slice(words);
                }
            }
        }
    }
}

/// At most 16 elements across and 32 terms: a row for each element where terms are neighbours, else a row for each two
/// terms; zeros fill it up.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[inline]
fn words<T: Term>(side: Side<T>, across: Range<usize>, along: Range<usize>) -> Square {
    let mut square = [[0; LANES]; LANES];
    if across.is_empty() {
        return square;
    }
    let side = side.from(across.start, along.start);
    let (width, terms) = (across.len(), along.len());
    if side.along == 1 {
        for (w, row) in square.iter_mut().enumerate().take(width) {
            let values = &side.values[w * side.across..][..terms];
            prefetch(values.as_ptr().wrapping_add(STEP).cast());
            prefetch(values.as_ptr().wrapping_add(STEP + LANES).cast());
            *row = T::round(match values.as_chunks().0 {
                &[low, high] => [low, high],
                _ => filled(values),
            });
        }
    } else if side.across == 1 && width == LANES && terms == STEP {
        for (index, row) in square.iter_mut().enumerate() {
            let values = &side.values[TERMS * index * side.along..][..side.along + LANES];
            prefetch(values.as_ptr().wrapping_add(STEP * side.along).cast());
            prefetch(values.as_ptr().wrapping_add((STEP + 1) * side.along).cast());
            if let (Some(first), Some(second)) = (values.first_chunk(), values.last_chunk()) {
                *row = interleave(T::round([*first, *second]));
            }
        }
    } else {
        let value = |w: usize, k: usize| match w < width && k < terms {
            true => side.values[w * side.across + k * side.along],
            false => T::zeroed(),
        };
        for (index, row) in square.iter_mut().enumerate() {
            let term = |k: usize| std::array::from_fn(|w| value(w, k));
            *row = interleave(T::round([term(TERMS * index), term(TERMS * index + 1)]));
        }
    }
    square
}

/// Values and zeros after them.
fn filled<T: Term>(values: &[T]) -> [[T; LANES]; 2] {
    let mut halves = [[T::zeroed(); LANES]; 2];
    halves.as_flattened_mut()[..values.len()].copy_from_slice(values);
    halves
}

/// What panels are laid out of.
trait Term: Pod {
    /// Two halves of a vector in 16 bits, one after the other.
    fn round(halves: [[Self; LANES]; 2]) -> [u32; LANES];
}

impl Term for f32 {
    #[inline(always)]
    fn round(halves: [[Self; LANES]; 2]) -> [u32; LANES] {
        // SAFETY: panels are laid out where the processor has the instructions.
        unsafe { round(halves) }
    }
}

impl Term for bf16 {
    #[inline(always)]
    fn round(halves: [[Self; LANES]; 2]) -> [u32; LANES] {
        bytemuck::cast(halves)
    }
}

/// Nearest numbers, ties to even.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn round([low, high]: [[f32; LANES]; 2]) -> [u32; LANES] {
    // SAFETY: both types are 64 bytes without invalid values.
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(bytemuck::cast(high), bytemuck::cast(low))) }
}

/// Numbers 0, 16, 1, 17 and so on.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn interleave(words: [u32; LANES]) -> [u32; LANES] {
    const ORDER: [u16; 2 * LANES] = {
        let mut order = [0; 2 * LANES];
        let mut i = 0;
        while i < LANES {
            (order[2 * i], order[2 * i + 1]) = (i as u16, (i + LANES) as u16);
            i += 1;
        }
        order
    };
    bytemuck::cast(_mm512_permutexvar_epi16(bytemuck::cast(ORDER), bytemuck::cast(words)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(square: Square) -> Square {
    let mut r: [__m512i; LANES] = square.map(bytemuck::cast);
    // Pairs of words, fours, and then quarters of a vector change places.
    for i in (0..LANES).step_by(2) {
        (r[i], r[i + 1]) = (_mm512_unpacklo_epi32(r[i], r[i + 1]), _mm512_unpackhi_epi32(r[i], r[i + 1]));
    }
    for i in (0..LANES).step_by(4) {
        let [a, b, c, d] = [r[i], r[i + 1], r[i + 2], r[i + 3]];
        r[i] = _mm512_unpacklo_epi64(a, c);
        r[i + 1] = _mm512_unpackhi_epi64(a, c);
        r[i + 2] = _mm512_unpacklo_epi64(b, d);
        r[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    // `r[4 i + j]` holds words j, j + 4, j + 8, j + 12 of rows 4 i to 4 i + 3, a quarter each.
    let mut out = [[0; LANES]; LANES];
    for j in 0..4 {
        let [a, b, c, d] = [r[j], r[j + 4], r[j + 8], r[j + 12]];
        let (low_ab, high_ab) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (low_cd, high_cd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        out[j] = bytemuck::cast(_mm512_shuffle_i32x4::<0x88>(low_ab, low_cd));
        out[j + 8] = bytemuck::cast(_mm512_shuffle_i32x4::<0xdd>(low_ab, low_cd));
        out[j + 4] = bytemuck::cast(_mm512_shuffle_i32x4::<0x88>(high_ab, high_cd));
        out[j + 12] = bytemuck::cast(_mm512_shuffle_i32x4::<0xdd>(high_ab, high_cd));
    }
    out
}

/// Two vectors of sums for each row.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn by_vectors<const M: usize, const N: usize>(left: &[u32], right: &[u32]) -> [[f32; N]; M] {
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    let blocks = left.as_chunks::<LANES>().0.chunks_exact(M).zip(right.as_chunks::<N>().0.as_chunks::<LANES>().0);
    for (left, right) in blocks {
        for (j, right) in right.iter().enumerate() {
            // SAFETY: both types are 64 bytes without invalid values.
            let right: [__m512bh; 2] = std::array::from_fn(|i| unsafe {
                std::mem::transmute::<[u32; LANES], __m512bh>(right.as_chunks::<LANES>().0[i])
            });
            for (sums, left) in sums.iter_mut().zip(left) {
                // SAFETY: as above.
                let left: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi32(left[j].cast_signed())) };
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm512_dpbf16_ps(*sum, left, right);
                }
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

/// What the tile registers are: all of 16 rows of 64 bytes (Intel's manual of the instruction set, LDTILECFG).
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

const CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// What sums begin with that begin with nothing.
static ZEROS: [f32; 32] = [0.0; 32];

/// Four tiles of sums, of two tiles of each side, on top of 32 × 32 values: a first row and how far the next one lies.
///
/// # Safety
///
/// Within [`Tiles::run`]; the rows before are valid for reads of 32 values each, those of the result for writes that nobody
/// else uses meanwhile.
#[inline(always)]
unsafe fn by_tiles(left: &[u32], right: &[u32], before: (*const f32, usize), out: (*mut f32, usize)) {
    const BLOCK: usize = 32 * LANES;
    let blocks = left.len() / BLOCK;
    assert!(left.len() == blocks * BLOCK && right.len() == blocks * BLOCK && blocks > 0, "size of panels");
    const VALUE: usize = size_of::<f32>();
    // SAFETY: reads stay inside the panels, as asserted, and in what the caller names, as do writes.
    unsafe {
        asm!(
            "tileloadd tmm0, [{before} + {row}*1]",
            "tileloadd tmm1, [{before} + {row}*1 + 64]",
            "tileloadd tmm2, [{lower} + {row}*1]",
            "tileloadd tmm3, [{lower} + {row}*1 + 64]",
            "2:",
            "tileloadd tmm4, [{left} + {left_row}*1]",
            "tileloadd tmm6, [{right} + {right_row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {right_row}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{left} + {left_row}*1 + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left}, 2048",
            "add {right}, 2048",
            "dec {blocks}",
            "jnz 2b",
            "tilestored [{out} + {out_row}*1], tmm0",
            "tilestored [{out} + {out_row}*1 + 64], tmm1",
            "tilestored [{out_lower} + {out_row}*1], tmm2",
            "tilestored [{out_lower} + {out_row}*1 + 64], tmm3",
            before = in(reg) before.0,
            lower = in(reg) before.0.wrapping_add(16 * before.1),
            row = in(reg) before.1 * VALUE,
            left = inout(reg) left.as_ptr() => _,
            right = inout(reg) right.as_ptr() => _,
            blocks = inout(reg) blocks => _,
            left_row = in(reg) 64usize,
            right_row = in(reg) 128usize,
            out = in(reg) out.0,
            out_lower = in(reg) out.0.wrapping_add(16 * out.1),
            out_row = in(reg) out.1 * VALUE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of a side laid out, against its elements one by one.
    fn check(count: usize, terms: usize, across: usize, along: usize) {
        let (first, from) = (2, 3);
        let len = (first + count) * across + (from + terms) * along;
        let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let side = Side { values: &values, across, along };
        let at = |p: usize, k: usize| match p < count && k < terms {
            true => u32::from(half::bf16::from_f32(values[(first + p) * across + (from + k) * along]).to_bits()),
            false => 0,
        };
        let word = |p: usize, word: usize| at(p, TERMS * word) | at(p, TERMS * word + 1) << 16;
        let deep = terms.next_multiple_of(STEP) / TERMS;
        let mut rows = vec![u32::MAX; count.next_multiple_of(12) * deep];
        let mut columns = vec![u32::MAX; count.next_multiple_of(32) * deep];
        // SAFETY: the processor has the instructions, as the caller found.
        unsafe {
            left::<12>(side, first..first + count, from..from + terms, &mut rows);
            right::<32, f32>(side, first..first + count, from..from + terms, &mut columns);
        }
        let narrow: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
        let mut of_narrow = vec![u32::MAX; columns.len()];
        // SAFETY: as above.
        unsafe {
            let side = Side { values: &narrow, across, along };
            right::<32, bf16>(side, first..first + count, from..from + terms, &mut of_narrow);
        }
        assert!(columns == of_narrow, "{count} x {terms}, {across} {along}: in 16 bits");
        for (place, &found) in rows.iter().enumerate() {
            let (panel, rest) = (place / (12 * deep), place % (12 * deep));
            let (block, row, w) = (rest / (12 * LANES), rest / LANES % 12, rest % LANES);
            assert_eq!(
                found,
                word(12 * panel + row, LANES * block + w),
                "{count} x {terms}, {across} {along}: {place}"
            );
        }
        for (place, &found) in columns.iter().enumerate() {
            let (panel, rest) = (place / (32 * deep), place % (32 * deep));
            assert_eq!(found, word(32 * panel + rest % 32, rest / 32), "{count} x {terms}, {across} {along}: {place}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "lacks the instructions")]
    fn panels_of_every_size_and_layout() {
        if !has_vectors() {
            eprintln!("not run: no avx512bf16");
            return;
        }
        for count in [1, 11, 12, 16, 33] {
            for terms in [1, 2, 31, 32, 33, 70] {
                for (across, along) in [(1, 50), (80, 1), (3, 100), (1, 1)] {
                    check(count, terms, across, along);
                }
            }
        }
    }
}
