//! Loops that the compiler turns into vector instructions, and the functions in them.

use half::bf16;

/// The widest vectors that loops are compiled for and the processor has.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other processor has them"))]
pub enum Vectors {
    /// What every processor of its kind has.
    Least,
    Avx2,
    Avx512,
}

/// What this processor has.
#[inline(always)]
pub fn vectors() -> Vectors {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2") {
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        return if avx512 { Vectors::Avx512 } else { Vectors::Avx2 };
    }
    Vectors::Least
}

/// Runs a kernel compiled for the widest vectors that the processor is known to have. All of them give the same bits:
/// the compiler neither reorders nor fuses the kernel's operations.
#[inline(always)]
pub fn simd<R>(kernel: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
        fn with_avx512<R>(kernel: impl FnOnce() -> R) -> R {
            kernel()
        }
        #[target_feature(enable = "avx2,fma,bmi2")]
        fn with_avx2<R>(kernel: impl FnOnce() -> R) -> R {
            kernel()
        }
        match vectors() {
            // SAFETY: the processor has the instructions, as was found.
            Vectors::Avx512 => return unsafe { with_avx512(kernel) },
            // SAFETY: as above.
            Vectors::Avx2 => return unsafe { with_avx2(kernel) },
            Vectors::Least => {}
        }
    }
    kernel()
}

/// Asks for the cache line of a place that is read or written soon; nothing happens where there is no such place.
#[inline(always)]
pub fn prefetch(place: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

pub const LANES: usize = 16;

/// A number of 16 bits in 32, which has the same upper half.
#[inline(always)]
pub fn wide(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// The nearest number of 16 bits, of two equally near ones the even one.
#[inline(always)]
pub fn narrow(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // A NaN stays one, which rounding could make an infinity.
    let bits = if x.is_nan() { bits | 1 << 22 } else { rounded };
    bf16::from_bits((bits >> 16) as u16)
}

/// All lanes in one, halves joined to halves: one after the other they would take longer than the loop that filled them.
#[inline(always)]
fn joined(lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| join(lanes[i], lanes[i + 8]));
    let four: [f32; 4] = std::array::from_fn(|i| join(eight[i], eight[i + 4]));
    join(join(four[0], four[2]), join(four[1], four[3]))
}

/// Σ over lanes
#[inline(always)]
pub fn total(lanes: [f32; LANES]) -> f32 {
    joined(
        lanes,
        #[inline(always)]
        |a, b| a + b,
    )
}

/// Σ f(i), in an order that depends on the length alone.
#[inline(always)]
fn reduce(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = len - len % LANES;
    let mut i = 0;
    while i < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(i + lane);
        }
        i += LANES;
    }
    let mut sum = total(lanes);
    for i in whole..len {
        sum += f(i);
    }
    sum
}

/// Σ x
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    reduce(
        x.len(),
        #[inline(always)]
        |i| x[i],
    )
}

/// Σ x y
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let y = &y[..x.len()];
    reduce(
        x.len(),
        #[inline(always)]
        |i| x[i] * y[i],
    )
}

/// The larger of two; `a` where `b` is no number.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Largest value; what is no number is passed over.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (max, &x) in lanes.iter_mut().zip(chunk) {
            *max = larger(*max, x);
        }
    }
    rest.iter().fold(joined(lanes, larger), |a, &b| larger(a, b))
}

/// `y += x`
#[inline(always)]
pub fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// eˣ to about one unit in the last place: 2ⁿ eʳ with |r| ≤ ln 2 / 2, the power series of eʳ cut after r⁷. Zero where
/// the result would be subnormal.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves an integer in the low bits
    const LN2_HIGH: f32 = 0.693_359_4; // few bits, so that n · LN2_HIGH is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons this way round keep what is no number.
    let high = if x > 88.37 { 88.37 } else { x };
    let low = if high < -87.33 { -87.33 } else { high };
    let shifted = low * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = low - n * LN2_HIGH - n * LN2_LOW;
    let series = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0)))))));
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let value = series * power;
    if x < -87.33 { 0.0 } else { value }
}

/// The hyperbolic tangent: near zero by Cephes' polynomial, which keeps small results exact, elsewhere by e²ˣ.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let s = x * x;
    let p = -5.704_988_7e-3;
    let p = p * s + 2.063_908_8e-2;
    let p = p * s - 5.373_971_5e-2;
    let p = p * s + 1.333_144_2e-1;
    let p = p * s - 3.333_328e-1;
    let near = x + x * s * p;
    let far = 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    if x.abs() < 0.625 { near } else { far }
}

/// The error function, as a quotient of polynomials on [-4, 4] (the coefficients of Eigen's `erf` for floats).
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let x = if x > 4.0 { 4.0 } else { x };
    let x = if x < -4.0 { -4.0 } else { x };
    let s = x * x;
    let p = -2.726_142_4e-10;
    let p = p * s + 2.770_681_5e-8;
    let p = p * s - 2.101_024e-6;
    let p = p * s - 5.692_506_5e-5;
    let p = p * s - 7.349_906_3e-4;
    let p = p * s - 2.954_6e-3;
    let p = p * s - 1.609_603_3e-2;
    let q = -1.456_607_2e-5;
    let q = q * s - 2.133_740_6e-4;
    let q = q * s - 1.682_827e-3;
    let q = q * s - 7.373_329e-3;
    let q = q * s - 1.426_473_9e-2;
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_exact_to_the_last_bits() {
        for i in -87_000..88_300 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "e^{x} = {} not {exact}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::MIN), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(1000.0) > 1e38);
    }

    #[test]
    fn numbers_of_16_bits_are_the_nearest() {
        for bits in (0..=u32::MAX).step_by(if cfg!(miri) { 50_000_017 } else { 997 }) {
            let x = f32::from_bits(bits);
            let (ours, expected) = (narrow(x), bf16::from_f32(x));
            assert!(ours.to_bits() == expected.to_bits() || ours.is_nan() && expected.is_nan(), "{bits:x}");
        }
    }

    #[test]
    fn error_function_at_known_places() {
        // Abramowitz and Stegun, table 7.1; and symmetry.
        for (x, value) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916),
            (0.5, 0.520_499_878),
            (1.0, 0.842_700_793),
            (1.5, 0.966_105_146),
            (2.0, 0.995_322_265),
            (3.0, 0.999_977_910),
            (6.0, 1.0),
        ] {
            assert!((f64::from(erf(x)) - value).abs() < 3e-7, "erf({x}) = {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn hyperbolic_tangent_is_exact_to_the_last_bits() {
        for i in -20_000..20_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) - exact).abs() <= 3e-7 * exact.abs(), "tanh({x}) = {} not {exact}", tanh(x));
        }
        assert_eq!([tanh(1e30), tanh(-1e30)], [1.0, -1.0]);
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_of_every_length() {
        for len in 0..100 {
            let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let exact: f64 = x.iter().map(|&v| f64::from(v)).sum();
            assert!((f64::from(simd(|| sum(&x))) - exact).abs() < 1e-5);
            let exact: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            assert!((f64::from(simd(|| dot(&x, &x))) - exact).abs() < 1e-5);
            assert_eq!(simd(|| max(&x)), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
