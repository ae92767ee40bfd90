//! ERNIE (Sun et al., 2019; 2021): BERT with an embedding for the task: `ErnieForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{BertHead, Embedding, Encoder, EncoderConfig, HeadTransform, TEXT_BUFFERS, TextEmbeddings};
use crate::config::{ConfigError, Family, ModelConfig, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::Decoder;
use crate::parameters::Builder;
use crate::stages::Stages;

/// What config.json has besides BERT's fields.
#[derive(Clone, Debug, Deserialize)]
struct ErnieConfig {
    use_task_id: bool,
    task_type_vocab_size: Size,
}

/// `transformers.ErnieConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "task_type_vocab_size": 3, "use_task_id": false, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
        "pad_token_id": 0, "position_embedding_type": "absolute", "use_cache": true, "classifier_dropout": null,
    })
}

/// The entry of the list.
pub static ERNIE: Family = Family {
    model_type: "ernie",
    class: "ErnieForMaskedLM",
    base_model_prefix: "ernie",
    ties: &[
        ("cls.predictions.decoder.weight", "ernie.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
    buffers: TEXT_BUFFERS,
    ..Family::new(Task::Mlm, defaults, build)
};

#[derive(Module, Debug)]
struct ErnieModel {
    embeddings: TextEmbeddings,
    /// Whose first row is the task of every text.
    task_type_embeddings: Option<Embedding>,
    encoder: Encoder,
}

/// `transformers.ErnieForMaskedLM`
#[derive(Module, Debug)]
pub struct ErnieForMaskedLM {
    ernie: ErnieModel,
    cls: BertHead,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let ErnieConfig { use_task_id, task_type_vocab_size } = config.parse()?;
    let config = EncoderConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, vocab) = (config.hidden_size.get(), config.vocab_size.get());
    let transform = HeadTransform::new(size, size, config.hidden_act, config.layer_norm_eps, builder);
    let model = ErnieForMaskedLM {
        ernie: ErnieModel {
            embeddings: TextEmbeddings::new(&config, size, builder),
            task_type_embeddings: use_task_id.then(|| Embedding::new(task_type_vocab_size.get(), size, builder)),
            encoder: Encoder::new(&config, builder),
        },
        cls: BertHead::new(transform, size, vocab, config.tie_word_embeddings, builder),
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for ErnieForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[
        ("self_attention", "self"),
        ("layer_norm", "LayerNorm"),
        ("task_type_embeddings", "embeddings.task_type_embeddings"),
    ];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let ErnieModel { embeddings, task_type_embeddings, encoder } = &self.ernie;
        let embed = move |mode: &Mode| {
            let words = embeddings.word_embeddings.forward_tokens(inputs, mode);
            let sum = embeddings.add_places(words, inputs.positions(), inputs, mode);
            let sum = match task_type_embeddings {
                Some(tasks) => sum + tasks.first(),
                None => sum,
            };
            [embeddings.finish(sum, mode)]
        };
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| self.cls.forward(inputs.take_predicted(x), mode);
        Stages::new(embed, encoder.stages(inputs), head)
    }

    fn decoder(&self) -> Decoder {
        self.cls.decoder(&self.ernie.embeddings.word_embeddings)
    }
}
