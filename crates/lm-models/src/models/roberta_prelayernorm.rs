//! RoBERTa that normalises before each half of a layer (fairseq's `--encoder-normalize-before`):
//! `RobertaPreLayerNormForMaskedLM`.

use burn::module::Module;
use burn::tensor::Device;
use serde_json::{Value, json};

use super::roberta::{lm_head, max_positions, padding_idx};
use crate::blocks::{EncoderConfig, FlatHead, PreNormModel, TEXT_BUFFERS, TextEmbeddings};
use crate::config::{ConfigError, Family, ModelConfig};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::Decoder;
use crate::parameters::Builder;
use crate::stages::Stages;

/// `transformers.RobertaPreLayerNormConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        "position_embedding_type": "absolute", "use_cache": true, "classifier_dropout": null,
    })
}

/// The entry of the list.
pub static ROBERTA_PRELAYERNORM: Family = Family {
    model_type: "roberta-prelayernorm",
    class: "RobertaPreLayerNormForMaskedLM",
    base_model_prefix: "roberta_prelayernorm",
    ties: &[
        ("lm_head.decoder.weight", "roberta_prelayernorm.embeddings.word_embeddings.weight"),
        ("lm_head.decoder.bias", "lm_head.bias"),
    ],
    buffers: TEXT_BUFFERS,
    max_positions,
    positions_from_padding: true,
    ..Family::new(Task::Mlm, defaults, build)
};

/// `transformers.RobertaPreLayerNormForMaskedLM`
#[derive(Module, Debug)]
pub struct RobertaPreLayerNormForMaskedLM {
    roberta_prelayernorm: PreNormModel,
    lm_head: FlatHead,
    #[module(skip)]
    padding_idx: usize,
}

fn build(model: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let (config, padding_idx) = (EncoderConfig::new(model)?, padding_idx(model));
    let builder = &Builder::new(device, config.initializer_range);
    // Its very name speaks of norms to Python, which lets nothing of it decay.
    let base = &builder.without_decay();
    let embeddings = TextEmbeddings::from_padding(&config, padding_idx, base);
    let dropout = config.hidden_dropout_prob.get();
    let model = RobertaPreLayerNormForMaskedLM {
        roberta_prelayernorm: PreNormModel::new(embeddings, &config, [dropout; 2], base),
        lm_head: lm_head(&config, builder),
        padding_idx,
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for RobertaPreLayerNormForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[
        ("layer", "encoder.layer"),
        ("self_attention", "self"),
        ("attention_norm", "LayerNorm"),
        ("feed_forward_norm", "intermediate.LayerNorm"),
        ("final_norm", "LayerNorm"),
        ("layer_norm", "LayerNorm"),
        ("head_norm", "layer_norm"),
        ("head_bias", "bias"),
    ];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let positions = || inputs.positions_from_padding(self.padding_idx);
        self.roberta_prelayernorm.stages(inputs, positions, |rows, mode| self.lm_head.forward(rows, mode))
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.roberta_prelayernorm.embeddings.word_embeddings)
    }
}
