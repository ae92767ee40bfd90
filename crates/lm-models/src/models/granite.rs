//! Granite 3 (Granite team, 2024) with its language-model head: `GraniteForCausalLM`. Llama with four factors.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::llama::{IGNORE_UNEXPECTED, TIES, kv_heads};
use crate::blocks::{Angles, Embedding, GatedMlp, GroupedAttention, GroupedHeads, LmHead, RmsNorm, Rotary};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.GraniteConfig
pub struct GraniteConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub intermediate_size: Size,
    pub num_hidden_layers: Count,
    pub hidden_act: Activation,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub attention_bias: bool,
    pub attention_dropout: Probability,
    pub mlp_bias: bool,
    pub embedding_multiplier: f64,
    pub logits_scaling: f64,
    pub residual_multiplier: f64,
    pub attention_multiplier: f64,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.GraniteConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "initializer_range": 0.02,
        "rms_norm_eps": 1e-6, "use_cache": true, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": false,
        "rope_theta": 10000.0, "rope_scaling": null, "attention_bias": false, "attention_dropout": 0.0,
        "mlp_bias": false, "embedding_multiplier": 1.0, "logits_scaling": 1.0, "residual_multiplier": 1.0,
        "attention_multiplier": 1.0,
    })
}

/// The entry of the list.
pub static GRANITE: Family = Family {
    model_type: "granite",
    class: "GraniteForCausalLM",
    base_model_prefix: "model",
    ties: TIES,
    ignore_unexpected: IGNORE_UNEXPECTED,
    derived: |config| vec![("num_key_value_heads", kv_heads(config))],
    computes_positions: true,
    ..Family::new(Task::Clm, defaults, build)
};

/// One layer.
#[derive(Module, Debug)]
pub struct GraniteDecoderLayer {
    self_attn: GroupedAttention,
    mlp: GatedMlp,
    input_layernorm: RmsNorm,
    post_attention_layernorm: RmsNorm,
    #[module(skip)]
    residual_multiplier: f64,
}

impl GraniteDecoderLayer {
    fn new(config: &GraniteConfig, heads: GroupedHeads, layer: usize, builder: &Builder) -> Self {
        let size = config.hidden_size.get();
        let options = Attention {
            scale: config.attention_multiplier,
            ..heads.attention(AttentionMask::Causal, config.attention_dropout.get())
        };
        Self {
            self_attn: GroupedAttention::new(size, heads.head_dim, [config.attention_bias; 2], options, layer, builder),
            mlp: GatedMlp::new(size, config.intermediate_size.get(), config.hidden_act, config.mlp_bias, builder),
            input_layernorm: RmsNorm::new(size, config.rms_norm_eps, builder),
            post_attention_layernorm: RmsNorm::new(size, config.rms_norm_eps, builder),
            residual_multiplier: config.residual_multiplier,
        }
    }

    fn forward(&self, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let normed = self.input_layernorm.forward(x.clone(), mode);
        let attended = self.self_attn.forward(normed, Some(angles), context, mode);
        let attended = ops::add(attended * self.residual_multiplier, x, mode);
        let normed = self.post_attention_layernorm.forward(attended.clone(), mode);
        ops::add(self.mlp.forward(normed, mode) * self.residual_multiplier, attended, mode)
    }
}

#[derive(Module, Debug)]
struct GraniteModel {
    embed_tokens: Embedding,
    layers: Vec<GraniteDecoderLayer>,
    norm: RmsNorm,
}

/// `transformers.GraniteForCausalLM`
#[derive(Module, Debug)]
pub struct GraniteForCausalLM {
    model: GraniteModel,
    lm_head: LmHead,
    #[module(skip)]
    rotary: Rotary,
    #[module(skip)]
    max_positions: usize,
    #[module(skip)]
    logits_scaling: f64,
}

fn build(fields: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let (config, heads) = (fields.parse::<GraniteConfig>()?, GroupedHeads::new(fields)?);
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let words = Embedding::padded(vocab, size, fields.padding_row()?, builder);
    let layers = 0..config.num_hidden_layers.get();
    let model = GraniteForCausalLM {
        model: GraniteModel {
            embed_tokens: words.scaled(config.embedding_multiplier),
            layers: layers.map(|layer| GraniteDecoderLayer::new(&config, heads, layer, builder)).collect(),
            norm: RmsNorm::new(size, config.rms_norm_eps, builder),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        rotary: Rotary::of_heads(fields, config.rope_theta, heads.head_dim)?,
        max_positions: config.max_position_embeddings.get(),
        logits_scaling: config.logits_scaling,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for GraniteForCausalLM {
    type Layer = GraniteDecoderLayer;
    type Places = Angles;

    fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn places(&self, positions: Tensor<1, Int>, longest: usize) -> Angles {
        self.rotary.angles(positions, longest)
    }

    fn words(&self) -> &Embedding {
        &self.model.embed_tokens
    }

    fn layers(&self) -> &[GraniteDecoderLayer] {
        &self.model.layers
    }

    fn layer(
        &self,
        layer: &GraniteDecoderLayer,
        x: Tensor<2>,
        angles: &Angles,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        layer.forward(x, angles, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        // Logits are divided by it: the same, and cheaper, is to divide what they are made of.
        self.model.norm.forward(x, mode) / self.logits_scaling
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.model.embed_tokens)
    }
}
