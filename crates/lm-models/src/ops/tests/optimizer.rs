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
        let run = |compute| {
            let v = make(3, 0.1).powi_scalar(2);
            let (p, m, v) = adamw(make(1, 1.0), make(2, 0.1), v, make(4, 1.0), options, compute);
            let squares = sum_of_squares(vec![make(1, 1.0), make(2, 1.0)], compute);
            vec![host(p), host(m), host(v), vec![squares as f32]]
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
    assert_eq!(host(p), before);
    assert_ne!(host(moved), before);
}
