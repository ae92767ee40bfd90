//! Layer normalisation.

use burn::backend::LibTorch;
use burn::tensor::Tensor;

use super::{Function, Recorded, apply};

#[derive(Debug)]
struct LayerNorm {
    epsilon: f64,
}

impl Function<3> for LayerNorm {
    fn compute(&self, [x, weight, bias]: [&tch::Tensor; 3]) -> tch::Tensor {
        x.layer_norm(weight.size(), Some(weight), Some(bias), self.epsilon, true)
    }
}

/// See [`crate::ops::layer_norm`].
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let inputs = [x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()];
    apply::<LibTorch, _, 3, 2>(Recorded(LayerNorm { epsilon }), inputs)
}
