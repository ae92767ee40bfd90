//! The gradients of one optimizer step, over all its micro-batches.

use burn::tensor::{Device, Gradients, Tensor};
use lm_models::AutoModel;
use lm_models::ops::{self, Compute};

/// One gradient per parameter, in visiting order, flattened; none where the loss does not depend on the parameter.
#[derive(Default)]
pub struct GradientSum {
    sums: Vec<Option<Tensor<1>>>,
}

impl GradientSum {
    /// Adds the gradients that a backward pass left for the model's parameters.
    pub fn add(&mut self, model: &AutoModel, gradients: Gradients) {
        let mut gradients = gradients;
        let mut index = 0;
        model.visit(&mut |parameter| {
            if index == self.sums.len() {
                self.sums.push(None);
            }
            add_to(&mut self.sums[index], parameter.take_gradient(&mut gradients));
            index += 1;
        });
    }

    /// Adds another sum over the same parameters.
    pub fn merge(&mut self, other: Self) {
        if self.sums.len() < other.sums.len() {
            self.sums.resize(other.sums.len(), None);
        }
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, new)| add_to(sum, new));
    }

    /// The same sum on another device.
    pub fn to_device(self, device: &Device) -> Self {
        Self { sums: self.sums.into_iter().map(|sum| sum.map(|sum| sum.to_device(device))).collect() }
    }

    /// The Euclidean norm over all gradients together, as torch's `clip_grad_norm_` computes it, and the numbers that `others`
    /// hold, each `[1]`: the device is waited for once.
    pub fn norm_and(&self, others: Vec<Tensor<1>>, compute: Compute) -> (f64, Vec<f64>) {
        let (squares, others) = ops::sum_of_squares(self.sums.iter().flatten().cloned().collect(), others, compute);
        (squares.sqrt(), others)
    }

    /// The factor that brings the norm down to `max_norm`; 1 when it is below already, or when `max_norm` is 0.
    pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
        if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
    }

    /// Out of the gradient of each parameter, in visiting order.
    pub fn from_inner(sums: Vec<Option<Tensor<1>>>) -> Self {
        Self { sums }
    }

    /// Of which parameters there is one, in visiting order.
    pub fn present(&self) -> Vec<bool> {
        self.sums.iter().map(Option::is_some).collect()
    }

    /// The gradient of each parameter, in visiting order.
    pub fn into_inner(self) -> Vec<Option<Tensor<1>>> {
        self.sums
    }
}

/// Adds to a gradient, where either may be none.
pub(crate) fn add_to(sum: &mut Option<Tensor<1>>, new: Option<Tensor<1>>) {
    *sum = match (sum.take(), new) {
        (Some(sum), Some(new)) => Some(ops::accumulate(sum, new)),
        (sum, new) => sum.or(new),
    };
}
