//! Affine maps.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::inputs::Mode;
use crate::low_rank::LowRank;
use crate::ops::{self, Activation, Layout};
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
        self.forward_with(x, self.bias.as_ref().map(Param::val), mode)
    }

    /// The same with a bias that is not its own, or none.
    pub fn forward_with(&self, x: Tensor<2>, bias: Option<Tensor<1>>, mode: &Mode) -> Tensor<2> {
        let y = |x| ops::linear(x, self.weight.base(), bias, mode);
        match LowRank::of(&self.weight) {
            None => y(x),
            Some(pair) => pair.add(y(x.clone()), x, mode),
        }
    }

    /// The same of an activation function of x.
    pub fn forward_activated(&self, x: Tensor<2>, activation: Activation, mode: &Mode) -> Tensor<2> {
        if LowRank::of(&self.weight).is_some() {
            return self.forward(activation.forward(x, mode), mode);
        }
        let bias = self.bias.as_ref().map(Param::val);
        ops::linear_of_activation(x, activation, self.weight.base(), bias, Layout::OutIn, mode)
    }
}

/// What several layers make of the same rows; [rows, in] → [rows, out] each.
pub fn projections<const N: usize>(layers: [&Linear; N], x: Tensor<2>, mode: &Mode) -> [Tensor<2>; N] {
    let maps = layers.map(|layer| (layer.weight.base(), layer.bias.as_ref().map(Param::val)));
    let pairs = layers.map(|layer| LowRank::of(&layer.weight));
    if pairs.iter().all(Option::is_none) {
        return ops::projections(x, maps, mode);
    }
    LowRank::add_each(pairs, ops::projections(x.clone(), maps, mode), x, mode)
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

    /// As [`Linear::forward_activated`].
    pub fn forward_activated(&self, x: Tensor<2>, activation: Activation, mode: &Mode) -> Tensor<2> {
        if LowRank::of(&self.weight).is_some() {
            return self.forward(activation.forward(x, mode), mode);
        }
        let bias = Some(self.bias.val());
        ops::linear_of_activation(x, activation, self.weight.base(), bias, Layout::InOut, mode)
    }

    /// [rows, in] → [rows, out]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let y = |x| ops::linear_in_out(x, self.weight.base(), Some(self.bias.val()), mode);
        match LowRank::of(&self.weight) {
            None => y(x),
            Some(pair) => pair.add(y(x.clone()), x, mode),
        }
    }
}
