//! Attention per sequence and head, a block of queries at a time: scores live in cache and are computed again in the
//! backward pass. Padding that was dropped from the batch costs nothing.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind, Flex};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::dropout::Mask;
use super::heads::{join, part, rows_of, softmax, softmax_backward};
use super::matmul::{Matrix, Threads, matmul};
use super::simd::simd;
use super::{Operation, apply, dims};
use crate::Sequences;
use crate::inputs::DropoutKey;
use crate::ops::Attention;

/// Queries worked on at once.
const BLOCK: usize = 64;

/// Where attention finds its rows, and what they may see.
#[derive(Clone, Debug)]
struct Kernel {
    heads: usize,
    scale: f32,
    causal: bool,
    dropout: Option<Mask>,
    /// Padded length, which numbers the elements of the dropout mask.
    seq: usize,
    /// Rows of each sequence.
    sequences: Vec<Range<usize>>,
    /// Column of each row in the padded batch.
    columns: Vec<usize>,
    /// Per row, whether no query may see it; empty when all may be seen.
    hidden: Vec<bool>,
}

/// One head of one sequence.
struct Task<'a> {
    kernel: &'a Kernel,
    index: usize,
    rows: Range<usize>,
}

impl Kernel {
    fn tasks(&self) -> Vec<Task<'_>> {
        let heads = self.heads;
        let sequences = self.sequences.iter().enumerate();
        let tasks = sequences.flat_map(|(sequence, rows)| {
            (0..heads).map(move |head| Task { kernel: self, index: sequence * heads + head, rows: rows.clone() })
        });
        tasks.collect()
    }
}

impl Task<'_> {
    /// Queries, keys and values of this head in this sequence.
    fn qkv<'a>(&self, qkv: &'a FlexTensor) -> [Matrix<'a>; 3] {
        let heads = self.kernel.heads;
        [0, 1, 2].map(|which| part(qkv, self.rows.clone(), which * heads + self.index % heads, 3 * heads))
    }

    /// Blocks of queries and the number of keys each may look at.
    fn blocks(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        let len = self.rows.len();
        // A query that sees nothing looks at everything, so nothing can be left out when keys are hidden.
        let short = self.kernel.causal && self.kernel.hidden.is_empty();
        (0..len).step_by(BLOCK).map(move |start| {
            let end = (start + BLOCK).min(len);
            (start..end, if short { end } else { len })
        })
    }

    /// Overwrites what belongs to keys that the query may not look at.
    #[inline(always)]
    fn hide(&self, query: usize, values: &mut [f32], with: f32) {
        if self.kernel.causal && query + 1 < values.len() {
            values[query + 1..].fill(with);
        }
        if !self.kernel.hidden.is_empty() {
            for (value, &hidden) in values.iter_mut().zip(&self.kernel.hidden[self.rows.clone()]) {
                *value = if hidden { with } else { *value };
            }
        }
    }

    #[inline(always)]
    fn column(&self, row: usize) -> usize {
        self.kernel.columns[self.rows.start + row]
    }

    /// The attention weights before dropout of a block of queries, [queries, keys].
    fn weights(&self, queries: &Range<usize>, keys: usize, q: Matrix, k: Matrix, out: &mut [f32]) {
        matmul(out, rows_of(q, queries.clone()), rows_of(k, 0..keys).transpose(), false, Threads::One);
        simd(
            #[inline(always)]
            || {
                for (query, scores) in queries.clone().zip(out.chunks_exact_mut(keys)) {
                    scores.iter_mut().for_each(|score| *score *= self.kernel.scale);
                    self.hide(query, scores, f32::MIN);
                    softmax(scores);
                }
            },
        );
    }

    /// The dropout factors of a query's weights.
    #[inline(always)]
    fn factors(&self, mask: &Mask, query: usize, scratch: &mut [f32], out: &mut [f32]) {
        let seq = self.kernel.seq;
        let start = (self.index * seq + self.column(query)) * seq;
        let first = self.column(0);
        if self.column(out.len() - 1) - first + 1 == out.len() {
            mask.fill(start + first, out);
        } else {
            mask.fill(start, scratch);
            for (key, out) in out.iter_mut().enumerate() {
                *out = scratch[self.column(key)];
            }
        }
    }

    fn forward(&self, [q, k, v]: [Matrix; 3]) -> Vec<f32> {
        let head_dim = v.columns;
        let mut context = vec![0.0; self.rows.len() * head_dim];
        let mut scores = vec![0.0; BLOCK.min(self.rows.len()) * self.rows.len()];
        let mut factors = vec![0.0; 2 * self.kernel.seq];
        let (factors, scratch) = factors.split_at_mut(self.kernel.seq);
        for (queries, keys) in self.blocks() {
            let weights = &mut scores[..queries.len() * keys];
            self.weights(&queries, keys, q, k, weights);
            if let Some(mask) = &self.kernel.dropout {
                simd(
                    #[inline(always)]
                    || {
                        for (query, weights) in queries.clone().zip(weights.chunks_exact_mut(keys)) {
                            self.factors(mask, query, scratch, &mut factors[..keys]);
                            for (weight, factor) in weights.iter_mut().zip(&*factors) {
                                *weight *= factor;
                            }
                        }
                    },
                );
            }
            let out = &mut context[queries.start * head_dim..queries.end * head_dim];
            let weights = Matrix::new(weights, queries.len(), keys);
            matmul(out, weights, rows_of(v, 0..keys), false, Threads::One);
        }
        context
    }

    /// Gradients of q, k and v of this head.
    fn backward(&self, [q, k, v]: [Matrix; 3], gradient: Matrix) -> [Vec<f32>; 3] {
        let head_dim = v.columns;
        let len = self.rows.len();
        let mut of_q = vec![0.0; len * head_dim];
        let mut of_k = vec![0.0; len * head_dim];
        let mut of_v = vec![0.0; len * head_dim];
        let size = BLOCK.min(len) * len;
        let mut buffers = vec![0.0; 3 * size + self.kernel.seq];
        let (weights, rest) = buffers.split_at_mut(size);
        let (dropped, rest) = rest.split_at_mut(size);
        let (changes, scratch) = rest.split_at_mut(size);
        for (queries, keys) in self.blocks() {
            let size = queries.len() * keys;
            let (weights, dropped, changes) = (&mut weights[..size], &mut dropped[..size], &mut changes[..size]);
            self.weights(&queries, keys, q, k, weights);
            let gradient = rows_of(gradient, queries.clone());
            matmul(changes, gradient, rows_of(v, 0..keys).transpose(), false, Threads::One);
            simd(
                #[inline(always)]
                || {
                    let rows = weights.chunks_exact_mut(keys).zip(dropped.chunks_exact_mut(keys));
                    for ((query, (weights, dropped)), changes) in
                        queries.clone().zip(rows).zip(changes.chunks_exact_mut(keys))
                    {
                        match &self.kernel.dropout {
                            Some(mask) => {
                                self.factors(mask, query, scratch, dropped);
                                for ((weight, dropped), change) in weights.iter().zip(&mut *dropped).zip(&mut *changes)
                                {
                                    *change *= *dropped;
                                    *dropped *= weight;
                                }
                            }
                            None => dropped.copy_from_slice(weights),
                        }
                        softmax_backward(weights, changes, self.kernel.scale);
                        self.hide(query, changes, 0.0);
                    }
                },
            );
            let dropped = Matrix::new(dropped, queries.len(), keys);
            let changes = Matrix::new(changes, queries.len(), keys);
            let out = &mut of_q[queries.start * head_dim..queries.end * head_dim];
            matmul(out, changes, rows_of(k, 0..keys), false, Threads::One);
            matmul(&mut of_k[..keys * head_dim], changes.transpose(), rows_of(q, queries.clone()), true, Threads::One);
            matmul(&mut of_v[..keys * head_dim], dropped.transpose(), gradient, true, Threads::One);
        }
        [of_q, of_k, of_v]
    }
}

impl Operation<Flex, 1> for Kernel {
    type Saved = FlexTensor;

    fn forward(&self, [qkv]: [FlexTensor; 1]) -> (FlexTensor, Self::Saved) {
        let parts: Vec<_> = self.tasks().par_iter().map(|task| task.forward(task.qkv(&qkv))).collect();
        let [rows, width] = dims(&qkv);
        (join(&parts, &self.sequences, self.heads, [rows, width / 3]), qkv)
    }

    fn backward(self, qkv: Self::Saved, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let tasks = self.tasks();
        let run = |task: &Task| {
            task.backward(task.qkv(&qkv), part(&gradient, task.rows.clone(), task.index % self.heads, self.heads))
        };
        let mut parts: Vec<[Vec<f32>; 3]> = tasks.par_iter().map(run).collect();
        // As they lie in a row: the queries of all heads, their keys, their values.
        let by_sequence = parts.chunks_mut(self.heads);
        let parts: Vec<_> = by_sequence
            .flat_map(|heads| {
                [0, 1, 2].map(|which| heads.iter_mut().map(|part| std::mem::take(&mut part[which])).collect())
            })
            .flat_map(|parts: Vec<Vec<f32>>| parts)
            .collect();
        [Some(join(&parts, &self.sequences, 3 * self.heads, dims(&qkv)))]
    }
}

/// See [`crate::ops::attention`]; `dropout` is the site and probability, if any.
pub fn attention(
    qkv: Tensor<2>,
    sequences: &Sequences,
    options: Attention,
    dropout: Option<(DropoutKey, f64)>,
) -> Tensor<2> {
    let hidden = match (&sequences.packing, &sequences.key_padding) {
        (None, Some(padding)) => match padding.clone().into_dispatch().kind {
            DispatchTensorKind::Flex(BackendTensor::Bool(mask)) => {
                mask.to_contiguous().bytes().iter().map(|&b| b != 0).collect()
            }
            other => unreachable!("not on the CPU backend: {other:?}"),
        },
        _ => Vec::new(),
    };
    let kernel = Kernel {
        heads: options.heads,
        scale: options.scale as f32,
        causal: options.causal,
        dropout: dropout.map(|(site, probability)| Mask::new(site, probability)),
        seq: sequences.seq,
        sequences: sequences.ranges(),
        columns: sequences.columns.iter().map(|&column| column as usize).collect(),
        hidden,
    };
    apply(kernel, [qkv.into_dispatch()])
}
