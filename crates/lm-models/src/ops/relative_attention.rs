//! Attention whose scores know how far apart query and key are (Transformer-XL, Dai et al., 2019), for XLNet's two
//! streams: rows of the text itself, and rows that stand for predicted positions only.

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor};

use super::attention::{merge, split};
use super::dropout;
use crate::{Mode, Sequences};

/// What a layer's queries are compared with.
#[derive(Clone, Debug)]
pub struct RelativeKeys {
    k: Tensor<4>,
    v: Tensor<4>,
    r: Tensor<4>,
    r_w_bias: Tensor<4>,
    r_r_bias: Tensor<4>,
}

impl RelativeKeys {
    /// `k` and `v` are [rows, heads · head_dim], both biases [heads, head_dim]; `r` holds the projected encodings of the
    /// distances seq, seq - 1, …, 1 - seq, [2 · seq, heads · head_dim], or such a table for each sequence of the batch,
    /// one after the other.
    pub fn new(
        k: Tensor<2>,
        v: Tensor<2>,
        r: Tensor<2>,
        r_w_bias: Tensor<2>,
        r_r_bias: Tensor<2>,
        sequences: &Sequences,
    ) -> Self {
        let [heads, dim] = r_w_bias.dims();
        let distances = 2 * sequences.seq;
        let tables = r.dims()[0] / distances;
        let bias = |bias: Tensor<2>| bias.reshape([1, heads, 1, dim]);
        Self {
            k: split(k, sequences, heads),
            v: split(v, sequences, heads),
            r: r.reshape([tables, distances, heads, dim]).swap_dims(1, 2),
            r_w_bias: bias(r_w_bias),
            r_r_bias: bias(r_r_bias),
        }
    }
}

/// The queries of one stream.
#[derive(Clone, Debug)]
pub struct RelativeQueries {
    /// How their rows form sequences.
    pub sequences: Sequences,
    /// For each head of each query, which of the 2 · seq distances lies between it and each key,
    /// [batch · heads · queries, seq]; none when query i stands at position i.
    pub distances: Option<Tensor<2, Int>>,
    /// Added to the scores, [batch, 1, queries, seq]: 0 or, where the query may not see the key, -1e30. A query that
    /// may see nothing sees everything alike, as in Python.
    pub mask: Option<Tensor<4>>,
}

/// `softmax(((q + r_w_bias) kᵀ + (q + r_r_bias) rᵀ) / √head_dim + mask) v` per head and sequence, `r` being that of the
/// distance between query and key; `q` and the result are [rows of the queries, heads · head_dim].
pub fn relative_attention(
    q: Tensor<2>,
    queries: &RelativeQueries,
    keys: &RelativeKeys,
    probability: f64,
    mode: &Mode,
) -> Tensor<2> {
    let [_, heads, seq, dim] = keys.k.dims();
    let q = split(q, &queries.sequences, heads);
    let content = (q.clone() + keys.r_w_bias.clone()).matmul(keys.k.clone().transpose());
    let position = (q + keys.r_r_bias.clone()).matmul(keys.r.clone().transpose());
    let [batch, _, count, distances] = position.dims();
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
    merge(weights.matmul(keys.v.clone()), &queries.sequences)
}
