//! GPT-Neo (Black et al., 2021), some of whose layers see the nearest tokens only: `GPTNeoForCausalLM`.

use std::iter::repeat_n;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::blocks::{Embedding, LayerNorm, Linear, LmHead, causal_window, projections};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;

/// What the tokens of a layer see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum AttentionType {
    /// All that comes before them.
    Global,
    /// The last `window_size` tokens, themselves included.
    Local,
}

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.GPTNeoConfig
pub struct GPTNeoConfig {
    pub vocab_size: Size,
    pub max_position_embeddings: Size,
    pub hidden_size: Size,
    pub num_layers: Count,
    attention_types: Vec<(Vec<AttentionType>, Count)>,
    pub num_heads: Size,
    pub intermediate_size: Option<Size>,
    pub window_size: Size,
    pub activation_function: Activation,
    pub resid_dropout: Probability,
    pub embed_dropout: Probability,
    pub attention_dropout: Probability,
    pub layer_norm_epsilon: f64,
    pub initializer_range: f64,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.GPTNeoConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50257, "max_position_embeddings": 2048, "hidden_size": 2048, "num_layers": 24,
        "attention_types": [[["global", "local"], 12]], "num_heads": 16, "intermediate_size": null, "window_size": 256,
        "activation_function": "gelu_new", "resid_dropout": 0.0, "embed_dropout": 0.0, "attention_dropout": 0.0,
        "classifier_dropout": 0.1, "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "use_cache": true,
        "bos_token_id": 50256, "eos_token_id": 50256,
    })
}

/// The entry of the list.
pub static GPT_NEO: Family = Family {
    model_type: "gpt_neo",
    class: "GPTNeoForCausalLM",
    base_model_prefix: "transformer",
    ties: &[("lm_head.weight", "transformer.wte.weight")],
    buffers: &["transformer.h.*.attn.attention.bias", "transformer.h.*.attn.attention.masked_bias"],
    derived,
    aliases: &[("num_attention_heads", "num_heads"), ("num_hidden_layers", "num_layers")],
    ..Family::new(Task::Clm, defaults, build)
};

/// `attention_layers`, the types of all layers; and the types anew where there are fewer layers than they are for, since
/// Python loads no such file.
fn derived(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let Ok(config) = config.parse::<GPTNeoConfig>() else { return Vec::new() };
    let layers: Vec<_> = config.attention_layers().collect();
    let all = config.attention_types.iter().map(|(types, times)| types.len().saturating_mul(times.get()));
    let mut derived = vec![("attention_layers", json!(layers))];
    if all.fold(0, usize::saturating_add) != layers.len() {
        derived.push(("attention_types", json!([[layers, 1]])));
    }
    derived
}

impl GPTNeoConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let parsed: Self = config.parse()?;
        config.expect_divisible("hidden_size", parsed.hidden_size, "num_heads", parsed.num_heads)?;
        let (layers, typed) = (parsed.num_layers.get(), parsed.attention_layers().count());
        if typed < layers {
            let reason = format!("`attention_types` are those of {typed} layers, and `num_layers` is {layers}");
            return Err(ConfigError::Value { model_type: config.model_type().into(), reason });
        }
        Ok(parsed)
    }

    /// The types of the layers, as far as they are known.
    fn attention_layers(&self) -> impl Iterator<Item = AttentionType> {
        let times = self.attention_types.iter().flat_map(|(types, times)| repeat_n(types, times.get()));
        times.flatten().copied().take(self.num_layers.get())
    }
}

#[derive(Module, Debug)]
struct SelfAttention {
    k_proj: Linear,
    v_proj: Linear,
    q_proj: Linear,
    out_proj: Linear,
}

/// Keeps the names of Python's wrapper.
#[derive(Module, Debug)]
struct GPTNeoAttention {
    attention: SelfAttention,
}

#[derive(Module, Debug)]
struct GPTNeoMlp {
    c_fc: Linear,
    c_proj: Linear,
}

/// One layer.
#[derive(Module, Debug)]
pub struct GPTNeoBlock {
    ln_1: LayerNorm,
    attn: GPTNeoAttention,
    ln_2: LayerNorm,
    mlp: GPTNeoMlp,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    index: usize,
}

impl GPTNeoBlock {
    fn new(config: &GPTNeoConfig, index: usize, attention: AttentionType, builder: &Builder) -> Self {
        let (size, heads) = (config.hidden_size.get(), config.num_heads.get());
        let inner = config.intermediate_size.map_or(4 * size, Size::get);
        let mask = match attention {
            AttentionType::Global => AttentionMask::Causal,
            AttentionType::Local => causal_window(config.window_size),
        };
        let projection = || Linear::without_bias(size, size, builder);
        Self {
            ln_1: LayerNorm::new(size, config.layer_norm_epsilon, builder),
            attn: GPTNeoAttention {
                attention: SelfAttention {
                    k_proj: projection(),
                    v_proj: projection(),
                    q_proj: projection(),
                    out_proj: Linear::new(size, size, builder),
                },
            },
            ln_2: LayerNorm::new(size, config.layer_norm_epsilon, builder),
            mlp: GPTNeoMlp { c_fc: Linear::new(size, inner, builder), c_proj: Linear::new(inner, size, builder) },
            // Scores are not scaled.
            options: Attention { scale: 1.0, ..Attention::new(heads, 1, mask, config.attention_dropout.get()) },
            activation: config.activation_function,
            dropout: config.resid_dropout.get(),
            index,
        }
    }

    fn forward(&self, x: Tensor<2>, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let SelfAttention { k_proj, v_proj, q_proj, out_proj } = &self.attn.attention;
        let qkv = projections([q_proj, k_proj, v_proj], self.ln_1.forward(x.clone(), mode), mode);
        let attended = context.attend(self.index, qkv, &self.options, mode);
        let x = ops::dropout_add(out_proj.forward(attended, mode), x, self.dropout, mode);
        let wide = self.mlp.c_fc.forward(self.ln_2.forward(x.clone(), mode), mode);
        let narrow = self.mlp.c_proj.forward_activated(wide, self.activation, mode);
        ops::dropout_add(narrow, x, self.dropout, mode)
    }
}

#[derive(Module, Debug)]
struct GPTNeoModel {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<GPTNeoBlock>,
    ln_f: LayerNorm,
    #[module(skip)]
    dropout: f64,
}

/// `transformers.GPTNeoForCausalLM`
#[derive(Module, Debug)]
pub struct GPTNeoForCausalLM {
    transformer: GPTNeoModel,
    lm_head: LmHead,
    #[module(skip)]
    max_positions: usize,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = GPTNeoConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size, positions) =
        (config.vocab_size.get(), config.hidden_size.get(), config.max_position_embeddings.get());
    let layers = config.attention_layers().enumerate();
    let model = GPTNeoForCausalLM {
        transformer: GPTNeoModel {
            wte: Embedding::new(vocab, size, builder),
            wpe: Embedding::new(positions, size, builder),
            h: layers.map(|(index, attention)| GPTNeoBlock::new(&config, index, attention, builder)).collect(),
            ln_f: LayerNorm::new(size, config.layer_norm_epsilon, builder),
            dropout: config.embed_dropout.get(),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        max_positions: positions,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for GPTNeoForCausalLM {
    type Layer = GPTNeoBlock;
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

    fn layers(&self) -> &[GPTNeoBlock] {
        &self.transformer.h
    }

    fn layer(
        &self,
        block: &GPTNeoBlock,
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
