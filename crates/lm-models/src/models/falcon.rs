//! Falcon (Almazrouei et al., 2023), with rotary embeddings or linear biases: `FalconForCausalLM`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use half::bf16;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Angles, Embedding, LayerNorm, Linear, LmHead, Rotary};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionBias, AttentionMask, Decoder};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.FalconConfig
pub struct FalconConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub num_hidden_layers: Count,
    pub num_attention_heads: Size,
    pub num_ln_in_parallel_attn: Option<usize>,
    pub layer_norm_epsilon: f64,
    pub initializer_range: f64,
    pub hidden_dropout: Probability,
    pub attention_dropout: Probability,
    pub num_kv_heads: Option<Size>,
    pub alibi: bool,
    pub new_decoder_architecture: bool,
    pub multi_query: bool,
    pub parallel_attn: bool,
    pub bias: bool,
    pub max_position_embeddings: Size,
    pub rope_theta: f64,
    pub ffn_hidden_size: Option<Size>,
    pub activation: Activation,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.FalconConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 65024, "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
        "num_ln_in_parallel_attn": null, "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "use_cache": true,
        "hidden_dropout": 0.0, "attention_dropout": 0.0, "alibi": false,
        "new_decoder_architecture": false, "multi_query": true, "parallel_attn": true, "bias": false,
        "max_position_embeddings": 2048, "rope_theta": 10000.0, "rope_scaling": null, "bos_token_id": 11,
        "eos_token_id": 11, "activation": "gelu",
    })
}

/// The entry of the list.
pub static FALCON: Family = Family {
    model_type: "falcon",
    class: "FalconForCausalLM",
    base_model_prefix: "transformer",
    ties: &[("lm_head.weight", "transformer.word_embeddings.weight")],
    // Once each layer had them.
    ignore_unexpected: &["rotary_emb.inv_freq"],
    derived,
    // The name of early files.
    aliases: &[("n_embed", "hidden_size")],
    computes_positions: true,
    ..Family::new(Task::Clm, defaults, build)
};

/// Sizes that follow from others, unless they are said.
fn derived(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let Ok(parsed) = config.parse::<FalconConfig>() else { return Vec::new() };
    let kv_heads = parsed.num_kv_heads.unwrap_or(parsed.num_attention_heads).get();
    let norms = parsed.norms().map(|norms| ("num_ln_in_parallel_attn", norms.into()));
    let sizes = [("num_kv_heads", kv_heads.into()), ("ffn_hidden_size", parsed.inner().into())];
    sizes.into_iter().chain(norms).collect()
}

/// How queries, keys and values lie in what one product makes of a row: so many groups of so many queries' heads, each
/// followed by a head of keys and one of values.
#[derive(Clone, Copy, Debug)]
struct Packing {
    groups: usize,
    queries: usize,
}

impl FalconConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let parsed: Self = config.parse()?;
        let heads = parsed.num_attention_heads;
        config.expect_divisible("hidden_size", parsed.hidden_size, "num_attention_heads", heads)?;
        let kv_heads = parsed.num_kv_heads.unwrap_or(heads);
        if parsed.new_decoder_architecture {
            config.expect_divisible("num_attention_heads", heads, "num_kv_heads", kv_heads)?;
            config.require("parallel_attn", &[true.into()], " with `new_decoder_architecture`; only `true` is")?;
            let one_or_two = " with `new_decoder_architecture`; only 1 and 2 are";
            config.require("num_ln_in_parallel_attn", &[1.into(), 2.into()], one_or_two)?;
        } else {
            let hint = " without `new_decoder_architecture`; only 1 is";
            config.require("num_ln_in_parallel_attn", &[1.into()], hint)?;
            if !parsed.multi_query && kv_heads != heads {
                let hint = " without `multi_query` and `new_decoder_architecture`; only as many as queries have are";
                config.require("num_kv_heads", &[heads.get().into()], hint)?;
            }
        }
        Ok(parsed)
    }

    /// Norms ahead of the two halves of a layer; none where it goes without saying.
    fn norms(&self) -> Option<usize> {
        self.num_ln_in_parallel_attn.or(self.new_decoder_architecture.then_some(2))
    }

    fn inner(&self) -> usize {
        self.ffn_hidden_size.map_or(4 * self.hidden_size.get(), Size::get)
    }

    fn packing(&self) -> Packing {
        let heads = self.num_attention_heads;
        let groups = match (self.new_decoder_architecture, self.multi_query) {
            (true, _) => self.num_kv_heads.unwrap_or(heads).get(),
            (false, true) => 1,
            (false, false) => heads.get(),
        };
        Packing { groups, queries: heads.get() / groups }
    }

    fn attention(&self) -> Attention {
        let heads = self.num_attention_heads.get();
        // Where positions turn queries and keys, Python drops nothing.
        let dropout = if self.alibi { self.attention_dropout.get() } else { 0.0 };
        let options = Attention::new(heads, self.hidden_size.get() / heads, AttentionMask::Causal, dropout);
        Attention { kv_heads: self.packing().groups, ..options }
    }

    /// What is added to the scores of keys at positions up to `longest`: linear but for Python's rounding to 16 bits, and
    /// scaled as the scores are (`build_alibi_tensor`).
    fn biases(&self, longest: usize, device: &Device) -> Tensor<2> {
        let (slopes, scale) = (ops::alibi_slopes(self.num_attention_heads.get()), self.attention().scale as f32);
        let round = |value: f32| bf16::from_f32(value).to_f32();
        let biases = slopes
            .iter()
            .flat_map(|&slope| (0..longest).map(move |position| scale * round(round(slope) * round(position as f32))));
        Tensor::from_data(TensorData::new(biases.collect::<Vec<f32>>(), [slopes.len(), longest]), device)
    }
}

/// How a model tells where its rows stand: one of both.
#[derive(Debug)]
pub struct Places {
    /// By which queries and keys are turned.
    angles: Option<Angles>,
    /// What is added to the scores.
    bias: AttentionBias,
}

#[derive(Module, Debug)]
struct FalconAttention {
    query_key_value: Linear,
    dense: Linear,
}

#[derive(Module, Debug)]
struct FalconMlp {
    dense_h_to_4h: Linear,
    dense_4h_to_h: Linear,
}

/// One layer.
#[derive(Module, Debug)]
pub struct FalconDecoderLayer {
    self_attention: FalconAttention,
    mlp: FalconMlp,
    /// Ahead of attention, and of the other half if both see the same.
    input_layernorm: Option<LayerNorm>,
    /// Ahead of the other half where it comes after attention.
    post_attention_layernorm: Option<LayerNorm>,
    /// One for each half.
    ln_attn: Option<LayerNorm>,
    ln_mlp: Option<LayerNorm>,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    packing: Packing,
    #[module(skip)]
    index: usize,
}

impl FalconDecoderLayer {
    fn new(config: &FalconConfig, index: usize, builder: &Builder) -> Self {
        let (size, inner, packing) = (config.hidden_size.get(), config.inner(), config.packing());
        let packed = packing.groups * (packing.queries + 2) * (size / config.num_attention_heads.get());
        let linear = |inputs, outputs| Linear::with_bias(inputs, outputs, config.bias, builder);
        let norm = |wanted: bool| wanted.then(|| LayerNorm::new(size, config.layer_norm_epsilon, builder));
        let two = config.norms() == Some(2);
        Self {
            self_attention: FalconAttention { query_key_value: linear(size, packed), dense: linear(size, size) },
            mlp: FalconMlp { dense_h_to_4h: linear(size, inner), dense_4h_to_h: linear(inner, size) },
            input_layernorm: norm(!two),
            post_attention_layernorm: norm(!config.parallel_attn),
            ln_attn: norm(two),
            ln_mlp: norm(two),
            options: config.attention(),
            packing,
            index,
        }
    }

    fn attend(&self, x: Tensor<2>, places: &Places, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let Packing { groups, queries } = self.packing;
        let qkv = self.self_attention.query_key_value.forward(x, mode);
        let dim = qkv.dims()[1] / (groups * (queries + 2));
        let [q, k, v] = ops::columns(qkv, groups, [queries * dim, dim, dim], mode);
        let turned = |x: Tensor<2>, heads| match &places.angles {
            Some(angles) => angles.turn(x, heads, mode),
            None => x,
        };
        let qkv = [turned(q, self.options.heads), turned(k, groups), v];
        let options = Attention { bias: places.bias.clone(), ..self.options.clone() };
        self.self_attention.dense.forward(context.attend(self.index, qkv, &options, mode), mode)
    }

    fn forward(
        &self,
        x: Tensor<2>,
        config: &FalconConfig,
        places: &Places,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        let norm = |norm: &Option<LayerNorm>, x: &Tensor<2>| norm.as_ref().map(|norm| norm.forward(x.clone(), mode));
        let think = |x: Tensor<2>| {
            let wide = self.mlp.dense_h_to_4h.forward(x, mode);
            self.mlp.dense_4h_to_h.forward_activated(wide, config.activation, mode)
        };
        let normed = norm(&self.input_layernorm, &x).or_else(|| norm(&self.ln_attn, &x)).unwrap_or_else(|| x.clone());
        let attended = self.attend(normed.clone(), places, context, mode);
        match &self.post_attention_layernorm {
            Some(post_attention) => {
                // As Python has it, by the probability that is meant for attention weights.
                let x = ops::dropout_add(attended, x, config.attention_dropout.get(), mode);
                let thought = think(post_attention.forward(x.clone(), mode));
                ops::dropout_add(thought, x, config.hidden_dropout.get(), mode)
            }
            None => {
                let thought = think(norm(&self.ln_mlp, &x).unwrap_or(normed));
                let both = ops::add(thought, attended, mode);
                ops::dropout_add(both, x, config.hidden_dropout.get(), mode)
            }
        }
    }
}

#[derive(Module, Debug)]
struct FalconModel {
    word_embeddings: Embedding,
    h: Vec<FalconDecoderLayer>,
    ln_f: LayerNorm,
}

/// `transformers.FalconForCausalLM`
#[derive(Module, Debug)]
pub struct FalconForCausalLM {
    transformer: FalconModel,
    lm_head: LmHead,
    /// None where biases tell distances.
    #[module(skip)]
    rotary: Option<Rotary>,
    #[module(skip)]
    config: FalconConfig,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let parsed = FalconConfig::new(config)?;
    let dim = parsed.hidden_size.get() / parsed.num_attention_heads.get();
    let rotary = (!parsed.alibi).then(|| Rotary::scaled(config, parsed.rope_theta, dim)).transpose()?;
    let config = parsed;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let layers = 0..config.num_hidden_layers.get();
    let model = FalconForCausalLM {
        transformer: FalconModel {
            word_embeddings: Embedding::new(vocab, size, builder),
            h: layers.map(|index| FalconDecoderLayer::new(&config, index, builder)).collect(),
            ln_f: LayerNorm::new(size, config.layer_norm_epsilon, builder),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        rotary,
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for FalconForCausalLM {
    type Layer = FalconDecoderLayer;
    type Places = Places;

    fn max_positions(&self) -> usize {
        self.config.max_position_embeddings.get()
    }

    fn places(&self, positions: Tensor<1, Int>, longest: usize) -> Places {
        let bias = match self.rotary {
            Some(_) => AttentionBias::None,
            None => AttentionBias::Keys(self.config.biases(longest, &positions.device())),
        };
        Places { angles: self.rotary.as_ref().map(|rotary| rotary.angles(positions, longest)), bias }
    }

    fn words(&self) -> &Embedding {
        &self.transformer.word_embeddings
    }

    fn layers(&self) -> &[FalconDecoderLayer] {
        &self.transformer.h
    }

    fn layer(
        &self,
        layer: &FalconDecoderLayer,
        x: Tensor<2>,
        places: &Places,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        layer.forward(x, &self.config, places, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.transformer.ln_f.forward(x, mode)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.transformer.word_embeddings)
    }
}
