//! Heads lie side by side in a row; attention works on one head of one sequence at a time.

use std::ops::Range;

use burn::backend::flex::FlexTensor;

use super::buffer::build;
use super::matrix::Matrix;
use super::simd::{add, dot, exp, max, sum};
use super::tensor::{chunk_rows, dims, tensor, values};
use crate::Sequences;

/// How rows form sequences.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Padded length, which numbers the elements of the dropout mask and of a bias.
    pub seq: usize,
    /// Rows of each sequence.
    pub sequences: Vec<Range<usize>>,
    /// Column of each row in the padded batch.
    columns: Vec<usize>,
}

impl Rows {
    /// As the batch has them.
    pub fn new(sequences: &Sequences) -> Self {
        let columns = sequences.columns.iter().map(|&column| column as usize).collect();
        Self { seq: sequences.seq, sequences: sequences.ranges(), columns }
    }

    /// The columns of a sequence's rows.
    pub fn columns(&self, sequence: usize) -> &[usize] {
        &self.columns[self.sequences[sequence].clone()]
    }
}

/// The columns of one of `heads` heads in some rows of a tensor.
pub fn part(x: &FlexTensor, rows: Range<usize>, head: usize, heads: usize) -> Matrix<'_> {
    let [_, width] = dims(x);
    let head_dim = width / heads;
    let values = values(x).get(rows.start * width + head * head_dim..).unwrap_or_default();
    Matrix { values, rows: rows.len(), columns: head_dim, strides: (width, 1) }
}

/// Some rows of a matrix.
pub fn rows_of(x: Matrix, rows: Range<usize>) -> Matrix {
    Matrix { values: &x.values[rows.start * x.strides.0..], rows: rows.len(), ..x }
}

/// Lays parts side by side, one for each head of each range of rows; where ranges overlap they are added up in order.
pub fn join(parts: &[Vec<f32>], ranges: &[Range<usize>], heads: usize, [rows, width]: [usize; 2]) -> FlexTensor {
    let head_dim = width / heads.max(1);
    let out = build(rows * width, chunk_rows(width) * width, |start, out| {
        let first = start / width;
        let wanted = first..first + out.len() / width;
        for (range, parts) in ranges.iter().zip(parts.chunks_exact(heads.max(1))) {
            for row in wanted.start.max(range.start)..wanted.end.min(range.end) {
                let out = &mut out[(row - first) * width..][..heads * head_dim];
                for (out, part) in out.chunks_exact_mut(head_dim).zip(parts) {
                    add(out, &part[(row - range.start) * head_dim..][..head_dim]);
                }
            }
        }
    });
    tensor(out, [rows, width])
}

/// Scores become weights that add up to 1.
#[inline(always)]
pub fn softmax(scores: &mut [f32]) {
    let largest = max(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - largest);
    }
    let scale = 1.0 / sum(scores);
    scores.iter_mut().for_each(|score| *score *= scale);
}

/// The gradients of weights become those of the scores: `weight (∂weight - Σ weight ∂weight)`.
#[inline(always)]
pub fn softmax_backward(weights: &[f32], gradients: &mut [f32]) {
    let mean = dot(weights, gradients);
    for (gradient, weight) in gradients.iter_mut().zip(weights) {
        *gradient = weight * (*gradient - mean);
    }
}
