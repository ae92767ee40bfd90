//! BioGPT (Luo et al., 2022), whose layers are OPT's: `BioGptForCausalLM`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::opt::{OPTConfig, OPTDecoderLayer, add_positions, positions};
use crate::blocks::{Embedding, LayerNorm, LmHead};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Decoder};
use crate::parameters::Builder;

/// The fields of config.json that the computation depends on. `layer_norm_eps` is none of them: Python's norms don't ask.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.BioGptConfig
pub struct BioGptConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub num_hidden_layers: Count,
    pub num_attention_heads: Size,
    pub intermediate_size: Size,
    pub hidden_act: Activation,
    pub hidden_dropout_prob: Probability,
    pub attention_probs_dropout_prob: Probability,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub scale_embedding: bool,
    pub activation_dropout: Probability,
    pub pad_token_id: Option<usize>,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.BioGptConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 42384, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 1024, "initializer_range": 0.02,
        "layer_norm_eps": 1e-12, "scale_embedding": true, "use_cache": true, "layerdrop": 0.0,
        "activation_dropout": 0.0, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    })
}

/// The entry of the list.
pub static BIOGPT: Family = Family {
    model_type: "biogpt",
    class: "BioGptForCausalLM",
    base_model_prefix: "biogpt",
    ties: &[("output_projection.weight", "biogpt.embed_tokens.weight")],
    ..Family::new(Task::Clm, defaults, build)
};

impl BioGptConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        config.require("layerdrop", &[0.0.into(), 0.into()], "; only 0 is: leave no layer out")?;
        let parsed: Self = config.parse()?;
        config.expect_divisible(
            "hidden_size",
            parsed.hidden_size,
            "num_attention_heads",
            parsed.num_attention_heads,
        )?;
        Ok(parsed)
    }

    fn opt(&self) -> OPTConfig {
        OPTConfig {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            ffn_dim: self.intermediate_size,
            max_position_embeddings: self.max_position_embeddings,
            do_layer_norm_before: true,
            remove_final_layer_norm: false,
            word_embed_proj_dim: None,
            dropout: self.hidden_dropout_prob,
            attention_dropout: self.attention_probs_dropout_prob,
            activation_dropout: self.activation_dropout.get(),
            num_attention_heads: self.num_attention_heads,
            activation_function: self.hidden_act,
            init_std: self.initializer_range,
            pad_token_id: self.pad_token_id,
            enable_bias: true,
            layer_norm_elementwise_affine: true,
            tie_word_embeddings: self.tie_word_embeddings,
        }
    }
}

#[derive(Module, Debug)]
struct BioGptModel {
    embed_tokens: Embedding,
    embed_positions: Embedding,
    layers: Vec<OPTDecoderLayer>,
    layer_norm: LayerNorm,
}

/// `transformers.BioGptForCausalLM`
#[derive(Module, Debug)]
pub struct BioGptForCausalLM {
    biogpt: BioGptModel,
    output_projection: LmHead,
    #[module(skip)]
    config: BioGptConfig,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = BioGptConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (opt, vocab, size) = (&config.opt(), config.vocab_size.get(), config.hidden_size.get());
    let words = Embedding::padded(vocab, size, config.pad_token_id, builder);
    let model = BioGptForCausalLM {
        biogpt: BioGptModel {
            embed_tokens: if config.scale_embedding { words.scaled((size as f64).sqrt()) } else { words },
            embed_positions: opt.embed_positions(builder),
            layers: (0..config.num_hidden_layers.get())
                .map(|index| OPTDecoderLayer::new(opt, index, builder))
                .collect(),
            layer_norm: opt.layer_norm(builder),
        },
        output_projection: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for BioGptForCausalLM {
    type Layer = OPTDecoderLayer;
    type Places = Tensor<1, Int>;

    fn max_positions(&self) -> usize {
        self.config.max_position_embeddings.get()
    }

    fn positions(&self, inputs: &ModelInputs) -> Tensor<1, Int> {
        positions(inputs)
    }

    fn places(&self, positions: Tensor<1, Int>, _: usize) -> Tensor<1, Int> {
        positions
    }

    fn words(&self) -> &Embedding {
        &self.biogpt.embed_tokens
    }

    fn embed(&self, words: Tensor<2>, positions: &Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        let x = add_positions(words, &self.biogpt.embed_positions, positions, mode);
        ops::dropout(x, self.config.hidden_dropout_prob.get(), mode)
    }

    fn layers(&self) -> &[OPTDecoderLayer] {
        &self.biogpt.layers
    }

    fn layer(
        &self,
        layer: &OPTDecoderLayer,
        x: Tensor<2>,
        _: &Tensor<1, Int>,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2> {
        layer.forward(x, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.biogpt.layer_norm.forward(x, mode)
    }

    fn decoder(&self) -> Decoder {
        self.output_projection.decoder(&self.biogpt.embed_tokens)
    }
}
