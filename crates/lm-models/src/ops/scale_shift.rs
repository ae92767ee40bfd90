//! A scale and a shift for each column.

use burn::tensor::Tensor;

use super::engine::Engine;
use super::precision::widen;
use crate::Mode;

/// `x · weight + bias`; x is [rows, dim], both others are `[dim]`.
pub fn scale_shift(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, mode: &Mode) -> Tensor<2> {
    let x = widen(x);
    match Engine::of(&x, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::scale_shift::scale_shift(x, weight, bias),
        _ => x * weight.unsqueeze() + bias.unsqueeze(),
    }
}
