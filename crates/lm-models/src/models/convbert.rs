//! ConvBERT (Jiang et al., 2020), half of whose heads are convolutions over spans: `ConvBertForMaskedLM`.

use std::rc::Rc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{
    EncoderConfig, HeadTransform, LayerNorm, Linear, LmHead, PostNorm, TEXT_BUFFERS, TextEmbeddings, projections,
};
use crate::config::{ConfigError, Family, ModelConfig, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::{Builder, Initial, Kind};
use crate::stages::Stages;

/// What config.json has besides BERT's fields.
#[derive(Clone, Debug, Deserialize)]
struct ConvBertConfig {
    embedding_size: Size,
    head_ratio: Size,
    conv_kernel_size: Size,
    num_groups: Size,
}

/// `transformers.ConvBertConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        "embedding_size": 768, "head_ratio": 2, "conv_kernel_size": 9, "num_groups": 1, "classifier_dropout": null,
    })
}

/// The entry of the list.
pub static CONVBERT: Family = Family {
    model_type: "convbert",
    class: "ConvBertForMaskedLM",
    base_model_prefix: "convbert",
    ties: &[("generator_lm_head.weight", "convbert.embeddings.word_embeddings.weight")],
    buffers: TEXT_BUFFERS,
    ..Family::new(Task::Mlm, defaults, build)
};

/// Sizes and settings together.
struct Sizes {
    config: EncoderConfig,
    own: ConvBertConfig,
    /// Heads of each kind.
    heads: usize,
}

impl Sizes {
    fn new(model: &ModelConfig) -> Result<Self, ConfigError> {
        let (config, own) = (EncoderConfig::with_own_heads(model)?, model.parse::<ConvBertConfig>()?);
        let heads = (config.num_attention_heads.get() / own.head_ratio.get()).max(1);
        let size = config.hidden_size.get();
        let refuse = |reason| ConfigError::Value { model_type: model.model_type().into(), reason };
        if !size.is_multiple_of(2 * heads) {
            let two = "twice `num_attention_heads` / `head_ratio`";
            return Err(refuse(format!("`hidden_size` ({size}) must be a multiple of {two} ({})", 2 * heads)));
        }
        if own.conv_kernel_size.get().is_multiple_of(2) {
            return Err(refuse(format!("`conv_kernel_size` = {}: must be odd", own.conv_kernel_size.get())));
        }
        model.expect_divisible("hidden_size", config.hidden_size, "num_groups", own.num_groups)?;
        model.expect_divisible("intermediate_size", config.intermediate_size, "num_groups", own.num_groups)?;
        Ok(Self { config, own, heads })
    }
}

/// A weight without a bias.
#[derive(Module, Debug)]
struct Weight {
    weight: Param<Tensor<3>>,
}

/// A convolution of each column, then a projection.
#[derive(Module, Debug)]
struct SeparableConv1D {
    /// [inputs, 1, width]
    depthwise: Weight,
    /// [outputs, inputs, 1]
    pointwise: Weight,
    /// [outputs, 1]
    bias: Param<Tensor<2>>,
}

impl SeparableConv1D {
    fn new(inputs: usize, outputs: usize, width: usize, builder: &Builder) -> Self {
        Self {
            depthwise: Weight { weight: builder.weight([inputs, 1, width]) },
            pointwise: Weight { weight: builder.weight([outputs, inputs, 1]) },
            bias: builder.parameter([outputs, 1], Kind::Bias, Initial::Zeros),
        }
    }

    fn forward(&self, x: Tensor<2>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let depthwise = self.depthwise.weight.val();
        let [columns, _, width] = depthwise.dims();
        let convolved = ops::convolution(x, depthwise.reshape([columns, width]), &inputs.sequences, mode);
        let pointwise = self.pointwise.weight.val();
        let [outputs, ..] = pointwise.dims();
        ops::linear(convolved, pointwise.reshape([outputs, columns]), Some(self.bias.val().flatten(0, 1)), mode)
    }
}

#[derive(Module, Debug)]
struct ConvBertSelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    key_conv_attn_layer: SeparableConv1D,
    conv_kernel_layer: Linear,
    conv_out_layer: Linear,
}

impl ConvBertSelfAttention {
    fn new(sizes: &Sizes, builder: &Builder) -> Self {
        let (size, width) = (sizes.config.hidden_size.get(), sizes.own.conv_kernel_size.get());
        let half = size / 2;
        let linear = || Linear::new(size, half, builder);
        Self {
            query: linear(),
            key: linear(),
            value: linear(),
            key_conv_attn_layer: SeparableConv1D::new(size, half, width, builder),
            conv_kernel_layer: Linear::new(half, sizes.heads * width, builder),
            conv_out_layer: linear(),
        }
    }

    /// What the heads of both kinds gather, side by side.
    fn forward(&self, x: Tensor<2>, inputs: &ModelInputs, options: &Attention, mode: &Mode) -> Tensor<2> {
        let layers = [&self.query, &self.key, &self.value, &self.conv_out_layer];
        let [q, k, v, spans] = projections(layers, x.clone(), mode);
        let kernel = self.key_conv_attn_layer.forward(x, inputs, mode) * q.clone();
        let scores = self.conv_kernel_layer.forward(kernel, mode);
        let gathered = ops::dynamic_convolution(spans, scores, options.heads, &inputs.sequences, mode);
        let context = ops::attention(q, k, v, &inputs.sequences, &inputs.sequences, options, mode);
        Tensor::cat(vec![context, gathered], 1)
    }
}

/// A projection in which each group of inputs leads to a group of outputs.
#[derive(Module, Debug)]
struct GroupedLinear {
    /// [groups, inputs / groups, outputs / groups]
    weight: Param<Tensor<3>>,
    /// `[outputs]`
    bias: Param<Tensor<1>>,
}

impl GroupedLinear {
    fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let [groups, inputs, outputs] = weight.dims();
        let group = |group: usize| {
            let x = x.clone().narrow(1, group * inputs, inputs);
            let weight = weight.clone().narrow(0, group, 1).reshape([inputs, outputs]);
            ops::linear_in_out(x, weight, Some(bias.clone().narrow(0, group * outputs, outputs)), mode)
        };
        Tensor::cat((0..groups).map(group).collect(), 1)
    }
}

/// A projection, in groups where there are several.
#[derive(Module, Debug)]
enum Projection {
    Whole(Linear),
    Grouped(GroupedLinear),
}

impl Projection {
    fn new(inputs: usize, outputs: usize, groups: usize, builder: &Builder) -> Self {
        match groups {
            1 => Self::Whole(Linear::new(inputs, outputs, builder)),
            _ => Self::Grouped(GroupedLinear {
                weight: builder.weight([groups, inputs / groups, outputs / groups]),
                bias: builder.bias(outputs),
            }),
        }
    }

    fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        match self {
            Self::Whole(linear) => linear.forward(x, mode),
            Self::Grouped(grouped) => grouped.forward(x, mode),
        }
    }
}

#[derive(Module, Debug)]
struct ConvBertAttention {
    self_attention: ConvBertSelfAttention,
    output: PostNorm,
}

#[derive(Module, Debug)]
struct ConvBertIntermediate {
    dense: Projection,
}

#[derive(Module, Debug)]
struct ConvBertOutput {
    dense: Projection,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct ConvBertLayer {
    attention: ConvBertAttention,
    intermediate: ConvBertIntermediate,
    output: ConvBertOutput,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    dropout: f64,
}

impl ConvBertLayer {
    fn new(sizes: &Sizes, builder: &Builder) -> Self {
        let Sizes { config, own, heads } = sizes;
        let (size, inner, groups) = (config.hidden_size.get(), config.intermediate_size.get(), own.num_groups.get());
        let dropout = config.attention_probs_dropout_prob.get();
        Self {
            attention: ConvBertAttention {
                self_attention: ConvBertSelfAttention::new(sizes, builder),
                output: PostNorm::new(size, config, builder),
            },
            intermediate: ConvBertIntermediate { dense: Projection::new(size, inner, groups, builder) },
            output: ConvBertOutput {
                dense: Projection::new(inner, size, groups, builder),
                layer_norm: LayerNorm::new(size, config.layer_norm_eps, builder),
            },
            options: Attention::new(*heads, size / 2 / heads, AttentionMask::Full, dropout),
            activation: config.hidden_act,
            dropout: config.hidden_dropout_prob.get(),
        }
    }

    fn forward(&self, x: Tensor<2>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let gathered = self.attention.self_attention.forward(x.clone(), inputs, &self.options, mode);
        let attended = self.attention.output.forward(gathered, x, self.dropout, mode);
        let wide = self.activation.forward(self.intermediate.dense.forward(attended.clone(), mode), mode);
        let output = ops::dropout_add(self.output.dense.forward(wide, mode), attended, self.dropout, mode);
        self.output.layer_norm.forward(output, mode)
    }
}

#[derive(Module, Debug)]
struct ConvBertEncoder {
    layer: Vec<ConvBertLayer>,
}

#[derive(Module, Debug)]
struct ConvBertModel {
    embeddings: TextEmbeddings,
    /// None where embeddings are as wide as hidden states.
    embeddings_project: Option<Linear>,
    encoder: ConvBertEncoder,
}

/// `transformers.ConvBertForMaskedLM`
#[derive(Module, Debug)]
pub struct ConvBertForMaskedLM {
    convbert: ConvBertModel,
    generator_predictions: HeadTransform,
    generator_lm_head: LmHead,
    #[module(skip)]
    padding_id: usize,
}

fn build(model: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let sizes = &Sizes::new(model)?;
    let Sizes { config, own, .. } = sizes;
    let builder = &Builder::new(device, config.initializer_range);
    let (size, width, epsilon) = (config.hidden_size.get(), own.embedding_size.get(), config.layer_norm_eps);
    let layers = config.num_hidden_layers.get();
    let model = ConvBertForMaskedLM {
        convbert: ConvBertModel {
            embeddings: TextEmbeddings::new(config, width, builder),
            embeddings_project: (width != size).then(|| Linear::new(width, size, builder)),
            encoder: ConvBertEncoder { layer: (0..layers).map(|_| ConvBertLayer::new(sizes, builder)).collect() },
        },
        // Python's head says gelu whatever `hidden_act` is.
        generator_predictions: HeadTransform::new(size, width, Activation::Gelu, epsilon, builder),
        generator_lm_head: LmHead::with_bias(config.vocab_size.get(), width, config.tie_word_embeddings, builder),
        padding_id: config.pad_token_id.unwrap_or(0),
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for ConvBertForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] =
        &[("self_attention", "self"), ("layer_norm", "LayerNorm"), ("Whole", ""), ("Grouped", "")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        // Convolutions at the end of a text reach into its padding, as in Python.
        let inputs = Rc::new(inputs.with_padding(self.padding_id as i32));
        let (of_embed, of_layers, of_head) = (Rc::clone(&inputs), Rc::clone(&inputs), inputs);
        let embed = move |mode: &Mode| {
            let embedded = self.convbert.embeddings.forward(&of_embed, of_embed.positions(), mode);
            [match &self.convbert.embeddings_project {
                Some(project) => project.forward(embedded, mode),
                None => embedded,
            }]
        };
        let layers = self.convbert.encoder.layer.iter().map(move |layer| {
            let inputs = Rc::clone(&of_layers);
            move |[x]: [Tensor<2>; 1], mode: &Mode| [layer.forward(x, &inputs, mode)]
        });
        let head =
            move |[x]: [Tensor<2>; 1], mode: &Mode| self.generator_predictions.forward(of_head.take_predicted(x), mode);
        Stages::new(embed, layers, head)
    }

    fn decoder(&self) -> Decoder {
        self.generator_lm_head.decoder(&self.convbert.embeddings.word_embeddings)
    }
}
