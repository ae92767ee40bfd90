//! Phi-3 (Abdin et al., 2024), Phi-3.5 and Phi-4 with its language-model head: `Phi3ForCausalLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::llama::{IGNORE_UNEXPECTED, TIES, kv_heads};
use crate::blocks::{Angles, Embedding, GroupedHeads, Linear, LmHead, RmsNorm, Rotary, causal_window};
use crate::cache::Context;
use crate::causal::{RotaryForCausalLM, RotaryLayer, RotaryModel};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.Phi3Config
pub struct Phi3Config {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub intermediate_size: Size,
    pub num_hidden_layers: Count,
    pub resid_pdrop: Probability,
    pub attention_dropout: Probability,
    pub hidden_act: Activation,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub partial_rotary_factor: Probability,
    pub sliding_window: Option<Size>,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.Phi3Config()`
fn defaults() -> Value {
    json!({
        "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
        "num_attention_heads": 32, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attention_dropout": 0.0,
        "hidden_act": "silu", "max_position_embeddings": 4096, "original_max_position_embeddings": 4096,
        "initializer_range": 0.02, "rms_norm_eps": 1e-5, "use_cache": true, "tie_word_embeddings": false,
        "rope_theta": 10000.0, "rope_scaling": null, "partial_rotary_factor": 1.0, "bos_token_id": 1,
        "eos_token_id": 32000, "pad_token_id": 32000, "sliding_window": null,
    })
}

/// The entry of the list.
pub static PHI3: Family = Family {
    model_type: "phi3",
    class: "Phi3ForCausalLM",
    base_model_prefix: "model",
    ties: TIES,
    ignore_unexpected: IGNORE_UNEXPECTED,
    derived: |config| vec![("num_key_value_heads", kv_heads(config))],
    computes_positions: true,
    ..Family::new(Task::Clm, defaults, build)
};

impl Phi3Config {
    fn rotary(&self, config: &ModelConfig, head_dim: usize) -> Result<Rotary, ConfigError> {
        let rotated = (head_dim as f64 * self.partial_rotary_factor.get()) as usize;
        // Earlier names of the same (`_rope_scaling_adjustment`).
        let mut config = config.clone();
        if let Some(Value::Object(scaling)) = config.get("rope_scaling")
            && let Some("su" | "yarn") = scaling.get("type").and_then(Value::as_str)
        {
            let mut scaling = scaling.clone();
            scaling.insert("type".into(), "longrope".into());
            config.set("rope_scaling", scaling);
        }
        Rotary::scaled(&config, self.rope_theta, rotated)
    }
}

#[derive(Module, Debug)]
struct Phi3Attention {
    o_proj: Linear,
    qkv_proj: Linear,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    layer: usize,
}

impl Phi3Attention {
    fn forward(&self, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let Attention { heads, kv_heads, .. } = self.options;
        let qkv = self.qkv_proj.forward(x, mode);
        let head_dim = qkv.dims()[1] / (heads + 2 * kv_heads);
        let [q, k, v] = ops::columns(qkv, 1, [heads, kv_heads, kv_heads].map(|heads| heads * head_dim), mode);
        let (q, k) = (angles.turn(q, heads, mode), angles.turn(k, kv_heads, mode));
        self.o_proj.forward(context.attend(self.layer, [q, k, v], &self.options, mode), mode)
    }
}

#[derive(Module, Debug)]
struct Phi3Mlp {
    gate_up_proj: Linear,
    down_proj: Linear,
    #[module(skip)]
    activation: Activation,
}

impl Phi3Mlp {
    fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let gate_up = self.gate_up_proj.forward(x, mode);
        let gated = match self.activation.gate() {
            Some(kind) => ops::glu_packed(gate_up, kind, mode),
            None => {
                let inner = gate_up.dims()[1] / 2;
                let [gate, up] = ops::columns(gate_up, 1, [inner; 2], mode);
                self.activation.forward(gate, mode) * up
            }
        };
        self.down_proj.forward(gated, mode)
    }
}

/// One layer.
#[derive(Module, Debug)]
pub struct Phi3DecoderLayer {
    self_attn: Phi3Attention,
    mlp: Phi3Mlp,
    input_layernorm: RmsNorm,
    post_attention_layernorm: RmsNorm,
    #[module(skip)]
    dropout: f64,
}

impl Phi3DecoderLayer {
    fn new(config: &Phi3Config, heads: GroupedHeads, layer: usize, builder: &Builder) -> Self {
        let (size, inner) = (config.hidden_size.get(), config.intermediate_size.get());
        let GroupedHeads { heads: queries, kv_heads: keys, head_dim } = heads;
        let mask = config.sliding_window.map_or(AttentionMask::Causal, causal_window);
        Self {
            self_attn: Phi3Attention {
                o_proj: Linear::without_bias(queries * head_dim, size, builder),
                qkv_proj: Linear::without_bias(size, (queries + 2 * keys) * head_dim, builder),
                options: heads.attention(mask, config.attention_dropout.get()),
                layer,
            },
            mlp: Phi3Mlp {
                gate_up_proj: Linear::without_bias(size, 2 * inner, builder),
                down_proj: Linear::without_bias(inner, size, builder),
                activation: config.hidden_act,
            },
            input_layernorm: RmsNorm::new(size, config.rms_norm_eps, builder),
            post_attention_layernorm: RmsNorm::new(size, config.rms_norm_eps, builder),
            dropout: config.resid_pdrop.get(),
        }
    }
}

impl RotaryLayer for Phi3DecoderLayer {
    fn forward(&self, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let normed = self.input_layernorm.forward(x.clone(), mode);
        let attended = self.self_attn.forward(normed, angles, context, mode);
        let attended = ops::dropout_add(attended, x, self.dropout, mode);
        let normed = self.post_attention_layernorm.forward(attended.clone(), mode);
        ops::dropout_add(self.mlp.forward(normed, mode), attended, self.dropout, mode)
    }
}

fn build(fields: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let (config, heads) = (fields.parse::<Phi3Config>()?, GroupedHeads::new(fields)?);
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let layers = 0..config.num_hidden_layers.get();
    let model = RotaryForCausalLM {
        model: RotaryModel {
            embed_tokens: Embedding::padded(vocab, size, fields.padding_row()?, builder),
            layers: layers.map(|layer| Phi3DecoderLayer::new(&config, heads, layer, builder)).collect(),
            norm: RmsNorm::new(size, config.rms_norm_eps, builder),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        rotary: config.rotary(fields, heads.head_dim)?,
        max_positions: config.max_position_embeddings.get(),
    };
    Ok(AutoModel::new(model, builder))
}
