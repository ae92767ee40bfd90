//! Dropout, alone and with a residual.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn dropouts(rows in 1usize..70, columns in 1usize..300, p in prop::sample::select(vec![0.0, 0.1, 0.5, 1.0])) {
        if on_libtorch() {
            return Ok(());
        }
        check(|m, _, mode| dropout(m[0].clone(), p, mode), &[matrix(1, [rows, columns], 1.0)], &[]);
        let shape = [rows, columns];
        check(|m, _, mode| dropout_add(m[0].clone(), m[1].clone(), p, mode), &[
            matrix(1, shape, 1.0),
            matrix(2, shape, 1.0),
        ], &[]);
    }
}

/// The result is a function of the key, a mask times the input, and the backward pass takes the same mask.
#[test]
fn masks_are_a_function_of_their_key() {
    let ones = Tensor::<2>::ones([300, 100], &device()).require_grad();
    let drop = |micro_batch| dropout(ones.clone(), 0.25, &Mode::train(FAST, 3, micro_batch, None));
    let y = drop(5);
    let gradients = y.clone().sum().backward();
    let values = host(y);
    assert_eq!(values, host(ones.grad(&gradients).unwrap()));
    assert_eq!(values, host(drop(5)));
    assert_ne!(values, host(drop(6)));
    let dropped = values.iter().filter(|&&value| value == 0.0).count() as f64 / values.len() as f64;
    assert!((dropped - 0.25).abs() < 0.01, "{dropped}");
    assert!(values.iter().all(|&value| value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
}
