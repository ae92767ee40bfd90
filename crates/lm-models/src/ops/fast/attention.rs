//! Attention per sequence and head, a block of queries at a time: scores live in cache and are computed again in the
//! backward pass. Padding that was dropped from the batch costs nothing, nor do keys that no query of a block sees.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind, Flex};
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::attention_scores::{Added, Scores};
use super::buffer::zeros;
use super::dropout::Mask;
use super::heads::{Rows, join, part, rows_of, softmax_backward};
use super::matmul::{Threads, matmul};
use super::matrix::Matrix;
use super::saved::{saved, widened};
use super::simd::{add, simd};
use super::tensor::{dims, tensor_like, values};
use crate::Sequences;
use crate::inputs::DropoutKey;
use crate::ops::engine::Compute;
use crate::ops::extension::{Operation, apply};
use crate::ops::options::{Attention, AttentionBias};
use crate::ops::precision::Precision;

/// Queries worked on at once.
const BLOCK: usize = 64;

/// Where attention finds its rows, and how their scores are made.
#[derive(Clone, Debug)]
struct Kernel {
    /// Of products.
    precision: Precision,
    /// Whether queries, keys and values are kept in bfloat16.
    narrow_saved: bool,
    heads: usize,
    kv_heads: usize,
    scores: Scores,
    dropout: Option<Mask>,
    queries: Rows,
    keys: Rows,
    /// Per row of the keys, whether no query may see it; empty when all may be seen.
    hidden: Vec<bool>,
}

/// The tensors that attention computes with; a bias only where its gradient is wanted or its values are.
struct Inputs<'a> {
    qkv: [&'a FlexTensor; 3],
    bias: Option<&'a FlexTensor>,
}

/// One head of one sequence.
struct Task<'a> {
    kernel: &'a Kernel,
    /// Number of the head among those of all sequences.
    index: usize,
    q: Matrix<'a>,
    k: Matrix<'a>,
    v: Matrix<'a>,
    /// This head's bias: a value per key or bucket, or [places of queries, places of keys].
    bias: &'a [f32],
    columns: [&'a [usize]; 2],
    hidden: &'a [bool],
}

/// What the backward pass of one head leaves.
struct Gradients {
    of_qkv: [Vec<f32>; 3],
    of_bias: Vec<f32>,
}

impl Kernel {
    fn new(
        queries: &Sequences,
        keys: &Sequences,
        options: &Attention,
        dropout: Option<(DropoutKey, f64)>,
        compute: Compute,
    ) -> Self {
        let hidden = match (&keys.packing, &keys.key_padding) {
            (None, Some(padding)) => match padding.clone().into_dispatch().kind {
                DispatchTensorKind::Flex(BackendTensor::Bool(mask)) => {
                    mask.to_contiguous().bytes().iter().map(|&b| b != 0).collect()
                }
                other => unreachable!("not on the CPU backend: {other:?}"),
            },
            _ => Vec::new(),
        };
        Self {
            precision: compute.precision,
            narrow_saved: compute.narrow_saved,
            heads: options.heads,
            kv_heads: options.kv_heads,
            scores: Scores {
                scale: options.scale as f32,
                softcap: options.softcap.map(|cap| cap as f32),
                reach: options.mask.reach(),
                added: match &options.bias {
                    AttentionBias::None => Added::Nothing,
                    AttentionBias::Alibi(slopes) => Added::Slopes(slopes.clone()),
                    AttentionBias::Keys(_) => Added::Keys,
                    AttentionBias::Table { buckets, .. } => Added::Buckets(buckets.clone()),
                    AttentionBias::PerHead(_) => Added::Places,
                },
            },
            dropout: dropout.map(|(site, probability)| Mask::new(site, probability)),
            queries: Rows::new(queries),
            keys: Rows::new(keys),
            hidden,
        }
    }

    fn tasks<'a>(&'a self, inputs: &Inputs<'a>) -> Vec<Task<'a>> {
        let [q, k, v] = inputs.qkv;
        let tasks = (0..self.queries.sequences.len() * self.heads).map(|index| {
            let (sequence, head) = (index / self.heads, index % self.heads);
            let kv_head = head / (self.heads / self.kv_heads);
            let (of_queries, of_keys) = (&self.queries.sequences[sequence], &self.keys.sequences[sequence]);
            Task {
                kernel: self,
                index,
                q: part(q, of_queries.clone(), head, self.heads),
                k: part(k, of_keys.clone(), kv_head, self.kv_heads),
                v: part(v, of_keys.clone(), kv_head, self.kv_heads),
                bias: inputs.bias.map(|bias| &values(bias)[self.bias_of(bias, index)]).unwrap_or_default(),
                columns: [self.queries.columns(sequence), self.keys.columns(sequence)],
                hidden: if self.hidden.is_empty() { &[] } else { &self.hidden[of_keys.clone()] },
            }
        });
        tasks.collect()
    }

    /// Where a head's bias lies; all sequences share one if it has no batch.
    fn bias_of(&self, bias: &FlexTensor, index: usize) -> Range<usize> {
        let len = match self.scores.added {
            Added::Places => self.queries.seq * self.keys.seq,
            _ => dims(bias)[1],
        };
        let count = bias.layout().shape().num_elements() / len.max(1);
        let index = if count == self.heads { index % self.heads } else { index };
        index * len..(index + 1) * len
    }

    fn forward(&self, inputs: &Inputs) -> FlexTensor {
        let parts: Vec<_> = self.tasks(inputs).par_iter().map(Task::forward).collect();
        let ([rows, _], [_, kv_width]) = (dims(inputs.qkv[0]), dims(inputs.qkv[2]));
        join(&parts, &self.queries.sequences, self.heads, [rows, kv_width / self.kv_heads * self.heads])
    }

    /// Gradients of q, k, v, and of the bias if there is one.
    fn backward(&self, inputs: &Inputs, gradient: &FlexTensor) -> ([FlexTensor; 3], Option<FlexTensor>) {
        let run = |task: &Task| {
            let rows = self.queries.sequences[task.index / self.heads].clone();
            task.backward(part(gradient, rows, task.index % self.heads, self.heads))
        };
        let mut all: Vec<Gradients> = self.tasks(inputs).par_iter().map(run).collect();
        let of_bias = inputs.bias.map(|bias| {
            let mut sum = zeros(bias.layout().shape().num_elements());
            for (index, gradients) in all.iter().enumerate() {
                add(&mut sum[self.bias_of(bias, index)], &gradients.of_bias);
            }
            tensor_like(sum, bias)
        });
        let mut take = |which: usize, index: usize| std::mem::take(&mut all[index].of_qkv[which]);
        let of_q: Vec<_> = (0..self.queries.sequences.len() * self.heads).map(|index| take(0, index)).collect();
        // Where heads of queries share keys, the same rows get something from each of them.
        let group = self.heads / self.kv_heads;
        let members =
            || (0..self.keys.sequences.len()).flat_map(|sequence| (0..group).map(move |member| (sequence, member)));
        let ranges: Vec<_> = members().map(|(sequence, _)| self.keys.sequences[sequence].clone()).collect();
        let mut joined = |which: usize| {
            let parts: Vec<_> = members()
                .flat_map(|(sequence, member)| {
                    (0..self.kv_heads).map(move |kv_head| sequence * self.heads + kv_head * group + member)
                })
                .map(|index| take(which, index))
                .collect();
            join(&parts, &ranges, self.kv_heads, dims(inputs.qkv[which]))
        };
        let [of_k, of_v] = [1, 2].map(&mut joined);
        let of_q = join(&of_q, &self.queries.sequences, self.heads, dims(inputs.qkv[0]));
        ([of_q, of_k, of_v], of_bias)
    }
}

/// Memory of a block, used again for the next one.
struct Buffers {
    /// [queries, keys]; before dropout.
    weights: Vec<f32>,
    /// Likewise, of the backward pass: after dropout; gradients; slopes of the soft cap.
    dropped: Vec<f32>,
    changes: Vec<f32>,
    slopes: Vec<f32>,
    /// Dropout factors of one query, and those from which they are picked.
    factors: Vec<f32>,
    scratch: Vec<f32>,
}

impl Buffers {
    fn new(task: &Task, backward: bool) -> Self {
        let (keys, seq) = (task.k.rows, task.kernel.keys.seq);
        let size = BLOCK.min(task.q.rows) * keys;
        let room = |wanted: bool| vec![0.0; if wanted { size } else { 0 }];
        Self {
            weights: room(true),
            dropped: room(backward),
            changes: room(backward),
            slopes: room(backward && task.kernel.scores.softcap.is_some()),
            factors: vec![0.0; keys],
            scratch: vec![0.0; seq],
        }
    }
}

impl Task<'_> {
    /// Position of a query among the keys: those of a sequence are its last.
    fn position(&self, query: usize) -> isize {
        (query + self.k.rows) as isize - self.q.rows as isize
    }

    /// Blocks of queries and the keys that they look at.
    fn blocks(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let (queries, keys) = (self.q.rows, self.k.rows);
        let blocks = (0..queries).step_by(BLOCK).map(move |start| {
            let block = start..(start + BLOCK).min(queries);
            let (first, last) = (self.position(start), self.position(block.end - 1));
            // A query that sees nothing looks at everything, so nothing can be left out where keys are hidden.
            let seen = if self.hidden.is_empty() { self.kernel.scores.seen(first, last, keys) } else { 0..keys };
            (block, seen)
        });
        blocks.filter(|(_, keys)| !keys.is_empty())
    }

    /// The attention weights before dropout of a block of queries, [queries, keys].
    fn weights(&self, queries: &Range<usize>, keys: &Range<usize>, weights: &mut [f32], slopes: &mut [f32]) {
        let (scores, count) = (&self.kernel.scores, keys.len());
        let (q, k) = (rows_of(self.q, queries.clone()), rows_of(self.k, keys.clone()));
        matmul(weights, q, k.transpose(), false, Threads::One, self.kernel.precision);
        let slopes = slopes.chunks_exact_mut(count).map(Some).chain(std::iter::repeat_with(|| None));
        simd(
            #[inline(always)]
            || {
                for ((query, weights), slopes) in queries.clone().zip(weights.chunks_exact_mut(count)).zip(slopes) {
                    scores.scale(weights, slopes);
                    scores.add_bias(self.head(), self.position(query), keys, self.bias_row(query), weights);
                    scores.weigh(self.position(query), keys.start, self.hidden_of(keys), weights);
                }
            },
        );
    }

    fn head(&self) -> usize {
        self.index % self.kernel.heads
    }

    /// The values that are added to a query's scores, with the columns of the keys; or those of all distances.
    #[inline(always)]
    fn bias_row(&self, query: usize) -> (&[f32], &[usize]) {
        let [queries, keys] = self.columns;
        match self.kernel.scores.added {
            Added::Places => {
                let start = queries[query] * self.kernel.keys.seq;
                (&self.bias[start..start + self.kernel.keys.seq], keys)
            }
            _ => (self.bias, keys),
        }
    }

    #[inline(always)]
    fn hidden_of(&self, keys: &Range<usize>) -> &[bool] {
        if self.hidden.is_empty() { &[] } else { &self.hidden[keys.clone()] }
    }

    /// The dropout factors of a query's weights.
    #[inline(always)]
    fn factors(&self, mask: &Mask, query: usize, keys: &Range<usize>, scratch: &mut [f32], out: &mut [f32]) {
        let [of_queries, columns] = self.columns;
        let start = (self.index * self.kernel.queries.seq + of_queries[query]) * self.kernel.keys.seq;
        let columns = &columns[keys.clone()];
        let (first, last) = (columns[0], columns[columns.len() - 1]);
        if last - first + 1 == columns.len() {
            mask.fill(start + first, out);
        } else {
            mask.fill(start, scratch);
            for (out, &column) in out.iter_mut().zip(columns) {
                *out = scratch[column];
            }
        }
    }

    fn forward(&self) -> Vec<f32> {
        let head_dim = self.v.columns;
        let mut context = vec![0.0; self.q.rows * head_dim];
        let mut buffers = Buffers::new(self, false);
        for (queries, keys) in self.blocks() {
            let Buffers { weights, factors, scratch, .. } = &mut buffers;
            let (weights, factors) = (&mut weights[..queries.len() * keys.len()], &mut factors[..keys.len()]);
            self.weights(&queries, &keys, weights, &mut []);
            if let Some(mask) = &self.kernel.dropout {
                simd(
                    #[inline(always)]
                    || {
                        for (query, weights) in queries.clone().zip(weights.chunks_exact_mut(keys.len())) {
                            self.factors(mask, query, &keys, scratch, factors);
                            for (weight, factor) in weights.iter_mut().zip(&*factors) {
                                *weight *= factor;
                            }
                        }
                    },
                );
            }
            let out = &mut context[queries.start * head_dim..queries.end * head_dim];
            let weights = Matrix::new(weights, queries.len(), keys.len());
            matmul(out, weights, rows_of(self.v, keys), false, Threads::One, self.kernel.precision);
        }
        context
    }

    fn backward(&self, gradient: Matrix) -> Gradients {
        let (dim, v_dim) = (self.q.columns, self.v.columns);
        let mut of_q = vec![0.0; self.q.rows * dim];
        let (mut of_k, mut of_v) = (vec![0.0; self.k.rows * dim], vec![0.0; self.k.rows * v_dim]);
        let mut of_bias = vec![0.0; self.bias.len()];
        let mut buffers = Buffers::new(self, true);
        for (queries, keys) in self.blocks() {
            let gradient = rows_of(gradient, queries.clone());
            self.changes(&queries, &keys, gradient, &mut buffers, &mut of_bias);
            let size = queries.len() * keys.len();
            let dropped = Matrix::new(&buffers.dropped[..size], queries.len(), keys.len());
            let changes = Matrix::new(&buffers.changes[..size], queries.len(), keys.len());
            let q = rows_of(self.q, queries.clone());
            let out = &mut of_q[queries.start * dim..queries.end * dim];
            matmul(out, changes, rows_of(self.k, keys.clone()), false, Threads::One, self.kernel.precision);
            matmul(
                &mut of_k[keys.start * dim..keys.end * dim],
                changes.transpose(),
                q,
                true,
                Threads::One,
                self.kernel.precision,
            );
            let out = &mut of_v[keys.start * v_dim..keys.end * v_dim];
            matmul(out, dropped.transpose(), gradient, true, Threads::One, self.kernel.precision);
        }
        Gradients { of_qkv: [of_q, of_k, of_v], of_bias }
    }

    /// Fills the weights after dropout and the gradients of the scores of a block, and adds those of the bias.
    fn changes(
        &self,
        queries: &Range<usize>,
        keys: &Range<usize>,
        gradient: Matrix,
        buffers: &mut Buffers,
        of_bias: &mut [f32],
    ) {
        let (scores, count) = (&self.kernel.scores, keys.len());
        let size = queries.len() * count;
        let Buffers { weights, dropped, changes, slopes, scratch, .. } = buffers;
        let (weights, dropped, changes) = (&mut weights[..size], &mut dropped[..size], &mut changes[..size]);
        let used = slopes.len().min(size);
        let slopes = &mut slopes[..used];
        self.weights(queries, keys, weights, slopes);
        matmul(
            changes,
            gradient,
            rows_of(self.v, keys.clone()).transpose(),
            false,
            Threads::One,
            self.kernel.precision,
        );
        let slopes = slopes.chunks_exact(count).map(Some).chain(std::iter::repeat(None));
        simd(
            #[inline(always)]
            || {
                let rows = weights.chunks_exact(count).zip(dropped.chunks_exact_mut(count));
                let rows = rows.zip(changes.chunks_exact_mut(count)).zip(slopes);
                for (query, (((weights, dropped), changes), slopes)) in queries.clone().zip(rows) {
                    match &self.kernel.dropout {
                        Some(mask) => {
                            self.factors(mask, query, keys, scratch, dropped);
                            for ((weight, dropped), change) in weights.iter().zip(&mut *dropped).zip(&mut *changes) {
                                *change *= *dropped;
                                *dropped *= weight;
                            }
                        }
                        None => dropped.copy_from_slice(weights),
                    }
                    softmax_backward(weights, changes);
                    scores.hide(self.position(query), keys.start, self.hidden_of(keys), changes, 0.0);
                    if !of_bias.is_empty() {
                        self.add_to_bias(query, keys, changes, of_bias);
                    }
                    scores.scale_back(changes, slopes);
                }
            },
        );
    }

    /// Adds the gradients of a query's scores to those of the bias.
    fn add_to_bias(&self, query: usize, keys: &Range<usize>, changes: &[f32], of_bias: &mut [f32]) {
        let [queries, columns] = self.columns;
        match &self.kernel.scores.added {
            Added::Keys => add(&mut of_bias[keys.clone()], changes),
            Added::Buckets(buckets) => {
                let first = Scores::distance_place(buckets, self.position(query), keys.start);
                for (bucket, change) in buckets[first..].iter().zip(changes) {
                    of_bias[*bucket] += change;
                }
            }
            Added::Places => {
                let row = &mut of_bias[queries[query] * self.kernel.keys.seq..];
                for (&column, change) in columns[keys.clone()].iter().zip(changes) {
                    row[column] += change;
                }
            }
            Added::Nothing | Added::Slopes(_) => {}
        }
    }
}

impl Operation<Flex, 3> for Kernel {
    type Saved = [FlexTensor; 3];

    fn forward(&self, inputs: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        (self.forward(&Inputs { qkv: inputs.each_ref(), bias: None }), inputs)
    }

    fn needed(&self, qkv: Self::Saved, wanted: [bool; 3]) -> Self::Saved {
        qkv.map(|part| saved(part, self.narrow_saved, &wanted))
    }

    fn backward(self, saved: Self::Saved, gradient: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let saved = saved.map(widened);
        Kernel::backward(&self, &Inputs { qkv: saved.each_ref(), bias: None }, &gradient).0.map(Some)
    }
}

impl Operation<Flex, 4> for Kernel {
    type Saved = [FlexTensor; 4];

    fn forward(&self, inputs: [FlexTensor; 4]) -> (FlexTensor, Self::Saved) {
        let [q, k, v, bias] = inputs.each_ref();
        (self.forward(&Inputs { qkv: [q, k, v], bias: Some(bias) }), inputs)
    }

    fn needed(&self, [q, k, v, bias]: Self::Saved, wanted: [bool; 4]) -> Self::Saved {
        let [q, k, v] = [q, k, v].map(|part| saved(part, self.narrow_saved, &wanted));
        [q, k, v, bias]
    }

    fn backward(self, saved: Self::Saved, gradient: FlexTensor, _: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let saved = saved.map(widened);
        let [q, k, v, bias] = saved.each_ref();
        let ([q, k, v], bias) = Kernel::backward(&self, &Inputs { qkv: [q, k, v], bias: Some(bias) }, &gradient);
        [Some(q), Some(k), Some(v), bias]
    }
}

/// See [`crate::ops::attention()`]; `dropout` is the site and probability, if any.
pub fn attention(
    qkv: [Tensor<2>; 3],
    queries: &Sequences,
    keys: &Sequences,
    options: &Attention,
    dropout: Option<(DropoutKey, f64)>,
    compute: Compute,
) -> Tensor<2> {
    let kernel = Kernel::new(queries, keys, options, dropout, compute);
    let [q, k, v] = qkv.map(Tensor::into_dispatch);
    match &options.bias {
        AttentionBias::None | AttentionBias::Alibi(_) => apply(kernel, [q, k, v]),
        AttentionBias::Keys(values) | AttentionBias::Table { values, .. } => {
            apply(kernel, [q, k, v, values.clone().into_dispatch()])
        }
        AttentionBias::PerHead(bias) => apply(kernel, [q, k, v, bias.clone().into_dispatch()]),
    }
}
