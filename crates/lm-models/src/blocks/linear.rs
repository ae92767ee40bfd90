//! Affine maps.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::inputs::Mode;
use crate::ops;
use crate::parameters::Builder;

/// `y = x Wᵀ + b`, as torch's `nn.Linear`.
#[derive(Module, Debug)]
pub struct Linear {
    /// [out, in]
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A layer with a bias.
    pub fn new(inputs: usize, outputs: usize, builder: &Builder) -> Self {
        Self::with_bias(inputs, outputs, true, builder)
    }

    /// A layer with a bias or without one, as config.json says.
    pub fn with_bias(inputs: usize, outputs: usize, bias: bool, builder: &Builder) -> Self {
        Self { weight: builder.weight([outputs, inputs]), bias: bias.then(|| builder.bias(outputs)) }
    }

    /// A layer without a bias.
    pub fn without_bias(inputs: usize, outputs: usize, builder: &Builder) -> Self {
        Self::with_bias(inputs, outputs, false, builder)
    }

    /// [rows, in] → [rows, out]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        ops::linear(x, self.weight.val(), self.bias.as_ref().map(Param::val), mode)
    }
}

/// What several layers make of the same rows; [rows, in] → [rows, out] each.
pub fn projections<const N: usize>(layers: [&Linear; N], x: Tensor<2>, mode: &Mode) -> [Tensor<2>; N] {
    ops::projections(x, layers.map(|layer| (layer.weight.val(), layer.bias.as_ref().map(Param::val))), mode)
}

/// `y = x W + b`, the layout that GPT and GPT-2 store (`transformers.pytorch_utils.Conv1D`).
#[derive(Module, Debug)]
pub struct Conv1D {
    /// [in, out]
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Param<Tensor<1>>,
}

impl Conv1D {
    /// A layer with a bias.
    pub fn new(inputs: usize, outputs: usize, builder: &Builder) -> Self {
        Self { weight: builder.weight([inputs, outputs]), bias: builder.bias(outputs) }
    }

    /// [rows, in] → [rows, out]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        ops::linear_in_out(x, self.weight.val(), Some(self.bias.val()), mode)
    }
}
