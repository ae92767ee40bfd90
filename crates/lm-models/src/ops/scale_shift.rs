//! A scale and a shift for each column.

use burn::tensor::Tensor;

use super::precision::widen;

/// `x · weight + bias`; x is [rows, dim], both others are `[dim]`.
pub fn scale_shift(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>) -> Tensor<2> {
    widen(x) * weight.unsqueeze() + bias.unsqueeze()
}
