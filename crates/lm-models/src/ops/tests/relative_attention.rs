//! XLNet's attention.

use super::*;

/// Queries of as many predicted rows as `counts` says, at most `seq`, spread over each sequence.
fn predicted_queries(counts: &[usize], seq: usize, heads: usize) -> RelativeQueries {
    let counts: Vec<usize> = counts.iter().map(|&count| count.min(seq)).collect();
    let mut sequences = sequences(&counts, Padding::Drop, false);
    let place_of = |row: usize, count: usize| row * seq / count;
    sequences.columns = counts.iter().flat_map(|&n| (0..n).map(move |row| place_of(row, n) as i32)).collect();
    let places = sequences.seq;
    let distances = counts.iter().flat_map(|&count| {
        (0..heads * places).flat_map(move |row| {
            let first = seq - if row % places < count { place_of(row % places, count) } else { 0 };
            (first..first + seq).map(|distance| distance as i32)
        })
    });
    let distances = TensorData::new(distances.collect::<Vec<_>>(), [counts.len() * heads * places, seq]);
    RelativeQueries { sequences, distances: Some(Tensor::from_data(distances, &device())), mask: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn relative_attentions(
        batch in 1usize..4,
        seq in 1usize..100,
        counts in prop::collection::vec(1usize..90, 3),
        heads in 1usize..4,
        head_dim in 1usize..20,
        // Scores up to a hundred: the last bit of larger ones is worth more than the tolerance.
        size in prop::sample::select(vec![0.1f32, 1.0, 10.0]),
        (of_text, hide, table_each, dropout) in any::<(bool, bool, bool, bool)>(),
        hidden in 0u64..1000,
    ) {
        let text = sequences(&vec![seq; batch], Padding::See, false);
        let queries = if of_text {
            RelativeQueries { sequences: text.clone(), distances: None, mask: None }
        } else {
            predicted_queries(&counts[..batch], seq, heads)
        };
        let places = queries.sequences.seq;
        // Some queries see nothing at all.
        let mask = (0..batch * places * seq).map(|i| {
            let (row, key) = (i / seq, i % seq);
            if row % 7 == 3 || (row as u64 * 31 + key as u64 * 17 + hidden).is_multiple_of(3) { -1e30f32 } else { 0.0 }
        });
        let mask = TensorData::new(mask.collect::<Vec<_>>(), [batch, 1, places, seq]);
        let queries = RelativeQueries { mask: hide.then(|| Tensor::from_data(mask, &device())), ..queries };
        let width = heads * head_dim;
        let tables = if table_each { batch } else { 1 };
        let run = |m: &[Tensor<2>], _: &[Tensor<1>], mode: &Mode| {
            let [k, v, r, r_w_bias, r_r_bias] = std::array::from_fn(|i| m[i + 1].clone());
            let keys = RelativeKeys { sequences: &text, k, v, r, r_w_bias, r_r_bias };
            let p = if dropout && !on_libtorch() { 0.2 } else { 0.0 };
            relative_attention(m[0].clone(), &queries, &keys, p, mode)
        };
        // As above; and all gradients but the queries' own add up what all queries give them.
        let rows = queries.sequences.rows() as f32;
        let size_of = |tensor| size.max(1.0) * if tensor > 1 { (0.05 * size).max(0.01 * rows) } else { 0.05 };
        check_to(size_of, run, &[
            matrix(1, [queries.sequences.rows(), width], size),
            matrix(2, [batch * seq, width], 1.0),
            matrix(3, [batch * seq, width], 1.0),
            matrix(4, [tables * 2 * seq, width], 1.0),
            matrix(5, [heads, head_dim], size),
            matrix(6, [heads, head_dim], size),
        ], &[]);
    }
}
