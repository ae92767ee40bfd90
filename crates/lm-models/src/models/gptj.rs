//! GPT-J (Wang and Komatsuzaki, 2021), whose layers attend and think at the same time: `GPTJForCausalLM`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::gpt2::ALIASES;
use crate::blocks::{Angles, Embedding, LayerNorm, Linear, LmHead, Rotary, projections};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder, Pairs};
use crate::parameters::Builder;

/// Of rotary embeddings, fixed in Python's code.
const BASE: f64 = 10000.0;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.GPTJConfig
pub struct GPTJConfig {
    pub vocab_size: Size,
    pub n_positions: Size,
    pub n_embd: Size,
    pub n_layer: Count,
    pub n_head: Size,
    pub rotary_dim: Size,
    pub n_inner: Option<Size>,
    pub activation_function: Activation,
    pub resid_pdrop: Probability,
    pub embd_pdrop: Probability,
    pub attn_pdrop: Probability,
    pub layer_norm_epsilon: f64,
    pub initializer_range: f64,
    pub tie_word_embeddings: bool,
}

/// `transformers.GPTJConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50400, "n_positions": 2048, "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64,
        "n_inner": null, "activation_function": "gelu_new", "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
        "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "use_cache": true, "bos_token_id": 50256,
        "eos_token_id": 50256, "tie_word_embeddings": false,
    })
}

/// The entry of the list.
pub static GPTJ: Family = Family {
    model_type: "gptj",
    class: "GPTJForCausalLM",
    base_model_prefix: "transformer",
    ties: &[("lm_head.weight", "transformer.wte.weight")],
    aliases: ALIASES,
    ..Family::new(Task::Clm, defaults, build)
};

impl GPTJConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let parsed: Self = config.parse()?;
        config.expect_divisible("n_embd", parsed.n_embd, "n_head", parsed.n_head)?;
        let (rotated, dim) = (parsed.rotary_dim.get(), parsed.n_embd.get() / parsed.n_head.get());
        if rotated > dim || !rotated.is_multiple_of(2) {
            let reason = format!("`rotary_dim` ({rotated}) must be even and at most the width of a head ({dim})");
            return Err(ConfigError::Value { model_type: config.model_type().into(), reason });
        }
        Ok(parsed)
    }
}

#[derive(Module, Debug)]
struct GPTJAttention {
    k_proj: Linear,
    v_proj: Linear,
    q_proj: Linear,
    out_proj: Linear,
}

#[derive(Module, Debug)]
struct GPTJMlp {
    fc_in: Linear,
    fc_out: Linear,
}

/// One layer.
#[derive(Module, Debug)]
pub struct GPTJBlock {
    ln_1: LayerNorm,
    attn: GPTJAttention,
    mlp: GPTJMlp,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    index: usize,
}

impl GPTJBlock {
    fn new(config: &GPTJConfig, index: usize, builder: &Builder) -> Self {
        let (size, heads) = (config.n_embd.get(), config.n_head.get());
        let inner = config.n_inner.map_or(4 * size, Size::get);
        let linear = || Linear::without_bias(size, size, builder);
        Self {
            ln_1: LayerNorm::new(size, config.layer_norm_epsilon, builder),
            attn: GPTJAttention { k_proj: linear(), v_proj: linear(), q_proj: linear(), out_proj: linear() },
            mlp: GPTJMlp { fc_in: Linear::new(size, inner, builder), fc_out: Linear::new(inner, size, builder) },
            options: Attention::new(heads, size / heads, AttentionMask::Causal, config.attn_pdrop.get()),
            activation: config.activation_function,
            dropout: config.resid_pdrop.get(),
            index,
        }
    }

    fn forward(&self, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let heads = self.options.heads;
        let normed = self.ln_1.forward(x.clone(), mode);
        let GPTJAttention { k_proj, v_proj, q_proj, out_proj } = &self.attn;
        let [q, k, v] = projections([q_proj, k_proj, v_proj], normed.clone(), mode);
        let qkv = [angles.turn(q, heads, mode), angles.turn(k, heads, mode), v];
        let attended = out_proj.forward(context.attend(self.index, qkv, &self.options, mode), mode);
        let x = ops::dropout_add(attended, x, self.dropout, mode);
        let wide = self.mlp.fc_in.forward(normed, mode);
        ops::dropout_add(self.mlp.fc_out.forward_activated(wide, self.activation, mode), x, self.dropout, mode)
    }
}

#[derive(Module, Debug)]
struct GPTJModel {
    wte: Embedding,
    h: Vec<GPTJBlock>,
    ln_f: LayerNorm,
}

/// `transformers.GPTJForCausalLM`
#[derive(Module, Debug)]
pub struct GPTJForCausalLM {
    transformer: GPTJModel,
    lm_head: LmHead,
    #[module(skip)]
    rotary: Rotary,
    #[module(skip)]
    config: GPTJConfig,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = GPTJConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.n_embd.get());
    let model = GPTJForCausalLM {
        transformer: GPTJModel {
            wte: Embedding::new(vocab, size, builder),
            h: (0..config.n_layer.get()).map(|index| GPTJBlock::new(&config, index, builder)).collect(),
            ln_f: LayerNorm::new(size, config.layer_norm_epsilon, builder),
        },
        lm_head: LmHead::with_bias(vocab, size, config.tie_word_embeddings, builder),
        rotary: Rotary::new(BASE, config.rotary_dim.get(), Pairs::Interleaved),
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for GPTJForCausalLM {
    type Layer = GPTJBlock;
    type Places = Angles;

    /// Python has a table of angles.
    fn max_positions(&self) -> usize {
        self.config.n_positions.get()
    }

    fn places(&self, positions: Tensor<1, Int>, longest: usize) -> Angles {
        self.rotary.angles(positions, longest)
    }

    fn words(&self) -> &Embedding {
        &self.transformer.wte
    }

    fn embed(&self, words: Tensor<2>, _: &Angles, mode: &Mode) -> Tensor<2> {
        ops::dropout(words, self.config.embd_pdrop.get(), mode)
    }

    fn layers(&self) -> &[GPTJBlock] {
        &self.transformer.h
    }

    fn layer(&self, block: &GPTJBlock, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        block.forward(x, angles, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.transformer.ln_f.forward(x, mode)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.transformer.wte)
    }
}
