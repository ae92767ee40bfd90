//! GPT (Radford et al., 2018) with its language-model head: `OpenAIGPTLMHeadModel`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::gpt2::{ALIASES, BUFFERS};
use crate::blocks::{CausalAttention, Embedding, LayerNorm, LmHead, Mlp};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;

/// The activation functions that GPT has, by its own names (`ACT_FNS`): its `gelu` is the approximation by tanh.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub(crate) enum Afn {
    Gelu,
    Relu,
    #[serde(alias = "swish")]
    Silu,
}

impl From<Afn> for Activation {
    fn from(afn: Afn) -> Self {
        match afn {
            Afn::Gelu => Self::GeluNew,
            Afn::Relu => Self::Relu,
            Afn::Silu => Self::Silu,
        }
    }
}

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.OpenAIGPTConfig
pub struct OpenAIGPTConfig {
    pub vocab_size: Size,
    pub n_positions: Size,
    pub n_embd: Size,
    pub n_layer: Count,
    pub n_head: Size,
    pub afn: Afn,
    pub resid_pdrop: Probability,
    pub embd_pdrop: Probability,
    pub attn_pdrop: Probability,
    pub layer_norm_epsilon: f64,
    pub initializer_range: f64,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.OpenAIGPTConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 40478, "n_positions": 512, "n_embd": 768, "n_layer": 12, "n_head": 12, "afn": "gelu",
        "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1, "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02, "summary_type": "cls_index", "summary_use_proj": true, "summary_activation": null,
        "summary_proj_to_labels": true, "summary_first_dropout": 0.1,
    })
}

/// The entry of the list.
pub static OPENAI_GPT: Family = Family {
    model_type: "openai-gpt",
    class: "OpenAIGPTLMHeadModel",
    base_model_prefix: "transformer",
    ties: &[("lm_head.weight", "transformer.tokens_embed.weight")],
    buffers: BUFFERS,
    aliases: ALIASES,
    ..Family::new(Task::Clm, defaults, build)
};

/// One layer.
#[derive(Module, Debug)]
pub struct Block {
    attn: CausalAttention,
    ln_1: LayerNorm,
    mlp: Mlp,
    ln_2: LayerNorm,
}

impl Block {
    fn new(config: &OpenAIGPTConfig, layer: usize, builder: &Builder) -> Self {
        let (size, heads, dropout) = (config.n_embd.get(), config.n_head.get(), config.resid_pdrop.get());
        let options = Attention::new(heads, size / heads, AttentionMask::Causal, config.attn_pdrop.get());
        Self {
            attn: CausalAttention::new(size, options, dropout, layer, builder, builder),
            ln_1: LayerNorm::new(size, config.layer_norm_epsilon, builder),
            mlp: Mlp::new(size, 4 * size, config.afn.into(), dropout, builder, builder),
            ln_2: LayerNorm::new(size, config.layer_norm_epsilon, builder),
        }
    }

    fn forward(&self, x: Tensor<2>, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let attended = self.ln_1.forward(self.attn.forward(x.clone(), x, context, mode), mode);
        self.ln_2.forward(self.mlp.forward(attended.clone(), attended, mode), mode)
    }
}

#[derive(Module, Debug)]
struct OpenAIGPTModel {
    tokens_embed: Embedding,
    positions_embed: Embedding,
    h: Vec<Block>,
    #[module(skip)]
    dropout: f64,
}

/// `transformers.OpenAIGPTLMHeadModel`
#[derive(Module, Debug)]
pub struct OpenAIGPTLMHeadModel {
    transformer: OpenAIGPTModel,
    lm_head: LmHead,
    #[module(skip)]
    max_positions: usize,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let parsed: OpenAIGPTConfig = config.parse()?;
    config.expect_divisible("n_embd", parsed.n_embd, "n_head", parsed.n_head)?;
    let config = parsed;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size, positions) = (config.vocab_size.get(), config.n_embd.get(), config.n_positions.get());
    let model = OpenAIGPTLMHeadModel {
        transformer: OpenAIGPTModel {
            tokens_embed: Embedding::new(vocab, size, builder),
            positions_embed: Embedding::new(positions, size, builder),
            h: (0..config.n_layer.get()).map(|layer| Block::new(&config, layer, builder)).collect(),
            dropout: config.embd_pdrop.get(),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        max_positions: positions,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for OpenAIGPTLMHeadModel {
    type Layer = Block;
    type Places = Tensor<1, Int>;

    fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn places(&self, positions: Tensor<1, Int>, _: usize) -> Tensor<1, Int> {
        positions
    }

    fn words(&self) -> &Embedding {
        &self.transformer.tokens_embed
    }

    fn embed(&self, words: Tensor<2>, positions: &Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        let transformer = &self.transformer;
        ops::dropout(words + transformer.positions_embed.forward(positions.clone(), mode), transformer.dropout, mode)
    }

    fn layers(&self) -> &[Block] {
        &self.transformer.h
    }

    fn layer(&self, block: &Block, x: Tensor<2>, _: &Tensor<1, Int>, context: &mut Context, mode: &Mode) -> Tensor<2> {
        block.forward(x, context, mode)
    }

    /// The last layer ends with one.
    fn norm(&self, x: Tensor<2>, _: &Mode) -> Tensor<2> {
        x
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.transformer.tokens_embed)
    }
}
