//! The gradients of one optimizer step, over all its micro-batches.

use burn::tensor::{Gradients, Tensor};
use lm_models::params::{self, ParameterInfo, Visit};
use lm_models::{AutoModel, ops};

/// One gradient per parameter, in visiting order, flattened; none where the loss does not depend on the parameter.
#[derive(Default)]
pub struct GradientSum {
    sums: Vec<Option<Tensor<1>>>,
}

impl GradientSum {
    /// Adds the gradients that a backward pass left for the model's parameters.
    pub fn add(&mut self, model: &AutoModel, gradients: Gradients) {
        struct Take<'a> {
            sums: &'a mut Vec<Option<Tensor<1>>>,
            gradients: Gradients,
            next: usize,
        }
        impl Visit for Take<'_> {
            fn visit<const D: usize>(&mut self, _: ParameterInfo, tensor: Tensor<D>) {
                let new = tensor.grad_remove(&mut self.gradients).map(|g| g.flatten::<1>(0, D - 1));
                if self.next == self.sums.len() {
                    self.sums.push(None);
                }
                let sum = &mut self.sums[self.next];
                *sum = match (sum.take(), new) {
                    (Some(sum), Some(new)) => Some(sum + new),
                    (sum, new) => sum.or(new),
                };
                self.next += 1;
            }
        }
        params::visit(model, &mut Take { sums: &mut self.sums, gradients, next: 0 });
    }

    /// The Euclidean norm over all gradients together, as torch's `clip_grad_norm_` computes it.
    pub fn norm(&self) -> f64 {
        self.sums.iter().flatten().map(|g| ops::sum_of_squares(g.clone())).sum::<f64>().sqrt()
    }

    /// The factor that brings the norm down to `max_norm`; 1 when it is below already, or when `max_norm` is 0.
    pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
        if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
    }

    /// The gradient of each parameter, in visiting order.
    pub fn into_inner(self) -> Vec<Option<Tensor<1>>> {
        self.sums
    }
}
