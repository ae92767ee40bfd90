//! Phi, versions 1 to 2 (Gunasekar et al., 2023): `PhiForCausalLM`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Angles, Embedding, GroupedHeads, LayerNorm, Linear, LmHead, Rotary, projections};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.PhiConfig
pub struct PhiConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub intermediate_size: Size,
    pub num_hidden_layers: Count,
    pub resid_pdrop: Probability,
    pub embd_pdrop: Probability,
    pub attention_dropout: Probability,
    pub hidden_act: Activation,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub tie_word_embeddings: bool,
    pub rope_theta: f64,
    pub partial_rotary_factor: Probability,
    pub qk_layernorm: bool,
    pub pad_token_id: Option<usize>,
}

/// `transformers.PhiConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
        "num_attention_heads": 32, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
        "attention_dropout": 0.0, "hidden_act": "gelu_new", "max_position_embeddings": 2048,
        "initializer_range": 0.02, "layer_norm_eps": 1e-5, "use_cache": true, "tie_word_embeddings": false,
        "rope_theta": 10000.0, "rope_scaling": null, "partial_rotary_factor": 0.5, "qk_layernorm": false,
        "bos_token_id": 1, "eos_token_id": 2,
    })
}

/// The entry of the list.
pub static PHI: Family = Family {
    model_type: "phi",
    class: "PhiForCausalLM",
    base_model_prefix: "model",
    ties: &[("lm_head.weight", "model.embed_tokens.weight")],
    // Once each layer had them.
    ignore_unexpected: &["rotary_emb.inv_freq"],
    derived,
    computes_positions: true,
    ..Family::new(Task::Clm, defaults, build)
};

/// As many heads for keys as for queries, unless it is said.
fn derived(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let heads = config.size("num_key_value_heads").or(config.size("num_attention_heads"));
    heads.map(|heads| ("num_key_value_heads", heads.into())).into_iter().collect()
}

#[derive(Module, Debug)]
struct PhiAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    dense: Linear,
    q_layernorm: Option<LayerNorm>,
    k_layernorm: Option<LayerNorm>,
}

#[derive(Module, Debug)]
struct PhiMlp {
    fc1: Linear,
    fc2: Linear,
}

/// One layer.
#[derive(Module, Debug)]
pub struct PhiDecoderLayer {
    self_attn: PhiAttention,
    mlp: PhiMlp,
    input_layernorm: LayerNorm,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    index: usize,
}

impl PhiDecoderLayer {
    fn new(config: &PhiConfig, split: &GroupedHeads, index: usize, builder: &Builder) -> Self {
        let (size, inner) = (config.hidden_size.get(), config.intermediate_size.get());
        let &GroupedHeads { heads, kv_heads, head_dim: dim } = split;
        let norm = || config.qk_layernorm.then(|| LayerNorm::new(dim, config.layer_norm_eps, builder));
        Self {
            self_attn: PhiAttention {
                q_proj: Linear::new(size, heads * dim, builder),
                k_proj: Linear::new(size, kv_heads * dim, builder),
                v_proj: Linear::new(size, kv_heads * dim, builder),
                dense: Linear::new(heads * dim, size, builder),
                q_layernorm: norm(),
                k_layernorm: norm(),
            },
            mlp: PhiMlp { fc1: Linear::new(size, inner, builder), fc2: Linear::new(inner, size, builder) },
            input_layernorm: LayerNorm::new(size, config.layer_norm_eps, builder),
            options: split.attention(AttentionMask::Causal, config.attention_dropout.get()),
            index,
        }
    }

    fn forward(
        &self,
        x: Tensor<2>,
        config: &PhiConfig,
        angles: &Angles,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        let dropout = config.resid_pdrop.get();
        let normed = self.input_layernorm.forward(x.clone(), mode);
        let PhiAttention { q_proj, k_proj, v_proj, dense, q_layernorm, k_layernorm } = &self.self_attn;
        let [q, k, v] = projections([q_proj, k_proj, v_proj], normed.clone(), mode);
        let turned = |x: Tensor<2>, norm: &Option<LayerNorm>, heads: usize| {
            let x = match norm {
                Some(norm) => norm.forward_heads(x, mode),
                None => x,
            };
            angles.turn(x, heads, mode)
        };
        let qkv = [turned(q, q_layernorm, self.options.heads), turned(k, k_layernorm, self.options.kv_heads), v];
        let attended = dense.forward(context.attend(self.index, qkv, &self.options, mode), mode);
        let x = ops::dropout_add(attended, x, dropout, mode);
        let wide = self.mlp.fc1.forward(normed, mode);
        ops::dropout_add(self.mlp.fc2.forward_activated(wide, config.hidden_act, mode), x, dropout, mode)
    }
}

#[derive(Module, Debug)]
struct PhiModel {
    embed_tokens: Embedding,
    layers: Vec<PhiDecoderLayer>,
    final_layernorm: LayerNorm,
}

/// `transformers.PhiForCausalLM`
#[derive(Module, Debug)]
pub struct PhiForCausalLM {
    model: PhiModel,
    lm_head: LmHead,
    #[module(skip)]
    rotary: Rotary,
    #[module(skip)]
    config: PhiConfig,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let heads = &GroupedHeads::new(config)?;
    let parsed: PhiConfig = config.parse()?;
    let rotated = (heads.head_dim as f64 * parsed.partial_rotary_factor.get()) as usize;
    let rotary = Rotary::scaled(config, parsed.rope_theta, rotated)?;
    let config = parsed;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let layers = 0..config.num_hidden_layers.get();
    let model = PhiForCausalLM {
        model: PhiModel {
            embed_tokens: Embedding::padded(vocab, size, config.pad_token_id, builder),
            layers: layers.map(|index| PhiDecoderLayer::new(&config, heads, index, builder)).collect(),
            final_layernorm: LayerNorm::new(size, config.layer_norm_eps, builder),
        },
        lm_head: LmHead::with_bias(vocab, size, config.tie_word_embeddings, builder),
        rotary,
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for PhiForCausalLM {
    type Layer = PhiDecoderLayer;
    type Places = Angles;

    fn max_positions(&self) -> usize {
        self.config.max_position_embeddings.get()
    }

    fn places(&self, positions: Tensor<1, Int>, longest: usize) -> Angles {
        self.rotary.angles(positions, longest)
    }

    fn words(&self) -> &Embedding {
        &self.model.embed_tokens
    }

    fn embed(&self, words: Tensor<2>, _: &Angles, mode: &Mode) -> Tensor<2> {
        ops::dropout(words, self.config.embd_pdrop.get(), mode)
    }

    fn layers(&self) -> &[PhiDecoderLayer] {
        &self.model.layers
    }

    fn layer(
        &self,
        layer: &PhiDecoderLayer,
        x: Tensor<2>,
        angles: &Angles,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        layer.forward(x, &self.config, angles, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.model.final_layernorm.forward(x, mode)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.model.embed_tokens)
    }
}
