//! GPT (Radford et al., 2018) with its language-model head: `OpenAIGPTLMHeadModel`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Embedding, LayerNorm, Linear};
use crate::config::{ConfigError, ModelConfig};
use crate::generate::{Cache, CausalModel};
use crate::inputs::{Mode, ModelInputs};
use crate::models::gpt2::{CausalAttention, Context, Mlp};
use crate::models::{AutoModel, LanguageModel};
use crate::ops::{self, Activation, Decoder};
use crate::params::{Initial, ParameterInfo};
use crate::stages::Stages;

/// The activation functions that GPT has, by its own names (`ACT_FNS`): its `gelu` is the approximation by tanh.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Afn {
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
    pub vocab_size: usize,
    pub n_positions: usize,
    pub n_embd: usize,
    pub n_layer: usize,
    pub n_head: usize,
    pub afn: Afn,
    pub resid_pdrop: f64,
    pub embd_pdrop: f64,
    pub attn_pdrop: f64,
    pub layer_norm_epsilon: f64,
    pub initializer_range: f64,
    #[serde(default = "yes")]
    pub tie_word_embeddings: bool,
}

fn yes() -> bool {
    true
}

/// `transformers.OpenAIGPTConfig()`
pub fn defaults() -> Value {
    json!({
        "vocab_size": 40478, "n_positions": 512, "n_embd": 768, "n_layer": 12, "n_head": 12, "afn": "gelu",
        "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1, "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02, "summary_type": "cls_index", "summary_use_proj": true, "summary_activation": null,
        "summary_proj_to_labels": true, "summary_first_dropout": 0.1,
    })
}

/// `_tied_weights_keys`
pub const TIES: &[(&str, &str)] = &[("lm_head.weight", "transformer.tokens_embed.weight")];

#[derive(Module, Debug)]
struct Block {
    attn: CausalAttention,
    ln_1: LayerNorm,
    mlp: Mlp,
    ln_2: LayerNorm,
}

impl Block {
    fn new(config: &OpenAIGPTConfig, layer: usize, device: &Device) -> Self {
        let size = config.n_embd;
        let dropouts = (config.attn_pdrop, config.resid_pdrop);
        Self {
            attn: CausalAttention::new(size, config.n_head, dropouts, layer, device),
            ln_1: LayerNorm::new(size, config.layer_norm_epsilon, device),
            mlp: Mlp::new(size, 4 * size, config.afn.into(), config.resid_pdrop, device),
            ln_2: LayerNorm::new(size, config.layer_norm_epsilon, device),
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

impl OpenAIGPTModel {
    /// The embedded tokens [rows, hidden] and their positions `[rows]` → [rows, hidden].
    fn embed(&self, words: Tensor<2>, positions: Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        ops::dropout(words + self.positions_embed.forward(positions, mode), self.dropout, mode)
    }
}

/// `transformers.OpenAIGPTLMHeadModel`
#[derive(Module, Debug)]
pub struct OpenAIGPTLMHeadModel {
    transformer: OpenAIGPTModel,
    /// The decoder's weights when they are not the word embeddings.
    lm_head: Option<Linear>,
    #[module(skip)]
    config: OpenAIGPTConfig,
}

/// Builds the model, its parameters still empty.
pub fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let parsed: OpenAIGPTConfig = config.parse()?;
    config.expect_divisible("n_embd", parsed.n_embd, "n_head", parsed.n_head)?;
    let config = parsed;
    Ok(AutoModel::OpenAIGPT(OpenAIGPTLMHeadModel {
        transformer: OpenAIGPTModel {
            tokens_embed: Embedding::new(config.vocab_size, config.n_embd, device),
            positions_embed: Embedding::new(config.n_positions, config.n_embd, device),
            h: (0..config.n_layer).map(|layer| Block::new(&config, layer, device)).collect(),
            dropout: config.embd_pdrop,
        },
        lm_head: (!config.tie_word_embeddings).then(|| Linear::without_bias(config.n_embd, config.vocab_size, device)),
        config,
    }))
}

impl LanguageModel for OpenAIGPTLMHeadModel {
    const RENAMES: &'static [(&'static str, &'static str)] = &[];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let model = &self.transformer;
        let embed = |mode: &Mode| {
            [model.embed(model.tokens_embed.forward_tokens(inputs, None, mode), inputs.positions(), mode)]
        };
        let layers = model.h.iter().map(|block| {
            |[x]: [Tensor<2>; 1], mode: &Mode| [block.forward(x, &mut Context::Batch(&inputs.sequences), mode)]
        });
        Stages::new(embed, layers, |[x], _| x.select(0, inputs.predicted.clone()))
    }

    fn decoder(&self) -> Decoder {
        let weight = match &self.lm_head {
            Some(head) => head.weight.val(),
            None => self.transformer.tokens_embed.weight.val(),
        };
        Decoder { weight, bias: None }
    }

    /// As `OpenAIGPTPreTrainedModel._init_weights`.
    fn initial_value(&self, parameter: &ParameterInfo) -> Initial {
        match (parameter.name.ends_with("bias"), parameter.in_layer_norm) {
            (true, _) => Initial::Zeros,
            (_, true) => Initial::Ones,
            _ => Initial::Normal(self.config.initializer_range),
        }
    }
}

impl CausalModel for OpenAIGPTLMHeadModel {
    fn max_positions(&self) -> usize {
        self.config.n_positions
    }

    fn device(&self) -> Device {
        self.transformer.tokens_embed.weight.val().device()
    }

    fn extend(&self, ids: Tensor<1, Int>, positions: Tensor<1, Int>, cache: &mut Cache, mode: &Mode) -> Tensor<2> {
        let model = &self.transformer;
        let x = model.embed(model.tokens_embed.forward(ids, mode), positions, mode);
        let x = model.h.iter().fold(x, |x, block| block.forward(x, &mut Context::Cache(cache), mode));
        cache.last_rows(x)
    }
}
