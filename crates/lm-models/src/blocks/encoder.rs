//! Layers in the manner of BERT: each half ends with its residual and then a norm.

use burn::module::Module;
use burn::tensor::Tensor;
use serde::Deserialize;

use super::linear::{Linear, projections};
use super::norm::LayerNorm;
use crate::config::{ConfigError, Count, ModelConfig, Probability, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::ops::{self, Activation, Attention, AttentionMask};
use crate::parameters::Builder;

/// What the fields of these parts are called in the files.
pub const ENCODER_NAMES: &[(&str, &str)] = &[("self_attention", "self"), ("layer_norm", "LayerNorm")];

/// The fields of config.json that BERT and its relatives share.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.BertConfig
pub struct EncoderConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub num_hidden_layers: Count,
    pub num_attention_heads: Size,
    pub intermediate_size: Size,
    pub hidden_act: Activation,
    pub hidden_dropout_prob: Probability,
    pub attention_probs_dropout_prob: Probability,
    pub max_position_embeddings: Size,
    pub type_vocab_size: Size,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub pad_token_id: Option<usize>,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

impl EncoderConfig {
    /// Reads and checks the configuration of a model whose heads share its hidden states evenly.
    pub fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let parsed = Self::with_own_heads(config)?;
        let (size, heads) = (parsed.hidden_size, parsed.num_attention_heads);
        config.expect_divisible("hidden_size", size, "num_attention_heads", heads)?;
        Ok(parsed)
    }

    /// The same for a model that divides into heads what it will.
    pub fn with_own_heads(config: &ModelConfig) -> Result<Self, ConfigError> {
        config.require("position_embedding_type", &["absolute".into()], "; only `absolute` is")?;
        config.require("is_decoder", &[false.into()], " in a masked language model")?;
        config.parse()
    }

    /// Attention of all heads to what `mask` leaves.
    pub fn attention(&self, mask: AttentionMask) -> Attention {
        let (size, heads) = (self.hidden_size.get(), self.num_attention_heads.get());
        Attention::new(heads, size / heads, mask, self.attention_probs_dropout_prob.get())
    }
}

/// The projections to queries, keys and values.
#[derive(Module, Debug)]
pub struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
}

impl SelfAttention {
    /// Projections from `inputs` to `outputs` values.
    pub fn new(inputs: usize, outputs: usize, builder: &Builder) -> Self {
        Self::with_bias(inputs, outputs, true, builder)
    }

    /// The same with biases or without, as config.json says.
    pub fn with_bias(inputs: usize, outputs: usize, bias: bool, builder: &Builder) -> Self {
        let linear = || Linear::with_bias(inputs, outputs, bias, builder);
        Self { query: linear(), key: linear(), value: linear() }
    }

    /// Queries, keys and values, each [rows, outputs].
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> [Tensor<2>; 3] {
        projections([&self.query, &self.key, &self.value], x, mode)
    }
}

/// A projection, dropout, the residual, layer norm: how both halves of a layer end.
#[derive(Module, Debug)]
pub struct PostNorm {
    dense: Linear,
    layer_norm: LayerNorm,
}

impl PostNorm {
    /// From `inputs` values to those of the residual stream.
    pub fn new(inputs: usize, config: &EncoderConfig, builder: &Builder) -> Self {
        Self::onto(config.hidden_size.get(), inputs, config.layer_norm_eps, builder)
    }

    /// From `inputs` values to a residual stream of `size`; `epsilon` is the norm's.
    pub fn onto(size: usize, inputs: usize, epsilon: f64, builder: &Builder) -> Self {
        Self { dense: Linear::new(inputs, size, builder), layer_norm: LayerNorm::new(size, epsilon, builder) }
    }

    /// [rows, inputs] and [rows, hidden] → [rows, hidden]
    pub fn forward(&self, x: Tensor<2>, residual: Tensor<2>, dropout: f64, mode: &Mode) -> Tensor<2> {
        self.ended(self.dense.forward(x, mode), residual, dropout, mode)
    }

    /// The same of an activation function of x.
    pub fn forward_activated(
        &self,
        x: Tensor<2>,
        activation: Activation,
        residual: Tensor<2>,
        dropout: f64,
        mode: &Mode,
    ) -> Tensor<2> {
        self.ended(self.dense.forward_activated(x, activation, mode), residual, dropout, mode)
    }

    fn ended(&self, narrow: Tensor<2>, residual: Tensor<2>, dropout: f64, mode: &Mode) -> Tensor<2> {
        self.layer_norm.forward(ops::dropout_add(narrow, residual, dropout, mode), mode)
    }
}

/// A projection by the name that the files have for it.
#[derive(Module, Debug)]
pub struct Dense {
    /// The projection.
    pub dense: Linear,
}

impl Dense {
    /// A projection with a bias.
    pub fn new(inputs: usize, outputs: usize, builder: &Builder) -> Self {
        Self { dense: Linear::new(inputs, outputs, builder) }
    }
}

#[derive(Module, Debug)]
struct AttentionHalf {
    self_attention: SelfAttention,
    output: PostNorm,
}

#[derive(Module, Debug)]
struct EncoderLayer {
    attention: AttentionHalf,
    intermediate: Dense,
    output: PostNorm,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: f64,
}

impl EncoderLayer {
    /// A new, empty layer; `bias`: whether queries, keys and values have one.
    fn new(config: &EncoderConfig, mask: AttentionMask, bias: bool, builder: &Builder) -> Self {
        let (size, inner) = (config.hidden_size.get(), config.intermediate_size.get());
        Self {
            attention: AttentionHalf {
                self_attention: SelfAttention::with_bias(size, size, bias, builder),
                output: PostNorm::new(size, config, builder),
            },
            intermediate: Dense::new(size, inner, builder),
            output: PostNorm::new(inner, config, builder),
            options: config.attention(mask),
            activation: config.hidden_act,
            dropout: config.hidden_dropout_prob.get(),
        }
    }

    fn forward(
        &self,
        x: Tensor<2>,
        attend: impl Fn([Tensor<2>; 3], &Attention, &Mode) -> Tensor<2>,
        mode: &Mode,
    ) -> Tensor<2> {
        let qkv = self.attention.self_attention.forward(x.clone(), mode);
        let attended = self.attention.output.forward(attend(qkv, &self.options, mode), x, self.dropout, mode);
        let wide = self.intermediate.dense.forward(attended.clone(), mode);
        self.output.forward_activated(wide, self.activation, attended, self.dropout, mode)
    }
}

/// The stack of layers.
#[derive(Module, Debug)]
pub struct Encoder {
    layer: Vec<EncoderLayer>,
}

impl Encoder {
    /// New, empty layers.
    pub fn new(config: &EncoderConfig, builder: &Builder) -> Self {
        Self::with_bias(config, true, builder)
    }

    /// The same, whose queries, keys and values have biases or have none, as config.json says.
    pub fn with_bias(config: &EncoderConfig, bias: bool, builder: &Builder) -> Self {
        let layer = |_| EncoderLayer::new(config, AttentionMask::Full, bias, builder);
        Self { layer: (0..config.num_hidden_layers.get()).map(layer).collect() }
    }

    /// A layer for each of these masks.
    pub fn masked(config: &EncoderConfig, masks: &[AttentionMask], builder: &Builder) -> Self {
        Self { layer: masks.iter().map(|&mask| EncoderLayer::new(config, mask, true, builder)).collect() }
    }

    /// One stage per layer.
    pub fn stages<'a>(
        &'a self,
        inputs: &'a ModelInputs,
    ) -> impl Iterator<Item = impl Fn([Tensor<2>; 1], &Mode) -> [Tensor<2>; 1] + 'a> {
        self.stages_with(move |[q, k, v], options, mode| {
            ops::attention(q, k, v, &inputs.sequences, &inputs.sequences, options, mode)
        })
    }

    /// The same with what `attend` makes of queries, keys and values, each [rows, hidden].
    pub fn stages_with<'a>(
        &'a self,
        attend: impl Fn([Tensor<2>; 3], &Attention, &Mode) -> Tensor<2> + Clone + 'a,
    ) -> impl Iterator<Item = impl Fn([Tensor<2>; 1], &Mode) -> [Tensor<2>; 1] + 'a> {
        self.layer.iter().map(move |layer| {
            let attend = attend.clone();
            move |[x]: [Tensor<2>; 1], mode: &Mode| [layer.forward(x, &attend, mode)]
        })
    }
}
