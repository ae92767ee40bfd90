//! StarCoder2 (Lozhkov et al., 2024): `Starcoder2ForCausalLM`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{
    Angles, Embedding, GroupedAttention, GroupedHeads, LayerNorm, Linear, LmHead, Rotary, causal_window,
};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, AttentionMask, Decoder};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.Starcoder2Config
pub struct Starcoder2Config {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub intermediate_size: Size,
    pub num_hidden_layers: Count,
    pub hidden_act: Activation,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub norm_epsilon: f64,
    pub rope_theta: f64,
    pub sliding_window: Option<Size>,
    pub attention_dropout: Probability,
    pub residual_dropout: Probability,
    pub embedding_dropout: Probability,
    pub use_bias: bool,
    pub pad_token_id: Option<usize>,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.Starcoder2Config()`
fn defaults() -> Value {
    json!({
        "vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288, "num_hidden_layers": 30,
        "num_attention_heads": 24, "num_key_value_heads": 2, "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 4096, "initializer_range": 0.018042, "norm_epsilon": 1e-5, "use_cache": true,
        "bos_token_id": 50256, "eos_token_id": 50256, "rope_theta": 10000.0, "rope_scaling": null,
        "sliding_window": null, "attention_dropout": 0.0, "residual_dropout": 0.0, "embedding_dropout": 0.0,
        "use_bias": true,
    })
}

/// The entry of the list.
pub static STARCODER2: Family = Family {
    model_type: "starcoder2",
    class: "Starcoder2ForCausalLM",
    base_model_prefix: "model",
    ties: &[("lm_head.weight", "model.embed_tokens.weight")],
    // Once each layer had them.
    ignore_unexpected: &["rotary_emb.inv_freq"],
    computes_positions: true,
    ..Family::new(Task::Clm, defaults, build)
};

#[derive(Module, Debug)]
struct Starcoder2Mlp {
    c_fc: Linear,
    c_proj: Linear,
}

/// One layer.
#[derive(Module, Debug)]
pub struct Starcoder2DecoderLayer {
    self_attn: GroupedAttention,
    mlp: Starcoder2Mlp,
    input_layernorm: LayerNorm,
    post_attention_layernorm: LayerNorm,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: f64,
}

impl Starcoder2DecoderLayer {
    fn new(config: &Starcoder2Config, heads: &GroupedHeads, index: usize, builder: &Builder) -> Self {
        let (size, inner, biases) = (config.hidden_size.get(), config.intermediate_size.get(), config.use_bias);
        let mask = config.sliding_window.map_or(AttentionMask::Causal, causal_window);
        let options = heads.attention(mask, config.attention_dropout.get());
        Self {
            self_attn: GroupedAttention::new(size, heads.head_dim, [biases; 2], options, index, builder),
            mlp: Starcoder2Mlp {
                c_fc: Linear::with_bias(size, inner, biases, builder),
                c_proj: Linear::with_bias(inner, size, biases, builder),
            },
            input_layernorm: LayerNorm::new(size, config.norm_epsilon, builder),
            post_attention_layernorm: LayerNorm::new(size, config.norm_epsilon, builder),
            activation: config.hidden_act,
            dropout: config.residual_dropout.get(),
        }
    }

    fn forward(&self, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let attended =
            self.self_attn.forward(self.input_layernorm.forward(x.clone(), mode), Some(angles), context, mode);
        let x = ops::dropout_add(attended, x, self.dropout, mode);
        let wide = self.mlp.c_fc.forward(self.post_attention_layernorm.forward(x.clone(), mode), mode);
        let narrow = self.mlp.c_proj.forward_activated(wide, self.activation, mode);
        ops::dropout_add(narrow, x, self.dropout, mode)
    }
}

#[derive(Module, Debug)]
struct Starcoder2Model {
    embed_tokens: Embedding,
    layers: Vec<Starcoder2DecoderLayer>,
    norm: LayerNorm,
}

/// `transformers.Starcoder2ForCausalLM`
#[derive(Module, Debug)]
pub struct Starcoder2ForCausalLM {
    model: Starcoder2Model,
    lm_head: LmHead,
    #[module(skip)]
    rotary: Rotary,
    #[module(skip)]
    config: Starcoder2Config,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let heads = &GroupedHeads::new(config)?;
    let parsed: Starcoder2Config = config.parse()?;
    let rotary = Rotary::of_heads(config, parsed.rope_theta, heads.head_dim)?;
    let config = parsed;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let layers = 0..config.num_hidden_layers.get();
    let model = Starcoder2ForCausalLM {
        model: Starcoder2Model {
            embed_tokens: Embedding::padded(vocab, size, config.pad_token_id, builder),
            layers: layers.map(|index| Starcoder2DecoderLayer::new(&config, heads, index, builder)).collect(),
            norm: LayerNorm::new(size, config.norm_epsilon, builder),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        rotary,
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for Starcoder2ForCausalLM {
    type Layer = Starcoder2DecoderLayer;
    type Places = Angles;

    fn max_positions(&self) -> usize {
        self.config.max_position_embeddings.get()
    }

    fn places(&self, positions: Tensor<1, Int>, longest: usize) -> Angles {
        self.rotary.angles(positions, longest)
    }

    fn words(&self) -> &Embedding {
        &self.model.embed_tokens
    }

    fn embed(&self, words: Tensor<2>, _: &Angles, mode: &Mode) -> Tensor<2> {
        ops::dropout(words, self.config.embedding_dropout.get(), mode)
    }

    fn layers(&self) -> &[Starcoder2DecoderLayer] {
        &self.model.layers
    }

    fn layer(
        &self,
        layer: &Starcoder2DecoderLayer,
        x: Tensor<2>,
        angles: &Angles,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        layer.forward(x, angles, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.model.norm.forward(x, mode)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.model.embed_tokens)
    }
}
