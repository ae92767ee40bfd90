//! RoFormer (Su et al., 2021), the first model with rotary embeddings: `RoFormerForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Angles, BertHead, Embedding, Encoder, EncoderConfig, HeadTransform, LayerNorm, Linear};
use crate::config::{ConfigError, Family, ModelConfig, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Attention, Decoder, Pairs};
use crate::parameters::{Builder, Initial};
use crate::stages::Stages;
use crate::weights::by_scopes;

/// What config.json has besides BERT's fields.
#[derive(Clone, Debug, Deserialize)]
struct RoFormerConfig {
    embedding_size: Option<Size>,
    rotary_value: bool,
}

/// `transformers.RoFormerConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50000, "embedding_size": null, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 1536, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0, "rotary_value": false,
        "use_cache": true,
    })
}

/// The width of embeddings, which Python writes even where it is that of hidden states.
fn embedding_size(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let given = config.get("embedding_size").filter(|value| !value.is_null());
    let size = given.or_else(|| config.get("hidden_size")).cloned();
    size.map(|size| ("embedding_size", size)).into_iter().collect()
}

/// The entry of the list.
pub static ROFORMER: Family = Family {
    model_type: "roformer",
    class: "RoFormerForMaskedLM",
    base_model_prefix: "roformer",
    ties: &[
        ("cls.predictions.decoder.weight", "roformer.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
    derived: embedding_size,
    tensorflow1: Some(|name| by_scopes(&name.replace("bert", "roformer"))),
    ..Family::new(Task::Mlm, defaults, build)
};

/// Words and the (always first) segment.
#[derive(Module, Debug)]
struct RoFormerEmbeddings {
    word_embeddings: Embedding,
    token_type_embeddings: Embedding,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct RoFormerModel {
    embeddings: RoFormerEmbeddings,
    /// None where embeddings are as wide as hidden states.
    embeddings_project: Option<Linear>,
    /// Sines and cosines of all positions, kept with the weights and never trained.
    embed_positions: Embedding,
    encoder: Encoder,
}

/// `transformers.RoFormerForMaskedLM`
#[derive(Module, Debug)]
pub struct RoFormerForMaskedLM {
    roformer: RoFormerModel,
    cls: BertHead,
    #[module(skip)]
    rotary_value: bool,
    #[module(skip)]
    dropout: f64,
}

fn build(model: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let RoFormerConfig { embedding_size, rotary_value } = model.parse()?;
    let config = EncoderConfig::new(model)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, vocab) = (config.hidden_size.get(), config.vocab_size.get());
    let width = embedding_size.map_or(size, Size::get);
    let (positions, head_dim) = (config.max_position_embeddings.get(), size / config.num_attention_heads.get());
    if !head_dim.is_multiple_of(2) {
        let reason = format!("`hidden_size` / `num_attention_heads` ({head_dim}) must be even");
        return Err(ConfigError::Value { model_type: model.model_type().into(), reason });
    }
    let transform = HeadTransform::new(size, width, config.hidden_act, config.layer_norm_eps, builder);
    let model = RoFormerForMaskedLM {
        roformer: RoFormerModel {
            embeddings: RoFormerEmbeddings {
                word_embeddings: Embedding::padded(vocab, width, config.pad_token_id, builder),
                token_type_embeddings: Embedding::new(config.type_vocab_size.get(), width, builder),
                layer_norm: LayerNorm::new(width, config.layer_norm_eps, builder),
            },
            embeddings_project: (width != size).then(|| Linear::new(width, size, builder)),
            embed_positions: Embedding::starting(positions, head_dim, None, Initial::SinusoidalHalves, builder),
            encoder: Encoder::new(&config, builder),
        },
        cls: BertHead::new(transform, width, vocab, config.tie_word_embeddings, builder),
        rotary_value,
        dropout: config.hidden_dropout_prob.get(),
    };
    Ok(AutoModel::new(model, builder))
}

impl RoFormerForMaskedLM {
    fn embed(&self, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let RoFormerEmbeddings { word_embeddings, token_type_embeddings, layer_norm } = &self.roformer.embeddings;
        let words = word_embeddings.forward_tokens(inputs, mode);
        let embedded = layer_norm.forward(words + token_type_embeddings.first(), mode);
        let embedded = ops::dropout(embedded, self.dropout, mode);
        match &self.roformer.embeddings_project {
            Some(project) => project.forward(embedded, mode),
            None => embedded,
        }
    }

    /// The angles of all layers.
    fn angles(&self, inputs: &ModelInputs) -> Angles {
        let table = ops::widen(self.roformer.embed_positions.weight.val()).detach();
        let half = table.dims()[1] / 2;
        let tables = [half, 0].map(|start| table.clone().narrow(1, start, half));
        Angles::of_tables(tables, inputs.positions(), Pairs::Interleaved)
    }
}

impl Architecture for RoFormerForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] =
        &[("self_attention", "self"), ("layer_norm", "LayerNorm"), ("embed_positions", "encoder.embed_positions")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let angles = self.angles(inputs);
        let attend = move |[q, k, v]: [Tensor<2>; 3], options: &Attention, mode: &Mode| {
            let turn = |x| angles.turn(x, options.heads, mode);
            let v = if self.rotary_value { turn(v) } else { v };
            ops::attention(turn(q), turn(k), v, &inputs.sequences, &inputs.sequences, options, mode)
        };
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| self.cls.forward(inputs.take_predicted(x), mode);
        Stages::new(|mode| [self.embed(inputs, mode)], self.roformer.encoder.stages_with(attend), head)
    }

    fn decoder(&self) -> Decoder {
        self.cls.decoder(&self.roformer.embeddings.word_embeddings)
    }
}
