//! ELECTRA (Clark et al., 2020) as its generator, which is trained to predict masked tokens: `ElectraForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{
    ENCODER_NAMES, Encoder, EncoderConfig, HeadTransform, Linear, LmHead, TEXT_BUFFERS, TextEmbeddings,
};
use crate::config::{ConfigError, Family, ModelConfig, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{Activation, Decoder};
use crate::parameters::Builder;
use crate::stages::Stages;
use crate::weights::{Variable, by_scopes};

/// What config.json has besides BERT's fields.
#[derive(Clone, Debug, Deserialize)]
struct ElectraConfig {
    embedding_size: Size,
}

/// `transformers.ElectraConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 30522, "embedding_size": 128, "hidden_size": 256, "num_hidden_layers": 12,
        "num_attention_heads": 4, "intermediate_size": 1024, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "summary_type": "first", "summary_use_proj": true,
        "summary_activation": "gelu", "summary_last_dropout": 0.1, "pad_token_id": 0,
        "position_embedding_type": "absolute", "use_cache": true, "classifier_dropout": null,
    })
}

/// A variable of ELECTRA's program, which trains a generator beside the model that it is named after and shares the
/// embeddings (`load_tf_weights_in_electra`, for the generator).
fn variable(name: &str) -> Variable {
    const RENAMES: [(&str, &str); 5] = [
        ("electra/embeddings/", "generator/embeddings/"),
        ("electra/", "discriminator/"),
        ("generator/", "electra/"),
        ("dense_1", "dense_prediction"),
        ("generator_predictions/output_bias", "generator_lm_head/bias"),
    ];
    by_scopes(&RENAMES.iter().fold(name.to_owned(), |name, (old, new)| name.replace(old, new)))
}

/// The entry of the list.
pub static ELECTRA: Family = Family {
    model_type: "electra",
    class: "ElectraForMaskedLM",
    base_model_prefix: "electra",
    ties: &[("generator_lm_head.weight", "electra.embeddings.word_embeddings.weight")],
    buffers: TEXT_BUFFERS,
    tensorflow1: Some(variable),
    ..Family::new(Task::Mlm, defaults, build)
};

#[derive(Module, Debug)]
struct ElectraModel {
    embeddings: TextEmbeddings,
    /// None where embeddings are as wide as hidden states.
    embeddings_project: Option<Linear>,
    encoder: Encoder,
}

/// `transformers.ElectraForMaskedLM`
#[derive(Module, Debug)]
pub struct ElectraForMaskedLM {
    electra: ElectraModel,
    generator_predictions: HeadTransform,
    generator_lm_head: LmHead,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let ElectraConfig { embedding_size } = config.parse()?;
    let config = EncoderConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, width, epsilon) = (config.hidden_size.get(), embedding_size.get(), config.layer_norm_eps);
    let model = ElectraForMaskedLM {
        electra: ElectraModel {
            embeddings: TextEmbeddings::new(&config, width, builder),
            embeddings_project: (width != size).then(|| Linear::new(width, size, builder)),
            encoder: Encoder::new(&config, builder),
        },
        // Python's head says gelu whatever `hidden_act` is.
        generator_predictions: HeadTransform::new(size, width, Activation::Gelu, epsilon, builder),
        generator_lm_head: LmHead::with_bias(config.vocab_size.get(), width, config.tie_word_embeddings, builder),
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for ElectraForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = ENCODER_NAMES;

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let embed = |mode: &Mode| {
            let embedded = self.electra.embeddings.forward(inputs, inputs.positions(), mode);
            [match &self.electra.embeddings_project {
                Some(project) => project.forward(embedded, mode),
                None => embedded,
            }]
        };
        let head =
            |[x]: [Tensor<2>; 1], mode: &Mode| self.generator_predictions.forward(inputs.take_predicted(x), mode);
        Stages::new(embed, self.electra.encoder.stages(inputs), head)
    }

    fn decoder(&self) -> Decoder {
        self.generator_lm_head.decoder(&self.electra.embeddings.word_embeddings)
    }
}
