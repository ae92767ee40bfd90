//! BLOOM (Scao et al., 2022): `BloomForCausalLM`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Embedding, LayerNorm, Linear, LmHead};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::Mode;
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionBias, AttentionMask, Decoder};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.BloomConfig
pub struct BloomConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub n_layer: Count,
    pub n_head: Size,
    pub layer_norm_epsilon: f64,
    pub initializer_range: f64,
    pub apply_residual_connection_post_layernorm: bool,
    pub hidden_dropout: Probability,
    pub attention_dropout: Probability,
    pub pretraining_tp: Count,
    pub slow_but_exact: bool,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.BloomConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 250880, "hidden_size": 64, "n_layer": 2, "n_head": 8, "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02, "use_cache": true, "bos_token_id": 1, "eos_token_id": 2,
        "apply_residual_connection_post_layernorm": false, "hidden_dropout": 0.0, "attention_dropout": 0.0,
        "pretraining_tp": 1, "slow_but_exact": false,
    })
}

/// The entry of the list.
pub static BLOOM: Family = Family {
    model_type: "bloom",
    class: "BloomForCausalLM",
    base_model_prefix: "transformer",
    ties: &[("lm_head.weight", "transformer.word_embeddings.weight")],
    // The last is that of early files.
    aliases: &[("num_hidden_layers", "n_layer"), ("num_attention_heads", "n_head"), ("n_embed", "hidden_size")],
    max_positions: |_| None,
    ..Family::new(Task::Clm, defaults, build)
};

impl BloomConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let parsed: Self = config.parse()?;
        config.expect_divisible("hidden_size", parsed.hidden_size, "n_head", parsed.n_head)?;
        Ok(parsed)
    }

    /// The projections onto the residual stream. Python adds no bias where it adds up what several machines had of them
    /// in training.
    fn project(&self, layer: &Linear, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let summed = self.slow_but_exact && self.pretraining_tp.get() > 1;
        let bias = layer.bias.as_ref().filter(|_| !summed).map(Param::val);
        layer.forward_with(x, bias, mode)
    }
}

#[derive(Module, Debug)]
struct BloomAttention {
    query_key_value: Linear,
    dense: Linear,
}

#[derive(Module, Debug)]
struct BloomMlp {
    dense_h_to_4h: Linear,
    dense_4h_to_h: Linear,
}

/// One layer.
#[derive(Module, Debug)]
pub struct BloomBlock {
    input_layernorm: LayerNorm,
    self_attention: BloomAttention,
    post_attention_layernorm: LayerNorm,
    mlp: BloomMlp,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    index: usize,
}

impl BloomBlock {
    fn new(config: &BloomConfig, index: usize, builder: &Builder) -> Self {
        let (size, heads) = (config.hidden_size.get(), config.n_head.get());
        let norm = || LayerNorm::new(size, config.layer_norm_epsilon, builder);
        let options = Attention::new(heads, size / heads, AttentionMask::Causal, config.attention_dropout.get());
        Self {
            input_layernorm: norm(),
            self_attention: BloomAttention {
                query_key_value: Linear::new(size, 3 * size, builder),
                dense: Linear::new(size, size, builder),
            },
            post_attention_layernorm: norm(),
            mlp: BloomMlp {
                dense_h_to_4h: Linear::new(size, 4 * size, builder),
                dense_4h_to_h: Linear::new(4 * size, size, builder),
            },
            options: Attention { bias: AttentionBias::Alibi(ops::alibi_slopes(heads)), ..options },
            index,
        }
    }

    fn forward(&self, x: Tensor<2>, config: &BloomConfig, context: &mut Context, mode: &Mode) -> Tensor<2> {
        let (heads, dropout) = (self.options.heads, config.hidden_dropout.get());
        let residual = |x: Tensor<2>, normed: &Tensor<2>| match config.apply_residual_connection_post_layernorm {
            true => normed.clone(),
            false => x,
        };
        let normed = self.input_layernorm.forward(x.clone(), mode);
        let residual_of_attention = residual(x, &normed);
        let qkv = self.self_attention.query_key_value.forward(normed, mode);
        let dim = qkv.dims()[1] / (3 * heads);
        let attended = context.attend(self.index, ops::columns(qkv, heads, [dim; 3], mode), &self.options, mode);
        let attended = config.project(&self.self_attention.dense, attended, mode);
        let x = ops::dropout_add(attended, residual_of_attention, dropout, mode);

        let normed = self.post_attention_layernorm.forward(x.clone(), mode);
        let residual_of_mlp = residual(x, &normed);
        let wide = Activation::GeluNew.forward(self.mlp.dense_h_to_4h.forward(normed, mode), mode);
        let narrow = config.project(&self.mlp.dense_4h_to_h, wide, mode);
        ops::dropout_add(narrow, residual_of_mlp, dropout, mode)
    }
}

#[derive(Module, Debug)]
struct BloomModel {
    word_embeddings: Embedding,
    word_embeddings_layernorm: LayerNorm,
    h: Vec<BloomBlock>,
    ln_f: LayerNorm,
}

/// `transformers.BloomForCausalLM`
#[derive(Module, Debug)]
pub struct BloomForCausalLM {
    transformer: BloomModel,
    lm_head: LmHead,
    #[module(skip)]
    config: BloomConfig,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = BloomConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let norm = || LayerNorm::new(size, config.layer_norm_epsilon, builder);
    let model = BloomForCausalLM {
        transformer: BloomModel {
            word_embeddings: Embedding::new(vocab, size, builder),
            word_embeddings_layernorm: norm(),
            h: (0..config.n_layer.get()).map(|index| BloomBlock::new(&config, index, builder)).collect(),
            ln_f: norm(),
        },
        lm_head: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for BloomForCausalLM {
    type Layer = BloomBlock;
    type Places = ();

    /// Distances have no end.
    fn max_positions(&self) -> usize {
        usize::MAX
    }

    fn places(&self, _: Tensor<1, Int>, _: usize) {}

    fn words(&self) -> &Embedding {
        &self.transformer.word_embeddings
    }

    fn embed(&self, words: Tensor<2>, _: &(), mode: &Mode) -> Tensor<2> {
        self.transformer.word_embeddings_layernorm.forward(words, mode)
    }

    fn layers(&self) -> &[BloomBlock] {
        &self.transformer.h
    }

    fn layer(&self, block: &BloomBlock, x: Tensor<2>, _: &(), context: &mut Context, mode: &Mode) -> Tensor<2> {
        block.forward(x, &self.config, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.transformer.ln_f.forward(x, mode)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.transformer.word_embeddings)
    }
}
