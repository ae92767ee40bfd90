//! Matrices inside slices, and what their products are added to.

use half::bf16;

/// A matrix inside a slice: element (i, j) is `values[i * strides.0 + j * strides.1]`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T = f32> {
    pub values: &'a [T],
    pub rows: usize,
    pub columns: usize,
    pub strides: (usize, usize),
}

impl<'a, T> Matrix<'a, T> {
    /// Rows laid end to end.
    pub fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
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

/// The right side of a product: what a frozen weight lies in, or float32.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    Float32(Matrix<'a>),
    /// Becomes float32 piece by piece, while it is laid out.
    BFloat16(Matrix<'a, bf16>),
}

impl<'a> From<Matrix<'a>> for Right<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        Self::Float32(matrix)
    }
}

impl Right<'_> {
    pub fn rows(&self) -> usize {
        match self {
            Self::Float32(matrix) => matrix.rows,
            Self::BFloat16(matrix) => matrix.rows,
        }
    }

    pub fn columns(&self) -> usize {
        match self {
            Self::Float32(matrix) => matrix.columns,
            Self::BFloat16(matrix) => matrix.columns,
        }
    }

    /// See [`Matrix::transpose`].
    pub fn transpose(self) -> Self {
        match self {
            Self::Float32(matrix) => Self::Float32(matrix.transpose()),
            Self::BFloat16(matrix) => Self::BFloat16(matrix.transpose()),
        }
    }

    /// See [`Matrix::check`].
    pub fn check(&self) {
        match self {
            Self::Float32(matrix) => matrix.check(),
            Self::BFloat16(matrix) => matrix.check(),
        }
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
