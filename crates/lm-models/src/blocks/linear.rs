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
        Self { weight: builder.weight([outputs, inputs]), bias: Some(builder.bias(outputs)) }
    }

    /// [rows, in] → [rows, out]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        ops::linear(x, self.weight.val(), self.bias.as_ref().map(Param::val), mode)
    }
}

/// What several layers make of the same rows, side by side, by one product; [rows, in] → [rows, Σ out].
pub fn side_by_side(layers: [&Linear; 3], x: Tensor<2>, mode: &Mode) -> Tensor<2> {
    let weights = layers.map(|layer| layer.weight.val()).to_vec();
    let biases: Option<Vec<_>> = layers.iter().map(|layer| layer.bias.as_ref().map(Param::val)).collect();
    ops::linear(x, Tensor::cat(weights, 0), biases.map(|biases| Tensor::cat(biases, 0)), mode)
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
