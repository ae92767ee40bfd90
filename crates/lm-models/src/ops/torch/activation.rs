//! GELU, exact and by tanh.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::Tensor;

use super::{Operation, apply};

/// Its approximation, as ATen names it.
#[derive(Debug)]
struct Gelu(&'static str);

impl Operation<LibTorch, 1> for Gelu {
    type Saved = TchTensor;

    fn forward(&self, [x]: [TchTensor; 1]) -> (TchTensor, TchTensor) {
        (TchTensor::new(x.tensor.gelu(self.0)), x)
    }

    fn backward(self, x: TchTensor, gradient: TchTensor, _: [bool; 1]) -> [Option<TchTensor>; 1] {
        [Some(TchTensor::new(x.tensor.gelu_backward(&gradient.tensor, self.0)))]
    }
}

/// `x Φ(x)`
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    apply(Gelu("none"), [x.into_dispatch()])
}

/// GELU by tanh.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    apply(Gelu("tanh"), [x.into_dispatch()])
}
