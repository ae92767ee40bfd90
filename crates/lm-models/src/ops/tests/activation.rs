//! Activation functions, gated ones too.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn activations(rows in 1usize..70, columns in 1usize..300, size in prop::sample::select(vec![0.01f32, 1.0, 30.0])) {
        for activation in [Activation::Gelu, Activation::GeluNew] {
            check(|m, _, mode| activation.forward(m[0].clone(), mode), &[matrix(1, [rows, columns], size)], &[]);
        }
    }

    #[test]
    fn gates(rows in 1usize..70, columns in 1usize..300, size in prop::sample::select(vec![0.01f32, 1.0, 30.0])) {
        for kind in [Gate::Silu, Gate::Gelu, Gate::GeluTanh] {
            let shape = [rows, columns];
            let (gate, up) = (matrix(1, shape, size), matrix(2, shape, 1.0));
            check(|m, _, mode| glu(m[0].clone(), m[1].clone(), kind, mode), &[gate, up], &[]);
            check(|m, _, mode| glu_packed(m[0].clone(), kind, mode), &[matrix(1, [rows, 2 * columns], size)], &[]);
        }
    }
}
