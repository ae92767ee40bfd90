//! Scaled dot-product attention over rows that form sequences.

mod alibi;
mod plain;

use burn::tensor::Tensor;

use super::engine::Engine;
use super::options::Attention;
#[cfg(feature = "tch")]
use super::options::AttentionMask;
use crate::{Mode, Sequences};

pub use alibi::alibi_slopes;
pub(super) use plain::{merge, split};

/// `softmax(cap(q kᵀ · scale) + bias + mask) v` per head and sequence (Vaswani et al., 2017). `q` is
/// [rows of the queries, heads · head_dim], `k` and `v` are [rows of the keys, kv_heads · head_dim]; the result is
/// [rows of the queries, heads · head_dim]. `queries` and `keys` say how the rows form sequences, the same number of them;
/// a query that may see nothing sees everything alike, as in Python.
pub fn attention(
    q: Tensor<2>,
    k: Tensor<2>,
    v: Tensor<2>,
    queries: &Sequences,
    keys: &Sequences,
    options: &Attention,
    mode: &Mode,
) -> Tensor<2> {
    let qkv = [q, k, v].map(|x| mode.compute().narrow(x));
    match Engine::of(&qkv[0], mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => {
            super::fast::attention::attention(qkv, queries, keys, options, mode.next_dropout(options.dropout))
        }
        // ATen's function has no soft cap.
        #[cfg(feature = "tch")]
        Engine::Torch if options.softcap.is_none() => {
            let device = qkv[0].device().inner();
            let bias = plain::bias(queries, keys, options, &device).map(|bias| mode.compute().narrow(bias));
            // The kernel knows this mask itself.
            let whole = [queries, keys].iter().all(|rows| rows.packing.is_none() && rows.key_padding.is_none());
            let causal = options.mask == AttentionMask::Causal && whole && queries.seq == keys.seq && bias.is_none();
            let hidden = if causal { None } else { plain::hidden(queries, keys, options.mask, &device) };
            let dropout = mode.next_dropout(options.dropout);
            super::torch::attention::attention(qkv, (queries, keys), options, (causal, hidden, bias), dropout)
        }
        _ => plain::attention(qkv, queries, keys, options, mode),
    }
}
