//! Dropout, its mask kept as one byte per value.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::Tensor;

use super::{Operation, apply, seeded};
use crate::inputs::DropoutKey;

#[derive(Debug)]
struct Dropout {
    site: DropoutKey,
    probability: f64,
}

impl Operation<LibTorch, 1> for Dropout {
    /// What is kept.
    type Saved = TchTensor;

    fn forward(&self, [x]: [TchTensor; 1]) -> (TchTensor, TchTensor) {
        let (y, kept) = seeded(self.site, || x.tensor.native_dropout(self.probability, true));
        (TchTensor::new(y), TchTensor::new(kept))
    }

    fn backward(self, kept: TchTensor, gradient: TchTensor, _: [bool; 1]) -> [Option<TchTensor>; 1] {
        let scale = if self.probability < 1.0 { 1.0 / (1.0 - self.probability) } else { 0.0 };
        [Some(TchTensor::new(tch::Tensor::native_dropout_backward(&gradient.tensor, &kept.tensor, scale)))]
    }
}

/// See [`crate::ops::dropout`].
pub fn dropout<const D: usize>(x: Tensor<D>, site: DropoutKey, probability: f64) -> Tensor<D> {
    apply(Dropout { site, probability }, [x.into_dispatch()])
}
