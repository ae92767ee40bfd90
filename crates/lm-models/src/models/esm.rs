//! ESM-1b and ESM-2 (Rives et al., 2021; Lin et al., 2022), language models of proteins: `EsmForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Angles, Dense, Embedding, FlatHead, LayerNorm, Linear, Rotary, SelfAttention};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder, Pairs};
use crate::parameters::Builder;
use crate::stages::Stages;

/// The share of tokens that were masked in the training of all ESM models, fixed in Python's code.
const MASKED_IN_TRAINING: f32 = 0.15 * 0.8;

/// How far rotary embeddings reach, fixed in Python's code.
const ROPE_THETA: f64 = 10000.0;

/// What positions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PositionEmbeddingType {
    /// They are added to the words (ESM-1b).
    Absolute,
    /// They turn queries and keys (ESM-2).
    Rotary,
}

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.EsmConfig
pub struct EsmConfig {
    pub vocab_size: Size,
    pub mask_token_id: Option<usize>,
    pub pad_token_id: Option<usize>,
    pub hidden_size: Size,
    pub num_hidden_layers: Count,
    pub num_attention_heads: Size,
    pub intermediate_size: Size,
    pub hidden_dropout_prob: Probability,
    pub attention_probs_dropout_prob: Probability,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    position_embedding_type: PositionEmbeddingType,
    pub emb_layer_norm_before: Option<bool>,
    pub token_dropout: Option<bool>,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.EsmConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": null, "mask_token_id": null, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 1026, "initializer_range": 0.02,
        "layer_norm_eps": 1e-12, "position_embedding_type": "absolute", "use_cache": true,
        "emb_layer_norm_before": null, "token_dropout": false, "is_folding_model": false, "esmfold_config": null,
        "vocab_list": null,
    })
}

/// The entry of the list.
pub static ESM: Family = Family {
    model_type: "esm",
    class: "EsmForMaskedLM",
    base_model_prefix: "esm",
    ties: &[("lm_head.decoder.weight", "esm.embeddings.word_embeddings.weight")],
    buffers: &[
        "*.embeddings.position_ids",
        "embeddings.position_ids",
        "esm.encoder.layer.*.attention.self.rotary_embeddings.inv_freq",
    ],
    ignore_unexpected: &["position_embeddings.weight"],
    saved_buffers,
    max_positions,
    ..Family::new(Task::Mlm, defaults, build)
};

/// None with rotary embeddings, which are computed for any length; positions that are looked up start behind the padding
/// token's id.
fn max_positions(config: &ModelConfig) -> Option<usize> {
    let absolute = config.get("position_embedding_type").is_none_or(|kind| kind == "absolute");
    let first = config.size("pad_token_id").unwrap_or(0).saturating_add(1);
    config.size("max_position_embeddings").filter(|_| absolute).map(|positions| positions.saturating_sub(first))
}

/// The frequencies of rotary embeddings, which Python keeps with the weights, once per layer.
fn saved_buffers(config: &ModelConfig) -> Vec<(String, Vec<f32>)> {
    let rotary = config.get("position_embedding_type").is_some_and(|kind| kind == "rotary");
    let head_dim = config.size("hidden_size").zip(config.size("num_attention_heads"));
    let Some(head_dim) = head_dim.and_then(|(size, heads)| size.checked_div(heads)).filter(|_| rotary) else {
        return Vec::new();
    };
    let frequencies = Rotary::new(ROPE_THETA, head_dim, Pairs::Halves).frequencies().to_vec();
    let name = |layer| format!("esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq");
    (0..config.size("num_hidden_layers").unwrap_or(0)).map(|layer| (name(layer), frequencies.clone())).collect()
}

impl EsmConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let supported = ["absolute".into(), "rotary".into()];
        config.require("position_embedding_type", &supported, "; `absolute` and `rotary` are")?;
        config.require("is_decoder", &[false.into()], " in a masked language model")?;
        config.require("add_cross_attention", &[false.into()], " in a masked language model")?;
        config.require("is_folding_model", &[false.into()], "; only language models are")?;
        config.require("rope_theta", &[ROPE_THETA.into(), (ROPE_THETA as u64).into()], "; only `10000` is")?;
        let parsed: Self = config.parse()?;
        let (size, heads) = (parsed.hidden_size, parsed.num_attention_heads);
        config.expect_divisible("hidden_size", size, "num_attention_heads", heads)?;
        let head_dim = size.get() / heads.get();
        let reason = match parsed.position_embedding_type {
            PositionEmbeddingType::Absolute if parsed.pad_token_id.is_none() => {
                "`pad_token_id` is null: positions are counted from it on".to_owned()
            }
            PositionEmbeddingType::Rotary if !head_dim.is_multiple_of(2) => {
                format!("`hidden_size` / `num_attention_heads` ({head_dim}) must be even: pairs of columns are turned")
            }
            _ if parsed.token_dropout == Some(true) && parsed.mask_token_id.is_none() => {
                "`mask_token_id` is null: `token_dropout` drops this token".to_owned()
            }
            _ => return Ok(parsed),
        };
        Err(ConfigError::Value { model_type: config.model_type().into(), reason })
    }
}

#[derive(Module, Debug)]
struct Embeddings {
    word_embeddings: Embedding,
    head_norm: Option<LayerNorm>,
    position_embeddings: Option<Embedding>,
}

impl Embeddings {
    fn new(config: &EsmConfig, builder: &Builder) -> Self {
        let (size, positions) = (config.hidden_size.get(), config.max_position_embeddings.get());
        let before = config.emb_layer_norm_before == Some(true);
        let absolute = config.position_embedding_type == PositionEmbeddingType::Absolute;
        Self {
            word_embeddings: Embedding::padded(config.vocab_size.get(), size, config.pad_token_id, builder),
            head_norm: before.then(|| LayerNorm::new(size, config.layer_norm_eps, builder)),
            position_embeddings: absolute.then(|| Embedding::padded(positions, size, config.pad_token_id, builder)),
        }
    }

    fn forward(&self, inputs: &ModelInputs, config: &EsmConfig, mode: &Mode) -> Tensor<2> {
        let mut x = self.word_embeddings.forward_tokens(inputs, mode);
        if let Some(mask_token) = config.mask_token_id.filter(|_| config.token_dropout == Some(true)) {
            x = drop_tokens(x, mask_token, inputs);
        }
        if let (Some(positions), Some(padding)) = (&self.position_embeddings, config.pad_token_id) {
            x = x + positions.forward_padded(inputs.positions_from_padding(padding), inputs, mode);
        }
        match &self.head_norm {
            Some(norm) => norm.forward(x, mode),
            None => x,
        }
    }
}

/// Masked tokens are zero, and the others of a text are larger, the more of it are masked: as dropout, but with the share
/// of training as what is usual. The length of a text is that of the batch, padding included, as in Python.
fn drop_tokens(x: Tensor<2>, mask_token: usize, inputs: &ModelInputs) -> Tensor<2> {
    let rows = inputs.host_ids.len();
    let masked: Vec<bool> = inputs.host_ids.iter().map(|&id| id as usize == mask_token).collect();
    let mut factors = Vec::with_capacity(rows);
    for rows in inputs.sequences.ranges() {
        let count = masked[rows.clone()].iter().filter(|&&masked| masked).count();
        let observed = count as f32 / inputs.sequences.seq as f32;
        factors.extend(rows.map(|_| (1.0 - MASKED_IN_TRAINING) / (1.0 - observed)));
    }
    let factors = Tensor::<2>::from_data(TensorData::new(factors, [rows, 1]), &inputs.device);
    let masked = Tensor::<2, Bool>::from_data(TensorData::new(masked, [rows, 1]), &inputs.device);
    let shape = x.dims();
    (x * factors.expand(shape)).mask_fill(masked.expand(shape), 0.0)
}

#[derive(Module, Debug)]
struct AttentionHalf {
    self_attention: SelfAttention,
    output: Dense,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct Layer {
    attention: AttentionHalf,
    intermediate: Dense,
    output: Dense,
    layer_norm: LayerNorm,
}

impl Layer {
    fn new(config: &EsmConfig, builder: &Builder) -> Self {
        let (size, inner) = (config.hidden_size.get(), config.intermediate_size.get());
        let norm = || LayerNorm::new(size, config.layer_norm_eps, builder);
        Self {
            attention: AttentionHalf {
                self_attention: SelfAttention::new(size, size, builder),
                output: Dense::new(size, size, builder),
                layer_norm: norm(),
            },
            intermediate: Dense::new(size, inner, builder),
            output: Dense::new(inner, size, builder),
            layer_norm: norm(),
        }
    }

    fn forward(
        &self,
        x: Tensor<2>,
        angles: Option<&Angles>,
        inputs: &ModelInputs,
        config: &EsmConfig,
        mode: &Mode,
    ) -> Tensor<2> {
        let (heads, dropout) = (config.num_attention_heads.get(), config.hidden_dropout_prob.get());
        let head_dim = config.hidden_size.get() / heads;
        let options = Attention::new(heads, head_dim, AttentionMask::Full, config.attention_probs_dropout_prob.get());
        let AttentionHalf { self_attention, output, layer_norm } = &self.attention;
        let [q, k, v] = self_attention.forward(layer_norm.forward(x.clone(), mode), mode);
        let [q, k] = [q, k].map(|x| match angles {
            Some(angles) => angles.turn(x, heads, mode),
            None => x,
        });
        let context = ops::attention(q, k, v, &inputs.sequences, &inputs.sequences, &options, mode);
        let attended = ops::dropout_add(output.dense.forward(context, mode), x, dropout, mode);
        let normal = self.layer_norm.forward(attended.clone(), mode);
        let wide = Activation::Gelu.forward(self.intermediate.dense.forward(normal, mode), mode);
        ops::dropout_add(self.output.dense.forward(wide, mode), attended, dropout, mode)
    }
}

#[derive(Module, Debug)]
struct Encoder {
    layer: Vec<Layer>,
    emb_layer_norm_after: LayerNorm,
}

/// Tells contacts within a protein from attention; no language model uses it, but its weights are in all files.
#[derive(Module, Debug)]
struct ContactHead {
    regression: Linear,
}

#[derive(Module, Debug)]
struct EsmModel {
    embeddings: Embeddings,
    encoder: Encoder,
    contact_head: ContactHead,
}

/// `transformers.EsmForMaskedLM`
#[derive(Module, Debug)]
pub struct EsmForMaskedLM {
    esm: EsmModel,
    lm_head: FlatHead,
    #[module(skip)]
    config: EsmConfig,
    #[module(skip)]
    rotary: Option<Rotary>,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = EsmConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size, epsilon) = (config.vocab_size.get(), config.hidden_size.get(), config.layer_norm_eps);
    let (layers, heads) = (config.num_hidden_layers.get(), config.num_attention_heads.get());
    let rotary = config.position_embedding_type == PositionEmbeddingType::Rotary;
    let model = EsmForMaskedLM {
        esm: EsmModel {
            embeddings: Embeddings::new(&config, builder),
            encoder: Encoder {
                layer: (0..layers).map(|_| Layer::new(&config, builder)).collect(),
                emb_layer_norm_after: LayerNorm::new(size, epsilon, builder),
            },
            contact_head: ContactHead { regression: Linear::new(layers * heads, 1, builder) },
        },
        lm_head: FlatHead::new([size, size, vocab], Activation::Gelu, epsilon, config.tie_word_embeddings, builder),
        rotary: rotary.then(|| Rotary::new(ROPE_THETA, size / heads, Pairs::Halves)),
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for EsmForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] =
        &[("self_attention", "self"), ("layer_norm", "LayerNorm"), ("head_norm", "layer_norm"), ("head_bias", "bias")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let (config, EsmModel { embeddings, encoder, .. }) = (&self.config, &self.esm);
        let angles = |rotary: &Rotary| rotary.angles(inputs.positions(), inputs.sequences.seq);
        let angles = self.rotary.as_ref().map(angles);
        // Python's code has no dropout here.
        let embed = |mode: &Mode| [embeddings.forward(inputs, config, mode)];
        let layers = encoder.layer.iter().map(move |layer| {
            let angles = angles.clone();
            move |[x]: [Tensor<2>; 1], mode: &Mode| [layer.forward(x, angles.as_ref(), inputs, config, mode)]
        });
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| {
            let predicted = x.select(0, inputs.predicted.clone());
            self.lm_head.forward(encoder.emb_layer_norm_after.forward(predicted, mode), mode)
        };
        Stages::new(embed, layers, head)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.esm.embeddings.word_embeddings)
    }
}
