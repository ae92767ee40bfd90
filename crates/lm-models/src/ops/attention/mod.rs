//! Scaled dot-product attention over rows that form sequences.

mod alibi;
mod plain;

use burn::tensor::{Bool, Device, Tensor};

use super::engine::Engine;
use super::options::{Attention, AttentionMask, Blind};
use crate::{Mode, Sequences};

pub use alibi::alibi_slopes;
pub(super) use plain::{merge, split};

/// `softmax(cap(q kᵀ · scale) + bias + mask) v` per head and sequence (Vaswani et al., 2017). `q` is
/// [rows of the queries, heads · head_dim], `k` and `v` are [rows of the keys, kv_heads · head_dim]; the result is
/// [rows of the queries, heads · head_dim]. `queries` and `keys` say how the rows form sequences, the same number of them;
/// what a query gets that may see nothing, [`Blind`] says.
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
    let blind = blind_rows(queries, keys, options, &qkv[0].device().inner());
    let attended = match Engine::of(&qkv[0], mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => {
            let dropout = mode.next_dropout(options.dropout);
            super::fast::attention::attention(qkv, queries, keys, options, dropout, mode.compute())
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
    };
    match blind {
        Some(blind) => {
            let shape = attended.dims();
            attended.mask_fill(blind.expand(shape), 0.0)
        }
        None => attended,
    }
}

/// Rows of queries that get zeros because they see no key, [rows, 1]; none where there can be no such row.
fn blind_rows(queries: &Sequences, keys: &Sequences, options: &Attention, device: &Device) -> Option<Tensor<2, Bool>> {
    let narrow = matches!(options.mask, AttentionMask::Window { .. });
    if options.blind == Blind::Mean || !narrow || keys.key_padding.is_none() {
        return None;
    }
    let hidden = plain::hidden(queries, keys, options.mask, device)?;
    let [batch, _, seq, _] = hidden.dims();
    let blind = hidden.int().min_dim(3).reshape([batch * seq, 1]);
    let blind = match &queries.packing {
        Some((_, place_of_row)) => blind.select(0, place_of_row.clone()),
        None => blind,
    };
    Some(blind.greater_elem(0))
}
