//! Matrix products behind safe functions: large ones on all threads by [`blocked`] where the processor has AVX2, others by
//! the crate `gemm`.

#[cfg(target_arch = "x86_64")]
use super::bfloat16::{self, Instructions};
use super::float32::Float32;
use super::matrix::{Matrix, Right, Start};
use super::simd::{Vectors, vectors};
use super::{blocked, few_rows};
use crate::ops::precision::Precision;

/// Whether a product uses all threads, whose number changes no bit. For one alone it is made another way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    One,
    All,
}

/// `out = a b`, or `out += a b`; the rows of `out` are laid end to end. Operands are rounded to `precision`.
pub fn matmul<'a>(
    out: &mut [f32],
    a: Matrix,
    b: impl Into<Right<'a>>,
    accumulate: bool,
    threads: Threads,
    precision: Precision,
) {
    let b = b.into();
    assert_eq!(out.len(), a.rows * b.columns(), "size of a product");
    let start = if accumulate { Start::Result } else { Start::Zero };
    // SAFETY: `out` is exclusively borrowed, and has as many values as are written.
    unsafe { multiply(out.as_mut_ptr(), a, b, start, threads, precision) }
}

/// `a b`, or `a b` with a row added to each of its rows. Operands are rounded to `precision`, but for a few rows, whose
/// product takes as long as reading the matrix.
pub fn product<'a>(
    a: Matrix,
    b: impl Into<Right<'a>>,
    row: Option<&[f32]>,
    threads: Threads,
    precision: Precision,
) -> Vec<f32> {
    let b = b.into();
    if let Some(out) = few_rows::product(a, b, row) {
        return out;
    }
    let len = a.rows * b.columns();
    let mut out: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: `out` has room for `len` values, and all of them are written before it is said to hold them.
    unsafe {
        multiply(out.as_mut_ptr(), a, b, row.map_or(Start::Zero, Start::Row), threads, precision);
        out.set_len(len);
    }
    out
}

/// Writes the product and what it is added to to `out`.
///
/// # Safety
///
/// `out` is valid for writes of `a.rows * b.columns` values that nobody else uses meanwhile; with [`Start::Result`] they
/// are initialised.
unsafe fn multiply(out: *mut f32, a: Matrix, b: Right, start: Start, threads: Threads, precision: Precision) {
    a.check();
    b.check();
    assert_eq!(a.columns, b.rows(), "inner dimensions of a product");
    let (m, n, k) = (a.rows, b.columns(), a.columns);
    if let Start::Row(row) = start {
        assert_eq!(row.len(), n, "a row to add to those of a product");
    }
    if m * n == 0 {
        return;
    }
    // Small products are done before a second thread has started, or a side has been laid out anew; and a thread that
    // computes alone has few rows, as attention's, which do not pay for the latter.
    let many = m * n * k >= 1 << 21 && threads == Threads::All;
    let rounded = precision == Precision::BFloat16;
    let kernel = Float32 { rounded };
    // `gemm` takes float32 alone.
    let only_blocks = rounded || matches!(b, Right::BFloat16(_));
    let by_blocks = k > 0 && (many || only_blocks);
    // SAFETY: the caller's for `out`; the rest was checked above.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if by_blocks && rounded {
            match bfloat16::instructions() {
                Some(Instructions::Tiles) => return blocked::multiply(bfloat16::Tiles, out, a, b, start, many),
                Some(Instructions::Vectors) => {
                    return blocked::multiply::<_, 12, 32>(bfloat16::Vectors, out, a, b, start, many);
                }
                None => {}
            }
        }
        match vectors() {
            Vectors::Avx512 if by_blocks => return blocked::multiply::<_, 12, 32>(kernel, out, a, b, start, many),
            Vectors::Avx2 if by_blocks => return blocked::multiply::<_, 6, 16>(kernel, out, a, b, start, many),
            Vectors::Least if by_blocks && only_blocks => {
                return blocked::multiply::<_, 6, 16>(kernel, out, a, b, start, many);
            }
            _ => {}
        }
    }
    // What `gemm` adds to is laid out first.
    let rows = (0..m).map(|row| out.wrapping_add(row * n));
    match start {
        // SAFETY: the caller's, row by row.
        Start::Row(row) => rows.for_each(|out| unsafe { out.copy_from_nonoverlapping(row.as_ptr(), n) }),
        // SAFETY: as above.
        Start::Zero if k == 0 => rows.for_each(|out| unsafe { out.write_bytes(0, n) }),
        _ => {}
    }
    let Right::Float32(b) = b else { return };
    if k == 0 {
        return;
    }
    let parallelism = if many { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: `a` and `b` stay inside their slices, as checked above; `out` has m · n elements, as the caller says, all of
    // which its strides (n, 1) reach, and which are read only to accumulate.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            n as isize,
            !matches!(start, Start::Zero),
            a.values.as_ptr(),
            a.strides.1 as isize,
            a.strides.0 as isize,
            b.values.as_ptr(),
            b.strides.1 as isize,
            b.strides.0 as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::blocked::{BLOCK, DEPTH};
    use super::*;
    use crate::ops::tests::on_threads;

    /// A matrix whose rows, or columns, lie some way apart.
    fn laid_out<T>(rows: usize, columns: usize, turned: bool, gap: usize, values: &[T]) -> Matrix<'_, T> {
        let strides = if turned { (1, rows + gap) } else { (columns + gap, 1) };
        Matrix { values, rows, columns, strides }
    }

    /// A way to compute a product.
    type Way<'a> = (&'a str, Box<dyn Fn(*mut f32, Start, bool) + Sync + 'a>);

    /// All ways to compute a product, kernels for other processors among them.
    fn ways<'a>(a: Matrix<'a>, b: Right<'a>, precision: Precision) -> Vec<Way<'a>> {
        macro_rules! by {
            ($kernel:expr, $m:literal, $n:literal) => {
                Box::new(move |out, start, many| {
                    // SAFETY: the result has m · n values, and no extent is zero.
                    unsafe { blocked::multiply::<_, $m, $n>($kernel, out, a, b, start, many) }
                })
            };
        }
        let kernel = Float32 { rounded: precision == Precision::BFloat16 };
        let mut ways: Vec<Way> = vec![("6 x 16", by!(kernel, 6, 16)), ("12 x 32", by!(kernel, 12, 32))];
        // Small products are `gemm`'s, which asks Miri for what it lacks.
        if cfg!(not(miri)) {
            let this = move |out, start: Start<'_>, many| {
                let threads = if many { Threads::All } else { Threads::One };
                // SAFETY: as above.
                unsafe { multiply(out, a, b, start, threads, precision) }
            };
            ways.push(("this processor", Box::new(this)));
        }
        #[cfg(target_arch = "x86_64")]
        if precision == Precision::BFloat16 {
            if bfloat16::has_vectors() {
                ways.push(("vectors", by!(bfloat16::Vectors, 12, 32)));
            }
            if bfloat16::instructions() == Some(Instructions::Tiles) {
                ways.push(("tiles", by!(bfloat16::Tiles, 32, 32)));
            }
        }
        ways
    }

    /// Against sums in f64.
    fn check([m, k, n]: [usize; 3], [turn_a, turn_b]: [bool; 2], gap: usize) {
        let mut stream = lm_random::Stream::new(5, lm_random::Purpose::Init, 0, 0);
        let mut noise = |len: usize| (0..len).map(|_| stream.normal()).collect::<Vec<f32>>();
        let (a, b, row, before) = (noise((m + gap) * (k + gap)), noise((k + gap) * (n + gap)), noise(n), noise(m * n));
        let narrow_b: Vec<bf16> = b.iter().map(|&x| bf16::from_f32(x)).collect();
        let all = [(Precision::Float32, false), (Precision::Float32, true), (Precision::BFloat16, false)];
        for (precision, narrow) in all.into_iter().chain([(Precision::BFloat16, true)]) {
            let rounds = precision == Precision::BFloat16;
            let rounded = |x: &[f32], rounds: bool| {
                x.iter().map(|&x| if rounds { bf16::from_f32(x).to_f32() } else { x }).collect::<Vec<_>>()
            };
            let (rounded_a, rounded_b) = (rounded(&a, rounds), rounded(&b, rounds || narrow));
            let at = |x: Matrix, i: usize, j: usize| f64::from(x.values[i * x.strides.0 + j * x.strides.1]);
            let (x, y) = (laid_out(m, k, turn_a, gap, &rounded_a), laid_out(k, n, turn_b, gap, &rounded_b));
            let exact: Vec<f64> =
                (0..m * n).map(|place| (0..k).map(|i| at(x, place / n, i) * at(y, i, place % n)).sum()).collect();
            let a = laid_out(m, k, turn_a, gap, &a);
            let b = match narrow {
                true => Right::BFloat16(laid_out(k, n, turn_b, gap, &narrow_b)),
                false => laid_out(k, n, turn_b, gap, &b).into(),
            };
            for (start, many) in [(Start::Zero, false), (Start::Row(&row), true), (Start::Result, true)] {
                for (way, multiply) in ways(a, b, precision) {
                    let mut out = before.clone();
                    multiply(out.as_mut_ptr(), start, many);
                    for (place, (out, exact)) in out.iter().zip(&exact).enumerate() {
                        let expected = exact
                            + match start {
                                Start::Zero => 0.0,
                                Start::Row(row) => f64::from(row[place % n]),
                                Start::Result => f64::from(before[place]),
                            };
                        let error = (f64::from(*out) - expected).abs();
                        assert!(
                            error < 1e-5 * (10.0 + k as f64).sqrt() * 10.0,
                            "{way}, {precision:?}, narrow: {narrow}, place {place}: {out} not {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn threads_change_no_bit() {
        let (m, k, n) = (300, 800, 170);
        let noise = |len: usize, seed: u64| {
            let mut stream = lm_random::Stream::new(seed, lm_random::Purpose::Init, 0, 0);
            (0..len).map(|_| stream.normal()).collect::<Vec<f32>>()
        };
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        for precision in [Precision::Float32, Precision::BFloat16] {
            for (way, multiply) in ways(Matrix::new(&a, m, k), Matrix::new(&b, k, n).into(), precision) {
                let result = |many| {
                    let mut out = vec![0.0f32; m * n];
                    multiply(out.as_mut_ptr(), Start::Result, many);
                    out
                };
                let alone = on_threads(1, || result(true));
                // In float32 a thread alone has `gemm`.
                let other = way == "this processor" && precision == Precision::Float32;
                assert!(other || alone == result(false), "{way}, {precision:?}");
                for threads in [2, 3, 5] {
                    assert!(alone == on_threads(threads, || result(true)), "{way}, {precision:?}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        #[cfg_attr(miri, ignore = "too slow")]
        fn products(m in 1usize..80, k in 1usize..80, n in 1usize..80, turns: [bool; 2], gap in 0usize..3) {
            check([m, k, n], turns, gap);
        }
    }

    #[test]
    fn products_of_more_than_one_depth() {
        check([7, DEPTH + 1, 3], [false, true], 1);
        check([3, DEPTH + 1, 17], [true, false], 0);
    }

    #[test]
    fn products_of_more_than_one_block() {
        check([BLOCK + 1, DEPTH + 1, 2 * BLOCK + 1], [false, true], 1);
        check([2 * BLOCK + 1, 2 * DEPTH + 1, 3], [true, false], 0);
        if cfg!(miri) {
            return;
        }
        for turns in [[false, false], [true, false], [false, true], [true, true]] {
            check([130, 400, 100], turns, 0);
            check([100, 800, 130], turns, 1);
            check([7, 3000, 130], turns, 0);
            check([1000, 70, 33], turns, 0);
        }
    }

    #[test]
    fn products_without_terms() {
        let (a, b) = (Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3));
        assert_eq!(product(a, b, None, Threads::One, Precision::Float32), [0.0; 6]);
        assert_eq!(
            product(a, b, Some(&[1.0, 2.0, 3.0]), Threads::One, Precision::Float32),
            [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
        );
        let narrow = Right::BFloat16(Matrix::new(&[], 0, 3));
        assert_eq!(product(a, narrow, None, Threads::One, Precision::Float32), [0.0; 6]);
        let mut out = [5.0; 6];
        matmul(&mut out, a, b, true, Threads::All, Precision::Float32);
        assert_eq!(out, [5.0; 6]);
    }
}
