//! Products of content with distances, per sequence and head, a block of rows at a time.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::buffer::build;
use super::heads::{Rows, join, part, rows_of};
use super::matmul::{Threads, matmul};
use super::matrix::Matrix;
use super::simd::simd;
use super::tensor::{dims, tensor, values, values_mut};
use crate::Sequences;
use crate::ops::extension::{Operation, apply};
use crate::ops::precision::Precision;

/// Rows worked on at once.
const BLOCK: usize = 64;

/// One of the two terms.
#[derive(Clone, Debug)]
struct Kernel {
    /// Of products.
    precision: Precision,
    heads: usize,
    scale: f32,
    rows: Rows,
    /// The row of the table for each distance from key to query.
    buckets: Vec<usize>,
    /// Whether the rows are keys, which stand in the columns of the result.
    of_keys: bool,
}

/// One head of one sequence.
struct Task<'a> {
    kernel: &'a Kernel,
    x: Matrix<'a>,
    /// The rows of the table that distances of this sequence lead to.
    table: Matrix<'a>,
    used: Range<usize>,
    columns: &'a [usize],
}

impl Kernel {
    fn task<'a>(&'a self, x: &'a FlexTensor, table: &'a FlexTensor, index: usize) -> Task<'a> {
        let (sequence, head) = (index / self.heads, index % self.heads);
        let used = self.used(sequence);
        Task {
            kernel: self,
            x: part(x, self.rows.sequences[sequence].clone(), head, self.heads),
            table: part(table, used.clone(), head, self.heads),
            used,
            columns: self.rows.columns(sequence),
        }
    }

    /// The rows of the table between the least and the largest that distances of a sequence lead to.
    fn used(&self, sequence: usize) -> Range<usize> {
        let columns = self.rows.columns(sequence);
        let (Some(first), Some(last)) = (columns.first(), columns.last()) else { return 0..0 };
        let (longest, reach) = (self.buckets.len().div_ceil(2), last - first);
        assert!(reach < longest, "a table of buckets for longer sequences");
        let buckets = &self.buckets[longest - 1 - reach..longest + reach];
        let (least, largest) = buckets.iter().fold((usize::MAX, 0), |(a, b), &bucket| (a.min(bucket), b.max(bucket)));
        least..largest + 1
    }

    /// Adds this term to the result, a part of [seq, seq] for each head of each sequence.
    fn add_to(&self, index: usize, x: &FlexTensor, table: &FlexTensor, out: &mut [f32]) {
        self.task(x, table, index).forward(out);
    }

    /// Gradients of the rows and of the table.
    fn gradients(&self, x: &FlexTensor, table: &FlexTensor, gradient: &FlexTensor) -> [FlexTensor; 2] {
        let (size, count) = (self.rows.seq * self.rows.seq, self.rows.sequences.len());
        let run = |index: usize| {
            let gradient = &values(gradient)[index * size..(index + 1) * size];
            self.task(x, table, index).backward(gradient)
        };
        let parts: Vec<_> = (0..count * self.heads).into_par_iter().map(run).collect();
        let (of_x, of_table): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let used: Vec<_> = (0..count).map(|sequence| self.used(sequence)).collect();
        [join(&of_x, &self.rows.sequences, self.heads, dims(x)), join(&of_table, &used, self.heads, dims(table))]
    }
}

impl Task<'_> {
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = self.x.rows;
        (0..rows).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(rows))
    }

    /// Calls `visit` with each place of the result that a row of the block belongs to, and the place of its product among
    /// those of the block.
    #[inline(always)]
    fn places(&self, rows: &Range<usize>, mut visit: impl FnMut(usize, usize)) {
        let Kernel { rows: Rows { seq, .. }, buckets, of_keys, .. } = self.kernel;
        let (middle, width) = (buckets.len().div_ceil(2) - 1, self.used.len());
        let block = &self.columns[rows.clone()];
        if *of_keys {
            for &query in self.columns {
                for (row, &key) in block.iter().enumerate() {
                    let bucket = buckets[middle + query - key] - self.used.start;
                    visit(query * seq + key, row * width + bucket);
                }
            }
        } else {
            for (row, &query) in block.iter().enumerate() {
                for &key in self.columns {
                    let bucket = buckets[middle + query - key] - self.used.start;
                    visit(query * seq + key, row * width + bucket);
                }
            }
        }
    }

    fn forward(&self, out: &mut [f32]) {
        let mut products = vec![0.0; BLOCK.min(self.x.rows) * self.used.len()];
        for rows in self.blocks() {
            let products = &mut products[..rows.len() * self.used.len()];
            matmul(
                products,
                rows_of(self.x, rows.clone()),
                self.table.transpose(),
                false,
                Threads::One,
                self.kernel.precision,
            );
            simd(
                #[inline(always)]
                || self.places(&rows, |place, product| out[place] += products[product] * self.kernel.scale),
            );
        }
    }

    fn backward(&self, gradient: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (dim, used) = (self.x.columns, self.used.len());
        let (mut of_x, mut of_table) = (vec![0.0; self.x.rows * dim], vec![0.0; used * dim]);
        let mut changes = vec![0.0; BLOCK.min(self.x.rows) * used];
        for rows in self.blocks() {
            let changes = &mut changes[..rows.len() * used];
            changes.fill(0.0);
            simd(
                #[inline(always)]
                || self.places(&rows, |place, product| changes[product] += gradient[place] * self.kernel.scale),
            );
            let changes = Matrix::new(changes, rows.len(), used);
            matmul(
                &mut of_x[rows.start * dim..rows.end * dim],
                changes,
                self.table,
                false,
                Threads::One,
                self.kernel.precision,
            );
            matmul(
                &mut of_table,
                changes.transpose(),
                rows_of(self.x, rows),
                true,
                Threads::One,
                self.kernel.precision,
            );
        }
        (of_x, of_table)
    }
}

/// The rows and the table of the only term, or of the first.
impl Operation<Flex, 2> for Kernel {
    type Saved = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
        let (heads, seq) = (self.rows.sequences.len() * self.heads, self.rows.seq);
        let size = seq * seq;
        let [x, table] = &inputs;
        let out = build(heads * size, size, |start, out| self.add_to(start / size.max(1), x, table, out));
        (tensor(out, [heads, seq, seq]), inputs)
    }

    fn backward(self, [x, table]: Self::Saved, gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        self.gradients(&x, &table, &gradient).map(Some)
    }
}

/// The other term is added to the first.
impl Operation<Flex, 3> for Kernel {
    type Saved = [FlexTensor; 2];

    fn forward(&self, [mut first, x, table]: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        let size = self.rows.seq * self.rows.seq;
        let parts = values_mut(&mut first).par_chunks_exact_mut(size.max(1)).enumerate();
        parts.for_each(|(index, out)| self.add_to(index, &x, &table, out));
        (first, [x, table])
    }

    fn backward(self, [x, table]: Self::Saved, gradient: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let [of_x, of_table] = self.gradients(&x, &table, &gradient);
        [Some(gradient), Some(of_x), Some(of_table)]
    }
}

/// See [`crate::ops::disentangled_bias`]: rows with the table that they meet, of queries, of keys, or of both.
pub fn bias(
    of_queries: Option<[Tensor<2>; 2]>,
    of_keys: Option<[Tensor<2>; 2]>,
    buckets: &[usize],
    scale: f64,
    sequences: &Sequences,
    heads: usize,
    precision: Precision,
) -> Tensor<3> {
    let kernel = |of_keys| {
        let (rows, buckets) = (Rows::new(sequences), buckets.to_vec());
        Kernel { precision, heads, scale: scale as f32, rows, buckets, of_keys }
    };
    let of_queries = of_queries.map(|of_queries| apply(kernel(false), of_queries.map(Tensor::into_dispatch)));
    match (of_queries, of_keys.map(|of_keys| of_keys.map(Tensor::into_dispatch))) {
        (Some(first), None) => first,
        (None, Some(of_keys)) => apply(kernel(true), of_keys),
        (Some(first), Some([k, table])) => {
            let first: Tensor<3> = first;
            apply(kernel(true), [first.into_dispatch(), k, table])
        }
        (None, None) => unreachable!("one of the two terms"),
    }
}
