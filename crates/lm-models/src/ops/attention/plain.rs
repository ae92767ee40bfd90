//! Attention as it is defined, on the padded batch.

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::ops::dropout::dropout;
use crate::ops::options::{Attention, AttentionBias, AttentionMask};
use crate::ops::precision::widen;
use crate::{Mode, Sequences};

pub fn attention(
    [q, k, v]: [Tensor<2>; 3],
    queries: &Sequences,
    keys: &Sequences,
    options: &Attention,
    mode: &Mode,
) -> Tensor<2> {
    let device = q.device().inner();
    let q = split(q, queries, options.heads);
    let [k, v] = [k, v].map(|x| shared(split(x, keys, options.kv_heads), options.heads));
    let scores = widen(q.matmul(k.transpose())) * options.scale;
    let scores = match options.softcap {
        Some(cap) => (scores / cap).tanh() * cap,
        None => scores,
    };
    let scores = match bias(queries, keys, options, &device) {
        Some(bias) => scores + bias,
        None => scores,
    };
    let scores = match hidden(queries, keys, options.mask, &device) {
        Some(hidden) => {
            let shape = scores.dims();
            scores.mask_fill(hidden.expand(shape), f32::MIN)
        }
        None => scores,
    };
    let weights = dropout(softmax(scores, 3), options.dropout, mode);
    merge(mode.compute().narrow(weights).matmul(v), queries)
}

/// [rows, heads · head_dim] → [batch, heads, seq, head_dim]
pub fn split(x: Tensor<2>, sequences: &Sequences, heads: usize) -> Tensor<4> {
    let [_, width] = x.dims();
    let x = match &sequences.packing {
        Some((row_of_place, _)) => x.select(0, row_of_place.clone()),
        None => x,
    };
    x.reshape([sequences.batch, sequences.seq, heads, width / heads]).swap_dims(1, 2)
}

/// [batch, heads, seq, head_dim] → [rows, heads · head_dim]
pub fn merge(x: Tensor<4>, sequences: &Sequences) -> Tensor<2> {
    let [batch, heads, seq, dim] = x.dims();
    let x = x.swap_dims(1, 2).reshape([batch * seq, heads * dim]);
    match &sequences.packing {
        Some((_, place_of_row)) => x.select(0, place_of_row.clone()),
        None => x,
    }
}

/// Each head for all the queries' heads that share it; [batch, kv_heads, seq, head_dim] → [batch, heads, seq, head_dim].
fn shared(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, kv_heads, seq, dim] = x.dims();
    if kv_heads == heads {
        return x;
    }
    let x = x.reshape([batch, kv_heads, 1, seq, dim]);
    x.expand([batch, kv_heads, heads / kv_heads, seq, dim]).reshape([batch, heads, seq, dim])
}

/// Whether each row stands at its position.
fn in_order(sequences: &Sequences) -> bool {
    let columns = |rows: Range<usize>| sequences.columns[rows].iter().copied();
    sequences.ranges().into_iter().all(|rows| columns(rows.clone()).eq(0..rows.len() as i32))
}

/// The position of each place, [batch, seq], where that of a sequence's first row is `first`.
fn positions(sequences: &Sequences, first: impl Fn(usize) -> i32, device: &Device) -> Tensor<2, Int> {
    let mut positions = vec![0i32; sequences.batch * sequences.seq];
    for (sequence, rows) in sequences.ranges().into_iter().enumerate() {
        for (position, row) in (first(sequence)..).zip(rows) {
            positions[sequence * sequences.seq + sequences.columns[row] as usize] = position;
        }
    }
    Tensor::from_data(TensorData::new(positions, [sequences.batch, sequences.seq]), device)
}

/// The same from 0 on, [batch or 1, seq]: one for all where that will do.
fn place_positions(sequences: &Sequences, device: &Device) -> Tensor<2, Int> {
    match in_order(sequences) {
        true => Tensor::<1, Int>::arange(0..sequences.seq as i64, device).unsqueeze(),
        false => positions(sequences, |_| 0, device),
    }
}

/// Position of each key less that of each query, [batch or 1, 1, queries, keys].
fn distances(queries: &Sequences, keys: &Sequences, device: &Device) -> Tensor<4, Int> {
    let first = |sequence: usize| keys.lengths[sequence] as i32 - queries.lengths[sequence] as i32;
    // Where each row stands at its position, all sequences are alike, and nothing has to be sent to the device. What
    // stands where there is no row is hidden, or nobody's.
    if in_order(queries) && in_order(keys) && (1..queries.batch).all(|sequence| first(sequence) == first(0)) {
        let offset = if queries.batch > 0 { first(0) } else { 0 };
        let shape = [1, 1, queries.seq, keys.seq];
        let of_keys = place_positions(keys, device).reshape([1, 1, 1, keys.seq]);
        let of_queries = place_positions(queries, device).reshape([1, 1, queries.seq, 1]);
        return of_keys.expand(shape) - of_queries.expand(shape) - offset;
    }
    let batch = queries.batch;
    let of_queries = positions(queries, first, device).reshape([batch, 1, queries.seq, 1]);
    let of_keys = positions(keys, |_| 0, device).reshape([batch, 1, 1, keys.seq]);
    let shape = [batch, 1, queries.seq, keys.seq];
    of_keys.expand(shape) - of_queries.expand(shape)
}

/// True where a query may not see a key, [batch or 1, 1, queries or 1, keys]; none where all see all.
pub fn hidden(queries: &Sequences, keys: &Sequences, mask: AttentionMask, device: &Device) -> Option<Tensor<4, Bool>> {
    let padding = keys.key_padding.clone().map(|padding| padding.reshape([keys.batch, 1, 1, keys.seq]));
    let (left, right) = mask.reach();
    let distances = (left.is_some() || right.is_some()).then(|| distances(queries, keys, device));
    let far = distances.and_then(|distances| {
        let behind = left.map(|left| distances.clone().lower_elem(-(left as i32)));
        let ahead = right.map(|right| distances.greater_elem(right as i32));
        [behind, ahead].into_iter().flatten().reduce(Tensor::bool_or)
    });
    match (padding, far) {
        (Some(padding), Some(far)) => {
            let shape = [keys.batch, 1, queries.seq, keys.seq];
            Some(padding.expand(shape).bool_or(far.expand(shape)))
        }
        (mask, None) | (None, mask) => mask,
    }
}

/// What is added to the scores, [batch or 1, heads, queries, keys].
pub fn bias(queries: &Sequences, keys: &Sequences, options: &Attention, device: &Device) -> Option<Tensor<4>> {
    match &options.bias {
        AttentionBias::None => None,
        AttentionBias::Alibi(slopes) => {
            let slopes = Tensor::<1>::from_data(TensorData::new(slopes.clone(), [options.heads]), device);
            let distances = distances(queries, keys, device).float();
            Some(distances * slopes.reshape([1, options.heads, 1, 1]))
        }
        AttentionBias::Keys(values) => {
            let places = place_positions(keys, device);
            let [batch, seq] = places.dims();
            let bias = values.clone().select(1, places.reshape([batch * seq]));
            Some(widen(bias.reshape([options.heads, batch, 1, seq]).swap_dims(0, 1)))
        }
        AttentionBias::Table { values, buckets } => {
            let (count, longest) = (buckets.len(), buckets.len().div_ceil(2) as i32);
            let buckets: Vec<i32> = buckets.iter().map(|&bucket| bucket as i32).collect();
            let buckets = Tensor::<1, Int>::from_data(TensorData::new(buckets, [count]), device);
            let places = distances(queries, keys, device) + (longest - 1);
            let [batch, _, queries, keys] = places.dims();
            let places = buckets.select(0, places.reshape([batch * queries * keys]));
            let bias = values.clone().select(1, places).reshape([options.heads, batch, queries, keys]);
            Some(widen(bias.swap_dims(0, 1)))
        }
        AttentionBias::PerHead(bias) => {
            let [all, queries, keys] = bias.dims();
            Some(widen(bias.clone().reshape([all / options.heads, options.heads, queries, keys])))
        }
    }
}
