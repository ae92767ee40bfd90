//! RoBERTa (Liu et al., 2019) and what is its code under other names, XLM-RoBERTa and CamemBERT: `RobertaForMaskedLM`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::{Value, json};

use super::bert::{BUFFERS, BertConfig, BertEmbeddings, BertEncoder};
use crate::blocks::{Embedding, LayerNorm, Linear, LmHead};
use crate::config::{ConfigError, Family, ModelConfig};
use crate::inputs::{Mode, ModelInputs};

use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{Activation, Decoder};
use crate::parameters::Builder;
use crate::stages::Stages;

/// `transformers.RobertaConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        "position_embedding_type": "absolute", "use_cache": true, "classifier_dropout": null,
    })
}

/// `transformers.XLMRobertaConfig()` and `transformers.CamembertConfig()`
fn defaults_of_relatives() -> Value {
    let mut defaults = defaults();
    defaults["vocab_size"] = 30522.into();
    defaults
}

/// The entry of the list.
pub static ROBERTA: Family = Family { model_type: "roberta", class: "RobertaForMaskedLM", defaults, ..RELATIVE };

/// XLM-RoBERTa (Conneau et al., 2020)
pub static XLM_ROBERTA: Family = Family { model_type: "xlm-roberta", class: "XLMRobertaForMaskedLM", ..RELATIVE };

/// CamemBERT (Martin et al., 2020)
pub static CAMEMBERT: Family = Family { model_type: "camembert", class: "CamembertForMaskedLM", ..RELATIVE };

const RELATIVE: Family = Family {
    base_model_prefix: "roberta",
    ties: &[
        ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
        ("lm_head.decoder.bias", "lm_head.bias"),
    ],
    buffers: BUFFERS,
    ignore_unexpected: &["pooler"],
    max_positions,
    positions_from_padding: true,
    ..Family::new(Task::Mlm, defaults_of_relatives, build)
};

/// The row of the padding token, which is also where position ids begin to count from.
fn padding_idx(config: &ModelConfig) -> usize {
    config.size("pad_token_id").unwrap_or(1)
}

/// Position ids start at `padding_idx + 1`.
fn max_positions(config: &ModelConfig) -> Option<usize> {
    Some(config.size("max_position_embeddings")?.saturating_sub(padding_idx(config).saturating_add(1)))
}

#[derive(Module, Debug)]
struct RobertaModel {
    embeddings: BertEmbeddings,
    encoder: BertEncoder,
}

#[derive(Module, Debug)]
struct RobertaLMHead {
    dense: Linear,
    head_norm: LayerNorm,
    decoder: LmHead,
    bias: Param<Tensor<1>>,
}

/// `transformers.RobertaForMaskedLM`
#[derive(Module, Debug)]
pub struct RobertaForMaskedLM {
    roberta: RobertaModel,
    lm_head: RobertaLMHead,
    #[module(skip)]
    padding_idx: usize,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let padding_idx = padding_idx(config);
    let config = BertConfig { pad_token_id: Some(padding_idx), ..BertConfig::new(config)? };
    let builder = &Builder::new(device, config.initializer_range);
    let (size, vocab, positions) =
        (config.hidden_size.get(), config.vocab_size.get(), config.max_position_embeddings.get());
    let model = RobertaForMaskedLM {
        roberta: RobertaModel {
            embeddings: BertEmbeddings {
                position_embeddings: Embedding::padded(positions, size, Some(padding_idx), builder),
                ..BertEmbeddings::new(&config, builder)
            },
            encoder: BertEncoder::new(&config, builder),
        },
        lm_head: RobertaLMHead {
            dense: Linear::new(size, size, builder),
            head_norm: LayerNorm::new(size, config.layer_norm_eps, builder),
            decoder: LmHead::new(vocab, size, config.tie_word_embeddings, builder),
            bias: builder.bias(vocab),
        },
        padding_idx,
    };
    Ok(AutoModel::new(model, builder))
}

impl RobertaForMaskedLM {
    /// Counts the tokens that are not padding, from `padding_idx + 1` on; padding has position `padding_idx`
    /// (`create_position_ids_from_input_ids`).
    fn positions(&self, inputs: &ModelInputs) -> Tensor<1, Int> {
        let mut positions = Vec::with_capacity(inputs.host_ids.len());
        let mut ids = inputs.host_ids.iter();
        for &length in &inputs.sequences.lengths {
            let mut next = self.padding_idx;
            for &id in ids.by_ref().take(length) {
                let padding = id as usize == self.padding_idx;
                next += usize::from(!padding);
                positions.push(if padding { self.padding_idx } else { next } as i32);
            }
        }
        Tensor::from_data(TensorData::new(positions, [inputs.host_ids.len()]), &inputs.device)
    }
}

impl Architecture for RobertaForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] =
        &[("self_attention", "self"), ("layer_norm", "LayerNorm"), ("head_norm", "layer_norm")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let embed = |mode: &Mode| [self.roberta.embeddings.forward(inputs, self.positions(inputs), mode)];
        let head = |[hidden_states]: [Tensor<2>; 1], mode: &Mode| {
            let predicted = hidden_states.select(0, inputs.predicted.clone());
            // Python's head says gelu whatever `hidden_act` is.
            let wide = Activation::Gelu.forward(self.lm_head.dense.forward(predicted, mode), mode);
            self.lm_head.head_norm.forward(wide, mode)
        };
        Stages::new(embed, self.roberta.encoder.stages(inputs), head)
    }

    fn decoder(&self) -> Decoder {
        let decoder = self.lm_head.decoder.decoder(&self.roberta.embeddings.word_embeddings);
        Decoder { bias: Some(self.lm_head.bias.val()), ..decoder }
    }
}
