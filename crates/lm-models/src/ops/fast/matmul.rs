//! Matrix products through the crate `gemm`, behind a safe function.

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
    a.check();
    b.check();
    assert_eq!(a.columns, b.rows, "inner dimensions of a product");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(out.len(), m * n, "size of a product");
    if out.is_empty() {
        return;
    }
    if k == 0 {
        if !accumulate {
            out.fill(0.0);
        }
        return;
    }
    // Small products are done before a second thread has started.
    let many = threads == Threads::All && m * n * k >= 1 << 21;
    let parallelism = if many { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: `a` and `b` stay inside their slices, as checked above; `out`, exclusively borrowed, has m · n elements,
    // all of which its strides (n, 1) reach.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
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
