//! XLM (Conneau and Lample, 2019) and FlauBERT (Le et al., 2020): `XLMWithLMHeadModel`, `FlaubertWithLMHeadModel`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Embedding, LayerNorm, Linear, LmHead, projections};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;
use crate::stages::Stages;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.XLMConfig, transformers.FlaubertConfig
pub struct XLMConfig {
    pub vocab_size: Size,
    pub emb_dim: Size,
    pub n_layers: Count,
    pub n_heads: Size,
    pub dropout: Probability,
    pub attention_dropout: Probability,
    pub gelu_activation: bool,
    pub sinusoidal_embeddings: bool,
    pub n_langs: Count,
    pub use_lang_emb: bool,
    pub max_position_embeddings: Size,
    pub embed_init_std: f64,
    pub layer_norm_eps: f64,
    pub init_std: f64,
    pub pad_index: usize,
    /// FlauBERT's: whether layers normalise what they are given, not what they give.
    #[serde(default)]
    pub pre_norm: bool,
    /// FlauBERT's: how often training leaves out a layer (Fan et al., 2020).
    pub layerdrop: Option<Probability>,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.XLMConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 30145, "emb_dim": 2048, "n_layers": 12, "n_heads": 16, "dropout": 0.1,
        "attention_dropout": 0.1, "gelu_activation": true, "sinusoidal_embeddings": false, "causal": false,
        "asm": false, "n_langs": 1, "use_lang_emb": true, "max_position_embeddings": 512,
        "embed_init_std": 0.02209708691207961, "layer_norm_eps": 1e-12, "init_std": 0.02, "bos_index": 0,
        "eos_index": 1, "pad_index": 2, "unk_index": 3, "mask_index": 5, "is_encoder": true, "summary_type": "first",
        "summary_use_proj": true, "summary_activation": null, "summary_proj_to_labels": true,
        "summary_first_dropout": 0.1, "start_n_top": 5, "end_n_top": 5, "mask_token_id": 0, "lang_id": 0,
        "pad_token_id": 2, "bos_token_id": 0,
    })
}

/// `transformers.FlaubertConfig()`
fn defaults_of_flaubert() -> Value {
    let mut defaults = defaults();
    defaults["pre_norm"] = false.into();
    defaults["layerdrop"] = 0.0.into();
    defaults
}

/// The entry of the list.
pub static XLM: Family = Family { model_type: "xlm", class: "XLMWithLMHeadModel", ..RELATIVE };

/// FlauBERT
pub static FLAUBERT: Family = Family {
    model_type: "flaubert",
    class: "FlaubertWithLMHeadModel",
    defaults: defaults_of_flaubert,
    build: build_flaubert,
    ..RELATIVE
};

const RELATIVE: Family = Family {
    base_model_prefix: "transformer",
    ties: &[("pred_layer.proj.weight", "transformer.embeddings.weight")],
    buffers: &["transformer.position_ids", "position_ids"],
    aliases: &[
        ("hidden_size", "emb_dim"),
        ("num_attention_heads", "n_heads"),
        ("num_hidden_layers", "n_layers"),
        ("n_words", "vocab_size"),
    ],
    generates: true,
    ..Family::new(Task::Mlm, defaults, build_xlm)
};

impl XLMConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        config.require("asm", &[false.into()], " (adaptive softmax); only `false` is")?;
        config.require("causal", &[false.into()], " in a masked language model")?;
        config.require("is_encoder", &[true.into()], " in a masked language model")?;
        let parsed: Self = config.parse()?;
        config.expect_divisible("emb_dim", parsed.emb_dim, "n_heads", parsed.n_heads)?;
        Ok(parsed)
    }
}

#[derive(Module, Debug)]
struct MultiHeadAttention {
    q_lin: Linear,
    k_lin: Linear,
    v_lin: Linear,
    out_lin: Linear,
}

#[derive(Module, Debug)]
struct FeedForward {
    lin1: Linear,
    lin2: Linear,
}

/// The parts of a layer are with their like of other layers.
#[derive(Module, Debug)]
struct XLMModel {
    position_embeddings: Embedding,
    /// Added where a text says its language, as those of the three programs do not: no gradient.
    lang_embeddings: Option<Embedding>,
    embeddings: Embedding,
    layer_norm_emb: LayerNorm,
    attentions: Vec<MultiHeadAttention>,
    layer_norm1: Vec<LayerNorm>,
    ffns: Vec<FeedForward>,
    layer_norm2: Vec<LayerNorm>,
    #[module(skip)]
    config: XLMConfig,
}

impl XLMModel {
    fn new(config: XLMConfig, builder: &Builder) -> Self {
        let (dim, positions, layers) =
            (config.emb_dim.get(), config.max_position_embeddings.get(), config.n_layers.get());
        let (inner, languages) = (4 * dim, config.n_langs.get());
        let tables = &builder.with_std(config.embed_init_std);
        let linear = || Linear::new(dim, dim, builder);
        let norm = |_| LayerNorm::new(dim, config.layer_norm_eps, builder);
        let attention = |_| MultiHeadAttention { q_lin: linear(), k_lin: linear(), v_lin: linear(), out_lin: linear() };
        let feed_forward =
            |_| FeedForward { lin1: Linear::new(dim, inner, builder), lin2: Linear::new(inner, dim, builder) };
        Self {
            position_embeddings: match config.sinusoidal_embeddings {
                true => Embedding::sinusoidal(positions, dim, builder),
                false => Embedding::new(positions, dim, tables),
            },
            lang_embeddings: (languages > 1 && config.use_lang_emb).then(|| Embedding::new(languages, dim, tables)),
            embeddings: Embedding::padded(config.vocab_size.get(), dim, Some(config.pad_index), tables),
            layer_norm_emb: norm(0),
            attentions: (0..layers).map(attention).collect(),
            layer_norm1: (0..layers).map(norm).collect(),
            ffns: (0..layers).map(feed_forward).collect(),
            layer_norm2: (0..layers).map(norm).collect(),
            config,
        }
    }

    fn embed(&self, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let words = self.embeddings.forward_tokens(inputs, mode);
        let positions = self.position_embeddings.forward(inputs.positions(), mode);
        // Those of `create_sinusoidal_embeddings` are kept with the weights, and never trained.
        let positions = if self.config.sinusoidal_embeddings { positions.detach() } else { positions };
        ops::dropout(self.layer_norm_emb.forward(words + positions, mode), self.config.dropout.get(), mode)
    }

    /// The residual and what attention adds to it.
    fn attend(&self, layer: usize, x: Tensor<2>, residual: Tensor<2>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let (config, heads) = (&self.config, self.config.n_heads.get());
        let head_dim = config.emb_dim.get() / heads;
        let options = Attention::new(heads, head_dim, AttentionMask::Full, config.attention_dropout.get());
        let MultiHeadAttention { q_lin, k_lin, v_lin, out_lin } = &self.attentions[layer];
        let [q, k, v] = projections([q_lin, k_lin, v_lin], x, mode);
        let context = ops::attention(q, k, v, &inputs.sequences, &inputs.sequences, &options, mode);
        ops::dropout_add(out_lin.forward(context, mode), residual, config.dropout.get(), mode)
    }

    /// The residual and what the feed-forward half adds to it.
    fn feed_forward(&self, layer: usize, x: Tensor<2>, residual: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let FeedForward { lin1, lin2 } = &self.ffns[layer];
        let activation = if self.config.gelu_activation { Activation::Gelu } else { Activation::Relu };
        let wide = lin1.forward(x, mode);
        let narrow = lin2.forward_activated(wide, activation, mode);
        ops::dropout_add(narrow, residual, self.config.dropout.get(), mode)
    }

    fn layer(&self, layer: usize, x: Tensor<2>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let (norm1, norm2) = (&self.layer_norm1[layer], &self.layer_norm2[layer]);
        let dropped = |layerdrop: Probability| mode.happens(layerdrop.get());
        if self.config.layerdrop.is_some_and(dropped) {
            x
        } else if self.config.pre_norm {
            let attended = self.attend(layer, norm1.forward(x.clone(), mode), x, inputs, mode);
            self.feed_forward(layer, norm2.forward(attended.clone(), mode), attended, mode)
        } else {
            let attended = norm1.forward(self.attend(layer, x.clone(), x, inputs, mode), mode);
            norm2.forward(self.feed_forward(layer, attended.clone(), attended, mode), mode)
        }
    }
}

#[derive(Module, Debug)]
struct PredLayer {
    proj: LmHead,
}

/// `transformers.XLMWithLMHeadModel`
#[derive(Module, Debug)]
pub struct XLMWithLMHeadModel {
    transformer: XLMModel,
    pred_layer: PredLayer,
}

fn build_xlm(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    build(XLMConfig { pre_norm: false, layerdrop: None, ..XLMConfig::new(config)? }, device)
}

fn build_flaubert(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    build(XLMConfig::new(config)?, device)
}

fn build(config: XLMConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let builder = &Builder::new(device, config.init_std);
    let (vocab, dim, tied) = (config.vocab_size.get(), config.emb_dim.get(), config.tie_word_embeddings);
    let model = XLMWithLMHeadModel {
        transformer: XLMModel::new(config, builder),
        pred_layer: PredLayer { proj: LmHead::with_bias(vocab, dim, tied, builder) },
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for XLMWithLMHeadModel {
    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let model = &self.transformer;
        let embed = |mode: &Mode| [model.embed(inputs, mode)];
        let layers = (0..model.attentions.len())
            .map(move |layer| move |[x]: [Tensor<2>; 1], mode: &Mode| [model.layer(layer, x, inputs, mode)]);
        let head = |[x]: [Tensor<2>; 1], _: &Mode| inputs.sequences.zero_padding(x).select(0, inputs.predicted.clone());
        Stages::new(embed, layers, head)
    }

    fn decoder(&self) -> Decoder {
        self.pred_layer.proj.decoder(&self.transformer.embeddings)
    }
}
