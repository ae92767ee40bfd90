//! Products of a few rows with a large matrix, as where a text is continued token by token. They take as long as reading
//! the matrix, which `gemm` would first lay out anew.

use super::buffer::build;
use super::matrix::{Matrix, Right};
use super::panels::Value;
use super::simd::{LANES, simd, total};

/// Rows up to which this is the faster way.
const MOST: usize = 8;

/// Columns of the result that one thread works on at a time.
const COLUMNS: usize = 512;

/// `a b` with `row` added to each row, if this is a case for it.
pub fn product(a: Matrix, b: Right, row: Option<&[f32]>) -> Option<Vec<f32>> {
    match b {
        Right::Float32(b) => of_values(a, b, row),
        Right::BFloat16(b) => of_values(a, b, row),
    }
}

fn of_values<T: Value + Sync>(a: Matrix, b: Matrix<T>, row: Option<&[f32]>) -> Option<Vec<f32>> {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    if rows > MOST || a.strides != (inner, 1) || inner * columns < COLUMNS * LANES {
        return None;
    }
    let a = &a.values[..rows * inner];
    // Columns × rows, so that a thread's part of the result is one piece.
    let transposed = match b.strides {
        (1, stride) if stride == inner => build(columns * rows, COLUMNS * rows, |start, out| {
            let b = &b.values[start / rows * inner..];
            simd(
                #[inline(always)]
                || {
                    for (out, b) in out.chunks_exact_mut(rows).zip(b.chunks_exact(inner)) {
                        match rows {
                            1 => dots::<1, T>(out, a, b),
                            2 => dots::<2, T>(out, a, b),
                            3 => dots::<3, T>(out, a, b),
                            4 => dots::<4, T>(out, a, b),
                            5 => dots::<5, T>(out, a, b),
                            6 => dots::<6, T>(out, a, b),
                            7 => dots::<7, T>(out, a, b),
                            _ => dots::<MOST, T>(out, a, b),
                        }
                    }
                },
            );
        }),
        (stride, 1) if stride == columns => build(columns * rows, COLUMNS * rows, |start, out| {
            let first = start / rows;
            let count = out.len() / rows;
            let mut sums = vec![0.0; out.len()];
            simd(
                #[inline(always)]
                || {
                    for (i, b) in b.values.chunks_exact(columns).enumerate() {
                        let b = &b[first..first + count];
                        for (sums, a) in sums.chunks_exact_mut(count).zip(a.chunks_exact(inner)) {
                            sums.iter_mut().zip(b).for_each(|(sum, &b)| *sum += a[i] * T::wide([b])[0]);
                        }
                    }
                },
            );
            transpose(&sums, count, out);
        }),
        _ => return None,
    };
    let mut out = vec![0.0; rows * columns];
    transpose(&transposed, rows, &mut out);
    if let Some(row) = row {
        out.chunks_exact_mut(columns).for_each(|out| out.iter_mut().zip(row).for_each(|(out, x)| *out += x));
    }
    Some(out)
}

/// `out[i] = a_i · b` for the rows of `a`, all of them side by side. Loops that count, over arrays of known length, are
/// what the compiler unrolls so that the sums stay in registers.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn dots<const ROWS: usize, T: Value>(out: &mut [f32], a: &[f32], b: &[T]) {
    let (chunks, rest) = b.as_chunks::<LANES>();
    let a: [&[f32]; ROWS] = std::array::from_fn(|row| &a[row * b.len()..(row + 1) * b.len()]);
    let a_chunks: [&[[f32; LANES]]; ROWS] = a.map(|a| &a.as_chunks().0[..chunks.len()]);
    let mut lanes = [[0.0; LANES]; ROWS];
    for (i, &b) in chunks.iter().enumerate() {
        let b = T::wide(b);
        for row in 0..ROWS {
            for lane in 0..LANES {
                lanes[row][lane] += a_chunks[row][i][lane] * b[lane];
            }
        }
    }
    for ((out, lanes), a) in out.iter_mut().zip(lanes).zip(&a) {
        let end = &a[b.len() - rest.len()..];
        *out = total(lanes) + end.iter().zip(rest).map(|(a, &b)| a * T::wide([b])[0]).sum::<f32>();
    }
}

/// Exchanges rows, of `columns` values, and columns.
fn transpose(x: &[f32], columns: usize, out: &mut [f32]) {
    let rows = x.len() / columns.max(1);
    for (row, x) in x.chunks_exact(columns.max(1)).enumerate() {
        for (column, &x) in x.iter().enumerate() {
            out[column * rows + row] = x;
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn a_matrix_in_16_bits_is_the_same_one_in_32() {
        let (inner, columns) = (70, 600);
        let narrow: Vec<bf16> = (0..inner * columns).map(|i| bf16::from_f32((i as f32 * 0.37).sin())).collect();
        let wide: Vec<f32> = narrow.iter().map(|x| x.to_f32()).collect();
        for rows in 1..=MOST {
            let a: Vec<f32> = (0..rows * inner).map(|i| (i as f32 * 0.7).cos()).collect();
            let a = Matrix::new(&a, rows, inner);
            let (narrow, wide) = (Matrix::new(&narrow, inner, columns), Matrix::new(&wide, inner, columns));
            assert_eq!(product(a, Right::BFloat16(narrow), None), product(a, wide.into(), None));
            let turned = |columns| Matrix { rows: inner, columns, strides: (1, inner), values: narrow.values };
            let of_turned = product(a, Right::BFloat16(turned(columns)), None);
            let wide = Matrix { strides: (1, inner), ..wide };
            assert!(of_turned.is_some() && of_turned == product(a, wide.into(), None));
        }
        let many = Matrix::new(&wide[..(MOST + 1) * inner], MOST + 1, inner);
        assert_eq!(product(many, Right::BFloat16(Matrix::new(&narrow, inner, columns)), None), None);
    }
}
