//! GPT-2 (Radford et al., 2019) with its language-model head: `GPT2LMHeadModel`.

use std::sync::Once;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{CausalAttention, Embedding, LayerNorm, LmHead, Mlp};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;
use crate::weights::{Form, Variable, is_number, is_word};

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.GPT2Config
pub struct GPT2Config {
    pub vocab_size: Size,
    pub n_positions: Size,
    pub n_embd: Size,
    pub n_layer: Count,
    pub n_head: Size,
    pub n_inner: Option<Size>,
    pub activation_function: Activation,
    pub resid_pdrop: Probability,
    pub embd_pdrop: Probability,
    pub attn_pdrop: Probability,
    pub layer_norm_epsilon: f64,
    pub initializer_range: f64,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.GPT2Config()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": null,
        "activation_function": "gelu_new", "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "summary_type": "cls_index", "summary_use_proj": true,
        "summary_activation": null, "summary_proj_to_labels": true, "summary_first_dropout": 0.1,
        "scale_attn_weights": true, "use_cache": true, "bos_token_id": 50256, "eos_token_id": 50256,
        "scale_attn_by_inverse_layer_idx": false, "reorder_and_upcast_attn": false,
    })
}

/// A variable of GPT-2's program, whose products are convolutions of width 1 (`load_tf_weights_in_gpt2`).
fn variable(name: &str) -> Variable {
    let mut parts = Vec::new();
    for scope in name.strip_prefix("model/").unwrap_or(name).split('/') {
        let (list, number) = scope.split_at(scope.find(|c: char| c.is_ascii_digit()).unwrap_or(scope.len()));
        match scope {
            "w" | "g" => parts.push("weight"),
            "b" => parts.push("bias"),
            "wpe" | "wte" => parts.extend([scope, "weight"]),
            _ if is_word(list) && is_number(number) => parts.extend([list, number]),
            _ => parts.push(scope),
        }
    }
    Variable { name: parts.join("."), form: Form::Squeezed }
}

/// The entry of the list.
pub static GPT2: Family = Family {
    model_type: "gpt2",
    class: "GPT2LMHeadModel",
    base_model_prefix: "transformer",
    ties: &[("lm_head.weight", "transformer.wte.weight")],
    buffers: BUFFERS,
    aliases: ALIASES,
    tensorflow1: Some(variable),
    ..Family::new(Task::Clm, defaults, build)
};

/// Python's `attribute_map`, GPT's as well.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("hidden_size", "n_embd"),
    ("max_position_embeddings", "n_positions"),
    ("num_attention_heads", "n_head"),
    ("num_hidden_layers", "n_layer"),
];

/// The causal mask, which old checkpoints hold; GPT's as well.
pub(super) const BUFFERS: &[&str] =
    &["transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias", "h.*.attn.bias", "h.*.attn.masked_bias"];

impl GPT2Config {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        config.require("add_cross_attention", &[false.into()], "; only models without cross-attention are")?;
        // A model is looked at more than once, before it is built; what has no effect is told once.
        static TOLD: Once = Once::new();
        TOLD.call_once(|| tell_what_has_no_effect(config));
        let parsed: Self = config.parse()?;
        config.expect_divisible("n_embd", parsed.n_embd, "n_head", parsed.n_head)?;
        Ok(parsed)
    }
}

fn tell_what_has_no_effect(config: &ModelConfig) {
    // Attention by PyTorch's scaled_dot_product_attention, Python's default, never looks at these two.
    for (field, usual) in [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false)] {
        if config.get(field).and_then(Value::as_bool).is_some_and(|value| value != usual) {
            tracing::warn!(
                "config of `gpt2`: `{field}` = {} has no effect, as in Python with its default attention",
                !usual
            );
        }
    }
}

/// One layer.
#[derive(Module, Debug)]
pub struct GPT2Block {
    ln_1: LayerNorm,
    attn: CausalAttention,
    ln_2: LayerNorm,
    mlp: Mlp,
}

impl GPT2Block {
    fn new(config: &GPT2Config, layer: usize, builder: &Builder) -> Self {
        let (size, heads, dropout) = (config.n_embd.get(), config.n_head.get(), config.resid_pdrop.get());
        let inner = config.n_inner.map_or(4 * size, Size::get);
        // Projections onto the residual stream start smaller, there being two a layer.
        let residual = &builder.with_std(config.initializer_range / (2.0 * config.n_layer.get() as f64).sqrt());
        let options = Attention::new(heads, size / heads, AttentionMask::Causal, config.attn_pdrop.get());
        Self {
            ln_1: LayerNorm::new(size, config.layer_norm_epsilon, builder),
            attn: CausalAttention::new(size, options, dropout, layer, builder, residual),
            ln_2: LayerNorm::new(size, config.layer_norm_epsilon, builder),
            mlp: Mlp::new(size, inner, config.activation_function, dropout, builder, residual),
        }
    }

    fn forward(&self, x: Tensor<2>, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let attended = self.attn.forward(self.ln_1.forward(x.clone(), mode), x, context, mode);
        self.mlp.forward(self.ln_2.forward(attended.clone(), mode), attended, mode)
    }
}

#[derive(Module, Debug)]
struct GPT2Model {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<GPT2Block>,
    ln_f: LayerNorm,
    #[module(skip)]
    dropout: f64,
}

/// `transformers.GPT2LMHeadModel`
#[derive(Module, Debug)]
pub struct GPT2LMHeadModel {
    transformer: GPT2Model,
    lm_head: LmHead,
    #[module(skip)]
    max_positions: usize,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = GPT2Config::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size, positions) = (config.vocab_size.get(), config.n_embd.get(), config.n_positions.get());
    let model = GPT2LMHeadModel {
        transformer: GPT2Model {
            wte: Embedding::new(vocab, size, builder),
            wpe: Embedding::new(positions, size, builder),
            h: (0..config.n_layer.get()).map(|layer| GPT2Block::new(&config, layer, builder)).collect(),
            ln_f: LayerNorm::new(size, config.layer_norm_epsilon, builder),
            dropout: config.embd_pdrop.get(),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        max_positions: positions,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for GPT2LMHeadModel {
    type Layer = GPT2Block;
    type Places = Tensor<1, Int>;

    fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn places(&self, positions: Tensor<1, Int>, _: usize) -> Tensor<1, Int> {
        positions
    }

    fn words(&self) -> &Embedding {
        &self.transformer.wte
    }

    fn embed(&self, words: Tensor<2>, positions: &Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        let transformer = &self.transformer;
        ops::dropout(words + transformer.wpe.forward(positions.clone(), mode), transformer.dropout, mode)
    }

    fn layers(&self) -> &[GPT2Block] {
        &self.transformer.h
    }

    fn layer(
        &self,
        block: &GPT2Block,
        x: Tensor<2>,
        _: &Tensor<1, Int>,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        block.forward(x, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.transformer.ln_f.forward(x, mode)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.transformer.wte)
    }
}
