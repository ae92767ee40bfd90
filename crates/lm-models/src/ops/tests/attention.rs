//! Attention in all its forms.

use super::*;

/// One form of attention, and rows to try it on.
#[derive(Clone, Debug)]
struct Case {
    lengths: Vec<usize>,
    padding: Padding,
    left: bool,
    /// Queries that come before the last ones are left out.
    fewer: bool,
    kv_heads: usize,
    group: usize,
    head_dim: usize,
    size: f32,
    mask: AttentionMask,
    softcap: Option<f64>,
    bias: Bias,
    dropout: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bias {
    None,
    Alibi,
    Keys,
    Table,
    /// For all sequences, or for each.
    PerHead(bool),
}

fn cases() -> impl Strategy<Value = Case> {
    let window = |(left, right)| AttentionMask::Window { left, right };
    let reach = || prop::sample::select(vec![0usize, 1, 5, 63, 64, 65, 200]);
    let mask = prop_oneof![
        2 => Just(AttentionMask::Full),
        3 => Just(AttentionMask::Causal),
        1 => reach().prop_map(move |left| window((left, 0))),
        2 => (reach(), reach()).prop_map(window),
    ];
    let bias = prop_oneof![
        2 => Just(Bias::None),
        1 => Just(Bias::Alibi),
        1 => Just(Bias::Keys),
        1 => Just(Bias::Table),
        1 => any::<bool>().prop_map(Bias::PerHead),
    ];
    let rows = (
        prop::collection::vec(1usize..150, 1..4),
        prop::sample::select(vec![Padding::Drop, Padding::Mask, Padding::See]),
        any::<bool>(),
        any::<bool>(),
    );
    let heads = (1usize..3, 1usize..4, 1usize..20);
    let size = prop::sample::select(vec![0.1f32, 1.0, 30.0]);
    let softcap = prop::sample::select(vec![None, None, Some(2.0), Some(30.0)]);
    (rows, heads, size, mask, softcap, bias, any::<bool>()).prop_map(
        |(rows, heads, size, mask, softcap, bias, dropout)| {
            let (lengths, padding, left, fewer) = rows;
            let (kv_heads, group, head_dim) = heads;
            Case { lengths, padding, left, fewer, kv_heads, group, head_dim, size, mask, softcap, bias, dropout }
        },
    )
}

impl Case {
    /// What ATen answers otherwise, for reasons that do not matter, is left out there.
    fn for_engine(mut self) -> Self {
        if on_libtorch() {
            self.lengths.iter_mut().for_each(|len| *len = (*len).max(2));
            self.dropout = false;
            // A query that sees nothing gets a gradient from libtorch, as in Python, and none from us; nothing comes of it.
            self.left &= self.mask == AttentionMask::Full;
            if self.padding == Padding::Mask && matches!(self.mask, AttentionMask::Window { .. }) {
                self.padding = Padding::Drop;
            }
        }
        self
    }

    fn sequences(&self) -> [Sequences; 2] {
        let keys = sequences(&self.lengths, self.padding, self.left);
        if !self.fewer {
            return [keys.clone(), keys];
        }
        let queries = keys.lengths.iter().map(|&count| count.div_ceil(3)).collect();
        [Sequences::end_to_end(queries, &device().inner()), keys]
    }

    fn options(&self, bias: Option<Tensor<2>>, [queries, keys]: &[Sequences; 2]) -> Attention {
        let heads = self.kv_heads * self.group;
        let bias = match (self.bias, bias) {
            (Bias::None, _) | (_, None) => AttentionBias::None,
            (Bias::Alibi, _) => AttentionBias::Alibi(alibi_slopes(heads)),
            (Bias::Keys, Some(values)) => AttentionBias::Keys(values),
            (Bias::Table, Some(values)) => {
                let buckets = values.dims()[1];
                let longest = keys.seq as i64 + 3;
                let bucket = |distance: i64| distance.rem_euclid(buckets as i64) as usize;
                AttentionBias::Table { values, buckets: (1 - longest..longest).map(bucket).collect() }
            }
            (Bias::PerHead(_), Some(values)) => {
                let [all, _] = values.dims();
                AttentionBias::PerHead(values.reshape([all / queries.seq, queries.seq, keys.seq]))
            }
        };
        let dropout = if self.dropout { 0.2 } else { 0.0 };
        let options = Attention::new(heads, self.head_dim, self.mask, dropout);
        Attention { kv_heads: self.kv_heads, softcap: self.softcap, bias, ..options }
    }

    fn check(self) {
        let case = self.for_engine();
        let sequences = case.sequences();
        let [queries, keys] = &sequences;
        let (heads, width) = (case.kv_heads * case.group, case.kv_heads * case.head_dim);
        let bias = match case.bias {
            Bias::None => None,
            // Nothing is learned, but the seed is another.
            Bias::Alibi => Some([1, 1]),
            Bias::Keys => Some([heads, keys.seq + 3]),
            Bias::Table => Some([heads, 7]),
            Bias::PerHead(each) => Some([if each { queries.batch * heads } else { heads } * queries.seq, keys.seq]),
        };
        let mut m = vec![
            // One size for the queries alone, so that scores are large and results are not.
            matrix(1, [queries.rows(), heads * case.head_dim], case.size),
            matrix(2, [keys.rows(), width], 1.0),
            matrix(3, [keys.rows(), width], 1.0),
        ];
        m.extend(bias.map(|shape| matrix(4, shape, 1.0)));
        // One weight next to 1 makes the gradients of its row's scores cancel, and the last bit of a large score is worth
        // as much as the tolerance: in the gradients of keys and values both are multiplied by the queries. ATen's
        // exponentials here are exact to 20 units in the last place only. A learned bias adds up what all queries give it.
        let exponential = if on_libtorch() { 4.0 } else { 1.0 };
        let size = case.size.max(1.0);
        let smallest = |tensor| match tensor {
            0 | 1 => 0.05 * exponential * size,
            2 | 3 => 0.05 * exponential * size * size * (case.group as f32).sqrt(),
            _ => exponential * size * if case.bias == Bias::Table { 20.0 } else { 0.2 },
        };
        let attend = |m: &[Tensor<2>], _: &[Tensor<1>], mode: &Mode| {
            let options = case.options(m.get(3).cloned(), &sequences);
            attention(m[0].clone(), m[1].clone(), m[2].clone(), queries, keys, &options, mode)
        };
        check_to(smallest, attend, &m, &[]);
    }
}

/// Padding behind a window: torch's function gives it zeros, Python's own the mean of all values.
#[test]
fn a_query_that_sees_nothing_gets_what_it_is_to_get() {
    let rows = sequences(&[2, 6], Padding::Mask, false);
    let [q, k, v] = [1, 2, 3].map(|seed| matrix(seed, [12, 4], 1.0));
    let window = Attention::new(2, 2, AttentionMask::Window { left: 1, right: 0 }, 0.0);
    for compute in [FAST, PLAIN] {
        let of = |blind| {
            let options = Attention { blind, ..window.clone() };
            let attended = attention(q.clone(), k.clone(), v.clone(), &rows, &rows, &options, &Mode::eval(compute));
            host(attended)
        };
        let (mean, zeros) = (of(Blind::Mean), of(Blind::Zeros));
        // The first text's rows 3 to 5 see rows 2 to 5, which are padding.
        assert_eq!(zeros[12..24], [0.0; 12]);
        assert!(mean[12..24].iter().all(|value| *value != 0.0), "{mean:?}");
        assert_eq!((&mean[..12], &mean[24..]), (&zeros[..12], &zeros[24..]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn attentions(case in cases()) {
        case.check();
    }
}

/// Lengths about those of a block, and windows about as wide.
#[test]
fn windows_that_end_about_where_blocks_do() {
    for mask in [(63, 0), (64, 0), (65, 0), (64, 64), (1, 63), (0, 0)] {
        Case {
            lengths: vec![63, 64, 65, 127, 128, 129],
            padding: Padding::Drop,
            left: false,
            fewer: false,
            kv_heads: 1,
            group: 2,
            head_dim: 8,
            size: 1.0,
            mask: AttentionMask::Window { left: mask.0, right: mask.1 },
            softcap: None,
            bias: Bias::Table,
            dropout: true,
        }
        .check();
    }
}

/// The same of the weights that attention drops: its result is linear in the values, so it is `Σ v · ∂v`.
#[test]
fn attention_drops_the_same_weights_in_both_directions() {
    let sequences = sequences(&[17, 30], Padding::Drop, false);
    let options = Attention::new(2, 8, AttentionMask::Causal, 0.2);
    let [q, k, v] = [1, 2, 3].map(|seed| matrix(seed, [47, 16], 1.0));
    let run = |mode: &Mode| attention(q.clone(), k.clone(), v.clone(), &sequences, &sequences, &options, mode);
    let train = |micro_batch| run(&Mode::train(FAST, 3, micro_batch, None));
    let y = train(5);
    let gradients = y.clone().sum().backward();
    let linear = host((v.clone().inner() * v.grad(&gradients).unwrap()).sum())[0];
    let values = host(y);
    assert!((linear - values.iter().sum::<f32>()).abs() < 1e-3, "{linear}, {}", values.iter().sum::<f32>());
    assert_eq!(values, host(train(5)));
    assert_ne!(values, host(train(6)));
    assert_ne!(values, host(run(&Mode::eval(FAST))));
}

/// Queries at the end of a sequence get what they get among all of them.
#[test]
fn the_last_queries_see_what_they_see_among_all() {
    let [all, last] =
        [vec![40, 70, 3], vec![1, 66, 3]].map(|lengths| Sequences::end_to_end(lengths, &device().inner()));
    let [q, k, v] = [1, 2, 3].map(|seed| matrix(seed, [113, 12], 1.0).inner());
    let rows: Vec<i32> = (39..40).chain(44..110).chain(110..113).collect();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [70]), &device().inner());
    for mask in [AttentionMask::Causal, AttentionMask::Window { left: 9, right: 2 }] {
        let options = Attention::new(3, 4, mask, 0.0);
        for compute in [FAST, PLAIN] {
            let mode = Mode::eval(compute);
            let of_all = attention(q.clone(), k.clone(), v.clone(), &all, &all, &options, &mode);
            let some = q.clone().select(0, rows.clone());
            let of_last = attention(some, k.clone(), v.clone(), &last, &all, &options, &mode);
            assert_close(&[host(of_last)], &[host(of_all.select(0, rows.clone()))], 1e-5, usual);
        }
    }
}
