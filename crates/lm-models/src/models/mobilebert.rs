//! MobileBERT (Sun et al., 2020), narrow within its layers: `MobileBertForMaskedLM`.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Dense, Embedding, EncoderConfig, HeadTransform, Linear, LmHead, POSITION_BUFFERS, projections};
use crate::config::{ConfigError, Count, Family, ModelConfig, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::{Builder, Initial, Kind};
use crate::stages::Stages;
use crate::weights::{Variable, by_scopes};

/// torch's default, which Python leaves to some norms.
const LAYER_NORM_EPS: f64 = 1e-5;

/// What config.json has besides BERT's fields.
#[derive(Clone, Debug, Deserialize)]
struct MobileBertConfig {
    embedding_size: Size,
    intra_bottleneck_size: Size,
    num_feedforward_networks: Count,
    normalization_type: NormalizationType,
    trigram_input: bool,
    use_bottleneck: bool,
    use_bottleneck_attention: bool,
    key_query_shared_bottleneck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NormalizationType {
    LayerNorm,
    NoNorm,
}

/// `transformers.MobileBertConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 30522, "hidden_size": 512, "num_hidden_layers": 24, "num_attention_heads": 4,
        "intermediate_size": 512, "hidden_act": "relu", "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0, "embedding_size": 128,
        "trigram_input": true, "use_bottleneck": true, "intra_bottleneck_size": 128,
        "use_bottleneck_attention": false, "key_query_shared_bottleneck": true, "num_feedforward_networks": 4,
        "normalization_type": "no_norm", "classifier_activation": true, "classifier_dropout": null,
    })
}

/// The width within layers, which Python writes as well.
fn true_hidden_size(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let narrow = config.get("use_bottleneck").and_then(Value::as_bool).unwrap_or(true);
    let field = if narrow { "intra_bottleneck_size" } else { "hidden_size" };
    config.get(field).map(|size| ("true_hidden_size", size.clone())).into_iter().collect()
}

/// A variable of MobileBERT's program (`load_tf_weights_in_mobilebert`).
fn variable(name: &str) -> Variable {
    const RENAMES: [(&str, &str); 4] = [
        ("ffn_layer", "ffn"),
        ("FakeLayerNorm", "LayerNorm"),
        ("extra_output_weights", "dense/kernel"),
        ("bert", "mobilebert"),
    ];
    by_scopes(&RENAMES.iter().fold(name.to_owned(), |name, (old, new)| name.replace(old, new)))
}

/// The entry of the list.
pub static MOBILEBERT: Family = Family {
    model_type: "mobilebert",
    class: "MobileBertForMaskedLM",
    base_model_prefix: "mobilebert",
    ties: &[
        ("cls.predictions.decoder.weight", "mobilebert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
    buffers: POSITION_BUFFERS,
    derived: true_hidden_size,
    tensorflow1: Some(variable),
    ..Family::new(Task::Mlm, defaults, build)
};

/// Sizes and settings together.
struct Sizes {
    config: EncoderConfig,
    own: MobileBertConfig,
    /// Width within layers.
    width: usize,
}

impl Sizes {
    fn new(model: &ModelConfig) -> Result<Self, ConfigError> {
        let (config, own) = (EncoderConfig::with_own_heads(model)?, model.parse::<MobileBertConfig>()?);
        let (size, heads) = (config.hidden_size, config.num_attention_heads);
        let (name, width) = match own.use_bottleneck {
            true => ("intra_bottleneck_size", own.intra_bottleneck_size),
            false => ("hidden_size", size),
        };
        model.expect_divisible(name, width, "num_attention_heads", heads)?;
        let refuse = |reason: &str| ConfigError::Value { model_type: model.model_type().into(), reason: reason.into() };
        if own.embedding_size.get() > size.get() {
            return Err(refuse("`embedding_size` must not be more than `hidden_size`"));
        }
        let narrow_queries = !own.use_bottleneck || own.use_bottleneck_attention || own.key_query_shared_bottleneck;
        if !narrow_queries && width.get() != size.get() {
            return Err(refuse(
                "`key_query_shared_bottleneck` must be true where `intra_bottleneck_size` is not `hidden_size`",
            ));
        }
        Ok(Self { config, own, width: width.get() })
    }
}

/// Layer norm, or a scale and a shift in its place.
#[derive(Module, Debug)]
struct Norm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: Option<f64>,
}

impl Norm {
    fn new(dim: usize, epsilon: f64, sizes: &Sizes, builder: &Builder) -> Self {
        let normalizes = sizes.own.normalization_type == NormalizationType::LayerNorm;
        Self {
            weight: builder.parameter([dim], Kind::Norm, Initial::Ones),
            bias: builder.parameter([dim], if normalizes { Kind::Norm } else { Kind::Bias }, Initial::Zeros),
            epsilon: normalizes.then_some(epsilon),
        }
    }

    fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        match self.epsilon {
            Some(epsilon) => ops::layer_norm(x, weight, bias, epsilon, mode),
            None => ops::scale_shift(x, weight, bias, mode),
        }
    }
}

/// Words with their neighbours, positions and the (always first) segment.
#[derive(Module, Debug)]
struct MobileBertEmbeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    embedding_transformation: Linear,
    layer_norm: Norm,
    #[module(skip)]
    trigram: bool,
    #[module(skip)]
    padding_idx: Option<usize>,
    #[module(skip)]
    dropout: f64,
}

impl MobileBertEmbeddings {
    fn new(sizes: &Sizes, builder: &Builder) -> Self {
        let Sizes { config, own, .. } = sizes;
        let (size, width) = (config.hidden_size.get(), own.embedding_size.get());
        let inputs = if own.trigram_input { 3 * width } else { width };
        Self {
            word_embeddings: Embedding::padded(config.vocab_size.get(), width, config.pad_token_id, builder),
            position_embeddings: Embedding::new(config.max_position_embeddings.get(), size, builder),
            token_type_embeddings: Embedding::new(config.type_vocab_size.get(), size, builder),
            embedding_transformation: Linear::new(inputs, size, builder),
            layer_norm: Norm::new(size, LAYER_NORM_EPS, sizes, builder),
            trigram: own.trigram_input,
            padding_idx: config.pad_token_id,
            dropout: config.hidden_dropout_prob.get(),
        }
    }

    fn forward(&self, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let words = self.word_embeddings.forward_tokens(inputs, mode);
        let words = if self.trigram { self.with_neighbours(words, inputs, mode) } else { words };
        let same_size = words.dims()[1] == self.position_embeddings.weight.lazy_shape()[1];
        let words = match same_size && !self.trigram {
            true => words,
            false => self.embedding_transformation.forward(words, mode),
        };
        let places = self.position_embeddings.forward(inputs.positions(), mode) + self.token_type_embeddings.first();
        let x = self.layer_norm.forward(ops::add(words, places, mode), mode);
        ops::dropout(x, self.dropout, mode)
    }

    /// Next token, token, token before, side by side; beyond the ends of the padded batch there are zeros.
    fn with_neighbours(&self, words: Tensor<2>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let ([rows, width], device) = (words.dims(), words.device());
        let zeros = Tensor::zeros([1, width], (&device, words.dtype()));
        // Padding that was dropped follows all the same.
        let padding = match self.padding_idx.filter(|&row| row < self.word_embeddings.weight.lazy_shape()[0]) {
            Some(row) => self.word_embeddings.vectors(row..row + 1).detach(),
            None => zeros.clone(),
        };
        let (nothing, dropped) = (rows as i32, rows as i32 + 1);
        let (mut next, mut before): (Vec<i32>, Vec<i32>) =
            ((1..=rows as i32).collect(), (-1..rows as i32 - 1).collect());
        for rows in inputs.sequences.ranges().into_iter().filter(|rows| !rows.is_empty()) {
            before[rows.start] = nothing;
            next[rows.end - 1] = if rows.len() < inputs.sequences.seq { dropped } else { nothing };
        }
        let rows_of = |index: Vec<i32>| Tensor::<1, Int>::from_data(TensorData::new(index, [rows]), &inputs.device);
        let all = Tensor::cat(vec![words.clone(), zeros, padding], 0);
        let [next, before] = [next, before].map(|index| ops::embedding(all.clone(), rows_of(index), mode));
        Tensor::cat(vec![next, words, before], 1)
    }
}

/// A projection, perhaps dropout, the residual, norm.
#[derive(Module, Debug)]
struct Output {
    dense: Linear,
    layer_norm: Norm,
}

impl Output {
    fn new(inputs: usize, outputs: usize, epsilon: f64, sizes: &Sizes, builder: &Builder) -> Self {
        Self { dense: Linear::new(inputs, outputs, builder), layer_norm: Norm::new(outputs, epsilon, sizes, builder) }
    }

    fn forward(&self, x: Tensor<2>, residual: Tensor<2>, dropout: f64, mode: &Mode) -> Tensor<2> {
        self.layer_norm.forward(ops::dropout_add(self.dense.forward(x, mode), residual, dropout, mode), mode)
    }

    /// Without a residual.
    fn narrow(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.layer_norm.forward(self.dense.forward(x, mode), mode)
    }
}

#[derive(Module, Debug)]
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
}

#[derive(Module, Debug)]
struct MobileBertAttention {
    self_attention: SelfAttention,
    output: Output,
}

/// What narrows a layer's hidden states: for the residual stream within, and for queries and keys.
#[derive(Module, Debug)]
struct Bottleneck {
    input: Output,
    attention: Option<Output>,
}

/// All feed-forward networks of a layer but the last.
#[derive(Module, Debug)]
struct FfnLayer {
    intermediate: Dense,
    output: Output,
}

#[derive(Module, Debug)]
struct MobileBertLayer {
    attention: MobileBertAttention,
    intermediate: Dense,
    output: Output,
    output_bottleneck: Option<Output>,
    bottleneck: Option<Bottleneck>,
    ffn: Vec<FfnLayer>,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    activation: Activation,
    /// Whether values are made of narrowed hidden states too.
    #[module(skip)]
    narrow_values: bool,
    #[module(skip)]
    dropout: f64,
}

impl MobileBertLayer {
    fn new(sizes: &Sizes, builder: &Builder) -> Self {
        let Sizes { config, own, width } = sizes;
        let (size, inner, width) = (config.hidden_size.get(), config.intermediate_size.get(), *width);
        let epsilon = config.layer_norm_eps;
        let (heads, dropout) = (config.num_attention_heads.get(), config.attention_probs_dropout_prob.get());
        let narrowing = || Output::new(size, width, epsilon, sizes, builder);
        let ffn = |_| FfnLayer {
            intermediate: Dense::new(width, inner, builder),
            output: Output::new(inner, width, epsilon, sizes, builder),
        };
        Self {
            attention: MobileBertAttention {
                self_attention: SelfAttention {
                    query: Linear::new(width, width, builder),
                    key: Linear::new(width, width, builder),
                    value: Linear::new(if own.use_bottleneck_attention { width } else { size }, width, builder),
                },
                output: Output::new(width, width, epsilon, sizes, builder),
            },
            intermediate: Dense::new(width, inner, builder),
            output: Output::new(inner, width, LAYER_NORM_EPS, sizes, builder),
            output_bottleneck: own.use_bottleneck.then(|| Output::new(width, size, epsilon, sizes, builder)),
            bottleneck: own
                .use_bottleneck
                .then(|| Bottleneck { input: narrowing(), attention: own.key_query_shared_bottleneck.then(narrowing) }),
            ffn: (1..own.num_feedforward_networks.get()).map(ffn).collect(),
            options: Attention::new(heads, width / heads, AttentionMask::Full, dropout),
            activation: config.hidden_act,
            narrow_values: own.use_bottleneck_attention,
            dropout: config.hidden_dropout_prob.get(),
        }
    }

    fn forward(&self, x: Tensor<2>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        // What queries and keys are made of, what values are, and the residual stream within.
        let (shared, values, inner) = match &self.bottleneck {
            Some(Bottleneck { input, attention }) => {
                let inner = input.narrow(x.clone(), mode);
                match attention {
                    _ if self.narrow_values => (inner.clone(), inner.clone(), inner),
                    Some(attention) => (attention.narrow(x.clone(), mode), x.clone(), inner),
                    None => (x.clone(), x.clone(), inner),
                }
            }
            None => (x.clone(), x.clone(), x.clone()),
        };
        // Within, nothing is dropped but attention weights.
        let dropout = if self.bottleneck.is_some() { 0.0 } else { self.dropout };
        let SelfAttention { query, key, value } = &self.attention.self_attention;
        let [q, k] = projections([query, key], shared, mode);
        let v = value.forward(values, mode);
        let context = ops::attention(q, k, v, &inputs.sequences, &inputs.sequences, &self.options, mode);
        let mut inner = self.attention.output.forward(context, inner, dropout, mode);
        let wide = |dense: &Linear, x| self.activation.forward(dense.forward(x, mode), mode);
        for FfnLayer { intermediate, output } in &self.ffn {
            inner = output.forward(wide(&intermediate.dense, inner.clone()), inner, 0.0, mode);
        }
        let output = self.output.forward(wide(&self.intermediate.dense, inner.clone()), inner, dropout, mode);
        match &self.output_bottleneck {
            Some(widen) => widen.forward(output, x, self.dropout, mode),
            None => output,
        }
    }
}

#[derive(Module, Debug)]
struct MobileBertEncoder {
    layer: Vec<MobileBertLayer>,
}

#[derive(Module, Debug)]
struct MobileBertModel {
    embeddings: MobileBertEmbeddings,
    encoder: MobileBertEncoder,
}

/// A part of the projection to the vocabulary, laid out the other way round.
#[derive(Module, Debug)]
struct ExtraColumns {
    /// [hidden - embedding, vocab]
    weight: Param<Tensor<2>>,
}

#[derive(Module, Debug)]
struct MobileBertHead {
    transform: HeadTransform,
    dense: ExtraColumns,
    decoder: LmHead,
    bias: Param<Tensor<1>>,
}

/// `transformers.MobileBertForMaskedLM`
#[derive(Module, Debug)]
pub struct MobileBertForMaskedLM {
    mobilebert: MobileBertModel,
    cls: MobileBertHead,
}

fn build(model: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let sizes = &Sizes::new(model)?;
    let Sizes { config, own, .. } = sizes;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, width, vocab) = (config.hidden_size.get(), own.embedding_size.get(), config.vocab_size.get());
    let layers = config.num_hidden_layers.get();
    let model = MobileBertForMaskedLM {
        mobilebert: MobileBertModel {
            embeddings: MobileBertEmbeddings::new(sizes, builder),
            encoder: MobileBertEncoder { layer: (0..layers).map(|_| MobileBertLayer::new(sizes, builder)).collect() },
        },
        cls: MobileBertHead {
            transform: HeadTransform::new(size, size, config.hidden_act, config.layer_norm_eps, builder),
            dense: ExtraColumns { weight: builder.weight([size - width, vocab]) },
            decoder: LmHead::new(vocab, width, config.tie_word_embeddings, builder),
            bias: builder.bias(vocab),
        },
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for MobileBertForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[
        ("self_attention", "self"),
        ("layer_norm", "LayerNorm"),
        ("output_bottleneck", "output.bottleneck"),
        ("cls", "cls.predictions"),
    ];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let embed = |mode: &Mode| [self.mobilebert.embeddings.forward(inputs, mode)];
        let layers = self.mobilebert.encoder.layer.iter();
        let layers = layers.map(|layer| |[x]: [Tensor<2>; 1], mode: &Mode| [layer.forward(x, inputs, mode)]);
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| self.cls.transform.forward(inputs.take_predicted(x), mode);
        Stages::new(embed, layers, head)
    }

    /// The word embeddings meet the first values of a row, what the head has of its own the others.
    fn decoder(&self) -> Decoder {
        let MobileBertHead { dense, decoder, bias, .. } = &self.cls;
        let first = decoder.decoder(&self.mobilebert.embeddings.word_embeddings);
        let weight = match dense.weight.lazy_shape()[0] {
            0 => first.weight,
            _ => Tensor::cat(vec![ops::widen(first.weight), ops::widen(dense.weight.val()).transpose()], 1),
        };
        Decoder { weight, bias: Some(bias.val()), frozen: false, softcap: first.softcap }
    }
}
