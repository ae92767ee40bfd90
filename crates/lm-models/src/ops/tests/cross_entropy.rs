//! The loss and what an evaluation asks for.

use super::*;

/// Loss, gradients and predictions of `rows` rows, fast and plain.
fn check_cross_entropy([rows, dim, vocab]: [usize; 3], size: f32, smoothing: f64, bias: bool, softcap: Option<f64>) {
    let targets: Vec<i32> = (0..rows).map(|i| (i * 7919 % vocab) as i32).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [rows]), &device());
    let (x, weight, b) = (matrix(1, [rows, dim], size), matrix(2, [vocab, dim], 1.0), vector(3, vocab, 1.0));
    let decoder = Decoder { softcap, ..Decoder::new(weight.clone(), bias.then(|| b.clone())) };
    let run = |compute| {
        let loss = cross_entropy(x.clone(), &decoder, targets.clone(), smoothing, 1.0 / 3.0, compute);
        let (value, gradients) = loss.backward();
        let mut results = vec![host(value)];
        results.extend([&x, &weight].map(|t| t.grad(&gradients).map_or_else(Vec::new, host)));
        results.push(b.grad(&gradients).map_or_else(Vec::new, host));
        results
    };
    let judge = |compute| predictions(x.clone(), &decoder, targets.clone(), smoothing, compute);
    let (plain, judged) = (run(PLAIN), judge(PLAIN));
    assert!((judged.loss_sum - f64::from(plain[0][0])).abs() <= 1e-5 * judged.loss_sum.abs().max(1.0), "one loss");
    let fast = judge(FAST);
    assert_eq!((fast.count, fast.correct), (judged.count, judged.correct));
    assert!((fast.loss_sum - judged.loss_sum).abs() <= 1e-5 * judged.loss_sum.abs().max(1.0));
    // The last bit of a logit is worth 3e-5 where rows are large: so much of a probability, however small the gradients that
    // it leaves.
    let large = size == 100.0;
    let smallest = |which| if large { 1.0 } else { usual(which) };
    assert_close(&on_any_threads(|| run(FAST)), &plain, if large { 1e-4 } else { 1e-5 }, smallest);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cross_entropies(
        rows in 0usize..20,
        dim in 1usize..30,
        vocab in 2usize..300,
        size in prop::sample::select(vec![0.1f32, 1.0, 100.0]),
        smoothing in prop::sample::select(vec![0.0, 0.1]),
        bias: bool,
        softcap in prop::option::of(1.0f64..50.0),
    ) {
        check_cross_entropy([rows, dim, vocab], size, smoothing, bias, softcap);
    }

    #[test]
    fn the_first_of_equal_logits_is_predicted(rows in 1usize..9, vocab in 2usize..60) {
        let targets: Vec<i32> = (0..rows as i32).map(|row| row % 2).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [rows]), &device());
        let decoder = Decoder::new(Tensor::zeros([vocab, 3], &device()), None);
        prop_assert_eq!(predictions(matrix(1, [rows, 3], 1.0), &decoder, targets, 0.0, FAST).correct, rows.div_ceil(2));
    }
}

#[test]
fn a_loss_large_enough_to_be_shared_out_is_the_same_on_any_threads() {
    check_cross_entropy([600, 48, 3000], 1.0, 0.1, true, None);
}

/// The gradients of capped logits, by the loss itself a little to either side.
#[test]
fn gradients_of_capped_logits_are_those_of_the_loss() {
    let (targets, cap) = (Tensor::<1, Int>::from_data(TensorData::new(vec![2, 0, 4], [3]), &device()), Some(3.0));
    let loss_at = |x: Tensor<2>| {
        let decoder = Decoder { softcap: cap, ..Decoder::new(matrix(2, [5, 4], 2.0), None) };
        cross_entropy(x, &decoder, targets.clone(), 0.0, 1.0, FAST)
    };
    let x = matrix(1, [3, 4], 1.0);
    let gradient = host(x.grad(&loss_at(x.clone()).backward().1).expect("a gradient"));
    for (place, gradient) in gradient.into_iter().enumerate() {
        let [up, down] = [1e-2, -1e-2].map(|step| {
            let mut moved = host(x.clone());
            moved[place] += step;
            host(loss_at(Tensor::from_data(TensorData::new(moved, [3, 4]), &device())).value)[0]
        });
        assert!(
            ((up - down) / 2e-2 - gradient).abs() < 2e-3,
            "{place}: {gradient}, by the loss {}",
            (up - down) / 2e-2
        );
    }
}

#[test]
fn a_loss_that_is_no_number_stays_none() {
    let x = Tensor::<2>::from_data(TensorData::new(vec![f32::NAN; 4], [2, 2]), &device());
    let targets = Tensor::<1, Int>::from_data(TensorData::new(vec![0, 1], [2]), &device());
    let loss = cross_entropy(x, &Decoder::new(matrix(1, [5, 2], 1.0), None), targets, 0.0, 1.0, FAST);
    assert!(host(loss.value)[0].is_nan());
}
