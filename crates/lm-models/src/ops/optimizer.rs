//! What an optimizer does with every parameter, once per step.

use burn::tensor::{DType, Device, Tensor};

use super::engine::{Compute, Engine};
use super::options::AdamW;

/// Decoupled weight decay (Loshchilov and Hutter, 2019), as torch computes it, of the parameters of a step. Each is moved
/// when it is added, or, by an engine that moves all of them in one call, at the end: nobody may look at the values
/// before [`Self::finish`].
#[derive(Debug, Default)]
#[must_use = "what is put off until `finish` would not be done"]
pub struct AdamWStep {
    #[cfg(feature = "tch")]
    torch: super::torch::adamw::PutOff,
}

impl AdamWStep {
    /// Parameter `p`, mean `m`, mean square `v` and gradient `g` give the new `p`, `m` and `v`; all `[values]`, outside
    /// autodiff. Memory that nobody else holds is used again.
    pub fn add(
        &mut self,
        [p, m, v, g]: [Tensor<1>; 4],
        options: AdamW,
        compute: Compute,
    ) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
        match Engine::of(&p, compute) {
            #[cfg(feature = "flex")]
            Engine::Flex => super::fast::adamw::adamw(p, m, v, g, options),
            #[cfg(feature = "tch")]
            Engine::Torch => self.torch.add(p, m, v, g, options),
            Engine::Plain => plain_adamw(p, m, v, g, options),
        }
    }

    /// Does what was put off.
    pub fn finish(self) {
        #[cfg(feature = "tch")]
        self.torch.finish();
    }
}

/// The same of one parameter alone.
pub fn adamw(
    p: Tensor<1>,
    m: Tensor<1>,
    v: Tensor<1>,
    g: Tensor<1>,
    options: AdamW,
    compute: Compute,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let mut step = AdamWStep::default();
    let moved = step.add([p, m, v, g], options, compute);
    step.finish();
    moved
}

pub(super) fn plain_adamw(
    p: Tensor<1>,
    m: Tensor<1>,
    v: Tensor<1>,
    g: Tensor<1>,
    options: AdamW,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step, factor } = options;
    let g = if factor == 1.0 { g } else { g * factor };
    let p = if weight_decay == 0.0 { p } else { p * (1.0 - learning_rate * weight_decay) };
    let m = m * beta1 + g.clone() * (1.0 - beta1);
    let v = v * beta2 + g.clone() * g * (1.0 - beta2);
    let denominator = v.clone().sqrt() / (1.0 - beta2.powi(step)).sqrt() + epsilon;
    let p = p - m.clone() / denominator * (learning_rate / (1.0 - beta1.powi(step)));
    (p, m, v)
}

/// Zeros to begin with, `[len]`, outside autodiff. Burn's own on the CPU are cleared and copied by one thread.
pub fn zeros(len: usize, device: &Device, compute: Compute) -> Tensor<1> {
    match Engine::on(device.clone(), DType::F32, compute) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::zeros(len),
        _ => Tensor::zeros([len], device),
    }
}

/// `sum + new`, both `[values]` outside autodiff, in the memory of `sum` if nobody else holds it.
pub fn accumulate(sum: Tensor<1>, new: Tensor<1>) -> Tensor<1> {
    match Engine::of(&sum, Compute::default()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::adamw::accumulate(sum, new),
        _ => sum + new,
    }
}

/// Σ x² over all the tensors, each `[values]` outside autodiff, on one device, and the numbers that `others` hold, each `[1]`,
/// in float32 on the same device. It is waited for once.
pub fn sum_of_squares(tensors: Vec<Tensor<1>>, others: Vec<Tensor<1>>, compute: Compute) -> (f64, Vec<f64>) {
    let Some(first) = tensors.first() else { return (0.0, numbers(others)) };
    let count = others.len();
    let (of_each, power) = match Engine::of(first, compute) {
        #[cfg(feature = "flex")]
        Engine::Flex => return (tensors.into_iter().map(super::fast::adamw::sum_of_squares).sum(), numbers(others)),
        #[cfg(feature = "tch")]
        Engine::Torch => (super::torch::adamw::norms(tensors), 2),
        Engine::Plain => (Tensor::cat(tensors.into_iter().map(|x| (x.clone() * x).sum()).collect(), 0), 1),
    };
    let mut read = numbers(others.into_iter().chain([of_each]).collect());
    let sum = read.drain(count..).map(|x| x.powi(power)).sum();
    (sum, read)
}

/// What these hold, laid end to end. The device, which must be one, is waited for once.
pub fn numbers(tensors: Vec<Tensor<1>>) -> Vec<f64> {
    if tensors.is_empty() { Vec::new() } else { Tensor::cat(tensors, 0).into_data().iter::<f64>().collect() }
}
