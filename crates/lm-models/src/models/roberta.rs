//! RoBERTa (Liu et al., 2019) and what is its code under other names, XLM-RoBERTa, CamemBERT and data2vec's text model:
//! `RobertaForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

use crate::blocks::{Encoder, EncoderConfig, FlatHead, TEXT_BUFFERS, TextEmbeddings};
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

/// data2vec (Baevski et al., 2022)
pub static DATA2VEC_TEXT: Family = Family {
    model_type: "data2vec-text",
    class: "Data2VecTextForMaskedLM",
    base_model_prefix: "data2vec_text",
    ties: &[
        ("lm_head.decoder.weight", "data2vec_text.embeddings.word_embeddings.weight"),
        ("lm_head.decoder.bias", "lm_head.bias"),
    ],
    ignore_unexpected: &[],
    build: build_data2vec_text,
    ..RELATIVE
};

const RELATIVE: Family = Family {
    base_model_prefix: "roberta",
    ties: &[
        ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
        ("lm_head.decoder.bias", "lm_head.bias"),
    ],
    buffers: TEXT_BUFFERS,
    ignore_unexpected: &["pooler"],
    max_positions,
    positions_from_padding: true,
    ..Family::new(Task::Mlm, defaults_of_relatives, build)
};

/// The row of the padding token, which is also where position ids begin to count from.
pub(super) fn padding_idx(config: &ModelConfig) -> usize {
    config.size("pad_token_id").unwrap_or(1)
}

/// Position ids start at `padding_idx + 1`.
pub(super) fn max_positions(config: &ModelConfig) -> Option<usize> {
    Some(config.size("max_position_embeddings")?.saturating_sub(padding_idx(config).saturating_add(1)))
}

/// What fields are called in the files of RoBERTa and its relatives.
const NAMES: &[(&str, &str)] =
    &[("self_attention", "self"), ("layer_norm", "LayerNorm"), ("head_norm", "layer_norm"), ("head_bias", "bias")];

#[derive(Module, Debug)]
struct RobertaModel {
    embeddings: TextEmbeddings,
    encoder: Encoder,
    #[module(skip)]
    padding_idx: usize,
}

impl RobertaModel {
    fn new(config: &EncoderConfig, padding_idx: usize, builder: &Builder) -> Self {
        Self {
            embeddings: TextEmbeddings::from_padding(config, padding_idx, builder),
            encoder: Encoder::new(config, builder),
            padding_idx,
        }
    }

    fn stages<'a>(&'a self, lm_head: &'a FlatHead, inputs: &'a ModelInputs) -> Stages<'a> {
        let positions = move || inputs.positions_from_padding(self.padding_idx);
        let embed = move |mode: &Mode| [self.embeddings.forward(inputs, positions(), mode)];
        let head = move |[x]: [Tensor<2>; 1], mode: &Mode| lm_head.forward(inputs.take_predicted(x), mode);
        Stages::new(embed, self.encoder.stages(inputs), head)
    }
}

/// RoBERTa's head, which says gelu whatever `hidden_act` is.
pub(super) fn lm_head(config: &EncoderConfig, builder: &Builder) -> FlatHead {
    let (size, vocab) = (config.hidden_size.get(), config.vocab_size.get());
    let (epsilon, tied) = (config.layer_norm_eps, config.tie_word_embeddings);
    FlatHead::new([size, size, vocab], Activation::Gelu, epsilon, tied, builder)
}

/// `transformers.RobertaForMaskedLM`
#[derive(Module, Debug)]
pub struct RobertaForMaskedLM {
    roberta: RobertaModel,
    lm_head: FlatHead,
}

fn build(model: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = EncoderConfig::new(model)?;
    let builder = &Builder::new(device, config.initializer_range);
    let roberta = RobertaModel::new(&config, padding_idx(model), builder);
    Ok(AutoModel::new(RobertaForMaskedLM { roberta, lm_head: lm_head(&config, builder) }, builder))
}

/// `transformers.Data2VecTextForMaskedLM`
#[derive(Module, Debug)]
pub struct Data2VecTextForMaskedLM {
    data2vec_text: RobertaModel,
    lm_head: FlatHead,
}

fn build_data2vec_text(model: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = EncoderConfig::new(model)?;
    let builder = &Builder::new(device, config.initializer_range);
    let data2vec_text = RobertaModel::new(&config, padding_idx(model), builder);
    Ok(AutoModel::new(Data2VecTextForMaskedLM { data2vec_text, lm_head: lm_head(&config, builder) }, builder))
}

impl Architecture for RobertaForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = NAMES;

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        self.roberta.stages(&self.lm_head, inputs)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.roberta.embeddings.word_embeddings)
    }
}

impl Architecture for Data2VecTextForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = NAMES;

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        self.data2vec_text.stages(&self.lm_head, inputs)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.data2vec_text.embeddings.word_embeddings)
    }
}
