//! GPT-NeoX (Black et al., 2022), Pythia's architecture as well: `GPTNeoXForCausalLM`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Angles, Embedding, LayerNorm, Linear, LmHead, Rotary};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder, Pairs};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.GPTNeoXConfig
pub struct GPTNeoXConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub num_hidden_layers: Count,
    pub num_attention_heads: Size,
    pub intermediate_size: Size,
    pub hidden_act: Activation,
    pub rotary_pct: Probability,
    pub rotary_emb_base: f64,
    pub attention_dropout: Probability,
    pub hidden_dropout: Probability,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub use_parallel_residual: bool,
    pub attention_bias: bool,
    pub tie_word_embeddings: bool,
}

/// `transformers.GPTNeoXConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50432, "hidden_size": 6144, "num_hidden_layers": 44, "num_attention_heads": 64,
        "intermediate_size": 24576, "hidden_act": "gelu", "rotary_pct": 0.25, "rotary_emb_base": 10000,
        "attention_dropout": 0.0, "hidden_dropout": 0.0, "classifier_dropout": 0.1, "max_position_embeddings": 2048,
        "initializer_range": 0.02, "layer_norm_eps": 1e-5, "use_cache": true, "bos_token_id": 0, "eos_token_id": 2,
        "tie_word_embeddings": false, "use_parallel_residual": true, "rope_scaling": null, "attention_bias": true,
    })
}

/// The entry of the list.
pub static GPT_NEOX: Family = Family {
    model_type: "gpt_neox",
    class: "GPTNeoXForCausalLM",
    base_model_prefix: "gpt_neox",
    ties: &[("embed_out.weight", "gpt_neox.embed_in.weight")],
    ignore_unexpected: &["attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"],
    derived,
    computes_positions: true,
    ..Family::new(Task::Clm, defaults, build)
};

/// The names that other rotary models have for two of the fields.
fn derived(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let names = [("partial_rotary_factor", "rotary_pct"), ("rope_theta", "rotary_emb_base")];
    names.into_iter().filter_map(|(name, own)| Some((name, config.get(own)?.clone()))).collect()
}

impl GPTNeoXConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let parsed: Self = config.parse()?;
        config.expect_divisible(
            "hidden_size",
            parsed.hidden_size,
            "num_attention_heads",
            parsed.num_attention_heads,
        )?;
        let width = parsed.hidden_size.get() / parsed.num_attention_heads.get();
        config.require("head_dim", &[width.into()], "; only hidden_size / num_attention_heads is")?;
        Ok(parsed)
    }

    fn rotary(&self, config: &ModelConfig) -> Result<Rotary, ConfigError> {
        let dim = self.hidden_size.get() / self.num_attention_heads.get();
        let rotated = (dim as f64 * self.rotary_pct.get()) as usize;
        match config.field::<Value>("rope_scaling")? {
            // An odd number of columns is turned as if there were one more, as in Python.
            None => Ok(Rotary::new(self.rotary_emb_base, rotated, Pairs::Halves)),
            Some(_) => Rotary::scaled(config, self.rotary_emb_base, rotated),
        }
    }
}

#[derive(Module, Debug)]
struct GPTNeoXAttention {
    query_key_value: Linear,
    dense: Linear,
}

#[derive(Module, Debug)]
struct GPTNeoXMlp {
    dense_h_to_4h: Linear,
    dense_4h_to_h: Linear,
}

/// One layer.
#[derive(Module, Debug)]
pub struct GPTNeoXLayer {
    input_layernorm: LayerNorm,
    post_attention_layernorm: LayerNorm,
    attention: GPTNeoXAttention,
    mlp: GPTNeoXMlp,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    index: usize,
}

impl GPTNeoXLayer {
    fn new(config: &GPTNeoXConfig, index: usize, builder: &Builder) -> Self {
        let (size, heads) = (config.hidden_size.get(), config.num_attention_heads.get());
        let inner = config.intermediate_size.get();
        let linear = |outputs| Linear::with_bias(size, outputs, config.attention_bias, builder);
        Self {
            input_layernorm: LayerNorm::new(size, config.layer_norm_eps, builder),
            post_attention_layernorm: LayerNorm::new(size, config.layer_norm_eps, builder),
            attention: GPTNeoXAttention { query_key_value: linear(3 * size), dense: linear(size) },
            mlp: GPTNeoXMlp {
                dense_h_to_4h: Linear::new(size, inner, builder),
                dense_4h_to_h: Linear::new(inner, size, builder),
            },
            options: Attention::new(heads, size / heads, AttentionMask::Causal, config.attention_dropout.get()),
            index,
        }
    }

    fn forward(
        &self,
        x: Tensor<2>,
        config: &GPTNeoXConfig,
        angles: &Angles,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        let (heads, dropout) = (self.options.heads, config.hidden_dropout.get());
        let qkv = self.attention.query_key_value.forward(self.input_layernorm.forward(x.clone(), mode), mode);
        let dim = qkv.dims()[1] / (3 * heads);
        let [q, k, v] = ops::columns(qkv, heads, [dim; 3], mode);
        let qkv = [angles.turn(q, heads, mode), angles.turn(k, heads, mode), v];
        let attended = self.attention.dense.forward(context.attend(self.index, qkv, &self.options, mode), mode);
        // Side by side both halves see what the layer is given.
        let before = config.use_parallel_residual.then(|| x.clone());
        let x = ops::dropout_add(attended, x, dropout, mode);
        let normed = self.post_attention_layernorm.forward(before.unwrap_or_else(|| x.clone()), mode);
        let wide = self.mlp.dense_h_to_4h.forward(normed, mode);
        let narrow = self.mlp.dense_4h_to_h.forward_activated(wide, config.hidden_act, mode);
        ops::dropout_add(narrow, x, dropout, mode)
    }
}

#[derive(Module, Debug)]
struct GPTNeoXModel {
    embed_in: Embedding,
    layers: Vec<GPTNeoXLayer>,
    final_layer_norm: LayerNorm,
}

/// `transformers.GPTNeoXForCausalLM`
#[derive(Module, Debug)]
pub struct GPTNeoXForCausalLM {
    gpt_neox: GPTNeoXModel,
    embed_out: LmHead,
    #[module(skip)]
    rotary: Rotary,
    #[module(skip)]
    config: GPTNeoXConfig,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let parsed = GPTNeoXConfig::new(config)?;
    let (rotary, config) = (parsed.rotary(config)?, parsed);
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let layers = 0..config.num_hidden_layers.get();
    let model = GPTNeoXForCausalLM {
        gpt_neox: GPTNeoXModel {
            embed_in: Embedding::new(vocab, size, builder),
            layers: layers.map(|index| GPTNeoXLayer::new(&config, index, builder)).collect(),
            final_layer_norm: LayerNorm::new(size, config.layer_norm_eps, builder),
        },
        embed_out: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        rotary,
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for GPTNeoXForCausalLM {
    type Layer = GPTNeoXLayer;
    type Places = Angles;

    fn max_positions(&self) -> usize {
        self.config.max_position_embeddings.get()
    }

    fn places(&self, positions: Tensor<1, Int>, longest: usize) -> Angles {
        self.rotary.angles(positions, longest)
    }

    fn words(&self) -> &Embedding {
        &self.gpt_neox.embed_in
    }

    fn embed(&self, words: Tensor<2>, _: &Angles, mode: &Mode) -> Tensor<2> {
        ops::dropout(words, self.config.hidden_dropout.get(), mode)
    }

    fn layers(&self) -> &[GPTNeoXLayer] {
        &self.gpt_neox.layers
    }

    fn layer(
        &self,
        layer: &GPTNeoXLayer,
        x: Tensor<2>,
        angles: &Angles,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        layer.forward(x, &self.config, angles, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.gpt_neox.final_layer_norm.forward(x, mode)
    }

    fn decoder(&self) -> Decoder {
        self.embed_out.decoder(&self.gpt_neox.embed_in)
    }
}
