//! Attention over content and distance, per sequence and head, a block of queries at a time. Of the distances only those
//! are multiplied that lie between a query of the block and a key.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::dropout::Mask;
use super::heads::{join, part, rows_of, softmax, softmax_backward};
use super::linear::column_sums;
use super::matmul::{Threads, matmul};
use super::matrix::Matrix;
use super::simd::{add, simd};
use super::tensor::{dims, primitive, tensor, values};
use crate::Sequences;
use crate::inputs::DropoutKey;
use crate::ops::extension::{Operation, apply};
use crate::ops::options::{RelativeKeys, RelativeQueries};
use crate::ops::precision::Precision;

/// Queries worked on at once.
const BLOCK: usize = 64;

#[derive(Clone, Debug)]
struct Kernel {
    /// Of products.
    precision: Precision,
    heads: usize,
    scale: f32,
    dropout: Option<Mask>,
    /// Keys of a sequence.
    seq: usize,
    /// Places of a sequence's queries, which number the elements of the dropout mask.
    places: usize,
    /// Query rows of each sequence.
    queries: Vec<Range<usize>>,
    /// Key rows of each sequence.
    keys: Vec<Range<usize>>,
    /// Rows of each sequence's table of distances.
    tables: Vec<Range<usize>>,
    /// Position of each query row.
    positions: Vec<usize>,
    /// Added to the scores, [batch, 1, places, seq].
    mask: Option<FlexTensor>,
}

/// One head of one sequence.
struct Task<'a> {
    kernel: &'a Kernel,
    sequence: usize,
    head: usize,
    /// Of the queries, as far as they are projected.
    q: Matrix<'a>,
    k: Matrix<'a>,
    v: Matrix<'a>,
    r: Matrix<'a>,
    r_w_bias: &'a [f32],
    r_r_bias: &'a [f32],
}

/// Some queries of a sequence.
struct Block {
    queries: Range<usize>,
    /// The row of the table for the first key and the last position of the block, and how many rows follow.
    first: usize,
    span: usize,
    /// Last position of the block.
    last: usize,
}

impl Kernel {
    fn tasks<'a>(&'a self, [q, k, v, r, r_w_bias, r_r_bias]: &'a [FlexTensor; 6]) -> Vec<Task<'a>> {
        let heads = self.heads;
        let tasks = (0..self.queries.len() * heads).map(|index| {
            let (sequence, head) = (index / heads, index % heads);
            let bias = |bias: &'a FlexTensor| {
                let [_, head_dim] = dims(bias);
                &values(bias)[head * head_dim..(head + 1) * head_dim]
            };
            Task {
                kernel: self,
                sequence,
                head,
                q: part(q, self.queries[sequence].clone(), head, heads),
                k: part(k, self.keys[sequence].clone(), head, heads),
                v: part(v, self.keys[sequence].clone(), head, heads),
                r: part(r, self.tables[sequence].clone(), head, heads),
                r_w_bias: bias(r_w_bias),
                r_r_bias: bias(r_r_bias),
            }
        });
        tasks.collect()
    }
}

/// Memory of a block, used again for the next one.
struct Buffers {
    /// Queries with either bias, [queries, head_dim].
    of_content: Vec<f32>,
    of_position: Vec<f32>,
    /// [queries, keys]
    weights: Vec<f32>,
    dropped: Vec<f32>,
    changes: Vec<f32>,
    /// [queries, span]
    positions: Vec<f32>,
    factors: Vec<f32>,
}

impl Task<'_> {
    fn position(&self, query: usize) -> usize {
        self.kernel.positions[self.kernel.queries[self.sequence].start + query]
    }

    fn blocks(&self) -> Vec<Block> {
        let starts = (0..self.q.rows).step_by(BLOCK);
        let blocks = starts.map(|start| {
            let queries = start..(start + BLOCK).min(self.q.rows);
            let positions = queries.clone().map(|query| self.position(query));
            let (first, last) = positions.fold((usize::MAX, 0), |(a, b), p| (a.min(p), b.max(p)));
            Block { queries, first: self.kernel.seq - last, span: last - first + self.kernel.seq, last }
        });
        blocks.collect()
    }

    fn buffers(&self, blocks: &[Block], backward: bool) -> Buffers {
        let queries = BLOCK.min(self.q.rows);
        let span = blocks.iter().map(|block| block.span).max().unwrap_or(0);
        let scores = |wanted: bool| vec![0.0; if wanted { queries * self.kernel.seq } else { 0 }];
        let rows = || vec![0.0; queries * self.q.columns];
        Buffers {
            of_content: rows(),
            of_position: rows(),
            weights: scores(true),
            dropped: scores(backward),
            changes: scores(backward),
            positions: vec![0.0; queries * span],
            factors: vec![0.0; self.kernel.seq],
        }
    }

    /// The block's queries plus a bias, [queries, head_dim].
    fn biased<'b>(&self, block: &Block, bias: &[f32], out: &'b mut [f32]) -> Matrix<'b> {
        let (rows, columns) = (block.queries.len(), self.q.columns);
        let out = &mut out[..rows * columns];
        for (query, out) in block.queries.clone().zip(out.chunks_exact_mut(columns.max(1))) {
            out.copy_from_slice(&self.q.values[query * self.q.strides.0..][..columns]);
            add(out, bias);
        }
        Matrix::new(out, rows, columns)
    }

    /// The rows of the table that the block needs.
    fn distances(&self, block: &Block) -> Matrix<'_> {
        rows_of(self.r, block.first..block.first + block.span)
    }

    /// The row of `positions`, from the first key on, that belongs to a query.
    fn shift(&self, block: &Block, query: usize) -> usize {
        (query - block.queries.start) * block.span + block.last - self.position(query)
    }

    /// Fills `of_content`, `of_position` and `weights`, the latter before dropout.
    fn weights(&self, block: &Block, buffers: &mut Buffers) {
        let seq = self.kernel.seq;
        let weights = &mut buffers.weights[..block.queries.len() * seq];
        let positions = &mut buffers.positions[..block.queries.len() * block.span];
        let of_content = self.biased(block, self.r_w_bias, &mut buffers.of_content);
        let of_position = self.biased(block, self.r_r_bias, &mut buffers.of_position);
        matmul(weights, of_content, self.k.transpose(), false, Threads::One, self.kernel.precision);
        matmul(positions, of_position, self.distances(block).transpose(), false, Threads::One, self.kernel.precision);
        simd(
            #[inline(always)]
            || {
                for (query, scores) in block.queries.clone().zip(weights.chunks_exact_mut(seq)) {
                    let shift = self.shift(block, query);
                    for (score, position) in scores.iter_mut().zip(&positions[shift..shift + seq]) {
                        *score = (*score + position) * self.kernel.scale;
                    }
                    if let Some(mask) = &self.kernel.mask {
                        let start = (self.sequence * self.kernel.places + query) * seq;
                        add(scores, &values(mask)[start..start + seq]);
                    }
                    softmax(scores);
                }
            },
        );
    }

    /// The dropout factors of a query's weights.
    #[inline(always)]
    fn factors(&self, mask: &Mask, query: usize, out: &mut [f32]) {
        let row = (self.sequence * self.kernel.heads + self.head) * self.kernel.places + query;
        mask.fill(row * self.kernel.seq, out);
    }

    fn forward(&self) -> Vec<f32> {
        let (seq, head_dim) = (self.kernel.seq, self.v.columns);
        let mut context = vec![0.0; self.q.rows * head_dim];
        let blocks = self.blocks();
        let mut buffers = self.buffers(&blocks, false);
        for block in &blocks {
            self.weights(block, &mut buffers);
            let Buffers { weights, factors, .. } = &mut buffers;
            let weights = &mut weights[..block.queries.len() * seq];
            if let Some(mask) = &self.kernel.dropout {
                simd(
                    #[inline(always)]
                    || {
                        for (query, weights) in block.queries.clone().zip(weights.chunks_exact_mut(seq)) {
                            self.factors(mask, query, factors);
                            for (weight, factor) in weights.iter_mut().zip(&*factors) {
                                *weight *= factor;
                            }
                        }
                    },
                );
            }
            let out = &mut context[block.queries.start * head_dim..block.queries.end * head_dim];
            matmul(
                out,
                Matrix::new(weights, block.queries.len(), seq),
                self.v,
                false,
                Threads::One,
                self.kernel.precision,
            );
        }
        context
    }

    /// Gradients of q, k, v, r and the two biases, as far as this head of this sequence goes.
    fn backward(&self, gradient: Matrix) -> [Vec<f32>; 6] {
        let (seq, head_dim) = (self.kernel.seq, self.v.columns);
        let zeros = |rows: usize| vec![0.0; rows * head_dim];
        let mut of_q = zeros(self.q.rows);
        let (mut of_k, mut of_v, mut of_r) = (zeros(seq), zeros(seq), zeros(2 * seq));
        let (mut of_r_w_bias, mut of_r_r_bias) = (zeros(1), zeros(1));
        let blocks = self.blocks();
        let mut buffers = self.buffers(&blocks, true);
        let mut of_rows = vec![0.0; BLOCK.min(self.q.rows) * head_dim];
        for block in &blocks {
            let rows = block.queries.len();
            self.weights(block, &mut buffers);
            let Buffers { of_content, of_position, weights, dropped, changes, positions, factors } = &mut buffers;
            let size = rows * seq;
            let (weights, dropped, changes) = (&weights[..size], &mut dropped[..size], &mut changes[..size]);
            let positions = &mut positions[..rows * block.span];
            let gradient = rows_of(gradient, block.queries.clone());
            matmul(changes, gradient, self.v.transpose(), false, Threads::One, self.kernel.precision);
            simd(
                #[inline(always)]
                || {
                    positions.fill(0.0);
                    let rows = weights.chunks_exact(seq).zip(dropped.chunks_exact_mut(seq));
                    for ((query, (weights, dropped)), changes) in
                        block.queries.clone().zip(rows).zip(changes.chunks_exact_mut(seq))
                    {
                        match &self.kernel.dropout {
                            Some(mask) => {
                                self.factors(mask, query, factors);
                                for (((dropped, change), factor), weight) in
                                    dropped.iter_mut().zip(&mut *changes).zip(&*factors).zip(weights)
                                {
                                    *change *= factor;
                                    *dropped = weight * factor;
                                }
                            }
                            None => dropped.copy_from_slice(weights),
                        }
                        softmax_backward(weights, changes);
                        changes.iter_mut().for_each(|change| *change *= self.kernel.scale);
                        let shift = self.shift(block, query);
                        positions[shift..shift + seq].copy_from_slice(changes);
                    }
                },
            );
            let dropped = Matrix::new(dropped, rows, seq);
            let changes = Matrix::new(changes, rows, seq);
            let positions = Matrix::new(positions, rows, block.span);
            let size = rows * head_dim;
            let of_content = Matrix::new(&of_content[..size], rows, head_dim);
            let of_position = Matrix::new(&of_position[..size], rows, head_dim);
            matmul(&mut of_v, dropped.transpose(), gradient, true, Threads::One, self.kernel.precision);
            matmul(&mut of_k, changes.transpose(), of_content, true, Threads::One, self.kernel.precision);
            let of_distances = &mut of_r[block.first * head_dim..(block.first + block.span) * head_dim];
            matmul(of_distances, positions.transpose(), of_position, true, Threads::One, self.kernel.precision);
            let of_q = &mut of_q[block.queries.start * head_dim..block.queries.end * head_dim];
            matmul(of_q, changes, self.k, false, Threads::One, self.kernel.precision);
            add(&mut of_r_w_bias, &column_sums(of_q, head_dim));
            let of_rows = &mut of_rows[..size];
            matmul(of_rows, positions, self.distances(block), false, Threads::One, self.kernel.precision);
            add(&mut of_r_r_bias, &column_sums(of_rows, head_dim));
            add(of_q, of_rows);
        }
        [of_q, of_k, of_v, of_r, of_r_w_bias, of_r_r_bias]
    }
}

impl Operation<Flex, 6> for Kernel {
    type Saved = [FlexTensor; 6];

    fn forward(&self, inputs: [FlexTensor; 6]) -> (FlexTensor, Self::Saved) {
        let parts: Vec<_> = self.tasks(&inputs).par_iter().map(Task::forward).collect();
        (join(&parts, &self.queries, self.heads, dims(&inputs[0])), inputs)
    }

    fn backward(self, inputs: Self::Saved, gradient: FlexTensor, _: [bool; 6]) -> [Option<FlexTensor>; 6] {
        let gradient_of = |task: &Task| part(&gradient, self.queries[task.sequence].clone(), task.head, self.heads);
        let tasks = self.tasks(&inputs);
        let parts: Vec<_> = tasks.par_iter().map(|task| task.backward(gradient_of(task))).collect();
        let mut by_input: [Vec<Vec<f32>>; 6] = Default::default();
        for parts in parts {
            for (all, part) in by_input.iter_mut().zip(parts) {
                all.push(part);
            }
        }
        let whole = vec![0..1; self.queries.len()];
        let ranges = [&self.queries, &self.keys, &self.keys, &self.tables, &whole, &whole];
        let mut index = 0;
        by_input.map(|parts| {
            let [rows, width] = dims(&inputs[index]);
            // A bias is a row per head, side by side like everything else.
            let joined = if index < 4 {
                join(&parts, ranges[index], self.heads, [rows, width])
            } else {
                let joined = join(&parts, ranges[index], self.heads, [1, rows * width]);
                tensor(values(&joined).to_vec(), [rows, width])
            };
            index += 1;
            Some(joined)
        })
    }
}

/// See [`crate::ops::relative_attention`]; `dropout` is the site and probability, if any. The content is not packed.
pub fn relative_attention(
    q: Tensor<2>,
    queries: &RelativeQueries,
    keys: &RelativeKeys,
    dropout: Option<(DropoutKey, f64)>,
    precision: Precision,
) -> Tensor<2> {
    let Sequences { batch, seq, .. } = *keys.sequences;
    let [heads, head_dim] = keys.r_w_bias.dims();
    let tables = keys.r.dims()[0] / (2 * seq).max(1);
    let ranges = |len: usize, of: &dyn Fn(usize) -> usize| -> Vec<Range<usize>> {
        (0..batch).map(|sequence| of(sequence) * len..(of(sequence) + 1) * len).collect()
    };
    let kernel = Kernel {
        precision,
        heads,
        scale: (1.0 / (head_dim as f64).sqrt()) as f32,
        dropout: dropout.map(|(site, probability)| Mask::new(site, probability)),
        seq,
        places: queries.sequences.seq,
        queries: queries.sequences.ranges(),
        keys: ranges(seq, &|sequence| sequence),
        tables: ranges(2 * seq, &|sequence| if tables == 1 { 0 } else { sequence }),
        positions: queries.sequences.columns.iter().map(|&column| column as usize).collect(),
        mask: queries.mask.clone().map(primitive),
    };
    let RelativeKeys { k, v, r, r_w_bias, r_r_bias, .. } = keys.clone();
    apply(kernel, [q, k, v, r, r_w_bias, r_r_bias].map(Tensor::into_dispatch))
}
