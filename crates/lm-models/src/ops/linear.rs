//! The affine map.

use burn::tensor::Tensor;

use super::activation::Activation;
use super::engine::{Compute, Engine};
use super::options::Layout;
use crate::Mode;

/// `x Wᵀ + b` for a weight stored [out, in]; [rows, in] → [rows, out].
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, mode: &Mode) -> Tensor<2> {
    affine(x, weight, bias, Layout::OutIn, mode.compute())
}

/// `x W + b` for a weight stored [in, out]; [rows, in] → [rows, out].
pub fn linear_in_out(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, mode: &Mode) -> Tensor<2> {
    affine(x, weight, bias, Layout::InOut, mode.compute())
}

/// `f(x) W + b`, f being an activation function, whose values are not kept for the backward pass where an engine can
/// compute them again on its way.
pub fn linear_of_activation(
    x: Tensor<2>,
    activation: Activation,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    layout: Layout,
    mode: &Mode,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if Engine::of(&x, mode.compute()) == Engine::Flex
        && let Some(gelu) = activation.gelu()
    {
        return super::fast::linear::linear(x, Some(gelu), weight, bias, layout, mode.compute());
    }
    affine(activation.forward(x, mode), weight, bias, layout, mode.compute())
}

pub(super) fn affine(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    layout: Layout,
    compute: Compute,
) -> Tensor<2> {
    let (x, bias) = (compute.narrow(x), bias.map(|bias| compute.narrow(bias)));
    match Engine::of(&x, compute) {
        // Widens a weight of 16 bits piece by piece.
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::linear::linear(x, None, weight, bias, layout, compute),
        #[cfg(feature = "tch")]
        Engine::Torch => super::torch::linear::linear(x, compute.narrow(weight), bias, layout),
        Engine::Plain => {
            let weight = compute.narrow(weight);
            let weight = if layout == Layout::OutIn { weight.transpose() } else { weight };
            let y = x.matmul(weight);
            match bias {
                Some(bias) => y + bias.unsqueeze(),
                None => y,
            }
        }
    }
}
