//! Affine maps, several of one input, and the parts of one result.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn linears(rows in 1usize..70, inputs in 1usize..70, outputs in 1usize..150, bias: bool) {
        let x = matrix(1, [rows, inputs], 1.0);
        let b: Vec<_> = bias.then(|| vector(2, outputs, 1.0)).into_iter().collect();
        check(|m, v, mode| linear(m[0].clone(), m[1].clone(), v.first().cloned(), mode), &[
            x.clone(),
            matrix(3, [outputs, inputs], 1.0),
        ], &b);
        check(|m, v, mode| linear_in_out(m[0].clone(), m[1].clone(), v.first().cloned(), mode), &[
            x,
            matrix(3, [inputs, outputs], 1.0),
        ], &b);
    }

    #[test]
    fn linears_of_activations(rows in 1usize..70, inputs in 1usize..70, outputs in 1usize..150, bias: bool) {
        let b: Vec<_> = bias.then(|| vector(2, outputs, 1.0)).into_iter().collect();
        for activation in [Activation::Gelu, Activation::GeluNew, Activation::Relu] {
            for (layout, shape) in [(Layout::OutIn, [outputs, inputs]), (Layout::InOut, [inputs, outputs])] {
                let of = |m: &[Tensor<2>], v: &[Tensor<1>], mode: &Mode| {
                    linear_of_activation(m[0].clone(), activation, m[1].clone(), v.first().cloned(), layout, mode)
                };
                check(of, &[matrix(1, [rows, inputs], 2.0), matrix(3, shape, 1.0)], &b);
            }
        }
    }

    #[test]
    fn linears_of_few_rows(rows in 1usize..10, inputs in 1usize..100, outputs in 400usize..1500, bias: bool) {
        let bias: Vec<_> = bias.then(|| vector(3, outputs, 1.0)).into_iter().collect();
        let x = matrix(1, [rows, inputs], 1.0);
        check(|m, v, mode| linear(m[0].clone(), m[1].clone(), v.first().cloned(), mode), &[x.clone(), matrix(2, [outputs, inputs], 1.0)], &bias);
        check(|m, v, mode| linear_in_out(m[0].clone(), m[1].clone(), v.first().cloned(), mode), &[x, matrix(2, [inputs, outputs], 1.0)], &bias);
    }

    #[test]
    fn several_products(rows in 1usize..70, inputs in 1usize..70, outputs in prop::collection::vec(1usize..70, 3), bias: bool, leaf: bool) {
        let weights = (2..).zip(&outputs).map(|(seed, &outputs)| matrix(seed, [outputs, inputs], 1.0));
        let m: Vec<_> = std::iter::once(matrix(1, [rows, inputs], 1.0)).chain(weights).collect();
        let v: Vec<_> = (5..).zip(&outputs).map(|(seed, &outputs)| vector(seed, outputs, 1.0)).collect();
        let product = |m: &[Tensor<2>], v: &[Tensor<1>], mode: &Mode| {
            let x = if leaf { m[0].clone() } else { m[0].clone() * 2.0 };
            let maps = [0, 1, 2].map(|i| (m[i + 1].clone(), bias.then(|| v[i].clone())));
            Tensor::cat(projections(x, maps, mode).to_vec(), 1)
        };
        check(product, &m, &v);
    }

    #[test]
    fn parts_of_a_result(rows in 1usize..70, groups in 1usize..5, widths in prop::collection::vec(1usize..90, 3), leaf: bool, all: bool) {
        let widths = [widths[0], widths[1], widths[2]];
        let x = matrix(1, [rows, groups * widths.iter().sum::<usize>()], 1.0);
        // The backward pass meets the parts in another order than they lie, or not all of them.
        let part = |m: &[Tensor<2>], _: &[Tensor<1>], mode: &Mode| {
            let whole = if leaf { m[0].clone() } else { m[0].clone() * 2.0 };
            let [a, b, c] = columns(whole.clone(), groups, widths, mode);
            let chosen = if all { vec![c * 3.0, a, b] } else { vec![c, whole] };
            Tensor::cat(chosen, 1)
        };
        check(part, &[x], &[]);
    }
}
