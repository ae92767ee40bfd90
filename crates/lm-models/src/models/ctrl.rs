//! CTRL (Keskar et al., 2019): `CTRLLMHeadModel`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;
use serde_json::{Value, json};

use super::gpt2::ALIASES;
use crate::blocks::{Embedding, LayerNorm, Linear, LmHead, projections};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;

/// Of the norms within layers, fixed in Python's code.
const LAYER_NORM_EPS: f64 = 1e-6;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.CTRLConfig
pub struct CTRLConfig {
    pub vocab_size: Size,
    pub n_positions: Size,
    pub n_embd: Size,
    pub dff: Size,
    pub n_layer: Count,
    pub n_head: Size,
    pub resid_pdrop: Probability,
    pub embd_pdrop: Probability,
    pub layer_norm_epsilon: f64,
    pub initializer_range: f64,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.CTRLConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 246534, "n_positions": 256, "n_embd": 1280, "dff": 8192, "n_layer": 48, "n_head": 16,
        "resid_pdrop": 0.1, "embd_pdrop": 0.1, "layer_norm_epsilon": 1e-6, "initializer_range": 0.02,
        "use_cache": true,
    })
}

/// The entry of the list.
pub static CTRL: Family = Family {
    model_type: "ctrl",
    class: "CTRLLMHeadModel",
    base_model_prefix: "transformer",
    ties: &[("lm_head.weight", "transformer.w.weight")],
    aliases: ALIASES,
    ..Family::new(Task::Clm, defaults, build)
};

#[derive(Module, Debug)]
struct MultiHeadAttention {
    w_q: Linear,
    w_k: Linear,
    w_v: Linear,
    dense: Linear,
}

#[derive(Module, Debug)]
struct FeedForward {
    widen: Linear,
    narrow: Linear,
}

/// One layer.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    multi_head_attention: MultiHeadAttention,
    ffn: FeedForward,
    layernorm1: LayerNorm,
    layernorm2: LayerNorm,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    dropout: f64,
    #[module(skip)]
    index: usize,
}

impl EncoderLayer {
    fn new(config: &CTRLConfig, index: usize, builder: &Builder) -> Self {
        let (size, heads, inner) = (config.n_embd.get(), config.n_head.get(), config.dff.get());
        let linear = || Linear::new(size, size, builder);
        Self {
            multi_head_attention: MultiHeadAttention { w_q: linear(), w_k: linear(), w_v: linear(), dense: linear() },
            ffn: FeedForward { widen: Linear::new(size, inner, builder), narrow: Linear::new(inner, size, builder) },
            layernorm1: LayerNorm::new(size, LAYER_NORM_EPS, builder),
            layernorm2: LayerNorm::new(size, LAYER_NORM_EPS, builder),
            // Nothing is dropped in attention.
            options: Attention::new(heads, size / heads, AttentionMask::Causal, 0.0),
            dropout: config.resid_pdrop.get(),
            index,
        }
    }

    fn forward(&self, x: Tensor<2>, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let MultiHeadAttention { w_q, w_k, w_v, dense } = &self.multi_head_attention;
        let qkv = projections([w_q, w_k, w_v], self.layernorm1.forward(x.clone(), mode), mode);
        let attended = dense.forward(context.attend(self.index, qkv, &self.options, mode), mode);
        let x = ops::dropout_add(attended, x, self.dropout, mode);
        let wide = self.ffn.widen.forward(self.layernorm2.forward(x.clone(), mode), mode);
        let narrow = self.ffn.narrow.forward(Activation::Relu.forward(wide, mode), mode);
        ops::dropout_add(narrow, x, self.dropout, mode)
    }
}

#[derive(Module, Debug)]
struct CTRLModel {
    w: Embedding,
    h: Vec<EncoderLayer>,
    layernorm: LayerNorm,
}

/// `transformers.CTRLLMHeadModel`
#[derive(Module, Debug)]
pub struct CTRLLMHeadModel {
    transformer: CTRLModel,
    lm_head: LmHead,
    #[module(skip)]
    config: CTRLConfig,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let parsed: CTRLConfig = config.parse()?;
    config.expect_divisible("n_embd", parsed.n_embd, "n_head", parsed.n_head)?;
    let config = parsed;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.n_embd.get());
    let model = CTRLLMHeadModel {
        transformer: CTRLModel {
            w: Embedding::new(vocab, size, builder),
            h: (0..config.n_layer.get()).map(|index| EncoderLayer::new(&config, index, builder)).collect(),
            layernorm: LayerNorm::new(size, config.layer_norm_epsilon, builder),
        },
        lm_head: LmHead::with_bias(vocab, size, config.tie_word_embeddings, builder),
        config,
    };
    Ok(AutoModel::new(model, builder))
}

/// Sinusoids of the positions up to `longest`, [longest, dim]: column i turns as those of Vaswani et al., but all sines stand
/// before all cosines (`positional_encoding`). In float32, as Python computes them.
fn positional_encoding(longest: usize, dim: usize, device: &Device) -> Tensor<2> {
    let columns = (0..dim).step_by(2).chain((1..dim).step_by(2));
    let rates: Vec<(bool, f32)> = columns
        .map(|column| (column % 2 == 0, 1.0 / 10000f32.powf((column - column % 2) as f32 / dim as f32)))
        .collect();
    let value = |position: usize, &(sine, rate): &(bool, f32)| {
        let angle = position as f32 * rate;
        if sine { angle.sin() } else { angle.cos() }
    };
    let values = (0..longest).flat_map(|position| rates.iter().map(move |rate| value(position, rate)));
    Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), [longest, dim]), device)
}

impl CausalTransformer for CTRLLMHeadModel {
    const RENAMES: &'static [(&'static str, &'static str)] =
        &[("w_q", "Wq"), ("w_k", "Wk"), ("w_v", "Wv"), ("widen", "0"), ("narrow", "2")];

    type Layer = EncoderLayer;
    /// The encoding of each row's position, [rows, hidden].
    type Places = Tensor<2>;

    fn max_positions(&self) -> usize {
        self.config.n_positions.get()
    }

    fn places(&self, positions: Tensor<1, Int>, longest: usize) -> Tensor<2> {
        positional_encoding(longest, self.config.n_embd.get(), &positions.device()).select(0, positions)
    }

    fn words(&self) -> &Embedding {
        &self.transformer.w
    }

    fn embed(&self, words: Tensor<2>, encoding: &Tensor<2>, mode: &Mode) -> Tensor<2> {
        let x = words * (self.config.n_embd.get() as f64).sqrt() + encoding.clone();
        ops::dropout(x, self.config.embd_pdrop.get(), mode)
    }

    fn layers(&self) -> &[EncoderLayer] {
        &self.transformer.h
    }

    fn layer(
        &self,
        layer: &EncoderLayer,
        x: Tensor<2>,
        _: &Tensor<2>,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        layer.forward(x, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.transformer.layernorm.forward(x, mode)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.transformer.w)
    }
}
