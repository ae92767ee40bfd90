//! DeBERTa's scores by distance, as its attention sees them.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn disentangled_biases(
        lengths in prop::collection::vec(1usize..150, 1..4),
        padding in prop::sample::select(vec![Padding::Drop, Padding::Mask, Padding::See]),
        left in any::<bool>(),
        heads in 1usize..4,
        head_dim in 1usize..20,
        distances in 1usize..80,
        terms in prop::sample::select(vec![(true, true), (true, false), (false, true)]),
    ) {
        let rows = sequences(&lengths, padding, left);
        let longest = rows.seq + 3;
        let bucket = |distance: usize| (distance * 7 / 5).min(2 * longest - 1) % distances;
        let buckets: Vec<usize> = (1..2 * longest).map(bucket).collect();
        let run = |m: &[Tensor<2>], _: &[Tensor<1>], mode: &Mode| {
            let [q, k, v] = std::array::from_fn(|i| m[i].clone());
            let relative = Disentangled {
                pos_key: terms.0.then(|| m[3].clone()),
                pos_query: terms.1.then(|| m[4].clone()),
                buckets: buckets.clone(),
                scale: 0.3,
            };
            let bias = disentangled_bias(q.clone(), k.clone(), relative, &rows, heads, mode);
            let options = Attention::new(heads, head_dim, AttentionMask::Full, 0.0);
            attention(q, k, v, &rows, &rows, &Attention { bias: AttentionBias::PerHead(bias), ..options }, mode)
        };
        let width = heads * head_dim;
        let row = |seed| matrix(seed, [rows.rows(), width], 1.0);
        let table = |seed| matrix(seed, [distances, width], 1.0);
        check_to(|_| 1.0, run, &[row(1), row(2), row(3), table(4), table(5)], &[]);
    }
}
