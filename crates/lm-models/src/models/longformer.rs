//! Longformer (Beltagy et al., 2020), whose tokens see a window: `LongformerForMaskedLM` as the script runs it, without
//! global tokens.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use super::roberta::{lm_head, max_positions, padding_idx};
use crate::blocks::{Encoder, EncoderConfig, FlatHead, Linear, TextEmbeddings};
use crate::config::{ConfigError, Family, ModelConfig, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;
use crate::stages::Stages;

/// What config.json has besides BERT's fields.
#[derive(Clone, Debug, Deserialize)]
struct LongformerConfig {
    attention_window: Windows,
}

/// How many tokens a token sees on both sides together, for all layers or for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Windows {
    Same(Size),
    Each(Vec<Size>),
}

/// `transformers.LongformerConfig()`
fn defaults() -> Value {
    json!({
        "attention_window": 512, "sep_token_id": 2, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "onnx_export": false,
    })
}

/// The entry of the list.
pub static LONGFORMER: Family = Family {
    model_type: "longformer",
    class: "LongformerForMaskedLM",
    base_model_prefix: "longformer",
    ties: &[
        ("lm_head.decoder.weight", "longformer.embeddings.word_embeddings.weight"),
        ("lm_head.decoder.bias", "lm_head.bias"),
    ],
    max_positions,
    positions_from_padding: true,
    ..Family::new(Task::Mlm, defaults, build)
};

/// What tokens that see everything would need; kept as it is where there are none.
#[derive(Module, Debug)]
struct GlobalAttention {
    query_global: Linear,
    key_global: Linear,
    value_global: Linear,
}

#[derive(Module, Debug)]
struct GlobalLayer {
    global_attention: GlobalAttention,
}

#[derive(Module, Debug)]
struct LongformerModel {
    embeddings: TextEmbeddings,
    encoder: Encoder,
    /// Called as if they were part of the layers.
    global_layers: Vec<GlobalLayer>,
}

/// `transformers.LongformerForMaskedLM`
#[derive(Module, Debug)]
pub struct LongformerForMaskedLM {
    longformer: LongformerModel,
    lm_head: FlatHead,
    #[module(skip)]
    padding_idx: usize,
}

/// The mask of each layer.
fn masks(config: &ModelConfig, layers: usize) -> Result<Vec<AttentionMask>, ConfigError> {
    let LongformerConfig { attention_window } = config.parse()?;
    let refuse = |reason| ConfigError::Value { model_type: config.model_type().into(), reason };
    let windows = match attention_window {
        Windows::Same(window) => vec![window.get(); layers],
        // More than layers where a model's size is estimated from its first layers.
        Windows::Each(windows) => windows.into_iter().map(Size::get).take(layers).collect(),
    };
    if windows.len() < layers {
        let reason = format!("`attention_window` has {} values for {layers} layers", windows.len());
        return Err(refuse(reason));
    }
    if let Some(odd) = windows.iter().find(|window| !window.is_multiple_of(2)) {
        return Err(refuse(format!("`attention_window` = {odd}: must be even")));
    }
    Ok(windows.into_iter().map(|window| AttentionMask::Window { left: window / 2, right: window / 2 }).collect())
}

fn build(model: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let (config, padding_idx) = (EncoderConfig::new(model)?, padding_idx(model));
    let layers = config.num_hidden_layers.get();
    let masks = masks(model, layers)?;
    let builder = &Builder::new(device, config.initializer_range);
    let size = config.hidden_size.get();
    let linear = || Linear::new(size, size, builder);
    let global_layer = |_| GlobalLayer {
        global_attention: GlobalAttention { query_global: linear(), key_global: linear(), value_global: linear() },
    };
    let model = LongformerForMaskedLM {
        longformer: LongformerModel {
            embeddings: TextEmbeddings::from_padding(&config, padding_idx, builder),
            encoder: Encoder::masked(&config, &masks, builder),
            global_layers: (0..layers).map(global_layer).collect(),
        },
        lm_head: lm_head(&config, builder),
        padding_idx,
    };
    Ok(AutoModel::new(model, builder))
}

/// Attention, which gives nothing to padding that is kept.
fn attend([q, k, v]: [Tensor<2>; 3], inputs: &ModelInputs, options: &Attention, mode: &Mode) -> Tensor<2> {
    let sequences = &inputs.sequences;
    let context = ops::attention(q, k, v, sequences, sequences, options, mode);
    match &sequences.key_padding {
        Some(padding) if sequences.packing.is_none() => {
            let [rows, size] = context.dims();
            context.mask_fill(padding.clone().reshape([rows, 1]).expand([rows, size]), 0)
        }
        _ => context,
    }
}

impl Architecture for LongformerForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[
        ("self_attention", "self"),
        ("layer_norm", "LayerNorm"),
        ("global_layers", "encoder.layer"),
        ("global_attention", "attention.self"),
        ("head_norm", "layer_norm"),
        ("head_bias", "bias"),
    ];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let LongformerModel { embeddings, encoder, .. } = &self.longformer;
        let positions = || inputs.positions_from_padding(self.padding_idx);
        let embed = move |mode: &Mode| [embeddings.forward(inputs, positions(), mode)];
        let attend = |qkv: [Tensor<2>; 3], options: &Attention, mode: &Mode| attend(qkv, inputs, options, mode);
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| self.lm_head.forward(inputs.take_predicted(x), mode);
        Stages::new(embed, encoder.stages_with(attend), head)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.longformer.embeddings.word_embeddings)
    }
}
