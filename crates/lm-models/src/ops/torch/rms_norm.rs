//! Normalisation by the root of the mean square.

use burn::backend::LibTorch;
use burn::tensor::Tensor;

use super::{Function, Recorded, apply};

#[derive(Debug)]
struct RmsNorm {
    offset: f64,
    epsilon: f64,
}

impl Function<2> for RmsNorm {
    fn compute(&self, [x, weight]: [&tch::Tensor; 2]) -> tch::Tensor {
        let scaled = (self.offset != 0.0).then(|| weight + self.offset);
        x.rms_norm(weight.size(), Some(scaled.as_ref().unwrap_or(weight)), self.epsilon)
    }
}

/// See [`crate::ops::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, offset: f64, epsilon: f64) -> Tensor<2> {
    let inputs = [x.into_dispatch(), weight.into_dispatch()];
    apply::<LibTorch, _, 2, 2>(Recorded(RmsNorm { offset, epsilon }), inputs)
}
