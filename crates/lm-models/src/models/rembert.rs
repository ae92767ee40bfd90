//! RemBERT (Chung et al., 2021), whose input and output embeddings have sizes of their own: `RemBertForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Encoder, EncoderConfig, FlatHead, Linear, POSITION_BUFFERS, TextEmbeddings};
use crate::config::{ConfigError, Family, ModelConfig, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::Decoder;
use crate::parameters::Builder;
use crate::stages::Stages;
use crate::weights::by_scopes;

/// What config.json has besides BERT's fields.
#[derive(Clone, Debug, Deserialize)]
struct RemBertConfig {
    input_embedding_size: Size,
    output_embedding_size: Size,
}

/// `transformers.RemBertConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 250300, "hidden_size": 1152, "num_hidden_layers": 32, "num_attention_heads": 18,
        "input_embedding_size": 256, "output_embedding_size": 1664, "intermediate_size": 4608, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout_prob": 0.1,
        "max_position_embeddings": 512, "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
        "use_cache": true, "pad_token_id": 0, "bos_token_id": 312, "eos_token_id": 313, "tie_word_embeddings": false,
    })
}

/// The entry of the list.
pub static REMBERT: Family = Family {
    model_type: "rembert",
    class: "RemBertForMaskedLM",
    base_model_prefix: "rembert",
    buffers: POSITION_BUFFERS,
    // Whatever is given.
    derived: |_| vec![("tie_word_embeddings", false.into())],
    tensorflow1: Some(|name| by_scopes(&name.replace("bert/", "rembert/"))),
    ..Family::new(Task::Mlm, defaults, build)
};

#[derive(Module, Debug)]
struct RemBertModel {
    embeddings: TextEmbeddings,
    embedding_hidden_mapping_in: Linear,
    encoder: Encoder,
}

/// `transformers.RemBertForMaskedLM`
#[derive(Module, Debug)]
pub struct RemBertForMaskedLM {
    rembert: RemBertModel,
    cls: FlatHead,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let RemBertConfig { input_embedding_size, output_embedding_size } = config.parse()?;
    let config = EncoderConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, vocab) = (config.hidden_size.get(), config.vocab_size.get());
    let (input, output) = (input_embedding_size.get(), output_embedding_size.get());
    let model = RemBertForMaskedLM {
        rembert: RemBertModel {
            embeddings: TextEmbeddings::new(&config, input, builder),
            embedding_hidden_mapping_in: Linear::new(input, size, builder),
            encoder: Encoder::new(&config, builder),
        },
        cls: FlatHead::new([size, output, vocab], config.hidden_act, config.layer_norm_eps, false, builder),
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for RemBertForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[
        ("embedding_hidden_mapping_in", "encoder.embedding_hidden_mapping_in"),
        ("self_attention", "self"),
        ("layer_norm", "LayerNorm"),
        ("cls", "cls.predictions"),
        ("head_norm", "LayerNorm"),
        ("head_bias", "decoder.bias"),
    ];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let RemBertModel { embeddings, embedding_hidden_mapping_in, encoder } = &self.rembert;
        let embed = move |mode: &Mode| {
            [embedding_hidden_mapping_in.forward(embeddings.forward(inputs, inputs.positions(), mode), mode)]
        };
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| self.cls.forward(inputs.take_predicted(x), mode);
        Stages::new(embed, encoder.stages(inputs), head)
    }

    fn decoder(&self) -> Decoder {
        self.cls.decoder(&self.rembert.embeddings.word_embeddings)
    }
}
