//! XLM-RoBERTa-XL (Goyal et al., 2021), which normalises before each half of a layer: `XLMRobertaXLForMaskedLM`.

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

/// `transformers.XLMRobertaXLConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 250880, "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32,
        "intermediate_size": 10240, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 514, "type_vocab_size": 1,
        "initializer_range": 0.02, "layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        "position_embedding_type": "absolute", "use_cache": true, "classifier_dropout": null,
    })
}

/// The entry of the list.
pub static XLM_ROBERTA_XL: Family = Family {
    model_type: "xlm-roberta-xl",
    class: "XLMRobertaXLForMaskedLM",
    base_model_prefix: "roberta",
    ties: &[
        ("lm_head.decoder.weight", "roberta.embeddings.word_embeddings.weight"),
        ("lm_head.decoder.bias", "lm_head.bias"),
    ],
    buffers: TEXT_BUFFERS,
    max_positions,
    positions_from_padding: true,
    ..Family::new(Task::Mlm, defaults, build)
};

/// `transformers.XLMRobertaXLForMaskedLM`
#[derive(Module, Debug)]
pub struct XLMRobertaXLForMaskedLM {
    roberta: PreNormModel,
    lm_head: FlatHead,
    #[module(skip)]
    padding_idx: usize,
}

fn build(model: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let (config, padding_idx) = (EncoderConfig::new(model)?, padding_idx(model));
    let builder = &Builder::new(device, config.initializer_range);
    let embeddings = TextEmbeddings { layer_norm: None, ..TextEmbeddings::from_padding(&config, padding_idx, builder) };
    // Nothing is dropped behind the feed-forward half.
    let dropout = config.hidden_dropout_prob.get();
    let model = XLMRobertaXLForMaskedLM {
        roberta: PreNormModel::new(embeddings, &config, [dropout, 0.0], builder),
        lm_head: lm_head(&config, builder),
        padding_idx,
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for XLMRobertaXLForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[
        ("layer", "encoder.layer"),
        ("self_attention", "self"),
        ("attention_norm", "self_attn_layer_norm"),
        ("feed_forward_norm", "LayerNorm"),
        ("final_norm", "encoder.LayerNorm"),
        ("head_norm", "layer_norm"),
        ("head_bias", "bias"),
    ];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let positions = || inputs.positions_from_padding(self.padding_idx);
        self.roberta.stages(inputs, positions, |rows, mode| self.lm_head.forward(rows, mode))
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.roberta.embeddings.word_embeddings)
    }
}
