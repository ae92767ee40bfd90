//! Every fast operation against its plain twin: values and gradients. `LM_TEST_DEVICE` names the device.

mod activation;
mod attention;
mod convolution;
mod cross_entropy;
mod disentangled;
mod dropout;
mod embedding;
mod frozen;
mod linear;
mod norm;
mod optimizer;
mod relative_attention;
mod saved;

use burn::tensor::{Device, Int, Tensor, TensorData};
use proptest::prelude::*;

use super::*;
use crate::inputs::{HostBatch, Objective, Padding};
use crate::{Mode, ModelInputs, Sequences};

const FAST: Compute = Compute { precision: Precision::Float32, plain: false, narrow_saved: false };
const PLAIN: Compute = Compute { plain: true, ..FAST };

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

pub(super) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
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

/// What `work` gives on so many threads.
pub(super) fn on_threads<R: Send>(count: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap().install(work)
}

/// What `f` gives on one thread, which is what it gives on three, bit for bit.
fn on_any_threads(f: impl Fn() -> Vec<Vec<f32>> + Sync) -> Vec<Vec<f32>> {
    let [one, three] = [1, 3].map(|count| on_threads(count, &f));
    let bits = |all: &[Vec<f32>]| all.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&one), bits(&three), "the number of threads matters");
    one
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
