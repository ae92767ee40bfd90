//! AdamW in place, all parameters of a step in one call, and the norm that clipping needs.

use burn::tensor::Tensor;
use lm_aten::Moved;

use super::{primitive, wrap};
use crate::ops::options::AdamW;

/// Updates that are put off, together where they have the same numbers: those with weight decay, and those without.
#[derive(Debug, Default)]
pub struct PutOff(Vec<(AdamW, Vec<Moved>)>);

impl PutOff {
    /// The memory in which p, m and v will be when [`Self::finish`] has run.
    pub fn add(
        &mut self,
        p: Tensor<1>,
        m: Tensor<1>,
        v: Tensor<1>,
        g: Tensor<1>,
        options: AdamW,
    ) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
        let [p, m, v] = [p, m, v].map(own);
        // A factor is multiplied into the gradient's memory.
        let g = if options.factor == 1.0 { primitive(g).tensor } else { own(g) };
        let moved = [&p, &m, &v].map(|tensor| wrap(tensor.shallow_clone()));
        let tensors = [p, m, v, g];
        match self.0.iter_mut().find(|(others, _)| *others == options) {
            Some((_, list)) => list.push(tensors),
            None => self.0.push((options, vec![tensors])),
        }
        moved.into()
    }

    /// Computes them.
    pub fn finish(self) {
        for (options, mut list) in self.0 {
            let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step, factor } = options;
            let (step, divisor) = (step.into(), 1.0 / factor);
            let numbers = lm_aten::AdamW { learning_rate, beta1, beta2, weight_decay, epsilon, step, divisor };
            // As every function of `tch` does.
            lm_aten::fused_adamw(&mut list, numbers).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

/// Memory that nobody else holds: a copy if somebody does.
fn own(tensor: Tensor<1>) -> tch::Tensor {
    let tensor = primitive(tensor);
    if tensor.can_mut() { tensor.tensor } else { tensor.tensor.copy() }
}

/// The norm of each, `[tensors]`.
pub fn norms(tensors: Vec<Tensor<1>>) -> Tensor<1> {
    let tensors: Vec<_> = tensors.into_iter().map(|tensor| primitive(tensor).tensor).collect();
    wrap(lm_aten::norms(&tensors).unwrap_or_else(|error| panic!("{error}")))
}
