//! The scores of DeBERTa's attention that distances have a part in.

use burn::tensor::{Int, Tensor, TensorData};

use super::attention::split;
use super::engine::Engine;
use super::options::Disentangled;
use super::precision::widen;
use crate::{Mode, Sequences};

/// `(qᵢ · pos_key(i - j) + kⱼ · pos_query(i - j)) · scale` for query i and key j of each sequence and head: what
/// [`super::AttentionBias::PerHead`] adds, [batch · heads, seq, seq] (He et al., 2021, equation 4 without its first term,
/// which is attention's own). `q` and `k` are [rows, heads · head_dim]; at least one of the two terms is there. What stands
/// at padded places means nothing.
pub fn disentangled_bias(
    q: Tensor<2>,
    k: Tensor<2>,
    relative: Disentangled,
    sequences: &Sequences,
    heads: usize,
    mode: &Mode,
) -> Tensor<3> {
    let compute = mode.compute();
    let Disentangled { pos_key, pos_query, buckets, scale } = relative;
    let of_queries = pos_key.map(|pos_key| [compute.narrow(q), compute.narrow(pos_key)]);
    let of_keys = pos_query.map(|pos_query| [compute.narrow(k), compute.narrow(pos_query)]);
    let [first, ..] = of_queries.as_ref().or(of_keys.as_ref()).expect("one of the two terms");
    match Engine::of(first, compute) {
        #[cfg(feature = "flex")]
        Engine::Flex => {
            let precision = compute.precision;
            super::fast::disentangled::bias(of_queries, of_keys, &buckets, scale, sequences, heads, precision)
        }
        _ => {
            let of_queries = of_queries.map(|of_queries| term(of_queries, &buckets, false, sequences, heads));
            let of_keys = of_keys.map(|of_keys| term(of_keys, &buckets, true, sequences, heads));
            let bias = [of_queries, of_keys].into_iter().flatten().reduce(|a, b| a + b).expect("one of the two terms");
            bias * scale
        }
    }
}

/// The products of rows with the distances to all others; `of_keys`: the rows are keys, which stand in the columns.
fn term(
    [x, table]: [Tensor<2>; 2],
    buckets: &[usize],
    of_keys: bool,
    sequences: &Sequences,
    heads: usize,
) -> Tensor<3> {
    let [distances, width] = table.dims();
    let (batch, seq, longest) = (sequences.batch, sequences.seq, buckets.len().div_ceil(2));
    let table = table.reshape([1, distances, heads, width / heads]).swap_dims(1, 2);
    let products = widen(split(x, sequences, heads).matmul(table.transpose()));
    let bucket = |row: usize, column: usize| {
        let (query, key) = if of_keys { (column, row) } else { (row, column) };
        buckets[query + longest - 1 - key] as i32
    };
    let indices: Vec<i32> = (0..seq * seq).map(|place| bucket(place / seq, place % seq)).collect();
    let indices = Tensor::<2, Int>::from_data(TensorData::new(indices, [seq, seq]), &products.device());
    let indices = indices.reshape([1, 1, seq, seq]).expand([batch, heads, seq, seq]);
    let scores = products.gather(3, indices);
    let scores = if of_keys { scores.transpose() } else { scores };
    scores.reshape([batch * heads, seq, seq])
}
