//! Normalisation.

use super::*;

/// One value is always normalised to 0, two to 1 and -1: their gradients are zero but for ε and rounding errors.
#[test]
fn layer_norms_of_one_or_two_values() {
    if on_libtorch() {
        return;
    }
    for columns in [1, 2] {
        let (x, weight, bias) = (matrix(1, [40, columns], 300.0), vector(2, columns, 1.0), vector(3, columns, 1.0));
        let norm = |m: &[Tensor<2>], v: &[Tensor<1>], mode: &Mode| {
            layer_norm(m[0].clone(), v[0].clone(), v[1].clone(), 1e-5, mode)
        };
        let of = |compute| {
            let mut results = run(&norm, std::slice::from_ref(&x), &[weight.clone(), bias.clone()], compute);
            (results.remove(1), results)
        };
        let ((fast_x, fast), (plain_x, plain)) = (of(FAST), of(PLAIN));
        assert_close(&fast, &plain, 1e-5, usual);
        assert!(fast_x.iter().chain(&plain_x).all(|gradient| gradient.abs() < 1e-3), "{fast_x:?} {plain_x:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn layer_norms(rows in 1usize..70, columns in 3usize..90, size in prop::sample::select(vec![0.01f32, 1.0, 300.0])) {
        let x = matrix(1, [rows, columns], size);
        check(|m, v, mode| layer_norm(m[0].clone(), v[0].clone(), v[1].clone(), 1e-5, mode), &[x], &[
            vector(2, columns, 1.0),
            vector(3, columns, 1.0),
        ]);
    }

    #[test]
    fn rms_norms(
        rows in 1usize..70,
        columns in 2usize..90,
        size in prop::sample::select(vec![0.01f32, 1.0, 300.0]),
        offset in prop::sample::select(vec![0.0, 1.0]),
    ) {
        let (x, weight) = (matrix(1, [rows, columns], size), vector(2, columns, 1.0));
        check(|m, v, mode| rms_norm(m[0].clone(), v[0].clone(), offset, 1e-6, mode), &[x], &[weight]);
    }

    /// Maps of what a norm makes, and a norm of it, which is computed again for them in the backward pass.
    #[test]
    fn maps_of_what_was_normalised(rows in 1usize..70, columns in 3usize..60, outputs in 1usize..40, root: bool) {
        let x = matrix(1, [rows, columns], 1.0);
        let maps = [2, 3].map(|seed| matrix(seed, [outputs, columns], 1.0));
        let normal = |x: Tensor<2>, v: &[Tensor<1>], mode: &Mode| match root {
            true => rms_norm(x, v[0].clone(), 1.0, 1e-6, mode),
            false => layer_norm(x, v[0].clone(), v[1].clone(), 1e-5, mode),
        };
        let mapped = |m: &[Tensor<2>], v: &[Tensor<1>], mode: &Mode| {
            let once = normal(m[0].clone() * 2.0, v, mode);
            let twice = normal(once.clone(), v, mode);
            linear(once, m[1].clone(), None, mode) + linear(twice.clone(), m[1].clone(), None, mode)
                * linear(twice, m[2].clone(), None, mode)
        };
        let [one, two] = maps;
        check(mapped, &[x, one, two], &[vector(4, columns, 1.0), vector(5, columns, 1.0)]);
    }

    #[test]
    fn scales_and_shifts(rows in 1usize..70, columns in 1usize..90) {
        let x = matrix(1, [rows, columns], 1.0);
        check(|m, v, mode| scale_shift(m[0].clone(), v[0].clone(), v[1].clone(), mode), &[x], &[
            vector(2, columns, 1.0),
            vector(3, columns, 1.0),
        ]);
    }
}
