//! Products of a few rows with a large matrix, as where a text is continued token by token. They take as long as reading
//! the matrix, which `gemm` would first lay out anew.

use super::buffer::build;
use super::matrix::Matrix;
use super::simd::{LANES, simd, total};

/// Rows up to which this is the faster way.
const MOST: usize = 8;

/// Columns of the result that one thread works on at a time.
const COLUMNS: usize = 512;

/// `a b` with `row` added to each row, if this is a case for it.
pub fn product(a: Matrix, b: Matrix, row: Option<&[f32]>) -> Option<Vec<f32>> {
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
                            1 => dots::<1>(out, a, b),
                            2 => dots::<2>(out, a, b),
                            3 => dots::<3>(out, a, b),
                            4 => dots::<4>(out, a, b),
                            5 => dots::<5>(out, a, b),
                            6 => dots::<6>(out, a, b),
                            7 => dots::<7>(out, a, b),
                            _ => dots::<MOST>(out, a, b),
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
                            sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += a[i] * b);
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
fn dots<const ROWS: usize>(out: &mut [f32], a: &[f32], b: &[f32]) {
    let (chunks, rest) = b.as_chunks::<LANES>();
    let a: [&[f32]; ROWS] = std::array::from_fn(|row| &a[row * b.len()..(row + 1) * b.len()]);
    let a_chunks: [&[[f32; LANES]]; ROWS] = a.map(|a| &a.as_chunks().0[..chunks.len()]);
    let mut lanes = [[0.0; LANES]; ROWS];
    for (i, b) in chunks.iter().enumerate() {
        for row in 0..ROWS {
            for lane in 0..LANES {
                lanes[row][lane] += a_chunks[row][i][lane] * b[lane];
            }
        }
    }
    for ((out, lanes), a) in out.iter_mut().zip(lanes).zip(&a) {
        let end = &a[b.len() - rest.len()..];
        *out = total(lanes) + end.iter().zip(rest).map(|(a, b)| a * b).sum::<f32>();
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
