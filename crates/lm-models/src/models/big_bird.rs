//! BigBird (Zaheer et al., 2020) with full attention: `BigBirdForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{
    BertHead, ENCODER_NAMES, Encoder, EncoderConfig, HeadTransform, Linear, TEXT_BUFFERS, TextEmbeddings,
};
use crate::config::{ConfigError, Family, ModelConfig};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Decoder};
use crate::parameters::Builder;
use crate::stages::Stages;

/// What config.json has besides BERT's fields.
#[derive(Clone, Debug, Deserialize)]
struct BigBirdConfig {
    use_bias: bool,
    rescale_embeddings: bool,
}

/// `transformers.BigBirdConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50358, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu_new", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 4096, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "use_cache": true, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2, "sep_token_id": 66, "attention_type": "block_sparse", "use_bias": true,
        "rescale_embeddings": false, "block_size": 64, "num_random_blocks": 3, "classifier_dropout": null,
    })
}

const BLOCK_SPARSE: &str = "block_sparse";

/// Python too attends fully where blocks would leave nothing out: up to the length that comes of these sizes.
fn short_only(config: &ModelConfig) -> Option<(&'static str, usize)> {
    const FIELD: &str = "attention_type";
    let blocks = config.size("num_random_blocks")?.saturating_mul(2).saturating_add(5);
    let sparse = config.get(FIELD).and_then(Value::as_str) == Some(BLOCK_SPARSE);
    sparse.then_some((FIELD, blocks.saturating_mul(config.size("block_size")?)))
}

/// The entry of the list.
pub static BIG_BIRD: Family = Family {
    model_type: "big_bird",
    class: "BigBirdForMaskedLM",
    base_model_prefix: "bert",
    ties: &[
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
    buffers: TEXT_BUFFERS,
    short_only,
    ..Family::new(Task::Mlm, defaults, build)
};

#[derive(Module, Debug)]
struct BigBirdModel {
    embeddings: TextEmbeddings,
    encoder: Encoder,
    /// Of no use to the language model, yet part of it in Python.
    pooler: Linear,
}

/// `transformers.BigBirdForMaskedLM`
#[derive(Module, Debug)]
pub struct BigBirdForMaskedLM {
    bert: BigBirdModel,
    cls: BertHead,
    /// Factor on the words.
    #[module(skip)]
    scale: f64,
}

fn build(model: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    model.require("attention_type", &["original_full".into(), BLOCK_SPARSE.into()], "")?;
    let own: BigBirdConfig = model.parse()?;
    let config = EncoderConfig::new(model)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, vocab) = (config.hidden_size.get(), config.vocab_size.get());
    let transform = HeadTransform::new(size, size, config.hidden_act, config.layer_norm_eps, builder);
    let model = BigBirdForMaskedLM {
        bert: BigBirdModel {
            embeddings: TextEmbeddings::new(&config, size, builder),
            encoder: Encoder::with_bias(&config, own.use_bias, builder),
            pooler: Linear::new(size, size, builder),
        },
        cls: BertHead::new(transform, size, vocab, config.tie_word_embeddings, builder),
        scale: if own.rescale_embeddings { (size as f64).sqrt() } else { 1.0 },
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for BigBirdForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = ENCODER_NAMES;

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let embeddings = &self.bert.embeddings;
        let embed = move |mode: &Mode| {
            let words = embeddings.word_embeddings.forward_tokens(inputs, mode);
            let words = if self.scale == 1.0 { words } else { words * self.scale };
            let sum = embeddings.add_places(words, inputs.positions(), inputs, mode);
            // The other way round than BERT.
            [embeddings.normalize(ops::dropout(sum, embeddings.dropout, mode), mode)]
        };
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| self.cls.forward(inputs.take_predicted(x), mode);
        Stages::new(embed, self.bert.encoder.stages(inputs), head)
    }

    fn decoder(&self) -> Decoder {
        self.cls.decoder(&self.bert.embeddings.word_embeddings)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::ModelConfig;

    #[test]
    fn blocks_are_for_short_texts_only() {
        let mut config = ModelConfig::from_model_type("big_bird").expect("known");
        assert_eq!(config.max_positions(), Some(4096));
        config.expect_length(704).expect("full attention");
        let error = config.expect_length(705).expect_err("too long").to_string();
        assert!(error.contains("`attention_type` = \"block_sparse\" is supported for at most 704 tokens"), "{error}");
        config.set("attention_type", "original_full");
        config.expect_length(4096).expect("full attention");
    }
}
