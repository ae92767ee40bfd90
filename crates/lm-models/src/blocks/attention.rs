//! Self-attention as halves of layers.

use burn::module::Module;
use burn::tensor::Tensor;

use super::linear::Conv1D;
use crate::cache::Context;
use crate::inputs::Mode;
use crate::ops::{self, Attention};
use crate::parameters::Builder;

/// Masked self-attention with its residual, queries, keys and values by one product (GPT, GPT-2).
#[derive(Module, Debug)]
pub struct CausalAttention {
    c_attn: Conv1D,
    c_proj: Conv1D,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    layer: usize,
}

impl CausalAttention {
    /// `residual` makes the projection onto the residual stream.
    pub fn new(
        size: usize,
        options: Attention,
        dropout: f64,
        layer: usize,
        builder: &Builder,
        residual: &Builder,
    ) -> Self {
        Self {
            c_attn: Conv1D::new(size, 3 * size, builder),
            c_proj: Conv1D::new(size, size, residual),
            options,
            dropout,
            layer,
        }
    }

    /// `residual + dropout(attention(x))`, all [rows, hidden].
    pub(crate) fn forward(&self, x: Tensor<2>, residual: Tensor<2>, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let qkv = self.c_attn.forward(x, mode);
        let width = qkv.dims()[1] / 3;
        let [q, k, v] = ops::columns(qkv, 1, [width; 3], mode);
        let attended = context.attend(self.layer, [q, k, v], &self.options, mode);
        ops::dropout_add(self.c_proj.forward(attended, mode), residual, self.dropout, mode)
    }
}
