//! BERT (Devlin et al., 2018) with its masked-language-model head: `BertForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

use crate::blocks::{BertHead, ENCODER_NAMES, Encoder, EncoderConfig, HeadTransform, TEXT_BUFFERS, TextEmbeddings};
use crate::config::{ConfigError, Family, ModelConfig};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::Decoder;
use crate::parameters::Builder;
use crate::stages::Stages;
use crate::weights::by_scopes;

/// `transformers.BertConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "use_cache": true, "classifier_dropout": null,
    })
}

/// The entry of the list.
pub static BERT: Family = Family {
    model_type: "bert",
    class: "BertForMaskedLM",
    base_model_prefix: "bert",
    ties: &[
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
    buffers: TEXT_BUFFERS,
    tensorflow1: Some(by_scopes),
    ..Family::new(Task::Mlm, defaults, build)
};

#[derive(Module, Debug)]
struct BertModel {
    embeddings: TextEmbeddings,
    encoder: Encoder,
}

/// `transformers.BertForMaskedLM`
#[derive(Module, Debug)]
pub struct BertForMaskedLM {
    bert: BertModel,
    cls: BertHead,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = EncoderConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, vocab) = (config.hidden_size.get(), config.vocab_size.get());
    let transform = HeadTransform::new(size, size, config.hidden_act, config.layer_norm_eps, builder);
    let model = BertForMaskedLM {
        bert: BertModel {
            embeddings: TextEmbeddings::new(&config, size, builder),
            encoder: Encoder::new(&config, builder),
        },
        cls: BertHead::new(transform, size, vocab, config.tie_word_embeddings, builder),
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for BertForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = ENCODER_NAMES;

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let embed = |mode: &Mode| [self.bert.embeddings.forward(inputs, inputs.positions(), mode)];
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| self.cls.forward(inputs.take_predicted(x), mode);
        Stages::new(embed, self.bert.encoder.stages(inputs), head)
    }

    fn decoder(&self) -> Decoder {
        self.cls.decoder(&self.bert.embeddings.word_embeddings)
    }
}
