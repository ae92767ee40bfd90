//! BERT (Devlin et al., 2018) with its masked-language-model head: `BertForMaskedLM`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Embedding, LayerNorm, Linear, parameter, side_by_side};
use crate::config::{ConfigError, ModelConfig};
use crate::inputs::{Mode, ModelInputs};
use crate::models::{AutoModel, LanguageModel};
use crate::ops::{self, Activation, Attention, Decoder};
use crate::params::{Initial, ParameterInfo};
use crate::stages::Stages;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.BertConfig
pub struct BertConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub hidden_act: Activation,
    pub hidden_dropout_prob: f64,
    pub attention_probs_dropout_prob: f64,
    pub max_position_embeddings: usize,
    pub type_vocab_size: usize,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub pad_token_id: Option<usize>,
    #[serde(default = "yes")]
    pub tie_word_embeddings: bool,
}

fn yes() -> bool {
    true
}

/// `transformers.BertConfig()`
pub fn defaults() -> Value {
    json!({
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "use_cache": true, "classifier_dropout": null,
    })
}

/// `_tied_weights_keys`
pub const TIES: &[(&str, &str)] = &[
    ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
];

impl BertConfig {
    /// Reads and checks the configuration of a BERT-like model.
    pub fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        config.require("position_embedding_type", &["absolute".into()], "; only `absolute` is")?;
        config.require("is_decoder", &[false.into()], " in a masked language model")?;
        let parsed: Self = config.parse()?;
        config.expect_divisible(
            "hidden_size",
            parsed.hidden_size,
            "num_attention_heads",
            parsed.num_attention_heads,
        )?;
        Ok(parsed)
    }
}

/// Words, positions and the (always first) segment, summed and normalised.
#[derive(Module, Debug)]
pub struct BertEmbeddings {
    pub(crate) word_embeddings: Embedding,
    pub(crate) position_embeddings: Embedding,
    pub(crate) token_type_embeddings: Embedding,
    pub(crate) layer_norm: LayerNorm,
    #[module(skip)]
    pub(crate) padding_idx: Option<usize>,
    #[module(skip)]
    pub(crate) dropout: f64,
}

impl BertEmbeddings {
    /// New, empty embeddings.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        let size = config.hidden_size;
        Self {
            word_embeddings: Embedding::new(config.vocab_size, size, device),
            position_embeddings: Embedding::new(config.max_position_embeddings, size, device),
            token_type_embeddings: Embedding::new(config.type_vocab_size, size, device),
            layer_norm: LayerNorm::new(size, config.layer_norm_eps, device),
            padding_idx: config.pad_token_id,
            dropout: config.hidden_dropout_prob,
        }
    }

    /// `[rows]` → [rows, hidden]
    pub fn forward(&self, inputs: &ModelInputs, positions: Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        let words = self.word_embeddings.forward_tokens(inputs, self.padding_idx, mode);
        let segment = self.token_type_embeddings.weight.val().narrow(0, 0, 1);
        let hidden_states = words + segment + self.position_embeddings.forward(positions, mode);
        ops::dropout(self.layer_norm.forward(hidden_states, mode), self.dropout, mode)
    }
}

#[derive(Module, Debug)]
struct BertSelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
}

/// A projection, dropout, the residual, layer norm: how both halves of a layer end.
#[derive(Module, Debug)]
struct BertOutput {
    dense: Linear,
    layer_norm: LayerNorm,
}

impl BertOutput {
    fn new(inputs: usize, config: &BertConfig, device: &Device) -> Self {
        Self {
            dense: Linear::new(inputs, config.hidden_size, device),
            layer_norm: LayerNorm::new(config.hidden_size, config.layer_norm_eps, device),
        }
    }

    fn forward(&self, x: Tensor<2>, residual: Tensor<2>, dropout: f64, mode: &Mode) -> Tensor<2> {
        self.layer_norm.forward(ops::dropout_add(self.dense.forward(x, mode), residual, dropout, mode), mode)
    }
}

#[derive(Module, Debug)]
struct BertAttention {
    self_attention: BertSelfAttention,
    output: BertOutput,
}

#[derive(Module, Debug)]
struct BertIntermediate {
    dense: Linear,
}

/// One encoder layer.
#[derive(Module, Debug)]
pub struct BertLayer {
    attention: BertAttention,
    intermediate: BertIntermediate,
    output: BertOutput,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: f64,
}

impl BertLayer {
    fn new(config: &BertConfig, device: &Device) -> Self {
        let size = config.hidden_size;
        let linear = || Linear::new(size, size, device);
        let head_dim = size / config.num_attention_heads;
        Self {
            attention: BertAttention {
                self_attention: BertSelfAttention { query: linear(), key: linear(), value: linear() },
                output: BertOutput::new(size, config, device),
            },
            intermediate: BertIntermediate { dense: Linear::new(size, config.intermediate_size, device) },
            output: BertOutput::new(config.intermediate_size, config, device),
            options: Attention {
                heads: config.num_attention_heads,
                scale: 1.0 / (head_dim as f64).sqrt(),
                causal: false,
                dropout: config.attention_probs_dropout_prob,
            },
            activation: config.hidden_act,
            dropout: config.hidden_dropout_prob,
        }
    }

    fn forward(&self, hidden_states: Tensor<2>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let projection = &self.attention.self_attention;
        let qkv = side_by_side([&projection.query, &projection.key, &projection.value], hidden_states.clone(), mode);
        let context = ops::attention(qkv, &inputs.sequences, self.options, mode);
        let attended = self.attention.output.forward(context, hidden_states, self.dropout, mode);
        let wide = self.activation.forward(self.intermediate.dense.forward(attended.clone(), mode), mode);
        self.output.forward(wide, attended, self.dropout, mode)
    }
}

/// The stack of layers.
#[derive(Module, Debug)]
pub struct BertEncoder {
    layer: Vec<BertLayer>,
}

impl BertEncoder {
    /// New, empty layers.
    pub fn new(config: &BertConfig, device: &Device) -> Self {
        Self { layer: (0..config.num_hidden_layers).map(|_| BertLayer::new(config, device)).collect() }
    }

    /// One stage per layer.
    pub fn stages<'a>(
        &'a self,
        inputs: &'a ModelInputs,
    ) -> impl Iterator<Item = impl Fn([Tensor<2>; 1], &Mode) -> [Tensor<2>; 1] + 'a> {
        self.layer.iter().map(move |layer| {
            move |[hidden_states]: [Tensor<2>; 1], mode: &Mode| [layer.forward(hidden_states, inputs, mode)]
        })
    }
}

#[derive(Module, Debug)]
struct BertModel {
    embeddings: BertEmbeddings,
    encoder: BertEncoder,
}

#[derive(Module, Debug)]
struct BertPredictionHeadTransform {
    dense: Linear,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct BertLMPredictionHead {
    transform: BertPredictionHeadTransform,
    /// The decoder's weights when they are not the word embeddings.
    decoder: Option<Linear>,
    bias: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
struct BertOnlyMLMHead {
    predictions: BertLMPredictionHead,
}

/// `transformers.BertForMaskedLM`
#[derive(Module, Debug)]
pub struct BertForMaskedLM {
    bert: BertModel,
    cls: BertOnlyMLMHead,
    #[module(skip)]
    config: BertConfig,
}

/// Builds the model, its parameters still empty.
pub fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = BertConfig::new(config)?;
    let size = config.hidden_size;
    Ok(AutoModel::Bert(BertForMaskedLM {
        bert: BertModel {
            embeddings: BertEmbeddings::new(&config, device),
            encoder: BertEncoder::new(&config, device),
        },
        cls: BertOnlyMLMHead {
            predictions: BertLMPredictionHead {
                transform: BertPredictionHeadTransform {
                    dense: Linear::new(size, size, device),
                    layer_norm: LayerNorm::new(size, config.layer_norm_eps, device),
                },
                decoder: (!config.tie_word_embeddings).then(|| Linear::without_bias(size, config.vocab_size, device)),
                bias: parameter([config.vocab_size], device),
            },
        },
        config,
    }))
}

impl LanguageModel for BertForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[("self_attention", "self"), ("layer_norm", "LayerNorm")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let embed = |mode: &Mode| [self.bert.embeddings.forward(inputs, inputs.positions(), mode)];
        let head = |[hidden_states]: [Tensor<2>; 1], mode: &Mode| {
            let transform = &self.cls.predictions.transform;
            let predicted = hidden_states.select(0, inputs.predicted.clone());
            let wide = self.config.hidden_act.forward(transform.dense.forward(predicted, mode), mode);
            transform.layer_norm.forward(wide, mode)
        };
        Stages::new(embed, self.bert.encoder.stages(inputs), head)
    }

    fn decoder(&self) -> Decoder {
        let weight = match &self.cls.predictions.decoder {
            Some(decoder) => decoder.weight.val(),
            None => self.bert.embeddings.word_embeddings.weight.val(),
        };
        Decoder { weight, bias: Some(self.cls.predictions.bias.val()) }
    }

    fn initial_value(&self, parameter: &ParameterInfo) -> Initial {
        bert_initial_value(parameter, &self.config, self.config.pad_token_id)
    }
}

/// `BertPreTrainedModel._init_weights`, which BERT's relatives share.
pub fn bert_initial_value(parameter: &ParameterInfo, config: &BertConfig, padding_idx: Option<usize>) -> Initial {
    let std = config.initializer_range;
    match (parameter.name.ends_with("bias"), parameter.in_layer_norm, padding_idx) {
        (true, ..) => Initial::Zeros,
        (_, true, _) => Initial::Ones,
        (.., Some(zero_row)) if parameter.name.ends_with("word_embeddings.weight") => {
            Initial::NormalExceptRow { std, zero_row }
        }
        _ => Initial::Normal(std),
    }
}
