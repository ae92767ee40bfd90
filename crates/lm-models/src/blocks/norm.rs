//! Normalisations.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::inputs::Mode;
use crate::ops;
use crate::parameters::{Builder, Initial, Kind};

/// Layer normalisation over the last dimension.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[dim]`
    pub weight: Param<Tensor<1>>,
    /// `[dim]`
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

impl LayerNorm {
    /// Normalises rows of `dim` values; `epsilon` is added to the variance.
    pub fn new(dim: usize, epsilon: f64, builder: &Builder) -> Self {
        Self {
            weight: builder.parameter([dim], Kind::Norm, Initial::Ones),
            bias: builder.parameter([dim], Kind::Norm, Initial::Zeros),
            epsilon,
        }
    }

    /// [rows, dim] → [rows, dim]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        ops::layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon, mode)
    }
}
