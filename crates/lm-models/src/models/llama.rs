//! Llama (Touvron et al., 2023) with its language-model head, `LlamaForCausalLM`, and its relatives Mistral, Qwen 2, Qwen 3
//! and SmolLM 3, which differ in biases, windows, norms of queries and keys, and in where they have positions.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{
    Angles, Embedding, GatedMlp, GroupedAttention, GroupedHeads, LayerType, LmHead, RmsNorm, Rotary, causal_window,
};
use crate::cache::Context;
use crate::causal::{RotaryForCausalLM, RotaryLayer, RotaryModel};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, AttentionMask};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.LlamaConfig, Qwen3Config, SmolLM3Config
pub struct LlamaConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub intermediate_size: Size,
    pub num_hidden_layers: Count,
    pub hidden_act: Activation,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub attention_dropout: Probability,
    #[serde(default)]
    pub attention_bias: bool,
    #[serde(default)]
    pub mlp_bias: bool,
    pub sliding_window: Option<Size>,
    #[serde(default)]
    pub use_sliding_window: bool,
    #[serde(default)]
    pub max_window_layers: usize,
    pub no_rope_layers: Option<Vec<u8>>,
    pub no_rope_layer_interval: Option<Size>,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.LlamaConfig()`
fn llama_defaults() -> Value {
    json!({
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "initializer_range": 0.02,
        "rms_norm_eps": 1e-6, "use_cache": true, "bos_token_id": 1, "eos_token_id": 2, "pretraining_tp": 1,
        "tie_word_embeddings": false, "rope_theta": 10000.0, "rope_scaling": null, "attention_bias": false,
        "attention_dropout": 0.0, "mlp_bias": false,
    })
}

/// `transformers.MistralConfig()`
fn mistral_defaults() -> Value {
    json!({
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": null, "hidden_act": "silu",
        "max_position_embeddings": 131072, "initializer_range": 0.02, "rms_norm_eps": 1e-6, "use_cache": true,
        "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": false, "rope_theta": 10000.0,
        "sliding_window": 4096, "attention_dropout": 0.0,
    })
}

/// `transformers.Qwen2Config()`
fn qwen2_defaults() -> Value {
    json!({
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 32768,
        "initializer_range": 0.02, "rms_norm_eps": 1e-6, "use_cache": true, "tie_word_embeddings": false,
        "rope_theta": 10000.0, "rope_scaling": null, "use_sliding_window": false, "max_window_layers": 28,
        "attention_dropout": 0.0, "sliding_window": 4096,
    })
}

/// `transformers.Qwen3Config()`
fn qwen3_defaults() -> Value {
    let mut fields = qwen2_defaults();
    fields["head_dim"] = 128.into();
    fields["attention_bias"] = false.into();
    fields
}

/// `transformers.SmolLM3Config()`
fn smollm3_defaults() -> Value {
    json!({
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 4, "hidden_act": "silu", "max_position_embeddings": 32768,
        "initializer_range": 0.02, "rms_norm_eps": 1e-6, "use_cache": true, "pad_token_id": 128004,
        "bos_token_id": 128000, "eos_token_id": 128001, "rope_theta": 2000000.0, "rope_scaling": null,
        "use_sliding_window": false, "sliding_window": null, "no_rope_layer_interval": 4, "attention_bias": false,
        "attention_dropout": 0.0, "mlp_bias": false,
    })
}

/// The entry of the list.
pub static LLAMA: Family = Family { model_type: "llama", class: "LlamaForCausalLM", ..like_llama(llama_defaults) };

/// The entry of the list.
pub static MISTRAL: Family =
    Family { model_type: "mistral", class: "MistralForCausalLM", ..like_llama(mistral_defaults) };

/// The entry of the list.
pub static QWEN2: Family = Family { model_type: "qwen2", class: "Qwen2ForCausalLM", ..like_llama(qwen2_defaults) };

/// The entry of the list.
pub static QWEN3: Family = Family { model_type: "qwen3", class: "Qwen3ForCausalLM", ..like_llama(qwen3_defaults) };

/// The entry of the list.
pub static SMOLLM3: Family =
    Family { model_type: "smollm3", class: "SmolLM3ForCausalLM", ..like_llama(smollm3_defaults) };

const fn like_llama(defaults: fn() -> Value) -> Family {
    Family {
        base_model_prefix: "model",
        ties: TIES,
        ignore_unexpected: IGNORE_UNEXPECTED,
        derived,
        computes_positions: true,
        ..Family::new(Task::Clm, defaults, build)
    }
}

/// The head's other name where it is tied; those of other rotary models as well.
pub(super) const TIES: &[(&str, &str)] = &[("lm_head.weight", "model.embed_tokens.weight")];

/// Frequencies that early checkpoints hold in every layer; those of other rotary models as well.
pub(super) const IGNORE_UNEXPECTED: &[&str] = &["rotary_emb.inv_freq"];

/// What Python's constructors fill in.
fn derived(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let mut fields = vec![("num_key_value_heads", kv_heads(config))];
    let windows = |config: &ModelConfig| {
        let parsed: LlamaConfig = config.parse().ok()?;
        let types = parsed.layer_types(config).ok()?;
        Some((parsed, LayerType::written(&types)))
    };
    match (config.model_type(), windows(config)) {
        ("llama", _) => fields.extend(GroupedHeads::new(config).map(|heads| ("head_dim", heads.head_dim.into()))),
        ("smollm3", Some((parsed, types))) => {
            fields.push(("layer_types", types));
            fields.push(("no_rope_layers", parsed.rotates().into_iter().map(u8::from).collect()));
        }
        ("qwen2" | "qwen3", Some((parsed, types))) => {
            fields.push(("layer_types", types));
            fields.push(("sliding_window", parsed.window("qwen2").map(Size::get).into()));
        }
        _ => {}
    }
    fields
}

/// `num_key_value_heads`, or as many as there are heads.
pub(super) fn kv_heads(config: &ModelConfig) -> Value {
    let given = config.get("num_key_value_heads").filter(|value| !value.is_null());
    given.or_else(|| config.get("num_attention_heads")).cloned().unwrap_or_default()
}

impl LlamaConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let mut parsed: Self = config.parse()?;
        if config.model_type() != "smollm3" {
            // As in Python, where the others do not look.
            (parsed.no_rope_layers, parsed.no_rope_layer_interval) = (None, None);
        }
        Ok(parsed)
    }

    /// The window of sliding layers; Qwen's is there if it is to be used.
    fn window(&self, model_type: &str) -> Option<Size> {
        let used = self.use_sliding_window || !matches!(model_type, "qwen2" | "qwen3");
        self.sliding_window.filter(|_| used)
    }

    /// Whether each layer turns queries and keys: SmolLM leaves every fourth without positions.
    fn rotates(&self) -> Vec<bool> {
        let usual =
            |layer: usize| self.no_rope_layer_interval.is_none_or(|every| !(layer + 1).is_multiple_of(every.get()));
        let given = self.no_rope_layers.as_deref().unwrap_or_default();
        let layers = 0..self.num_hidden_layers.get();
        layers.map(|layer| given.get(layer).map_or_else(|| usual(layer), |&rotates| rotates != 0)).collect()
    }

    /// What each layer sees, where that differs from layer to layer.
    fn layer_types(&self, config: &ModelConfig) -> Result<Vec<LayerType>, ConfigError> {
        let (rotates, window) = (self.rotates(), self.window(config.model_type()));
        LayerType::of_layers(config, |layer| {
            LayerType::sliding(match config.model_type() {
                "smollm3" => self.use_sliding_window && window.is_some() && !rotates[layer],
                _ => window.is_some() && layer >= self.max_window_layers,
            })
        })
    }

    /// The mask of each layer.
    fn masks(&self, config: &ModelConfig) -> Result<Vec<AttentionMask>, ConfigError> {
        let (window, layers) = (self.window(config.model_type()), self.num_hidden_layers.get());
        match config.model_type() {
            "llama" => Ok(vec![AttentionMask::Causal; layers]),
            "mistral" => Ok(vec![window.map_or(AttentionMask::Causal, causal_window); layers]),
            _ => self.layer_types(config)?.into_iter().map(|layer| layer.mask(config, window)).collect(),
        }
    }
}

/// One layer.
#[derive(Module, Debug)]
pub struct LlamaDecoderLayer {
    self_attn: GroupedAttention,
    mlp: GatedMlp,
    input_layernorm: RmsNorm,
    post_attention_layernorm: RmsNorm,
    #[module(skip)]
    rotates: bool,
}

impl RotaryLayer for LlamaDecoderLayer {
    fn forward(&self, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let normed = self.input_layernorm.forward(x.clone(), mode);
        let attended = self.self_attn.forward(normed, self.rotates.then_some(angles), context, mode);
        let attended = ops::add(attended, x, mode);
        let normed = self.post_attention_layernorm.forward(attended.clone(), mode);
        ops::add(self.mlp.forward(normed, mode), attended, mode)
    }
}

fn build(fields: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = LlamaConfig::new(fields)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let heads = GroupedHeads::new(fields)?;
    let head_dim = heads.head_dim;
    let (of_queries, of_output, of_mlp) = match fields.model_type() {
        "mistral" => (false, false, false),
        "qwen2" => (true, false, false),
        "qwen3" => (config.attention_bias, config.attention_bias, false),
        _ => (config.attention_bias, config.attention_bias, config.mlp_bias),
    };
    let norm = |dim| RmsNorm::new(dim, config.rms_norm_eps, builder);
    let layer = |layer, mask, rotates| {
        let options = heads.attention(mask, config.attention_dropout.get());
        let attention = GroupedAttention::new(size, head_dim, [of_queries, of_output], options, layer, builder);
        LlamaDecoderLayer {
            self_attn: match fields.model_type() {
                "qwen3" => attention.with_norms(norm(head_dim), norm(head_dim)),
                _ => attention,
            },
            mlp: GatedMlp::new(size, config.intermediate_size.get(), config.hidden_act, of_mlp, builder),
            input_layernorm: norm(size),
            post_attention_layernorm: norm(size),
            rotates,
        }
    };
    let layers = config.masks(fields)?.into_iter().zip(config.rotates()).enumerate();
    let model = RotaryForCausalLM {
        model: RotaryModel {
            embed_tokens: Embedding::padded(vocab, size, fields.padding_row()?, builder),
            layers: layers.map(|(index, (mask, rotates))| layer(index, mask, rotates)).collect(),
            norm: norm(size),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        rotary: Rotary::of_heads(fields, config.rope_theta, head_dim)?,
        max_positions: config.max_position_embeddings.get(),
    };
    Ok(AutoModel::new(model, builder))
}
