//! Matrices inside slices, and what their products are added to.

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

    /// Panics where the matrix is larger than its values.
    pub fn check(&self) {
        let last = self.rows.saturating_sub(1) * self.strides.0 + self.columns.saturating_sub(1) * self.strides.1;
        assert!(self.rows * self.columns == 0 || last < self.values.len(), "a matrix larger than its values");
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// Nothing; what the result held is not read.
    Zero,
    /// A row, to each row of the product.
    Row(&'a [f32]),
    /// What the result holds.
    Result,
}
