//! StableLM (Bellagente et al., 2024): `StableLmForCausalLM`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Angles, Embedding, GatedMlp, LayerNorm, Linear, LmHead, Rotary, projections};
use crate::cache::Context;
use crate::causal::{RotaryForCausalLM, RotaryLayer, RotaryModel};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask};
use crate::parameters::{Builder, Initial, Kind};

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.StableLmConfig
pub struct StableLmConfig {
    pub vocab_size: Size,
    pub intermediate_size: Size,
    pub hidden_size: Size,
    pub num_hidden_layers: Count,
    pub num_attention_heads: Size,
    pub num_key_value_heads: Size,
    pub hidden_act: Activation,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub tie_word_embeddings: bool,
    pub rope_theta: f64,
    pub use_qkv_bias: bool,
    pub qk_layernorm: bool,
    pub use_parallel_residual: bool,
    pub hidden_dropout: Probability,
    pub attention_dropout: Probability,
    pub partial_rotary_factor: Probability,
    pub pad_token_id: Option<usize>,
}

/// `transformers.StableLmConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50304, "intermediate_size": 6912, "hidden_size": 2560, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 4096,
        "initializer_range": 0.02, "layer_norm_eps": 1e-5, "use_cache": true, "tie_word_embeddings": false,
        "rope_theta": 10000, "rope_scaling": null, "use_qkv_bias": false, "qk_layernorm": false,
        "use_parallel_residual": false, "hidden_dropout": 0.0, "attention_dropout": 0.0,
        "partial_rotary_factor": 0.25, "bos_token_id": 0, "eos_token_id": 0,
    })
}

/// The entry of the list.
pub static STABLELM: Family = Family {
    model_type: "stablelm",
    class: "StableLmForCausalLM",
    base_model_prefix: "model",
    ties: &[("lm_head.weight", "model.embed_tokens.weight")],
    // Once each layer had them.
    ignore_unexpected: &["rotary_emb.inv_freq"],
    computes_positions: true,
    ..Family::new(Task::Clm, defaults, build)
};

impl StableLmConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let parsed: Self = config.parse()?;
        let heads = parsed.num_attention_heads;
        config.expect_divisible("hidden_size", parsed.hidden_size, "num_attention_heads", heads)?;
        config.expect_divisible("num_attention_heads", heads, "num_key_value_heads", parsed.num_key_value_heads)?;
        Ok(parsed)
    }

    fn head_dim(&self) -> usize {
        self.hidden_size.get() / self.num_attention_heads.get()
    }

    fn rotary(&self, config: &ModelConfig) -> Result<Rotary, ConfigError> {
        let rotated = (self.head_dim() as f64 * self.partial_rotary_factor.get()) as usize;
        Rotary::scaled(config, self.rope_theta, rotated)
    }
}

#[derive(Module, Debug)]
struct HeadNorm {
    /// `[head_dim]`
    weight: Param<Tensor<1>>,
}

/// Layer normalisation of each head with a scale of its own (`StableLmLayerNormPerHead`).
#[derive(Module, Debug)]
struct LayerNormPerHead {
    norms: Vec<HeadNorm>,
    #[module(skip)]
    plain: LayerNorm,
}

impl LayerNormPerHead {
    fn new(dim: usize, heads: usize, epsilon: f64, builder: &Builder) -> Self {
        let norm = |_| HeadNorm { weight: builder.parameter([dim], Kind::Norm, Initial::Ones) };
        Self { norms: (0..heads).map(norm).collect(), plain: LayerNorm::without_parameters(dim, epsilon) }
    }

    /// [rows, heads · head_dim] → [rows, heads · head_dim]
    fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let scales = self.norms.iter().map(|norm| norm.weight.val()).collect();
        self.plain.forward_heads(x, mode) * Tensor::cat(scales, 0).unsqueeze()
    }
}

#[derive(Module, Debug)]
struct StableLmAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_layernorm: Option<LayerNormPerHead>,
    k_layernorm: Option<LayerNormPerHead>,
}

/// One layer.
#[derive(Module, Debug)]
pub struct StableLmDecoderLayer {
    self_attn: StableLmAttention,
    mlp: GatedMlp,
    input_layernorm: LayerNorm,
    /// None where both halves of the layer work on the same.
    post_attention_layernorm: Option<LayerNorm>,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    index: usize,
}

impl StableLmDecoderLayer {
    fn new(config: &StableLmConfig, index: usize, builder: &Builder) -> Self {
        let (size, dim, epsilon) = (config.hidden_size.get(), config.head_dim(), config.layer_norm_eps);
        let (heads, kv_heads) = (config.num_attention_heads.get(), config.num_key_value_heads.get());
        let linear = |heads: usize| Linear::with_bias(size, heads * dim, config.use_qkv_bias, builder);
        let norm = |heads| config.qk_layernorm.then(|| LayerNormPerHead::new(dim, heads, epsilon, builder));
        let options = Attention::new(heads, dim, AttentionMask::Causal, config.attention_dropout.get());
        Self {
            self_attn: StableLmAttention {
                q_proj: linear(heads),
                k_proj: linear(kv_heads),
                v_proj: linear(kv_heads),
                o_proj: Linear::without_bias(size, size, builder),
                q_layernorm: norm(heads),
                k_layernorm: norm(kv_heads),
            },
            mlp: GatedMlp::new(size, config.intermediate_size.get(), config.hidden_act, false, builder),
            input_layernorm: LayerNorm::new(size, epsilon, builder),
            post_attention_layernorm: (!config.use_parallel_residual).then(|| LayerNorm::new(size, epsilon, builder)),
            options: Attention { kv_heads, ..options },
            dropout: config.hidden_dropout.get(),
            index,
        }
    }
}

impl RotaryLayer for StableLmDecoderLayer {
    fn forward(&self, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let normed = self.input_layernorm.forward(x.clone(), mode);
        let StableLmAttention { q_proj, k_proj, v_proj, o_proj, q_layernorm, k_layernorm } = &self.self_attn;
        let [q, k, v] = projections([q_proj, k_proj, v_proj], normed.clone(), mode);
        let turned = |x: Tensor<2>, norm: &Option<LayerNormPerHead>, heads: usize| {
            let x = match norm {
                Some(norm) => norm.forward(x, mode),
                None => x,
            };
            angles.turn(x, heads, mode)
        };
        let qkv = [turned(q, q_layernorm, self.options.heads), turned(k, k_layernorm, self.options.kv_heads), v];
        // Nothing is dropped here.
        let attended = o_proj.forward(context.attend(self.index, qkv, &self.options, mode), mode);
        let x = ops::add(attended, x, mode);
        let normed = match &self.post_attention_layernorm {
            Some(norm) => norm.forward(x.clone(), mode),
            None => normed,
        };
        ops::dropout_add(self.mlp.forward(normed, mode), x, self.dropout, mode)
    }
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let parsed = StableLmConfig::new(config)?;
    let (rotary, config) = (parsed.rotary(config)?, parsed);
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let layers = 0..config.num_hidden_layers.get();
    let model = RotaryForCausalLM {
        model: RotaryModel {
            embed_tokens: Embedding::padded(vocab, size, config.pad_token_id, builder),
            layers: layers.map(|index| StableLmDecoderLayer::new(&config, index, builder)).collect(),
            norm: LayerNorm::new(size, config.layer_norm_eps, builder),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        rotary,
        max_positions: config.max_position_embeddings.get(),
    };
    Ok(AutoModel::new(model, builder))
}
