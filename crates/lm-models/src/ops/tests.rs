//! Every fast operation against its plain twin: values and gradients. `LM_TEST_DEVICE` names the device.

use burn::tensor::{Device, Int, Tensor, TensorData};
use proptest::prelude::*;

use super::*;
use crate::inputs::{HostBatch, Objective, Padding};
use crate::{Mode, ModelInputs, Sequences};

const FAST: Compute = Compute { precision: Precision::Float32, plain: false };
const PLAIN: Compute = Compute { precision: Precision::Float32, plain: true };

/// A training pass, always the same one.
fn train(compute: Compute) -> Mode {
    Mode::train(compute, 3, 5, None)
}

fn device() -> Device {
    let device = match std::env::var("LM_TEST_DEVICE").as_deref() {
        #[cfg(feature = "flex")]
        Err(_) | Ok("cpu") => Device::flex(),
        #[cfg(feature = "tch")]
        #[allow(deprecated)]
        Ok("libtorch" | "libtorch:cpu") => Device::libtorch(),
        #[cfg(feature = "tch")]
        #[allow(deprecated)]
        Ok("libtorch:cuda") => Device::libtorch_cuda(0usize),
        other => panic!("LM_TEST_DEVICE={other:?}: this build has no such device"),
    };
    device.autodiff()
}

/// Whether ATen computes. It draws dropout masks of its own, so those can't be compared with the plain twin's; and it
/// leaves a rounding error where a gradient is zero because one value is compared with itself only, or with one other.
fn on_libtorch() -> bool {
    format!("{:?}", device()).contains("LibTorch")
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

/// An operation on matrices and vectors.
type Operation<'a> = &'a (dyn Fn(&[Tensor<2>], &[Tensor<1>], &Mode) -> Tensor<2> + Sync);

/// Result and gradients of `f` at these matrices and vectors, the result weighted by noise.
fn run(f: Operation, m: &[Tensor<2>], v: &[Tensor<1>], compute: Compute) -> Vec<Vec<f32>> {
    let y = f(m, v, &train(compute));
    let weights = matrix(77, y.dims(), 1.0).detach();
    let gradients = (y.clone() * weights).sum().backward();
    let mut results = vec![host(y)];
    results.extend(m.iter().map(|t| t.grad(&gradients).map_or_else(Vec::new, host)));
    results.extend(v.iter().map(|t| t.grad(&gradients).map_or_else(Vec::new, host)));
    results
}

/// The least size of each tensor that differences are held against, unless a test knows better.
fn usual(_: usize) -> f32 {
    1e-3
}

/// Equal to 1e-5, or whatever `tolerance` says, of the largest value of each tensor.
fn assert_close(fast: &[Vec<f32>], plain: &[Vec<f32>], tolerance: f32, smallest: impl Fn(usize) -> f32) {
    assert_eq!(fast.len(), plain.len());
    for (which, (fast, plain)) in fast.iter().zip(plain).enumerate() {
        assert_eq!(fast.len(), plain.len(), "tensor {which}");
        let size = plain.iter().fold(smallest(which), |a, b| a.max(b.abs()));
        for (place, (a, b)) in fast.iter().zip(plain).enumerate() {
            assert!((a - b).abs() <= tolerance * size, "tensor {which}, value {place}: fast {a}, plain {b}, of {size}");
        }
    }
}

/// Fast equals plain, and fast on one thread equals fast on three, bit for bit.
fn check(f: impl Fn(&[Tensor<2>], &[Tensor<1>], &Mode) -> Tensor<2> + Sync, m: &[Tensor<2>], v: &[Tensor<1>]) {
    check_to(usual, f, m, v);
}

/// [`check`] where terms of these sizes cancel: a gradient that is zero is made of their rounding errors.
fn check_to(
    smallest: impl Fn(usize) -> f32,
    f: impl Fn(&[Tensor<2>], &[Tensor<1>], &Mode) -> Tensor<2> + Sync,
    m: &[Tensor<2>],
    v: &[Tensor<1>],
) {
    let plain = run(&f, m, v, PLAIN);
    assert_close(&on_any_threads(|| run(&f, m, v, FAST)), &plain, 1e-5, smallest);
}

/// What `f` gives on one thread, which is what it gives on three, bit for bit.
fn on_any_threads(f: impl Fn() -> Vec<Vec<f32>> + Sync) -> Vec<Vec<f32>> {
    let [one, three] = [1, 3].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(&f));
    let bits = |all: &[Vec<f32>]| all.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&one), bits(&three), "the number of threads matters");
    one
}

/// Loss, gradients and predictions of `rows` rows, fast and plain.
fn check_cross_entropy([rows, dim, vocab]: [usize; 3], size: f32, smoothing: f64, bias: bool) {
    let targets: Vec<i32> = (0..rows).map(|i| (i * 7919 % vocab) as i32).collect();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [rows]), &device());
    let (x, weight, b) = (matrix(1, [rows, dim], size), matrix(2, [vocab, dim], 1.0), vector(3, vocab, 1.0));
    let decoder = Decoder { weight: weight.clone(), bias: bias.then(|| b.clone()) };
    let run = |compute| {
        let loss = cross_entropy(x.clone(), &decoder, targets.clone(), smoothing, 1.0 / 3.0, compute);
        let gradients = loss.carrier.backward();
        let mut results = vec![host(loss.value)];
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
    // The plain one takes e to the power of logits less their logarithmic sum, whose last bit is worth 3e-5 where rows are
    // large: so much of a probability, however small the gradients that it leaves.
    let large = size == 100.0;
    let smallest = |which| if large { 1.0 } else { usual(which) };
    assert_close(&on_any_threads(|| run(FAST)), &plain, if large { 1e-4 } else { 1e-5 }, smallest);
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

/// Queries of as many predicted rows as `counts` says, at most `seq`, spread over each sequence.
fn predicted_queries(counts: &[usize], seq: usize, heads: usize) -> RelativeQueries {
    let counts: Vec<usize> = counts.iter().map(|&count| count.min(seq)).collect();
    let mut sequences = sequences(&counts, Padding::Drop, false);
    let place_of = |row: usize, count: usize| row * seq / count;
    sequences.columns = counts.iter().flat_map(|&n| (0..n).map(move |row| place_of(row, n) as i32)).collect();
    let places = sequences.seq;
    let distances = counts.iter().flat_map(|&count| {
        (0..heads * places).flat_map(move |row| {
            let first = seq - if row % places < count { place_of(row % places, count) } else { 0 };
            (first..first + seq).map(|distance| distance as i32)
        })
    });
    let distances = TensorData::new(distances.collect::<Vec<_>>(), [counts.len() * heads * places, seq]);
    RelativeQueries { sequences, distances: Some(Tensor::from_data(distances, &device())), mask: None }
}

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
    fn linears_of_few_rows(rows in 1usize..10, inputs in 1usize..100, outputs in 400usize..1500, bias: bool) {
        let bias: Vec<_> = bias.then(|| vector(3, outputs, 1.0)).into_iter().collect();
        let x = matrix(1, [rows, inputs], 1.0);
        check(|m, v, mode| linear(m[0].clone(), m[1].clone(), v.first().cloned(), mode), &[x.clone(), matrix(2, [outputs, inputs], 1.0)], &bias);
        check(|m, v, mode| linear_in_out(m[0].clone(), m[1].clone(), v.first().cloned(), mode), &[x, matrix(2, [inputs, outputs], 1.0)], &bias);
    }

    #[test]
    fn activations(rows in 1usize..70, columns in 1usize..300, size in prop::sample::select(vec![0.01f32, 1.0, 30.0])) {
        for activation in [Activation::Gelu, Activation::GeluNew] {
            check(|m, _, mode| activation.forward(m[0].clone(), mode), &[matrix(1, [rows, columns], size)], &[]);
        }
    }

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

    #[test]
    fn embeddings(count in 1usize..50, dim in 1usize..40, ids in prop::collection::vec(0usize..1000, 1..60)) {
        let ids: Vec<i32> = ids.iter().map(|id| (id % count) as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids.clone(), [ids.len()]), &device());
        check(|m, _, mode| embedding(m[0].clone(), ids.clone(), mode), &[matrix(1, [count, dim], 1.0)], &[]);
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
        let lengths: Vec<usize> = lengths.iter().map(|&len| if on_libtorch() { len.max(2) } else { len }).collect();
        // A query that sees nothing gets a gradient from libtorch, as in Python, and none from us; nothing comes of it.
        let left = left && !(on_libtorch() && causal);
        let sequences = sequences(&lengths, padding, left);
        let shape = [sequences.rows(), heads * head_dim];
        // One size for the queries alone, so that scores are large and results are not.
        let options =
            Attention { heads, scale: 1.0 / (head_dim as f64).sqrt(), causal, dropout: if dropout && !on_libtorch() { 0.2 } else { 0.0 } };
        // One weight next to 1 makes the gradients of its row's scores cancel, and the last bit of a large score is worth
        // as much as the tolerance: in the gradients of keys and values both are multiplied by the queries. ATen's
        // exponentials here are exact to 20 units in the last place only.
        let exponential = if on_libtorch() { 4.0 } else { 1.0 };
        check_to(
            |tensor| 0.05 * exponential * size.max(1.0) * if tensor > 1 { size.max(1.0) } else { 1.0 },
            |m, _, mode| attention(Tensor::cat(m.to_vec(), 1), &sequences, options, mode),
            &[matrix(1, shape, size), matrix(2, shape, 1.0), matrix(3, shape, 1.0)],
            &[],
        );
    }

    #[test]
    fn relative_attentions(
        batch in 1usize..4,
        seq in 1usize..100,
        counts in prop::collection::vec(1usize..90, 3),
        heads in 1usize..4,
        head_dim in 1usize..20,
        // Scores up to a hundred: the last bit of larger ones is worth more than the tolerance.
        size in prop::sample::select(vec![0.1f32, 1.0, 10.0]),
        (of_text, hide, table_each, dropout) in any::<(bool, bool, bool, bool)>(),
        hidden in 0u64..1000,
    ) {
        let text = sequences(&vec![seq; batch], Padding::See, false);
        let queries = if of_text {
            RelativeQueries { sequences: text.clone(), distances: None, mask: None }
        } else {
            predicted_queries(&counts[..batch], seq, heads)
        };
        let places = queries.sequences.seq;
        // Some queries see nothing at all.
        let mask = (0..batch * places * seq).map(|i| {
            let (row, key) = (i / seq, i % seq);
            if row % 7 == 3 || (row as u64 * 31 + key as u64 * 17 + hidden).is_multiple_of(3) { -1e30f32 } else { 0.0 }
        });
        let mask = TensorData::new(mask.collect::<Vec<_>>(), [batch, 1, places, seq]);
        let queries = RelativeQueries { mask: hide.then(|| Tensor::from_data(mask, &device())), ..queries };
        let width = heads * head_dim;
        let tables = if table_each { batch } else { 1 };
        let run = |m: &[Tensor<2>], _: &[Tensor<1>], mode: &Mode| {
            let [k, v, r, r_w_bias, r_r_bias] = std::array::from_fn(|i| m[i + 1].clone());
            let keys = RelativeKeys { sequences: &text, k, v, r, r_w_bias, r_r_bias };
            let p = if dropout && !on_libtorch() { 0.2 } else { 0.0 };
            relative_attention(m[0].clone(), &queries, &keys, p, mode)
        };
        // As above; and all gradients but the queries' own add up what all queries give them.
        let rows = queries.sequences.rows() as f32;
        let size_of = |tensor| size.max(1.0) * if tensor > 1 { (0.05 * size).max(0.01 * rows) } else { 0.05 };
        check_to(size_of, run, &[
            matrix(1, [queries.sequences.rows(), width], size),
            matrix(2, [batch * seq, width], 1.0),
            matrix(3, [batch * seq, width], 1.0),
            matrix(4, [tables * 2 * seq, width], 1.0),
            matrix(5, [heads, head_dim], size),
            matrix(6, [heads, head_dim], size),
        ], &[]);
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
        check_cross_entropy([rows, dim, vocab], size, smoothing, bias);
    }

    #[test]
    fn the_first_of_equal_logits_is_predicted(rows in 1usize..9, vocab in 2usize..60) {
        let targets: Vec<i32> = (0..rows as i32).map(|row| row % 2).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [rows]), &device());
        let decoder = Decoder { weight: Tensor::zeros([vocab, 3], &device()), bias: None };
        prop_assert_eq!(predictions(matrix(1, [rows, 3], 1.0), &decoder, targets, 0.0, FAST).correct, rows.div_ceil(2));
    }

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

/// The same of the weights that attention drops: its result is linear in the values, so it is `Σ v · ∂v`.
#[test]
fn attention_drops_the_same_weights_in_both_directions() {
    let sequences = sequences(&[17, 30], Padding::Drop, false);
    let options = Attention { heads: 2, scale: 0.3, causal: true, dropout: 0.2 };
    let qkv = matrix(1, [47, 3 * 16], 1.0);
    let run = |micro_batch| {
        let mode = Mode::train(FAST, 3, micro_batch, None);
        attention(qkv.clone(), &sequences, options, &mode)
    };
    let y = run(5);
    let gradients = y.clone().sum().backward();
    let of_values = |x: Tensor<2>| x.narrow(1, 2 * 16, 16);
    let products = of_values(qkv.clone().inner()) * of_values(qkv.grad(&gradients).unwrap());
    let linear = host(products.sum())[0];
    let values = host(y);
    assert!((linear - values.iter().sum::<f32>()).abs() < 1e-3, "{linear}, {}", values.iter().sum::<f32>());
    assert_eq!(values, host(run(5)));
    assert_ne!(values, host(run(6)));
    let undropped = attention(qkv.clone(), &sequences, options, &Mode::eval(FAST));
    assert_ne!(values, host(undropped));
}

#[test]
fn a_loss_large_enough_to_be_shared_out_is_the_same_on_any_threads() {
    check_cross_entropy([600, 48, 3000], 1.0, 0.1, true);
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

#[test]
fn a_loss_that_is_no_number_stays_none() {
    let x = Tensor::<2>::from_data(TensorData::new(vec![f32::NAN; 4], [2, 2]), &device());
    let targets = Tensor::<1, Int>::from_data(TensorData::new(vec![0, 1], [2]), &device());
    let loss = cross_entropy(x, &Decoder { weight: matrix(1, [5, 2], 1.0), bias: None }, targets, 0.0, 1.0, FAST);
    assert!(host(loss.value)[0].is_nan());
}
