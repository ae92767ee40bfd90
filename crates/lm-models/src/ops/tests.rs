//! Every fast operation against its plain twin: values and gradients.

use std::sync::{Mutex, MutexGuard};

use burn::tensor::{Device, Int, Tensor, TensorData};
use proptest::prelude::*;

use super::*;
use crate::inputs::{HostBatch, Objective, Padding};
use crate::{Mode, ModelInputs, Sequences};

/// The switch between plain and fast is one for the process; tests take turns.
static SWITCH: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    SWITCH.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn device() -> Device {
    Device::flex().autodiff()
}

/// Values that look random, of this size, a different sequence per seed.
fn noise(seed: u64, len: usize, size: f32) -> Vec<f32> {
    let mut stream = lm_random::Stream::new(seed, lm_random::Purpose::Init, 0, 0);
    (0..len).map(|_| stream.normal() * size).collect()
}

fn matrix(seed: u64, [rows, columns]: [usize; 2], size: f32) -> Tensor<2> {
    Tensor::from_data(TensorData::new(noise(seed, rows * columns, size), [rows, columns]), &device()).require_grad()
}

fn vector(seed: u64, len: usize, size: f32) -> Tensor<1> {
    Tensor::from_data(TensorData::new(noise(seed, len, size), [len]), &device()).require_grad()
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    tensor.into_data().iter::<f32>().collect()
}

/// Result and gradients of `f` at these matrices and vectors, the result weighted by noise.
fn run(f: &dyn Fn(&[Tensor<2>], &[Tensor<1>]) -> Tensor<2>, m: &[Tensor<2>], v: &[Tensor<1>]) -> Vec<Vec<f32>> {
    let y = f(m, v);
    let weights = matrix(77, y.dims(), 1.0).detach();
    let gradients = (y.clone() * weights).sum().backward();
    let mut results = vec![host(y)];
    results.extend(m.iter().map(|t| t.grad(&gradients).map_or_else(Vec::new, host)));
    results.extend(v.iter().map(|t| t.grad(&gradients).map_or_else(Vec::new, host)));
    results
}

/// Equal to 1e-5, or whatever `tolerance` says, of the largest value of each tensor.
fn assert_close(fast: &[Vec<f32>], plain: &[Vec<f32>], tolerance: f32) {
    assert_eq!(fast.len(), plain.len());
    for (which, (fast, plain)) in fast.iter().zip(plain).enumerate() {
        assert_eq!(fast.len(), plain.len(), "tensor {which}");
        let size = plain.iter().fold(1e-3f32, |a, b| a.max(b.abs()));
        for (place, (a, b)) in fast.iter().zip(plain).enumerate() {
            assert!((a - b).abs() <= tolerance * size, "tensor {which}, value {place}: fast {a}, plain {b}, of {size}");
        }
    }
}

/// Fast equals plain, and fast on one thread equals fast on three, bit for bit.
fn check(f: impl Fn(&[Tensor<2>], &[Tensor<1>]) -> Tensor<2> + Sync, m: &[Tensor<2>], v: &[Tensor<1>]) {
    let _turn = turn();
    set_plain(true);
    let plain = run(&f, m, v);
    set_plain(false);
    let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let fast = threads(1).install(|| run(&f, m, v));
    assert_close(&fast, &plain, 1e-5);
    let again = threads(3).install(|| run(&f, m, v));
    let bits = |all: &[Vec<f32>]| all.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&fast), bits(&again), "the number of threads matters");
}

fn sequences(lengths: &[usize], padding: Padding, left: bool) -> Sequences {
    let seq = lengths.iter().copied().max().unwrap_or(0);
    let mask: Vec<u8> = lengths
        .iter()
        .flat_map(|&len| (0..seq).map(move |place| u8::from(if left { place + len >= seq } else { place < len })))
        .collect();
    let size = lengths.len() * seq;
    let host = HostBatch {
        batch: lengths.len(),
        seq,
        input_ids: &vec![1; size],
        attention_mask: &mask,
        labels: &vec![-100; size],
        perm_mask: None,
    };
    ModelInputs::new(host, Objective::Masked, padding, &device()).unwrap().sequences
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn layer_norms(rows in 1usize..70, columns in 1usize..90, size in prop::sample::select(vec![0.01f32, 1.0, 300.0])) {
        let x = matrix(1, [rows, columns], size);
        check(|m, v| layer_norm(m[0].clone(), v[0].clone(), v[1].clone(), 1e-5), &[x], &[
            vector(2, columns, 1.0),
            vector(3, columns, 1.0),
        ]);
    }

    #[test]
    fn linears(rows in 1usize..70, inputs in 1usize..70, outputs in 1usize..150, bias: bool) {
        let x = matrix(1, [rows, inputs], 1.0);
        let b: Vec<_> = bias.then(|| vector(2, outputs, 1.0)).into_iter().collect();
        check(|m, v| linear(m[0].clone(), m[1].clone(), v.first().cloned()), &[
            x.clone(),
            matrix(3, [outputs, inputs], 1.0),
        ], &b);
        check(|m, v| linear_in_out(m[0].clone(), m[1].clone(), v.first().cloned()), &[
            x,
            matrix(3, [inputs, outputs], 1.0),
        ], &b);
    }

    #[test]
    fn activations(rows in 1usize..70, columns in 1usize..300, size in prop::sample::select(vec![0.01f32, 1.0, 30.0])) {
        for activation in [Activation::Gelu, Activation::GeluNew] {
            check(|m, _| activation.forward(m[0].clone()), &[matrix(1, [rows, columns], size)], &[]);
        }
    }

    #[test]
    fn dropouts(rows in 1usize..70, columns in 1usize..300, p in prop::sample::select(vec![0.0, 0.1, 0.5, 1.0])) {
        let mode = || Mode::train(3, 5, None);
        check(|m, _| dropout(m[0].clone(), p, &mode()), &[matrix(1, [rows, columns], 1.0)], &[]);
        let shape = [rows, columns];
        check(|m, _| dropout_add(m[0].clone(), m[1].clone(), p, &mode()), &[
            matrix(1, shape, 1.0),
            matrix(2, shape, 1.0),
        ], &[]);
    }

    #[test]
    fn embeddings(count in 1usize..50, dim in 1usize..40, ids in prop::collection::vec(0usize..1000, 1..60)) {
        let ids: Vec<i32> = ids.iter().map(|id| (id % count) as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids.clone(), [ids.len()]), &device());
        check(|m, _| embedding(m[0].clone(), ids.clone()), &[matrix(1, [count, dim], 1.0)], &[]);
    }

    #[test]
    fn attentions(
        lengths in prop::collection::vec(1usize..150, 1..4),
        heads in 1usize..4,
        head_dim in 1usize..20,
        size in prop::sample::select(vec![0.1f32, 1.0, 30.0]),
        padding in prop::sample::select(vec![Padding::Drop, Padding::Mask, Padding::See]),
        (causal, left, dropout) in any::<(bool, bool, bool)>(),
    ) {
        let sequences = sequences(&lengths, padding, left);
        let shape = [sequences.rows(), heads * head_dim];
        let options =
            Attention { heads, scale: 1.0 / (head_dim as f64).sqrt(), causal, dropout: if dropout { 0.2 } else { 0.0 } };
        check(
            |m, _| {
                let mode = Mode::train(3, 5, None);
                attention(m[0].clone(), m[1].clone(), m[2].clone(), &sequences, options, &mode)
            },
            &[matrix(1, shape, size), matrix(2, shape, 1.0), matrix(3, shape, 1.0)],
            &[],
        );
    }

    #[test]
    fn cross_entropies(
        rows in 0usize..20,
        dim in 1usize..30,
        vocab in 2usize..300,
        size in prop::sample::select(vec![0.1f32, 1.0, 100.0]),
        smoothing in prop::sample::select(vec![0.0, 0.1]),
        bias: bool,
    ) {
        let targets: Vec<i32> = (0..rows).map(|i| (i * 7919 % vocab) as i32).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [rows]), &device());
        let (x, weight, b) = (matrix(1, [rows, dim], size), matrix(2, [vocab, dim], 1.0), vector(3, vocab, 1.0));
        let decoder = Decoder { weight: weight.clone(), bias: bias.then(|| b.clone()) };
        let _turn = turn();
        let run = |plain| {
            set_plain(plain);
            let loss = cross_entropy(x.clone(), &decoder, targets.clone(), smoothing);
            let gradients = (loss.carrier / 3.0).backward();
            let mut results = vec![host(loss.value)];
            results.extend([&x, &weight].map(|t| t.grad(&gradients).map_or_else(Vec::new, host)));
            results.push(b.grad(&gradients).map_or_else(Vec::new, host));
            results
        };
        let plain = run(true);
        // The plain one takes e to the power of logits less their logarithmic sum, whose last bit is worth 3e-5 here.
        assert_close(&run(false), &plain, if size == 100.0 { 1e-4 } else { 1e-5 });
    }

    #[test]
    fn optimizer_steps(len in 1usize..40_000, decay in prop::sample::select(vec![0.0, 0.1]), step in 1i32..1000) {
        let _turn = turn();
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
        let run = |plain| {
            set_plain(plain);
            let v = make(3, 0.1).powi_scalar(2);
            let (p, m, v) = adamw(make(1, 1.0), make(2, 0.1), v, make(4, 1.0), options);
            vec![host(p), host(m), host(v), vec![sum_of_squares(make(1, 1.0)) as f32]]
        };
        let plain = run(true);
        assert_close(&run(false), &plain, 1e-5);
    }
}

#[test]
fn memory_that_others_hold_is_left_alone() {
    let _turn = turn();
    set_plain(false);
    let make = |seed| vector(seed, 100, 1.0).inner();
    let (p, m, v) = (make(1), make(2), make(3).powi_scalar(2));
    let before = host(p.clone());
    let options =
        AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, step: 1, factor: 1.0 };
    let (moved, ..) = adamw(p.clone(), m, v, make(4), options);
    assert_eq!(host(p), before);
    assert_ne!(host(moved), before);
}

#[test]
fn a_loss_that_is_no_number_stays_none() {
    let _turn = turn();
    set_plain(false);
    let x = Tensor::<2>::from_data(TensorData::new(vec![f32::NAN; 4], [2, 2]), &device());
    let targets = Tensor::<1, Int>::from_data(TensorData::new(vec![0, 1], [2]), &device());
    let loss = cross_entropy(x, &Decoder { weight: matrix(1, [5, 2], 1.0), bias: None }, targets, 0.0);
    assert!(host(loss.value)[0].is_nan());
}
