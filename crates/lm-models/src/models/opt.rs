//! OPT (Zhang et al., 2022): `OPTForCausalLM`.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Embedding, LayerNorm, Linear, LmHead, projections};
use crate::cache::Context;
use crate::causal::CausalTransformer;
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;

/// Fixed in Python's code.
const LAYER_NORM_EPS: f64 = 1e-5;

/// Rows of the table of positions before that of position 0.
const OFFSET: usize = 2;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.OPTConfig
pub struct OPTConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub num_hidden_layers: Count,
    pub ffn_dim: Size,
    pub max_position_embeddings: Size,
    pub do_layer_norm_before: bool,
    #[serde(rename = "_remove_final_layer_norm")]
    pub remove_final_layer_norm: bool,
    pub word_embed_proj_dim: Option<Size>,
    pub dropout: Probability,
    pub attention_dropout: Probability,
    /// BioGPT's.
    #[serde(skip)]
    pub activation_dropout: f64,
    pub num_attention_heads: Size,
    pub activation_function: Activation,
    pub init_std: f64,
    pub pad_token_id: Option<usize>,
    pub enable_bias: bool,
    pub layer_norm_elementwise_affine: bool,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.OPTConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50272, "hidden_size": 768, "num_hidden_layers": 12, "ffn_dim": 3072,
        "max_position_embeddings": 2048, "do_layer_norm_before": true, "_remove_final_layer_norm": false,
        "dropout": 0.1, "attention_dropout": 0.0, "num_attention_heads": 12,
        "activation_function": "relu", "layerdrop": 0.0, "init_std": 0.02, "use_cache": true, "pad_token_id": 1,
        "bos_token_id": 2, "eos_token_id": 2, "enable_bias": true, "layer_norm_elementwise_affine": true,
    })
}

/// The entry of the list.
pub static OPT: Family = Family {
    model_type: "opt",
    class: "OPTForCausalLM",
    base_model_prefix: "model",
    ties: &[("lm_head.weight", "model.decoder.embed_tokens.weight")],
    derived,
    ..Family::new(Task::Clm, defaults, build)
};

/// Words are as wide as all else, unless it is said.
fn derived(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let width = config.size("word_embed_proj_dim").or(config.size("hidden_size"));
    width.map(|width| ("word_embed_proj_dim", width.into())).into_iter().collect()
}

impl OPTConfig {
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

    pub(super) fn layer_norm(&self, builder: &Builder) -> LayerNorm {
        let size = self.hidden_size.get();
        match self.layer_norm_elementwise_affine {
            true => LayerNorm::new(size, LAYER_NORM_EPS, builder),
            false => LayerNorm::without_parameters(size, LAYER_NORM_EPS),
        }
    }

    /// The table of positions, with rows before the first.
    pub(super) fn embed_positions(&self, builder: &Builder) -> Embedding {
        Embedding::new(self.max_position_embeddings.get() + OFFSET, self.hidden_size.get(), builder)
    }
}

/// Positions count the tokens that are seen, `cumsum(attention_mask) * attention_mask - 1`: padding that stays is at -1.
pub(super) fn positions(inputs: &ModelInputs) -> Tensor<1, Int> {
    let sequences = &inputs.sequences;
    match (&sequences.key_padding, &sequences.packing) {
        (Some(padding), None) => {
            let seen = padding.clone().bool_not().int();
            let counted = seen.clone().cumsum(1) * seen - 1;
            counted.reshape([sequences.rows()])
        }
        _ => {
            let positions: Vec<i32> = sequences.lengths.iter().flat_map(|&length| 0..length as i32).collect();
            Tensor::from_data(TensorData::new(positions, [sequences.rows()]), &inputs.device)
        }
    }
}

/// `words` [rows, hidden] with the vectors of their positions, `[rows]`.
pub(super) fn add_positions(words: Tensor<2>, table: &Embedding, positions: &Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
    ops::add(words, table.forward(positions.clone() + OFFSET as i32, mode), mode)
}

#[derive(Module, Debug)]
struct OPTAttention {
    k_proj: Linear,
    v_proj: Linear,
    q_proj: Linear,
    out_proj: Linear,
}

/// One layer, BioGPT's as well.
#[derive(Module, Debug)]
pub struct OPTDecoderLayer {
    self_attn: OPTAttention,
    self_attn_layer_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    config: OPTConfig,
    #[module(skip)]
    index: usize,
}

impl OPTDecoderLayer {
    pub(super) fn new(config: &OPTConfig, index: usize, builder: &Builder) -> Self {
        let (size, heads) = (config.hidden_size.get(), config.num_attention_heads.get());
        let dropout = config.attention_dropout.get();
        let linear = |inputs, outputs| Linear::with_bias(inputs, outputs, config.enable_bias, builder);
        Self {
            self_attn: OPTAttention {
                k_proj: linear(size, size),
                v_proj: linear(size, size),
                q_proj: linear(size, size),
                out_proj: linear(size, size),
            },
            self_attn_layer_norm: config.layer_norm(builder),
            fc1: linear(size, config.ffn_dim.get()),
            fc2: linear(config.ffn_dim.get(), size),
            final_layer_norm: config.layer_norm(builder),
            options: Attention::new(heads, size / heads, AttentionMask::Causal, dropout),
            config: config.clone(),
            index,
        }
    }

    pub(super) fn forward(&self, x: Tensor<2>, context: &mut Context, mode: &Mode) -> Tensor<2> {
        // Norms stand before what they are for, or after it (350m).
        let before = |norm: &LayerNorm, x: Tensor<2>| match self.config.do_layer_norm_before {
            true => norm.forward(x, mode),
            false => x,
        };
        let after = |norm: &LayerNorm, x: Tensor<2>| match self.config.do_layer_norm_before {
            true => x,
            false => norm.forward(x, mode),
        };
        let dropout = self.config.dropout.get();
        let OPTAttention { k_proj, v_proj, q_proj, out_proj } = &self.self_attn;
        let qkv = projections([q_proj, k_proj, v_proj], before(&self.self_attn_layer_norm, x.clone()), mode);
        let attended = out_proj.forward(context.attend(self.index, qkv, &self.options, mode), mode);
        let x = after(&self.self_attn_layer_norm, ops::dropout_add(attended, x, dropout, mode));
        let wide = self.fc1.forward(before(&self.final_layer_norm, x.clone()), mode);
        let wide = self.config.activation_function.forward(wide, mode);
        let narrow = self.fc2.forward(ops::dropout(wide, self.config.activation_dropout, mode), mode);
        after(&self.final_layer_norm, ops::dropout_add(narrow, x, dropout, mode))
    }
}

#[derive(Module, Debug)]
struct OPTDecoder {
    embed_tokens: Embedding,
    embed_positions: Embedding,
    /// From the width of words to that of all else.
    project_in: Option<Linear>,
    layers: Vec<OPTDecoderLayer>,
    final_layer_norm: Option<LayerNorm>,
    /// And back.
    project_out: Option<Linear>,
}

#[derive(Module, Debug)]
struct OPTModel {
    decoder: OPTDecoder,
}

/// `transformers.OPTForCausalLM`
#[derive(Module, Debug)]
pub struct OPTForCausalLM {
    model: OPTModel,
    lm_head: LmHead,
    #[module(skip)]
    max_positions: usize,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = OPTConfig::new(config)?;
    let builder = &Builder::new(device, config.init_std);
    let (vocab, size) = (config.vocab_size.get(), config.hidden_size.get());
    let width = config.word_embed_proj_dim.map_or(size, Size::get);
    let ends_with_norm = config.do_layer_norm_before && !config.remove_final_layer_norm;
    let project = |from, to| (width != size).then(|| Linear::without_bias(from, to, builder));
    let decoder = OPTDecoder {
        embed_tokens: Embedding::padded(vocab, width, config.pad_token_id, builder),
        embed_positions: config.embed_positions(builder),
        project_in: project(width, size),
        layers: (0..config.num_hidden_layers.get())
            .map(|index| OPTDecoderLayer::new(&config, index, builder))
            .collect(),
        final_layer_norm: ends_with_norm.then(|| config.layer_norm(builder)),
        project_out: project(size, width),
    };
    let model = OPTForCausalLM {
        model: OPTModel { decoder },
        lm_head: LmHead::new(vocab, width, config.tie_word_embeddings, builder),
        max_positions: config.max_position_embeddings.get(),
    };
    Ok(AutoModel::new(model, builder))
}

impl CausalTransformer for OPTForCausalLM {
    type Layer = OPTDecoderLayer;
    type Places = Tensor<1, Int>;

    fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn positions(&self, inputs: &ModelInputs) -> Tensor<1, Int> {
        positions(inputs)
    }

    fn places(&self, positions: Tensor<1, Int>, _: usize) -> Tensor<1, Int> {
        positions
    }

    fn words(&self) -> &Embedding {
        &self.model.decoder.embed_tokens
    }

    fn embed(&self, words: Tensor<2>, positions: &Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        let decoder = &self.model.decoder;
        let words = match &decoder.project_in {
            Some(project_in) => project_in.forward(words, mode),
            None => words,
        };
        add_positions(words, &decoder.embed_positions, positions, mode)
    }

    fn layers(&self) -> &[OPTDecoderLayer] {
        &self.model.decoder.layers
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
        let decoder = &self.model.decoder;
        let x = match &decoder.final_layer_norm {
            Some(norm) => norm.forward(x, mode),
            None => x,
        };
        match &decoder.project_out {
            Some(project_out) => project_out.forward(x, mode),
            None => x,
        }
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.model.decoder.embed_tokens)
    }
}
