//! Heads of masked language models: a layer of their own before the projection to the vocabulary.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::embedding::Embedding;
use super::head::LmHead;
use super::linear::Linear;
use super::norm::LayerNorm;
use crate::inputs::Mode;
use crate::ops::{Activation, Decoder};
use crate::parameters::Builder;

/// From hidden states to the rows to decode.
#[derive(Module, Debug)]
pub struct HeadTransform {
    dense: Linear,
    layer_norm: LayerNorm,
    #[module(skip)]
    activation: Activation,
}

impl HeadTransform {
    /// From `inputs` values to the `outputs` that are decoded.
    pub fn new(inputs: usize, outputs: usize, activation: Activation, epsilon: f64, builder: &Builder) -> Self {
        Self {
            dense: Linear::new(inputs, outputs, builder),
            layer_norm: LayerNorm::new(outputs, epsilon, builder),
            activation,
        }
    }

    /// [rows, inputs] → [rows, outputs]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.layer_norm.forward(self.activation.forward(self.dense.forward(x, mode), mode), mode)
    }
}

#[derive(Module, Debug)]
struct Predictions {
    transform: HeadTransform,
    decoder: LmHead,
    bias: Param<Tensor<1>>,
}

/// BERT's head, `cls`.
#[derive(Module, Debug)]
pub struct BertHead {
    predictions: Predictions,
}

impl BertHead {
    /// A head for `vocab` tokens after `transform`, which gives `size` values.
    pub fn new(transform: HeadTransform, size: usize, vocab: usize, tied: bool, builder: &Builder) -> Self {
        let decoder = LmHead::new(vocab, size, tied, builder);
        Self { predictions: Predictions { transform, decoder, bias: builder.bias(vocab) } }
    }

    /// [rows, inputs] → [rows, size]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.predictions.transform.forward(x, mode)
    }

    /// The projection, by the word embeddings where the head is tied to them.
    pub fn decoder(&self, word_embeddings: &Embedding) -> Decoder {
        let Predictions { decoder, bias, .. } = &self.predictions;
        Decoder { bias: Some(bias.val()), ..decoder.decoder(word_embeddings) }
    }
}

/// The same layers without BERT's nesting: RoBERTa's `lm_head`, ALBERT's `predictions`. What two of the fields are called
/// differs from model to model.
#[derive(Module, Debug)]
pub struct FlatHead {
    dense: Linear,
    head_norm: LayerNorm,
    decoder: LmHead,
    head_bias: Param<Tensor<1>>,
    #[module(skip)]
    activation: Activation,
}

impl FlatHead {
    /// From `inputs` values by way of `size` to `vocab` tokens.
    pub fn new(
        [inputs, size, vocab]: [usize; 3],
        activation: Activation,
        epsilon: f64,
        tied: bool,
        builder: &Builder,
    ) -> Self {
        Self {
            dense: Linear::new(inputs, size, builder),
            head_norm: LayerNorm::new(size, epsilon, builder),
            decoder: LmHead::new(vocab, size, tied, builder),
            head_bias: builder.bias(vocab),
            activation,
        }
    }

    /// [rows, inputs] → [rows, size]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.head_norm.forward(self.activation.forward(self.dense.forward(x, mode), mode), mode)
    }

    /// The projection, by the word embeddings where the head is tied to them.
    pub fn decoder(&self, word_embeddings: &Embedding) -> Decoder {
        Decoder { bias: Some(self.head_bias.val()), ..self.decoder.decoder(word_embeddings) }
    }
}
