//! Matrix products through the crate `gemm`, behind safe functions.

use super::{build, chunk_rows, few_rows};

/// A matrix inside a slice: element (i, j) is `values[i * strides.0 + j * strides.1]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// Rows laid end to end.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { values, rows, columns, strides: (columns, 1) }
    }

    /// The same values seen with rows and columns exchanged.
    pub fn transpose(self) -> Self {
        Self { rows: self.columns, columns: self.rows, strides: (self.strides.1, self.strides.0), ..self }
    }

    fn check(&self) {
        let last = self.rows.saturating_sub(1) * self.strides.0 + self.columns.saturating_sub(1) * self.strides.1;
        assert!(self.rows * self.columns == 0 || last < self.values.len(), "a matrix larger than its values");
    }
}

/// Whether a product uses all threads. Either way each element is summed in the same order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    One,
    All,
}

/// `out = a b`, or `out += a b`; the rows of `out` are laid end to end.
pub fn matmul(out: &mut [f32], a: Matrix, b: Matrix, accumulate: bool, threads: Threads) {
    assert_eq!(out.len(), a.rows * b.columns, "size of a product");
    // SAFETY: `out` is exclusively borrowed, and has as many values as are written.
    unsafe { multiply(out.as_mut_ptr(), a, b, accumulate, threads) }
}

/// `a b`, or `a b` with a row added to each of its rows.
pub fn product(a: Matrix, b: Matrix, row: Option<&[f32]>, threads: Threads) -> Vec<f32> {
    if let Some(out) = few_rows::product(a, b, row) {
        return out;
    }
    let len = a.rows * b.columns;
    if let Some(row) = row {
        assert_eq!(row.len(), b.columns, "a row to add to those of a product");
        let mut out = build(len, chunk_rows(row.len()) * row.len(), |_, out| {
            out.chunks_exact_mut(row.len()).for_each(|out| out.copy_from_slice(row));
        });
        matmul(&mut out, a, b, true, threads);
        return out;
    }
    let mut out: Vec<f32> = Vec::with_capacity(len);
    // SAFETY: `out` has room for `len` values, and all of them are written before it is said to hold them.
    unsafe {
        multiply(out.as_mut_ptr(), a, b, false, threads);
        out.set_len(len);
    }
    out
}

/// Writes the product to `out`, without reading it unless `accumulate` asks for it.
///
/// # Safety
///
/// `out` is valid for writes of `a.rows * b.columns` values that nobody else uses meanwhile; if `accumulate`, they are
/// initialised.
unsafe fn multiply(out: *mut f32, a: Matrix, b: Matrix, accumulate: bool, threads: Threads) {
    a.check();
    b.check();
    assert_eq!(a.columns, b.rows, "inner dimensions of a product");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if m * n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            // SAFETY: the caller's.
            unsafe { out.write_bytes(0, m * n) };
        }
        return;
    }
    // Small products are done before a second thread has started.
    let many = threads == Threads::All && m * n * k >= 1 << 21;
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
            accumulate,
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
