//! Gemma (Gemma team, 2024) with its language-model head, `GemmaForCausalLM`; Gemma 2, which normalises twice, caps its
//! scores and logits and slides a window over every other layer; the text model of Gemma 3, which normalises queries and keys
//! instead of capping and has positions of its own where a window slides.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::llama::{IGNORE_UNEXPECTED, TIES};
use crate::blocks::{Angles, Embedding, GatedMlp, GroupedAttention, GroupedHeads, LayerType, LmHead, RmsNorm, Rotary};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, Blind, Decoder, Pairs};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.GemmaConfig, Gemma2Config, Gemma3TextConfig
pub struct GemmaConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub intermediate_size: Size,
    pub num_hidden_layers: Count,
    pub hidden_act: Option<Activation>,
    pub hidden_activation: Option<Activation>,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub rope_local_base_freq: Option<f64>,
    pub attention_bias: bool,
    pub attention_dropout: Probability,
    pub query_pre_attn_scalar: Option<f64>,
    pub sliding_window: Option<Size>,
    pub sliding_window_pattern: Option<Size>,
    pub attn_logit_softcapping: Option<f64>,
    pub final_logit_softcapping: Option<f64>,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.GemmaConfig()`
fn gemma_defaults() -> Value {
    json!({
        "vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": null, "max_position_embeddings": 8192, "initializer_range": 0.02, "rms_norm_eps": 1e-6,
        "use_cache": true, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "rope_theta": 10000.0,
        "attention_bias": false, "attention_dropout": 0.0,
    })
}

/// `transformers.Gemma2Config()`
fn gemma2_defaults() -> Value {
    json!({
        "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192, "initializer_range": 0.02, "rms_norm_eps": 1e-6, "use_cache": true,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "rope_theta": 10000.0, "attention_bias": false,
        "attention_dropout": 0.0, "query_pre_attn_scalar": 256, "sliding_window": 4096,
        "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
    })
}

/// `transformers.Gemma3TextConfig()`
fn gemma3_defaults() -> Value {
    json!({
        "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072, "initializer_range": 0.02, "rms_norm_eps": 1e-6, "use_cache": true,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "rope_theta": 1000000.0, "attention_bias": false,
        "attention_dropout": 0.0, "query_pre_attn_scalar": 256, "sliding_window": 4096,
        "final_logit_softcapping": null, "attn_logit_softcapping": null, "rope_scaling": null,
        "rope_local_base_freq": 10000.0, "use_bidirectional_attention": false,
    })
}

/// The entry of the list.
pub static GEMMA: Family =
    Family { model_type: "gemma", class: "GemmaForCausalLM", base_model_prefix: "model", ..like_gemma(gemma_defaults) };

/// The entry of the list.
pub static GEMMA2: Family = Family {
    model_type: "gemma2",
    class: "Gemma2ForCausalLM",
    base_model_prefix: "model",
    ..like_gemma(gemma2_defaults)
};

/// The entry of the list.
pub static GEMMA3_TEXT: Family = Family {
    model_type: "gemma3_text",
    class: "Gemma3ForCausalLM",
    base_model_prefix: "language_model",
    ..like_gemma(gemma3_defaults)
};

const fn like_gemma(defaults: fn() -> Value) -> Family {
    Family {
        ties: TIES,
        ignore_unexpected: IGNORE_UNEXPECTED,
        derived,
        computes_positions: true,
        ..Family::new(Task::Clm, defaults, build)
    }
}

/// What Python's constructors fill in.
fn derived(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let types = config.parse().ok().and_then(|parsed: GemmaConfig| parsed.layer_types(config).ok());
    let types = types.map(|types| ("layer_types", LayerType::written(&types)));
    let pattern = || config.get("sliding_window_pattern").cloned().unwrap_or(PATTERN.into());
    match config.model_type() {
        "gemma" => Vec::new(),
        "gemma3_text" => types.into_iter().chain([("_sliding_window_pattern", pattern())]).collect(),
        _ => types.into_iter().collect(),
    }
}

/// One layer in so many sees everything in Gemma 3, if config.json does not say it.
const PATTERN: usize = 6;

impl GemmaConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        config.require("use_bidirectional_attention", &[false.into()], "; only `false` is")?;
        config.parse()
    }

    fn layer_types(&self, config: &ModelConfig) -> Result<Vec<LayerType>, ConfigError> {
        let pattern = match config.model_type() {
            "gemma2" => 2,
            _ => self.sliding_window_pattern.map_or(PATTERN, Size::get),
        };
        LayerType::of_layers(config, |layer| LayerType::sliding(!(layer + 1).is_multiple_of(pattern)))
    }
}

/// One layer.
#[derive(Module, Debug)]
pub struct GemmaDecoderLayer {
    self_attn: GroupedAttention,
    mlp: GatedMlp,
    input_layernorm: RmsNorm,
    post_attention_layernorm: RmsNorm,
    pre_feedforward_layernorm: Option<RmsNorm>,
    post_feedforward_layernorm: Option<RmsNorm>,
    #[module(skip)]
    slides: bool,
}

impl GemmaDecoderLayer {
    fn forward(&self, x: Tensor<2>, angles: &GemmaAngles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let angles = angles.sliding.as_ref().filter(|_| self.slides).unwrap_or(&angles.full);
        let normed = self.input_layernorm.forward(x.clone(), mode);
        let attended = self.self_attn.forward(normed, Some(angles), context, mode);
        let after_attention = &self.post_attention_layernorm;
        match (&self.pre_feedforward_layernorm, &self.post_feedforward_layernorm) {
            (Some(before), Some(after)) => {
                let attended = ops::add(after_attention.forward(attended, mode), x, mode);
                let fed = self.mlp.forward(before.forward(attended.clone(), mode), mode);
                ops::add(after.forward(fed, mode), attended, mode)
            }
            _ => {
                let attended = ops::add(attended, x, mode);
                let normed = after_attention.forward(attended.clone(), mode);
                ops::add(self.mlp.forward(normed, mode), attended, mode)
            }
        }
    }
}

/// Angles of a pass: of layers that see everything, and of those with a window where these are others.
#[derive(Clone, Debug)]
pub struct GemmaAngles {
    full: Angles,
    sliding: Option<Angles>,
}

#[derive(Module, Debug)]
struct GemmaModel {
    embed_tokens: Embedding,
    layers: Vec<GemmaDecoderLayer>,
    norm: RmsNorm,
}

/// `transformers.GemmaForCausalLM`
#[derive(Module, Debug)]
pub struct GemmaForCausalLM {
    model: GemmaModel,
    lm_head: LmHead,
    #[module(skip)]
    rotary: Rotary,
    #[module(skip)]
    local_rotary: Option<Rotary>,
    #[module(skip)]
    softcap: Option<f64>,
    #[module(skip)]
    max_positions: usize,
}

fn build(fields: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = GemmaConfig::new(fields)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let heads = GroupedHeads::new(fields)?;
    // The first Gemma has none of what came with the others.
    let (first, third) = (fields.model_type() == "gemma", fields.model_type() == "gemma3_text");
    let activation = if first { config.hidden_act } else { config.hidden_activation };
    let types = if first {
        vec![LayerType::FullAttention; config.num_hidden_layers.get()]
    } else {
        config.layer_types(fields)?
    };
    let norm = |dim| RmsNorm::around_one(dim, config.rms_norm_eps, builder);
    let layer = |(index, layer_type): (usize, LayerType)| {
        let usual = heads.attention(layer_type.mask(fields, config.sliding_window)?, config.attention_dropout.get());
        let options = Attention {
            scale: config.query_pre_attn_scalar.filter(|_| !first).map_or(usual.scale, |scalar| scalar.powf(-0.5)),
            // Caps need Python's own attention.
            blind: Blind::Mean,
            // Python's Gemma 3 does not look at it.
            softcap: config.attn_logit_softcapping.filter(|_| !first && !third),
            ..usual
        };
        let attention =
            GroupedAttention::new(size, heads.head_dim, [config.attention_bias; 2], options, index, builder);
        Ok::<_, ConfigError>(GemmaDecoderLayer {
            self_attn: if third { attention.with_norms(norm(heads.head_dim), norm(heads.head_dim)) } else { attention },
            mlp: GatedMlp::new(
                size,
                config.intermediate_size.get(),
                activation.unwrap_or(Activation::GeluNew),
                false,
                builder,
            ),
            input_layernorm: norm(size),
            post_attention_layernorm: norm(size),
            pre_feedforward_layernorm: (!first).then(|| norm(size)),
            post_feedforward_layernorm: (!first).then(|| norm(size)),
            slides: layer_type == LayerType::SlidingAttention,
        })
    };
    let words = Embedding::padded(vocab, size, fields.padding_row()?, builder);
    let local = config.rope_local_base_freq.filter(|_| third);
    let model = GemmaForCausalLM {
        model: GemmaModel {
            embed_tokens: words.scaled((size as f64).sqrt()),
            layers: types.into_iter().enumerate().map(layer).collect::<Result<_, _>>()?,
            norm: norm(size),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        rotary: Rotary::of_heads(fields, config.rope_theta, heads.head_dim)?,
        local_rotary: local.map(|base| Rotary::new(base, heads.head_dim, Pairs::Halves)),
        softcap: config.final_logit_softcapping.filter(|_| !first),
        max_positions: config.max_position_embeddings.get(),
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for GemmaForCausalLM {
    type Layer = GemmaDecoderLayer;
    type Places = GemmaAngles;

    fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn places(&self, positions: Tensor<1, Int>, longest: usize) -> GemmaAngles {
        let sliding = self.local_rotary.as_ref().map(|rotary| rotary.angles(positions.clone(), longest));
        GemmaAngles { full: self.rotary.angles(positions, longest), sliding }
    }

    fn words(&self) -> &Embedding {
        &self.model.embed_tokens
    }

    fn layers(&self) -> &[GemmaDecoderLayer] {
        &self.model.layers
    }

    fn layer(
        &self,
        layer: &GemmaDecoderLayer,
        x: Tensor<2>,
        angles: &GemmaAngles,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        layer.forward(x, angles, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.model.norm.forward(x, mode)
    }

    fn decoder(&self) -> Decoder {
        Decoder { softcap: self.softcap, ..self.lm_head.decoder(&self.model.embed_tokens) }
    }
}
