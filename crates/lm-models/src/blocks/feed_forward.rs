//! The other halves of layers, which work on each row alone.

use burn::module::Module;
use burn::tensor::Tensor;

use super::linear::{Conv1D, Linear, projections};
use crate::inputs::Mode;
use crate::ops::{self, Activation};
use crate::parameters::Builder;

/// The feed-forward half of a layer with its residual (GPT, GPT-2).
#[derive(Module, Debug)]
pub struct Mlp {
    c_fc: Conv1D,
    c_proj: Conv1D,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: f64,
}

impl Mlp {
    /// `residual` makes the projection onto the residual stream.
    pub fn new(
        size: usize,
        inner: usize,
        activation: Activation,
        dropout: f64,
        builder: &Builder,
        residual: &Builder,
    ) -> Self {
        Self {
            c_fc: Conv1D::new(size, inner, builder),
            c_proj: Conv1D::new(inner, size, residual),
            activation,
            dropout,
        }
    }

    /// `residual + dropout(mlp(x))`, all [rows, hidden].
    pub fn forward(&self, x: Tensor<2>, residual: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let narrow = self.c_proj.forward_activated(self.c_fc.forward(x, mode), self.activation, mode);
        ops::dropout_add(narrow, residual, self.dropout, mode)
    }
}

/// A gated feed-forward layer without its residual (Llama and those that follow it).
#[derive(Module, Debug)]
pub struct GatedMlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

impl GatedMlp {
    /// A layer of `inner` gated values.
    pub fn new(size: usize, inner: usize, activation: Activation, bias: bool, builder: &Builder) -> Self {
        Self {
            gate_proj: Linear::with_bias(size, inner, bias, builder),
            up_proj: Linear::with_bias(size, inner, bias, builder),
            down_proj: Linear::with_bias(inner, size, bias, builder),
            activation,
        }
    }

    /// [rows, size] → [rows, size]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let [gate, up] = projections([&self.gate_proj, &self.up_proj], x, mode);
        let gated = match self.activation.gate() {
            Some(kind) => ops::glu(gate, up, kind, mode),
            None => self.activation.forward(gate, mode) * up,
        };
        self.down_proj.forward(gated, mode)
    }
}
