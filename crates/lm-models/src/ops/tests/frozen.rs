//! Frozen weights in bfloat16: what is computed with them is what is computed with the same values in float32.

use burn::tensor::FloatDType;

use super::*;

/// A frozen matrix in 16 bits.
fn narrow(seed: u64, shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_inner(matrix(seed, shape, 1.0).inner().cast(FloatDType::BF16))
}

/// The same values in float32.
fn wide(narrow: &Tensor<2>) -> Tensor<2> {
    narrow.clone().cast(FloatDType::F32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn products(rows in 1usize..70, inputs in 1usize..70, outputs in 1usize..150, bias: bool, leaf: bool) {
        let (x, b) = (matrix(1, [rows, inputs], 1.0), vector(2, outputs, 1.0));
        let (weight, turned) = (narrow(3, [outputs, inputs]), narrow(4, [inputs, outputs]));
        let product = |weight: Tensor<2>, turned: Tensor<2>| {
            move |m: &[Tensor<2>], v: &[Tensor<1>], mode: &Mode| {
                let x = if leaf { m[0].clone() } else { m[0].clone() * 2.0 };
                let bias = bias.then(|| v[0].clone());
                let maps = [(weight.clone(), bias.clone()), (weight.clone(), bias.clone())];
                let [a, b] = projections(x.clone(), maps, mode);
                let c = linear(x.clone(), weight.clone(), bias.clone(), mode);
                let d = linear_in_out(x.clone(), turned.clone(), bias.clone(), mode);
                let activated = [(weight.clone(), Layout::OutIn), (turned.clone(), Layout::InOut)].map(|(weight, layout)| {
                    linear_of_activation(x.clone(), Activation::Gelu, weight, bias.clone(), layout, mode)
                });
                Tensor::cat([vec![a, b, c, d], activated.to_vec()].concat(), 1)
            }
        };
        let (x, b) = ([x], [b]);
        check(product(weight.clone(), turned.clone()), &x, &b);
        let of = |weight, turned| run(&product(weight, turned), &x, &b, FAST);
        assert_close(&of(weight.clone(), turned.clone()), &of(wide(&weight), wide(&turned)), 1e-5, usual);
    }

    #[test]
    fn rows_of_a_table(count in 1usize..50, dim in 1usize..40, ids in prop::collection::vec(0usize..1000, 1..60)) {
        let ids: Vec<i32> = ids.iter().map(|id| (id % count) as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids.clone(), [ids.len()]), &device());
        let table = narrow(1, [count, dim]);
        let rows = |table: &Tensor<2>, compute| host(embedding(table.clone(), ids.clone(), &train(compute)));
        prop_assert_eq!(rows(&table, FAST), rows(&wide(&table), PLAIN));
        prop_assert_eq!(rows(&table, PLAIN), rows(&wide(&table), PLAIN));
    }

    #[test]
    fn losses(rows in 0usize..20, dim in 1usize..30, vocab in 2usize..300, smoothing in prop::sample::select(vec![0.0, 0.1])) {
        let targets: Vec<i32> = (0..rows).map(|i| (i * 7919 % vocab) as i32).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [rows]), &device());
        let (x, weight, b) = (matrix(1, [rows, dim], 1.0), narrow(2, [vocab, dim]), vector(3, vocab, 1.0));
        let run = |weight: &Tensor<2>, compute| {
            let decoder = Decoder { frozen: true, ..Decoder::new(weight.clone(), Some(b.clone())) };
            let judged = predictions(x.clone(), &decoder, targets.clone(), smoothing, compute);
            let loss = cross_entropy(x.clone(), &decoder, targets.clone(), smoothing, 1.0 / 3.0, compute);
            let (value, gradients) = loss.backward();
            let of = [x.grad(&gradients).map_or_else(Vec::new, host), b.grad(&gradients).map_or_else(Vec::new, host)];
            vec![host(value), vec![judged.loss_sum as f32, judged.correct as f32], of[0].clone(), of[1].clone()]
        };
        let expected = run(&wide(&weight), PLAIN);
        assert_close(&on_any_threads(|| run(&weight, FAST)), &expected, 1e-5, usual);
        assert_close(&run(&weight, PLAIN), &expected, 1e-5, usual);
    }
}
