//! DistilBERT (Sanh et al., 2019): `DistilBertForMaskedLM`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Embedding, LayerNorm, Linear, parameter, side_by_side};
use crate::config::{ConfigError, ModelConfig};
use crate::inputs::{Mode, ModelInputs};
use crate::models::{AutoModel, LanguageModel};
use crate::ops::{self, Activation, Attention, Decoder};
use crate::params::{Initial, ParameterInfo};
use crate::stages::Stages;

/// Fixed in Python's code.
const LAYER_NORM_EPS: f64 = 1e-12;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.DistilBertConfig
pub struct DistilBertConfig {
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    #[serde(default)]
    pub sinusoidal_pos_embds: bool,
    pub n_layers: usize,
    pub n_heads: usize,
    pub dim: usize,
    pub hidden_dim: usize,
    pub dropout: f64,
    pub attention_dropout: f64,
    pub activation: Activation,
    pub initializer_range: f64,
    pub pad_token_id: Option<usize>,
    #[serde(default = "yes")]
    pub tie_word_embeddings: bool,
}

fn yes() -> bool {
    true
}

/// `transformers.DistilBertConfig()`
pub fn defaults() -> Value {
    json!({
        "vocab_size": 30522, "max_position_embeddings": 512, "sinusoidal_pos_embds": false, "n_layers": 6,
        "n_heads": 12, "dim": 768, "hidden_dim": 3072, "dropout": 0.1, "attention_dropout": 0.1, "activation": "gelu",
        "initializer_range": 0.02, "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "pad_token_id": 0,
    })
}

/// `_tied_weights_keys`
pub const TIES: &[(&str, &str)] = &[("vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight")];

/// Python's `attribute_map`
pub const ALIASES: &[(&str, &str)] =
    &[("hidden_size", "dim"), ("num_attention_heads", "n_heads"), ("num_hidden_layers", "n_layers")];

#[derive(Module, Debug)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct MultiHeadSelfAttention {
    q_lin: Linear,
    k_lin: Linear,
    v_lin: Linear,
    out_lin: Linear,
}

#[derive(Module, Debug)]
struct FeedForward {
    lin1: Linear,
    lin2: Linear,
}

#[derive(Module, Debug)]
struct TransformerBlock {
    attention: MultiHeadSelfAttention,
    sa_layer_norm: LayerNorm,
    ffn: FeedForward,
    output_layer_norm: LayerNorm,
}

impl TransformerBlock {
    fn new(config: &DistilBertConfig, device: &Device) -> Self {
        let linear = || Linear::new(config.dim, config.dim, device);
        Self {
            attention: MultiHeadSelfAttention { q_lin: linear(), k_lin: linear(), v_lin: linear(), out_lin: linear() },
            sa_layer_norm: LayerNorm::new(config.dim, LAYER_NORM_EPS, device),
            ffn: FeedForward {
                lin1: Linear::new(config.dim, config.hidden_dim, device),
                lin2: Linear::new(config.hidden_dim, config.dim, device),
            },
            output_layer_norm: LayerNorm::new(config.dim, LAYER_NORM_EPS, device),
        }
    }

    fn forward(&self, x: Tensor<2>, inputs: &ModelInputs, config: &DistilBertConfig, mode: &Mode) -> Tensor<2> {
        let options = Attention {
            heads: config.n_heads,
            scale: 1.0 / ((config.dim / config.n_heads) as f64).sqrt(),
            causal: false,
            dropout: config.attention_dropout,
        };
        let MultiHeadSelfAttention { q_lin, k_lin, v_lin, out_lin } = &self.attention;
        let qkv = side_by_side([q_lin, k_lin, v_lin], x.clone(), mode);
        let context = ops::attention(qkv, &inputs.sequences, options, mode);
        // Nothing is dropped here.
        let attended = self.sa_layer_norm.forward(ops::dropout_add(out_lin.forward(context, mode), x, 0.0, mode), mode);
        let wide = config.activation.forward(self.ffn.lin1.forward(attended.clone(), mode), mode);
        let output = ops::dropout_add(self.ffn.lin2.forward(wide, mode), attended, config.dropout, mode);
        self.output_layer_norm.forward(output, mode)
    }
}

#[derive(Module, Debug)]
struct Transformer {
    layer: Vec<TransformerBlock>,
}

#[derive(Module, Debug)]
struct DistilBertModel {
    embeddings: Embeddings,
    transformer: Transformer,
}

/// `transformers.DistilBertForMaskedLM`
#[derive(Module, Debug)]
pub struct DistilBertForMaskedLM {
    distilbert: DistilBertModel,
    vocab_transform: Linear,
    vocab_layer_norm: LayerNorm,
    vocab_projector: VocabProjector,
    #[module(skip)]
    config: DistilBertConfig,
}

/// The decoder: its weights are the word embeddings unless the configuration unties them.
#[derive(Module, Debug)]
struct VocabProjector {
    weight: Option<Param<Tensor<2>>>,
    bias: Param<Tensor<1>>,
}

/// Builds the model, its parameters still empty.
pub fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let parsed: DistilBertConfig = config.parse()?;
    config.expect_divisible("dim", parsed.dim, "n_heads", parsed.n_heads)?;
    let config = parsed;
    let (vocab, dim) = (config.vocab_size, config.dim);
    Ok(AutoModel::DistilBert(DistilBertForMaskedLM {
        distilbert: DistilBertModel {
            embeddings: Embeddings {
                word_embeddings: Embedding::new(vocab, dim, device),
                position_embeddings: Embedding::new(config.max_position_embeddings, dim, device),
                layer_norm: LayerNorm::new(dim, LAYER_NORM_EPS, device),
            },
            transformer: Transformer {
                layer: (0..config.n_layers).map(|_| TransformerBlock::new(&config, device)).collect(),
            },
        },
        vocab_transform: Linear::new(dim, dim, device),
        vocab_layer_norm: LayerNorm::new(dim, LAYER_NORM_EPS, device),
        vocab_projector: VocabProjector {
            weight: (!config.tie_word_embeddings).then(|| parameter([vocab, dim], device)),
            bias: parameter([vocab], device),
        },
        config,
    }))
}

impl LanguageModel for DistilBertForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[("layer_norm", "LayerNorm")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let config = &self.config;
        let embed = |mode: &Mode| {
            let embeddings = &self.distilbert.embeddings;
            let words = embeddings.word_embeddings.forward_tokens(inputs, config.pad_token_id, mode);
            let positions = embeddings.position_embeddings.forward(inputs.positions(), mode);
            // Those of `create_sinusoidal_embeddings` are kept with the weights, and never trained.
            let positions = if config.sinusoidal_pos_embds { positions.detach() } else { positions };
            let x = words + positions;
            [ops::dropout(embeddings.layer_norm.forward(x, mode), config.dropout, mode)]
        };
        let layers = &self.distilbert.transformer.layer;
        let layers =
            layers.iter().map(|layer| |[x]: [Tensor<2>; 1], mode: &Mode| [layer.forward(x, inputs, config, mode)]);
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| {
            let predicted = x.select(0, inputs.predicted.clone());
            let wide = config.activation.forward(self.vocab_transform.forward(predicted, mode), mode);
            self.vocab_layer_norm.forward(wide, mode)
        };
        Stages::new(embed, layers, head)
    }

    fn decoder(&self) -> Decoder {
        let weight = match &self.vocab_projector.weight {
            Some(weight) => weight.val(),
            None => self.distilbert.embeddings.word_embeddings.weight.val(),
        };
        Decoder { weight, bias: Some(self.vocab_projector.bias.val()) }
    }

    fn initial_value(&self, parameter: &ParameterInfo) -> Initial {
        let std = self.config.initializer_range;
        match (parameter.name.ends_with("bias"), parameter.in_layer_norm, self.config.pad_token_id) {
            (true, ..) => Initial::Zeros,
            (_, true, _) => Initial::Ones,
            (.., Some(zero_row)) if parameter.name.ends_with("word_embeddings.weight") => {
                Initial::NormalExceptRow { std, zero_row }
            }
            _ if self.config.sinusoidal_pos_embds && parameter.name.ends_with("position_embeddings.weight") => {
                Initial::Sinusoidal
            }
            _ => Initial::Normal(std),
        }
    }
}
