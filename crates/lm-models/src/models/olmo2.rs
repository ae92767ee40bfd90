//! OLMo 2 (OLMo team, 2024) with its language-model head: `Olmo2ForCausalLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::llama::{IGNORE_UNEXPECTED, TIES, kv_heads};
use crate::blocks::{Angles, Embedding, GatedMlp, GroupedAttention, GroupedHeads, LmHead, RmsNorm, Rotary};
use crate::cache::Context;
use crate::causal::{RotaryForCausalLM, RotaryLayer, RotaryModel};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, AttentionMask};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.Olmo2Config
pub struct Olmo2Config {
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
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.Olmo2Config()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "initializer_range": 0.02,
        "use_cache": true, "pad_token_id": 1, "eos_token_id": 50279, "tie_word_embeddings": false,
        "rope_theta": 10000.0, "rope_scaling": null, "attention_bias": false, "attention_dropout": 0.0,
        "rms_norm_eps": 1e-5,
    })
}

/// The entry of the list.
pub static OLMO2: Family = Family {
    model_type: "olmo2",
    class: "Olmo2ForCausalLM",
    base_model_prefix: "model",
    ties: TIES,
    ignore_unexpected: IGNORE_UNEXPECTED,
    derived: |config| vec![("num_key_value_heads", kv_heads(config))],
    computes_positions: true,
    ..Family::new(Task::Clm, defaults, build)
};

/// One layer: what each half adds is normalised, not what it is given.
#[derive(Module, Debug)]
pub struct Olmo2DecoderLayer {
    self_attn: GroupedAttention,
    mlp: GatedMlp,
    post_attention_layernorm: RmsNorm,
    post_feedforward_layernorm: RmsNorm,
}

impl Olmo2DecoderLayer {
    fn new(config: &Olmo2Config, heads: GroupedHeads, layer: usize, builder: &Builder) -> Self {
        let GroupedHeads { heads: queries, kv_heads: keys, head_dim } = heads;
        let size = config.hidden_size.get();
        let norm = |dim| RmsNorm::new(dim, config.rms_norm_eps, builder);
        let options = heads.attention(AttentionMask::Causal, config.attention_dropout.get());
        let attention = GroupedAttention::new(size, head_dim, [config.attention_bias; 2], options, layer, builder);
        Self {
            // All heads together.
            self_attn: attention.with_norms(norm(queries * head_dim), norm(keys * head_dim)),
            mlp: GatedMlp::new(size, config.intermediate_size.get(), config.hidden_act, false, builder),
            post_attention_layernorm: norm(size),
            post_feedforward_layernorm: norm(size),
        }
    }
}

impl RotaryLayer for Olmo2DecoderLayer {
    fn forward(&self, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let attended = self.self_attn.forward(x.clone(), Some(angles), context, mode);
        let attended = ops::add(self.post_attention_layernorm.forward(attended, mode), x, mode);
        let fed = self.mlp.forward(attended.clone(), mode);
        ops::add(self.post_feedforward_layernorm.forward(fed, mode), attended, mode)
    }
}

fn build(fields: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let (config, heads) = (fields.parse::<Olmo2Config>()?, GroupedHeads::new(fields)?);
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let layers = 0..config.num_hidden_layers.get();
    let model = RotaryForCausalLM {
        model: RotaryModel {
            embed_tokens: Embedding::padded(vocab, size, fields.padding_row()?, builder),
            layers: layers.map(|layer| Olmo2DecoderLayer::new(&config, heads, layer, builder)).collect(),
            norm: RmsNorm::new(size, config.rms_norm_eps, builder),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        rotary: Rotary::of_heads(fields, config.rope_theta, heads.head_dim)?,
        max_positions: config.max_position_embeddings.get(),
    };
    Ok(AutoModel::new(model, builder))
}
