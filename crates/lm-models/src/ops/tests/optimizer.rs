//! Steps of the optimizer.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn optimizer_steps(len in 1usize..40_000, decay in prop::sample::select(vec![0.0, 0.1]), step in 1i32..1000) {
        let options = AdamW {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: decay,
            step,
            factor: 0.7,
        };
        let make = |seed, size| vector(seed, len, size).inner();
        // Most values have no gradient, and some of these never had one.
        let seldom = |seed, size, gap: usize| {
            let mut values = host(make(seed, size));
            values.iter_mut().enumerate().for_each(|(i, x)| *x = if i / 300 % gap == 0 { *x } else { 0.0 });
            Tensor::<1>::from_data(TensorData::new(values, [len]), &device().inner())
        };
        let run = |compute| {
            let v = make(3, 0.1).powi_scalar(2);
            let (p, m, v) = adamw(make(1, 1.0), make(2, 0.1), v, make(4, 1.0), options, compute);
            let (of_m, of_v) = (seldom(2, 0.1, 3), seldom(3, 0.1, 3).powi_scalar(2));
            let (of_few, ..) = adamw(make(1, 1.0), of_m, of_v, seldom(4, 1.0, 2), options, compute);
            let (first, second) = (vector(5, 1, 1.0).inner(), vector(6, 1, 1.0).inner());
            let expected = [host(first.clone()), host(second.clone())].concat();
            let (squares, others) =
                sum_of_squares(vec![make(1, 1.0), make(2, 1.0)], vec![first.clone(), second], compute);
            assert!(others.iter().map(|&x| x as f32).eq(expected.iter().copied()));
            assert_eq!(sum_of_squares(Vec::new(), vec![first], compute), (0.0, vec![f64::from(expected[0])]));
            vec![host(p), host(m), host(v), host(of_few), vec![squares as f32]]
        };
        assert_close(&on_any_threads(|| run(FAST)), &run(PLAIN), 1e-5, usual);
    }
}

#[test]
fn memory_that_others_hold_is_left_alone() {
    let make = |seed| vector(seed, 100, 1.0).inner();
    let (p, m, v) = (make(1), make(2), make(3).powi_scalar(2));
    let before = host(p.clone());
    let options =
        AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, step: 1, factor: 1.0 };
    let (moved, ..) = adamw(p.clone(), m, v, make(4), options, FAST);
    assert_eq!(host(p.clone()), before);
    assert_ne!(host(moved), before);
    let sum = accumulate(p.clone(), make(5));
    assert_eq!(host(p.clone()), before);
    assert_eq!(host(sum), before.iter().zip(host(make(5))).map(|(a, b)| a + b).collect::<Vec<_>>());
}

/// A step, quantized and not, of means and mean squares that were quantized before.
fn steps_of_8_bits(compute: Compute, len: usize, step: i32, decay: f64) -> (Vec<Vec<f32>>, Vec<Vec<u8>>) {
    let options =
        AdamW { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: decay, step, factor: 0.7 };
    let device = device().inner();
    let make = |seed, size| vector(seed, len, size).inner();
    let (p, m, v) = (make(1, 1.0), Quantized::zeros(len, &device), Quantized::zeros(len, &device));
    let (p, m, v) = adamw_8bit(p, m, v, make(2, 1.0), options, compute);
    let (p, m, v) = adamw_8bit(p, m, v, make(3, 0.1), options, compute);
    let codes = [m.codes, v.codes].map(|codes| codes.into_data().iter::<u8>().collect());
    (vec![host(p), host(m.absmax), host(v.absmax)], codes.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A value half-way between two numbers may go to either, by the rounding of a division.
    #[test]
    fn steps_with_moments_of_8_bits(
        len in prop::sample::select(vec![1usize, 255, 256, 257, 4096, 16_384, 16_385, 40_000]),
        decay in prop::sample::select(vec![0.0, 0.1]),
        step in 1i32..1000,
    ) {
        // burn-tch has no tensors of bytes, so the programs refuse it there.
        if on_libtorch() {
            return Ok(());
        }
        let (plain, plain_codes) = steps_of_8_bits(PLAIN, len, step, decay);
        let fast = on_any_threads(|| {
            let (mut values, codes) = steps_of_8_bits(FAST, len, step, decay);
            values.extend(codes.iter().map(|codes| codes.iter().map(|code| f32::from(*code)).collect()));
            values
        });
        assert_close(&fast[..3], &plain, 1e-4, usual);
        for (fast, plain) in fast[3..].iter().zip(&plain_codes) {
            let differing = fast.iter().zip(plain).filter(|(fast, plain)| **fast != f32::from(**plain)).count();
            prop_assert!(differing <= len / 500 + 1, "{differing} of {len}");
            prop_assert!(fast.iter().zip(plain).all(|(fast, plain)| (fast - f32::from(*plain)).abs() <= 1.0));
        }
    }
}

/// Where a gradient comes once and then no more, the root of the mean square falls as slowly as the mean at most.
#[test]
fn small_mean_squares_stay_above_zero() {
    if on_libtorch() {
        return;
    }
    for compute in [FAST, PLAIN] {
        let device = device().inner();
        let gradients: Vec<f32> = (0..512).map(|i| if i % 256 == 0 { 1.0 } else { 1e-5 }).collect();
        let gradients = Tensor::<1>::from_data(TensorData::new(gradients, [512]), &device);
        let options = AdamW {
            learning_rate: 1.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            step: 1,
            factor: 1.0,
        };
        let (mut p, mut m, mut v) =
            (Tensor::zeros([512], &device), Quantized::zeros(512, &device), Quantized::zeros(512, &device));
        for step in 1..4 {
            let gradients = if step == 1 { gradients.clone() } else { gradients.zeros_like() };
            (p, m, v) = adamw_8bit(p, m, v, gradients, AdamW { step, ..options }, compute);
        }
        assert!(host(p).iter().all(|p| p.abs() <= 3.0));
    }
}

/// Three steps, as bitsandbytes computes them.
#[test]
fn moments_of_8_bits_are_those_of_bitsandbytes() {
    if on_libtorch() {
        return;
    }
    let expected = include_str!("../../../tests/fixtures/adamw_8bit/expected.json");
    let expected: serde_json::Value = serde_json::from_str(expected).expect("JSON");
    let numbers = |value: &serde_json::Value| -> Vec<f32> {
        value.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number") as f32).collect()
    };
    let device = device().inner();
    let tensor = |value| Tensor::<1>::from_data(&numbers(value)[..], &device);
    let len = numbers(&expected["p"]).len();
    for compute in [PLAIN, FAST] {
        let (mut m, mut v) = (Quantized::zeros(len, &device), Quantized::zeros(len, &device));
        let mut p = tensor(&expected["p"]);
        for (step, gradient) in expected["gradients"].as_array().expect("a list").iter().enumerate() {
            let step = step as i32 + 1;
            let options = AdamW {
                learning_rate: 1e-2,
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
                weight_decay: 0.1,
                step,
                factor: 0.7,
            };
            (p, m, v) = adamw_8bit(p, m, v, tensor(gradient), options, compute);
        }
        let ours = [host(p), host(m.absmax), host(v.absmax)];
        let theirs = [&expected["after"], &expected["absmax"][0], &expected["absmax"][1]].map(numbers);
        assert_close(&ours, &theirs, 1e-5, usual);
        for (ours, theirs) in [m.codes, v.codes].into_iter().zip(expected["codes"].as_array().expect("a list")) {
            let ours: Vec<f32> = ours.into_data().iter().collect();
            assert_eq!(ours, numbers(theirs));
        }
    }
}
