//! RoBERTa (Liu et al., 2019) and what is its code under other names, XLM-RoBERTa and CamemBERT: `RobertaForMaskedLM`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::{Value, json};

use crate::blocks::{LayerNorm, Linear, parameter};
use crate::config::{ConfigError, ModelConfig};
use crate::inputs::{Mode, ModelInputs};
use crate::models::bert::{BertConfig, BertEmbeddings, BertEncoder, bert_initial_value};
use crate::models::{AutoModel, LanguageModel};
use crate::ops::{Activation, Decoder};
use crate::params::{Initial, ParameterInfo};
use crate::stages::Stages;

/// `transformers.RobertaConfig()`
pub fn defaults() -> Value {
    json!({
        "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        "position_embedding_type": "absolute", "use_cache": true, "classifier_dropout": null,
    })
}

/// `transformers.XLMRobertaConfig()` and `transformers.CamembertConfig()`
pub fn defaults_of_relatives() -> Value {
    let mut defaults = defaults();
    defaults["vocab_size"] = 30522.into();
    defaults
}

/// `_tied_weights_keys`
pub const TIES: &[(&str, &str)] = &[
    ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
    ("lm_head.decoder.bias", "lm_head.bias"),
];

/// The row of the padding token, which is also where position ids begin to count from.
fn padding_idx(config: &ModelConfig) -> usize {
    config.size("pad_token_id").unwrap_or(1)
}

/// Position ids start at `padding_idx + 1`.
pub fn max_positions(config: &ModelConfig) -> Option<usize> {
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
    /// The decoder's weights when they are not the word embeddings.
    decoder: Option<Linear>,
    bias: Param<Tensor<1>>,
}

/// `transformers.RobertaForMaskedLM`
#[derive(Module, Debug)]
pub struct RobertaForMaskedLM {
    roberta: RobertaModel,
    lm_head: RobertaLMHead,
    #[module(skip)]
    config: BertConfig,
    #[module(skip)]
    padding_idx: usize,
}

/// Builds the model, its parameters still empty.
pub fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let padding_idx = padding_idx(config);
    let config = BertConfig { pad_token_id: Some(padding_idx), ..BertConfig::new(config)? };
    let size = config.hidden_size;
    Ok(AutoModel::Roberta(RobertaForMaskedLM {
        roberta: RobertaModel {
            embeddings: BertEmbeddings::new(&config, device),
            encoder: BertEncoder::new(&config, device),
        },
        lm_head: RobertaLMHead {
            dense: Linear::new(size, size, device),
            head_norm: LayerNorm::new(size, config.layer_norm_eps, device),
            decoder: (!config.tie_word_embeddings).then(|| Linear::without_bias(size, config.vocab_size, device)),
            bias: parameter([config.vocab_size], device),
        },
        config,
        padding_idx,
    }))
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

impl LanguageModel for RobertaForMaskedLM {
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
        let weight = match &self.lm_head.decoder {
            Some(decoder) => decoder.weight.val(),
            None => self.roberta.embeddings.word_embeddings.weight.val(),
        };
        Decoder { weight, bias: Some(self.lm_head.bias.val()) }
    }

    fn initial_value(&self, parameter: &ParameterInfo) -> Initial {
        match parameter.name.ends_with("position_embeddings.weight") {
            true => Initial::NormalExceptRow { std: self.config.initializer_range, zero_row: self.padding_idx },
            false => bert_initial_value(parameter, &self.config, Some(self.padding_idx)),
        }
    }
}
