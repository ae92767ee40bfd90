//! DistilBERT (Sanh et al., 2019): `DistilBertForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Embedding, LayerNorm, Linear, LmHead, POSITION_BUFFERS, projections};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;
use crate::stages::Stages;

/// Fixed in Python's code.
const LAYER_NORM_EPS: f64 = 1e-12;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.DistilBertConfig
pub struct DistilBertConfig {
    pub vocab_size: Size,
    pub max_position_embeddings: Size,
    #[serde(default)]
    pub sinusoidal_pos_embds: bool,
    pub n_layers: Count,
    pub n_heads: Size,
    pub dim: Size,
    pub hidden_dim: Size,
    pub dropout: Probability,
    pub attention_dropout: Probability,
    pub activation: Activation,
    pub initializer_range: f64,
    pub pad_token_id: Option<usize>,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.DistilBertConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 30522, "max_position_embeddings": 512, "sinusoidal_pos_embds": false, "n_layers": 6,
        "n_heads": 12, "dim": 768, "hidden_dim": 3072, "dropout": 0.1, "attention_dropout": 0.1, "activation": "gelu",
        "initializer_range": 0.02, "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "pad_token_id": 0,
    })
}

/// The entry of the list.
pub static DISTILBERT: Family = Family {
    model_type: "distilbert",
    class: "DistilBertForMaskedLM",
    base_model_prefix: "distilbert",
    ties: &[("vocab_projector.weight", "distilbert.embeddings.word_embeddings.weight")],
    buffers: POSITION_BUFFERS,
    aliases: &[("hidden_size", "dim"), ("num_attention_heads", "n_heads"), ("num_hidden_layers", "n_layers")],
    ..Family::new(Task::Mlm, defaults, build)
};

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
    fn new(config: &DistilBertConfig, builder: &Builder) -> Self {
        let (dim, hidden_dim) = (config.dim.get(), config.hidden_dim.get());
        let linear = || Linear::new(dim, dim, builder);
        Self {
            attention: MultiHeadSelfAttention { q_lin: linear(), k_lin: linear(), v_lin: linear(), out_lin: linear() },
            sa_layer_norm: LayerNorm::new(dim, LAYER_NORM_EPS, builder),
            ffn: FeedForward {
                lin1: Linear::new(dim, hidden_dim, builder),
                lin2: Linear::new(hidden_dim, dim, builder),
            },
            output_layer_norm: LayerNorm::new(dim, LAYER_NORM_EPS, builder),
        }
    }

    fn forward(&self, x: Tensor<2>, inputs: &ModelInputs, config: &DistilBertConfig, mode: &Mode) -> Tensor<2> {
        let (heads, dropout) = (config.n_heads.get(), config.attention_dropout.get());
        let options = Attention::new(heads, config.dim.get() / heads, AttentionMask::Full, dropout);
        let MultiHeadSelfAttention { q_lin, k_lin, v_lin, out_lin } = &self.attention;
        let [q, k, v] = projections([q_lin, k_lin, v_lin], x.clone(), mode);
        let context = ops::attention(q, k, v, &inputs.sequences, &inputs.sequences, &options, mode);
        // Nothing is dropped here.
        let attended = self.sa_layer_norm.forward(ops::dropout_add(out_lin.forward(context, mode), x, 0.0, mode), mode);
        let wide = self.ffn.lin1.forward(attended.clone(), mode);
        let narrow = self.ffn.lin2.forward_activated(wide, config.activation, mode);
        let output = ops::dropout_add(narrow, attended, config.dropout.get(), mode);
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
    vocab_projector: LmHead,
    #[module(skip)]
    config: DistilBertConfig,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let parsed: DistilBertConfig = config.parse()?;
    config.expect_divisible("dim", parsed.dim, "n_heads", parsed.n_heads)?;
    let config = parsed;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, dim, positions) = (config.vocab_size.get(), config.dim.get(), config.max_position_embeddings.get());
    let model = DistilBertForMaskedLM {
        distilbert: DistilBertModel {
            embeddings: Embeddings {
                word_embeddings: Embedding::padded(vocab, dim, config.pad_token_id, builder),
                position_embeddings: match config.sinusoidal_pos_embds {
                    true => Embedding::sinusoidal(positions, dim, builder),
                    false => Embedding::new(positions, dim, builder),
                },
                layer_norm: LayerNorm::new(dim, LAYER_NORM_EPS, builder),
            },
            transformer: Transformer {
                layer: (0..config.n_layers.get()).map(|_| TransformerBlock::new(&config, builder)).collect(),
            },
        },
        vocab_transform: Linear::new(dim, dim, builder),
        vocab_layer_norm: LayerNorm::new(dim, LAYER_NORM_EPS, builder),
        vocab_projector: LmHead::with_bias(vocab, dim, config.tie_word_embeddings, builder),
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for DistilBertForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[("layer_norm", "LayerNorm")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let config = &self.config;
        let embed = |mode: &Mode| {
            let embeddings = &self.distilbert.embeddings;
            let words = embeddings.word_embeddings.forward_tokens(inputs, mode);
            let positions = embeddings.position_embeddings.forward(inputs.positions(), mode);
            // Those of `create_sinusoidal_embeddings` are kept with the weights, and never trained.
            let positions = if config.sinusoidal_pos_embds { positions.detach() } else { positions };
            let x = words + positions;
            [ops::dropout(embeddings.layer_norm.forward(x, mode), config.dropout.get(), mode)]
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
        self.vocab_projector.decoder(&self.distilbert.embeddings.word_embeddings)
    }
}
