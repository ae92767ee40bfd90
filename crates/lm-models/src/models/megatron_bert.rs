//! Megatron's BERT (Shoeybi et al., 2019), which normalises before each half of a layer: `MegatronBertForMaskedLM`.

use burn::module::Module;
use burn::tensor::Device;
use serde_json::{Value, json};

use crate::blocks::{
    BertHead, Embedding, EncoderConfig, HeadTransform, POSITION_BUFFERS, PreNormModel, TextEmbeddings,
};
use crate::config::{ConfigError, Family, ModelConfig};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::Decoder;
use crate::parameters::Builder;
use crate::stages::Stages;
use crate::weights::by_scopes;

/// `transformers.MegatronBertConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 29056, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "position_embedding_type": "absolute", "use_cache": true,
    })
}

/// The entry of the list.
pub static MEGATRON_BERT: Family = Family {
    model_type: "megatron-bert",
    class: "MegatronBertForMaskedLM",
    base_model_prefix: "bert",
    ties: &[
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
    buffers: POSITION_BUFFERS,
    tensorflow1: Some(by_scopes),
    ..Family::new(Task::Mlm, defaults, build)
};

/// `transformers.MegatronBertForMaskedLM`
#[derive(Module, Debug)]
pub struct MegatronBertForMaskedLM {
    bert: PreNormModel,
    cls: BertHead,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = EncoderConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, vocab) = (config.hidden_size.get(), config.vocab_size.get());
    let embeddings = TextEmbeddings {
        // Padding starts as any word does.
        word_embeddings: Embedding::starting(vocab, size, config.pad_token_id, builder.normal(), builder),
        layer_norm: None,
        ..TextEmbeddings::new(&config, size, builder)
    };
    let transform = HeadTransform::new(size, size, config.hidden_act, config.layer_norm_eps, builder);
    let dropout = config.hidden_dropout_prob.get();
    let model = MegatronBertForMaskedLM {
        bert: PreNormModel::new(embeddings, &config, [dropout; 2], builder),
        cls: BertHead::new(transform, size, vocab, config.tie_word_embeddings, builder),
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for MegatronBertForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[
        ("layer", "encoder.layer"),
        ("self_attention", "self"),
        ("attention_norm", "ln"),
        ("feed_forward_norm", "ln"),
        ("final_norm", "encoder.ln"),
        ("layer_norm", "LayerNorm"),
    ];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        self.bert.stages(inputs, || inputs.positions(), |rows, mode| self.cls.forward(rows, mode))
    }

    fn decoder(&self) -> Decoder {
        self.cls.decoder(&self.bert.embeddings.word_embeddings)
    }
}
