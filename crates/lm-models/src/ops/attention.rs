//! Scaled dot-product attention over rows that form sequences.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor};

use super::dropout;
use super::engine::Engine;
use super::precision::widen;
use crate::{Mode, Sequences};

/// What kind of attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Number of heads that the columns of q, k and v are split into.
    pub heads: usize,
    /// Factor on the scores; 1/√head_dim as a rule.
    pub scale: f64,
    /// Whether a row sees only rows before it and itself.
    pub causal: bool,
    /// Dropout probability of the attention weights.
    pub dropout: f64,
}

/// `softmax(q kᵀ · scale + mask) v` per head and sequence (Vaswani et al., 2017). Queries, keys and values lie side by
/// side in `qkv`, [rows, 3 · heads · head_dim]; the result is [rows, heads · head_dim].
pub fn attention(qkv: Tensor<2>, sequences: &Sequences, options: Attention, mode: &Mode) -> Tensor<2> {
    let qkv = mode.compute().narrow(qkv);
    match Engine::of(&qkv, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::attention::attention(qkv, sequences, options, mode.next_dropout(options.dropout)),
        #[cfg(feature = "tch")]
        Engine::Torch => {
            super::torch::attention::attention(qkv, sequences, options, mode.next_dropout(options.dropout))
        }
        Engine::Plain => plain(qkv, sequences, options, mode),
    }
}

fn plain(qkv: Tensor<2>, sequences: &Sequences, options: Attention, mode: &Mode) -> Tensor<2> {
    let heads = options.heads;
    let [q, k, v] = thirds(qkv);
    let scores = split(q, sequences, heads).matmul(split(k, sequences, heads).transpose());
    let scores = widen(scores) * options.scale;
    let scores = match mask(sequences, options.causal, &scores) {
        Some(mask) => scores.mask_fill(mask, f32::MIN),
        None => scores,
    };
    let weights = dropout(softmax(scores, 3), options.dropout, mode);
    merge(mode.compute().narrow(weights).matmul(split(v, sequences, heads)), sequences)
}

/// [`attention`] of the last rows of a single sequence to all of it, each row seeing those before it and itself: `q` is
/// [new, heads · head_dim], `k` and `v` [all, heads · head_dim]. Nothing is dropped.
pub fn attention_to_past(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, options: Attention, mode: &Mode) -> Tensor<2> {
    let ([new, width], [all, _]) = (q.dims(), k.dims());
    let split = |x: Tensor<2>| {
        let [rows, _] = x.dims();
        mode.compute().narrow(x).reshape([1, rows, options.heads, width / options.heads]).swap_dims(1, 2)
    };
    let scores = widen(split(q).matmul(split(k).transpose())) * options.scale;
    let shape = scores.dims();
    let future = Tensor::<2, Bool>::tril_mask([new, all], (all - new) as i64, &scores.device());
    let scores = scores.mask_fill(future.reshape([1, 1, new, all]).expand(shape), f32::MIN);
    mode.compute().narrow(softmax(scores, 3)).matmul(split(v)).swap_dims(1, 2).reshape([new, width])
}

/// [rows, 3 · width] → queries, keys and values, each [rows, width]
pub(crate) fn thirds(qkv: Tensor<2>) -> [Tensor<2>; 3] {
    let width = qkv.dims()[1] / 3;
    [0, 1, 2].map(|which| qkv.clone().narrow(1, which * width, width))
}

/// [rows, heads · head_dim] → [batch, heads, seq, head_dim]
pub(super) fn split(x: Tensor<2>, sequences: &Sequences, heads: usize) -> Tensor<4> {
    let [_, width] = x.dims();
    let x = match &sequences.packing {
        Some((row_of_place, _)) => x.select(0, row_of_place.clone()),
        None => x,
    };
    x.reshape([sequences.batch, sequences.seq, heads, width / heads]).swap_dims(1, 2)
}

/// [batch, heads, seq, head_dim] → [rows, heads · head_dim]
pub(super) fn merge(x: Tensor<4>, sequences: &Sequences) -> Tensor<2> {
    let [batch, heads, seq, dim] = x.dims();
    let x = x.swap_dims(1, 2).reshape([batch * seq, heads * dim]);
    match &sequences.packing {
        Some((_, place_of_row)) => x.select(0, place_of_row.clone()),
        None => x,
    }
}

/// True where a query may not see a key, in the shape of the scores [batch, heads, seq, seq].
fn mask(sequences: &Sequences, causal: bool, scores: &Tensor<4>) -> Option<Tensor<4, Bool>> {
    let shape = scores.dims();
    let [batch, _, seq, _] = shape;
    let padding = sequences.key_padding.clone().map(|mask| mask.reshape([batch, 1, 1, seq]).expand(shape));
    let future = causal
        .then(|| Tensor::<2, Bool>::tril_mask([seq, seq], 0, &scores.device()).reshape([1, 1, seq, seq]).expand(shape));
    match (padding, future) {
        (Some(padding), Some(future)) => Some(padding.bool_or(future)),
        (mask, None) | (None, mask) => mask,
    }
}
