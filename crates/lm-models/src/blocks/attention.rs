//! Self-attention as halves of layers.

use burn::module::Module;
use burn::tensor::Tensor;

use super::linear::{Conv1D, Linear, projections};
use super::norm::RmsNorm;
use super::rotary::Angles;
use crate::cache::Context;
use crate::config::{ConfigError, ModelConfig, Size};
use crate::inputs::Mode;
use crate::ops::{self, Attention, AttentionMask, Blind};
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

/// How queries, keys and values are split into heads.
#[derive(Clone, Copy, Debug)]
pub struct GroupedHeads {
    /// Of queries.
    pub heads: usize,
    /// Of keys and values.
    pub kv_heads: usize,
    /// Columns of each.
    pub head_dim: usize,
}

impl GroupedHeads {
    /// As config.json says: as many of keys as of queries and a head's share of the hidden states, if it says nothing else.
    ///
    /// # Errors
    /// When groups of heads would be unequal, or heads empty.
    pub fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let size = |name| config.field::<Size>(name);
        let missing = |name: &str| ConfigError::Value {
            model_type: config.model_type().into(),
            reason: format!("`{name}` is missing"),
        };
        let heads = size("num_attention_heads")?.ok_or_else(|| missing("num_attention_heads"))?;
        let kv_heads = size("num_key_value_heads")?.unwrap_or(heads);
        config.expect_divisible("num_attention_heads", heads, "num_key_value_heads", kv_heads)?;
        let head_dim = match size("head_dim")? {
            Some(given) => given.get(),
            None => size("hidden_size")?.ok_or_else(|| missing("hidden_size"))?.get() / heads.get(),
        };
        if head_dim == 0 {
            let reason = "`hidden_size` is less than `num_attention_heads`: nothing is left for a head".into();
            return Err(ConfigError::Value { model_type: config.model_type().into(), reason });
        }
        Ok(Self { heads: heads.get(), kv_heads: kv_heads.get(), head_dim })
    }

    /// Attention of these heads by its usual scale, as torch's own function has it.
    pub fn attention(&self, mask: AttentionMask, dropout: f64) -> Attention {
        let options = Attention::new(self.heads, self.head_dim, mask, dropout);
        Attention { kv_heads: self.kv_heads, blind: Blind::Zeros, ..options }
    }
}

/// Self-attention with rotary positions, in which groups of heads share keys and values, without its residual (Llama and
/// those that follow it).
#[derive(Module, Debug)]
pub struct GroupedAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    layer: usize,
}

impl GroupedAttention {
    /// Heads of `head_dim` values each, whatever the size of the hidden states; `biases` says whether queries, keys and values
    /// have them, and whether the output does.
    pub fn new(
        size: usize,
        head_dim: usize,
        biases: [bool; 2],
        options: Attention,
        layer: usize,
        builder: &Builder,
    ) -> Self {
        let (queries, keys) = (options.heads * head_dim, options.kv_heads * head_dim);
        Self {
            q_proj: Linear::with_bias(size, queries, biases[0], builder),
            k_proj: Linear::with_bias(size, keys, biases[0], builder),
            v_proj: Linear::with_bias(size, keys, biases[0], builder),
            o_proj: Linear::with_bias(queries, size, biases[1], builder),
            q_norm: None,
            k_norm: None,
            options,
            layer,
        }
    }

    /// The same with queries and keys that are normalised, as many values at a time as the norms have.
    pub fn with_norms(self, q_norm: RmsNorm, k_norm: RmsNorm) -> Self {
        Self { q_norm: Some(q_norm), k_norm: Some(k_norm), ..self }
    }

    /// [rows, size] → [rows, size]; nothing is turned where there are no angles.
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        angles: Option<&Angles>,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        let [q, k, v] = projections([&self.q_proj, &self.k_proj, &self.v_proj], x, mode);
        let prepare = |x: Tensor<2>, norm: &Option<RmsNorm>, heads| {
            let x = match norm {
                Some(norm) => norm.forward_parts(x, mode),
                None => x,
            };
            match angles {
                Some(angles) => angles.turn(x, heads, mode),
                None => x,
            }
        };
        let q = prepare(q, &self.q_norm, self.options.heads);
        let k = prepare(k, &self.k_norm, self.options.kv_heads);
        self.o_proj.forward(context.attend(self.layer, [q, k, v], &self.options, mode), mode)
    }
}
