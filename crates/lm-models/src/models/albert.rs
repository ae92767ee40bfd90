//! ALBERT (Lan et al., 2019), whose layers share their weights: `AlbertForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{EncoderConfig, FlatHead, LayerNorm, Linear, TEXT_BUFFERS, TextEmbeddings, projections};
use crate::config::{ConfigError, Family, ModelConfig, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;
use crate::stages::Stages;
use crate::weights::{Variable, by_scopes};

/// What config.json has besides BERT's fields.
#[derive(Clone, Debug, Deserialize)]
struct AlbertConfig {
    embedding_size: Size,
    num_hidden_groups: Size,
    inner_group_num: Size,
}

/// `transformers.AlbertConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 30000, "embedding_size": 128, "hidden_size": 4096, "num_hidden_layers": 12,
        "num_hidden_groups": 1, "num_attention_heads": 64, "intermediate_size": 16384, "inner_group_num": 1,
        "hidden_act": "gelu_new", "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0,
        "max_position_embeddings": 512, "type_vocab_size": 2, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
        "classifier_dropout_prob": 0.1, "position_embedding_type": "absolute", "pad_token_id": 0, "bos_token_id": 2,
        "eos_token_id": 3,
    })
}

/// A variable of ALBERT's program (`load_tf_weights_in_albert`).
fn variable(name: &str) -> Variable {
    const RENAMES: [(&str, &str); 19] = [
        ("module/", ""),
        ("ffn_1", "ffn"),
        ("bert/", "albert/"),
        ("attention_1", "attention"),
        ("transform/", ""),
        ("LayerNorm_1", "full_layer_layer_norm"),
        ("LayerNorm", "attention/LayerNorm"),
        ("transformer/", ""),
        ("intermediate/dense/", ""),
        ("ffn/intermediate/output/dense/", "ffn_output/"),
        ("/output/", "/"),
        ("/self/", "/"),
        ("pooler/dense", "pooler"),
        ("cls/predictions", "predictions"),
        ("predictions/attention", "predictions"),
        ("embeddings/attention", "embeddings"),
        ("inner_group_", "albert_layers/"),
        ("group_", "albert_layer_groups/"),
        ("seq_relationship/output_", "sop_classifier/classifier/"),
    ];
    by_scopes(&RENAMES.iter().fold(name.to_owned(), |name, (old, new)| name.replace(old, new)))
}

/// The entry of the list.
pub static ALBERT: Family = Family {
    model_type: "albert",
    class: "AlbertForMaskedLM",
    base_model_prefix: "albert",
    ties: &[
        ("predictions.decoder.weight", "albert.embeddings.word_embeddings.weight"),
        ("predictions.decoder.bias", "predictions.bias"),
    ],
    buffers: TEXT_BUFFERS,
    tensorflow1: Some(variable),
    ..Family::new(Task::Mlm, defaults, build)
};

#[derive(Module, Debug)]
struct AlbertAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct AlbertLayer {
    attention: AlbertAttention,
    ffn: Linear,
    ffn_output: Linear,
    full_layer_layer_norm: LayerNorm,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: f64,
}

impl AlbertLayer {
    fn new(config: &EncoderConfig, builder: &Builder) -> Self {
        let (size, inner) = (config.hidden_size.get(), config.intermediate_size.get());
        let linear = || Linear::new(size, size, builder);
        let norm = || LayerNorm::new(size, config.layer_norm_eps, builder);
        Self {
            attention: AlbertAttention {
                query: linear(),
                key: linear(),
                value: linear(),
                dense: linear(),
                layer_norm: norm(),
            },
            ffn: Linear::new(size, inner, builder),
            ffn_output: Linear::new(inner, size, builder),
            full_layer_layer_norm: norm(),
            options: config.attention(AttentionMask::Full),
            activation: config.hidden_act,
            dropout: config.hidden_dropout_prob.get(),
        }
    }

    fn forward(&self, x: Tensor<2>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let AlbertAttention { query, key, value, dense, layer_norm } = &self.attention;
        let [q, k, v] = projections([query, key, value], x.clone(), mode);
        let context = ops::attention(q, k, v, &inputs.sequences, &inputs.sequences, &self.options, mode);
        let attended = ops::dropout_add(dense.forward(context, mode), x, self.dropout, mode);
        let attended = layer_norm.forward(attended, mode);
        let wide = self.ffn.forward(attended.clone(), mode);
        // Nothing is dropped here.
        let output = ops::add(self.ffn_output.forward_activated(wide, self.activation, mode), attended, mode);
        self.full_layer_layer_norm.forward(output, mode)
    }
}

#[derive(Module, Debug)]
struct AlbertLayerGroup {
    albert_layers: Vec<AlbertLayer>,
}

#[derive(Module, Debug)]
struct AlbertTransformer {
    embedding_hidden_mapping_in: Linear,
    albert_layer_groups: Vec<AlbertLayerGroup>,
}

#[derive(Module, Debug)]
struct AlbertModel {
    embeddings: TextEmbeddings,
    encoder: AlbertTransformer,
}

/// `transformers.AlbertForMaskedLM`
#[derive(Module, Debug)]
pub struct AlbertForMaskedLM {
    albert: AlbertModel,
    predictions: FlatHead,
    #[module(skip)]
    layers: usize,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let own: AlbertConfig = config.parse()?;
    let config = EncoderConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, width, vocab) = (config.hidden_size.get(), own.embedding_size.get(), config.vocab_size.get());
    let layer = |_| AlbertLayer::new(&config, builder);
    let group = |_| AlbertLayerGroup { albert_layers: (0..own.inner_group_num.get()).map(layer).collect() };
    let model = AlbertForMaskedLM {
        albert: AlbertModel {
            embeddings: TextEmbeddings::new(&config, width, builder),
            encoder: AlbertTransformer {
                embedding_hidden_mapping_in: Linear::new(width, size, builder),
                albert_layer_groups: (0..own.num_hidden_groups.get()).map(group).collect(),
            },
        },
        predictions: FlatHead::new(
            [size, width, vocab],
            config.hidden_act,
            config.layer_norm_eps,
            config.tie_word_embeddings,
            builder,
        ),
        layers: config.num_hidden_layers.get(),
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for AlbertForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] =
        &[("layer_norm", "LayerNorm"), ("head_norm", "LayerNorm"), ("head_bias", "bias")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let encoder = &self.albert.encoder;
        let embed = |mode: &Mode| {
            let embedded = self.albert.embeddings.forward(inputs, inputs.positions(), mode);
            [encoder.embedding_hidden_mapping_in.forward(embedded, mode)]
        };
        // Neighbouring layers are of one group, in Python's arithmetic where they can't be shared out evenly.
        let of_each = self.layers as f64 / encoder.albert_layer_groups.len() as f64;
        let groups = (0..self.layers).map(move |layer| &encoder.albert_layer_groups[(layer as f64 / of_each) as usize]);
        let layers = groups.flat_map(|group| &group.albert_layers);
        let layers = layers.map(|layer| |[x]: [Tensor<2>; 1], mode: &Mode| [layer.forward(x, inputs, mode)]);
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| self.predictions.forward(inputs.take_predicted(x), mode);
        Stages::new(embed, layers, head)
    }

    fn decoder(&self) -> Decoder {
        self.predictions.decoder(&self.albert.embeddings.word_embeddings)
    }
}
