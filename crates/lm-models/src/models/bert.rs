//! BERT (Devlin et al., 2018) with its masked-language-model head: `BertForMaskedLM`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Embedding, LayerNorm, Linear, LmHead, projections};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;
use crate::stages::Stages;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.BertConfig
pub struct BertConfig {
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

/// `transformers.BertConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "use_cache": true, "classifier_dropout": null,
    })
}

/// The entry of the list.
pub static BERT: Family = Family {
    model_type: "bert",
    class: "BertForMaskedLM",
    base_model_prefix: "bert",
    ties: &[
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
    buffers: BUFFERS,
    ..Family::new(Task::Mlm, defaults, build)
};

/// Positions, which old checkpoints hold; those of relatives as well.
pub(super) const BUFFERS: &[&str] = &["*.embeddings.position_ids", "embeddings.position_ids"];

impl BertConfig {
    /// Reads and checks the configuration of a BERT-like model.
    pub fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        config.require("position_embedding_type", &["absolute".into()], "; only `absolute` is")?;
        config.require("is_decoder", &[false.into()], " in a masked language model")?;
        let parsed: Self = config.parse()?;
        let (size, heads) = (parsed.hidden_size, parsed.num_attention_heads);
        config.expect_divisible("hidden_size", size, "num_attention_heads", heads)?;
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
    pub(crate) dropout: f64,
}

impl BertEmbeddings {
    /// New, empty embeddings.
    pub fn new(config: &BertConfig, builder: &Builder) -> Self {
        let size = config.hidden_size.get();
        let padding_idx = config.pad_token_id;
        Self {
            word_embeddings: Embedding::padded(config.vocab_size.get(), size, padding_idx, builder),
            position_embeddings: Embedding::new(config.max_position_embeddings.get(), size, builder),
            token_type_embeddings: Embedding::new(config.type_vocab_size.get(), size, builder),
            layer_norm: LayerNorm::new(size, config.layer_norm_eps, builder),
            dropout: config.hidden_dropout_prob.get(),
        }
    }

    /// `[rows]` → [rows, hidden]
    pub fn forward(&self, inputs: &ModelInputs, positions: Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        let words = self.word_embeddings.forward_tokens(inputs, mode);
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
    fn new(inputs: usize, config: &BertConfig, builder: &Builder) -> Self {
        let size = config.hidden_size.get();
        Self {
            dense: Linear::new(inputs, size, builder),
            layer_norm: LayerNorm::new(size, config.layer_norm_eps, builder),
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
    fn new(config: &BertConfig, builder: &Builder) -> Self {
        let (size, inner, heads) =
            (config.hidden_size.get(), config.intermediate_size.get(), config.num_attention_heads.get());
        let linear = || Linear::new(size, size, builder);
        Self {
            attention: BertAttention {
                self_attention: BertSelfAttention { query: linear(), key: linear(), value: linear() },
                output: BertOutput::new(size, config, builder),
            },
            intermediate: BertIntermediate { dense: Linear::new(size, inner, builder) },
            output: BertOutput::new(inner, config, builder),
            options: Attention::new(
                heads,
                size / heads,
                AttentionMask::Full,
                config.attention_probs_dropout_prob.get(),
            ),
            activation: config.hidden_act,
            dropout: config.hidden_dropout_prob.get(),
        }
    }

    fn forward(&self, hidden_states: Tensor<2>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let projection = &self.attention.self_attention;
        let projected = [&projection.query, &projection.key, &projection.value];
        let [q, k, v] = projections(projected, hidden_states.clone(), mode);
        let sequences = &inputs.sequences;
        let context = ops::attention(q, k, v, sequences, sequences, &self.options, mode);
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
    pub fn new(config: &BertConfig, builder: &Builder) -> Self {
        Self { layer: (0..config.num_hidden_layers.get()).map(|_| BertLayer::new(config, builder)).collect() }
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
    decoder: LmHead,
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

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = BertConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, vocab) = (config.hidden_size.get(), config.vocab_size.get());
    let model = BertForMaskedLM {
        bert: BertModel {
            embeddings: BertEmbeddings::new(&config, builder),
            encoder: BertEncoder::new(&config, builder),
        },
        cls: BertOnlyMLMHead {
            predictions: BertLMPredictionHead {
                transform: BertPredictionHeadTransform {
                    dense: Linear::new(size, size, builder),
                    layer_norm: LayerNorm::new(size, config.layer_norm_eps, builder),
                },
                decoder: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
                bias: builder.bias(vocab),
            },
        },
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for BertForMaskedLM {
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
        let head = &self.cls.predictions;
        Decoder { bias: Some(head.bias.val()), ..head.decoder.decoder(&self.bert.embeddings.word_embeddings) }
    }
}
