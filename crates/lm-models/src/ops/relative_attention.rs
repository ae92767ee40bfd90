//! Attention whose scores know how far apart query and key are (Transformer-XL, Dai et al., 2019), for XLNet's two
//! streams: rows of the text itself, and rows that stand for predicted positions only.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::attention::{merge, split};
use super::dropout::dropout;
use super::engine::Engine;
use super::options::{RelativeKeys, RelativeQueries};
use super::precision::widen;
use crate::{Mode, Sequences};

/// `softmax(((q + r_w_bias) kᵀ + (q + r_r_bias) rᵀ) / √head_dim + mask) v` per head and sequence, `r` being that of the
/// distance between query and key; `q` and the result are [rows of the queries, heads · head_dim].
pub fn relative_attention(
    q: Tensor<2>,
    queries: &RelativeQueries,
    keys: &RelativeKeys,
    probability: f64,
    mode: &Mode,
) -> Tensor<2> {
    let q = mode.compute().narrow(q);
    match Engine::of(&q, mode.compute()) {
        // Content from which padding was dropped is not its business.
        #[cfg(feature = "flex")]
        Engine::Flex if keys.sequences.packing.is_none() => {
            let dropout = mode.next_dropout(probability);
            super::fast::relative_attention::relative_attention(q, queries, keys, dropout, mode.compute().precision)
        }
        _ => plain(q, queries, keys, probability, mode),
    }
}

fn plain(q: Tensor<2>, queries: &RelativeQueries, keys: &RelativeKeys, probability: f64, mode: &Mode) -> Tensor<2> {
    let narrow = |x: Tensor<4>| mode.compute().narrow(x);
    let [heads, dim] = keys.r_w_bias.dims();
    let Sequences { batch, seq, .. } = *keys.sequences;
    let bias = |bias: &Tensor<2>| bias.clone().reshape([1, heads, 1, dim]);
    let k = narrow(split(keys.k.clone(), keys.sequences, heads));
    let v = narrow(split(keys.v.clone(), keys.sequences, heads));
    let tables = keys.r.dims()[0] / (2 * seq).max(1);
    let r = narrow(keys.r.clone().reshape([tables, 2 * seq, heads, dim]).swap_dims(1, 2));
    let q = split(widen(q), &queries.sequences, heads);
    let content = widen(narrow(q.clone() + bias(&keys.r_w_bias)).matmul(k.transpose()));
    let position = widen(narrow(q + bias(&keys.r_r_bias)).matmul(r.transpose()));
    let [_, _, count, distances] = position.dims();
    let position = match &queries.distances {
        Some(indices) => position.reshape([batch * heads * count, distances]).gather(1, indices.clone()),
        // Query i needs distances seq - i to 2 · seq - 1 - i. Read as rows of one value less, the table moves by one
        // place from row to row (Python's `rel_shift`).
        None => position
            .reshape([batch * heads, count * distances])
            .narrow(1, seq, count * (distances - 1))
            .reshape([batch * heads * count, distances - 1])
            .narrow(1, 0, seq),
    };
    let scores = (content + position.reshape([batch, heads, count, seq])) * (1.0 / (dim as f64).sqrt());
    let scores = match &queries.mask {
        Some(mask) => scores + mask.clone(),
        None => scores,
    };
    let weights = dropout(softmax(scores, 3), probability, mode);
    merge(narrow(weights).matmul(v), &queries.sequences)
}
