//! The layers that architectures are built from. Parameters keep the names, shapes and layout of the Hugging Face files.

use burn::module::{Module, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData};

use crate::inputs::{Mode, ModelInputs};
use crate::ops::{self, Decoder};
use crate::parameters::{Builder, Initial, Kind};

/// `y = x Wᵀ + b`, as torch's `nn.Linear`.
#[derive(Module, Debug)]
pub struct Linear {
    /// [out, in]
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A layer with a bias.
    pub fn new(inputs: usize, outputs: usize, builder: &Builder) -> Self {
        Self { weight: builder.weight([outputs, inputs]), bias: Some(builder.bias(outputs)) }
    }

    /// [rows, in] → [rows, out]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        ops::linear(x, self.weight.val(), self.bias.as_ref().map(Param::val), mode)
    }
}

/// What several layers make of the same rows, side by side, by one product; [rows, in] → [rows, Σ out].
pub fn side_by_side(layers: [&Linear; 3], x: Tensor<2>, mode: &Mode) -> Tensor<2> {
    let weights = layers.map(|layer| layer.weight.val()).to_vec();
    let biases: Option<Vec<_>> = layers.iter().map(|layer| layer.bias.as_ref().map(Param::val)).collect();
    ops::linear(x, Tensor::cat(weights, 0), biases.map(|biases| Tensor::cat(biases, 0)), mode)
}

/// `y = x W + b`, the layout that GPT and GPT-2 store (`transformers.pytorch_utils.Conv1D`).
#[derive(Module, Debug)]
pub struct Conv1D {
    /// [in, out]
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Param<Tensor<1>>,
}

impl Conv1D {
    /// A layer with a bias.
    pub fn new(inputs: usize, outputs: usize, builder: &Builder) -> Self {
        Self { weight: builder.weight([inputs, outputs]), bias: builder.bias(outputs) }
    }

    /// [rows, in] → [rows, out]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        ops::linear_in_out(x, self.weight.val(), Some(self.bias.val()), mode)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[dim]`
    pub weight: Param<Tensor<1>>,
    /// `[dim]`
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    epsilon: f64,
}

impl LayerNorm {
    /// Normalises rows of `dim` values; `epsilon` is added to the variance.
    pub fn new(dim: usize, epsilon: f64, builder: &Builder) -> Self {
        Self {
            weight: builder.parameter([dim], Kind::Norm, Initial::Ones),
            bias: builder.parameter([dim], Kind::Norm, Initial::Zeros),
            epsilon,
        }
    }

    /// [rows, dim] → [rows, dim]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        ops::layer_norm(x, self.weight.val(), self.bias.val(), self.epsilon, mode)
    }
}

/// A table of vectors, as torch's `nn.Embedding`.
#[derive(Module, Debug)]
pub struct Embedding {
    /// [count, dim]
    pub weight: Param<Tensor<2>>,
    #[module(skip)]
    padding_idx: Option<usize>,
}

impl Embedding {
    /// A table of `count` vectors of `dim` values.
    pub fn new(count: usize, dim: usize, builder: &Builder) -> Self {
        Self::padded(count, dim, None, builder)
    }

    /// A table whose row `padding_idx` starts at zero and gets no gradient from tokens (torch's `padding_idx`).
    pub fn padded(count: usize, dim: usize, padding_idx: Option<usize>, builder: &Builder) -> Self {
        let initial = padding_idx.map_or(builder.normal(), |row| builder.normal_except_row(row));
        Self { weight: builder.parameter([count, dim], Kind::Embedding, initial), padding_idx }
    }

    /// A table of positions that start as sinusoids.
    pub fn sinusoidal(count: usize, dim: usize, builder: &Builder) -> Self {
        let weight = builder.parameter([count, dim], Kind::Embedding, Initial::Sinusoidal);
        Self { weight, padding_idx: None }
    }

    /// `[rows]` → [rows, dim]
    pub fn forward(&self, ids: Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        ops::embedding(self.weight.val(), ids, mode)
    }

    /// The embeddings of the batch's tokens, [rows, dim]. The padding token's row gets no gradient from here, should it
    /// occur in the text. Training may add NEFTune's noise.
    pub fn forward_tokens(&self, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let embedded = self.forward_padded(inputs, mode);
        mode.neftune(embedded, &inputs.sequences)
    }

    fn forward_padded(&self, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let embedded = self.forward(inputs.input_ids.clone(), mode);
        let is_padding = |&id: &i32| self.padding_idx.is_some_and(|padding| id as usize == padding);
        if !inputs.host_ids.iter().any(is_padding) {
            return embedded;
        }
        let padding: Vec<bool> = inputs.host_ids.iter().map(is_padding).collect();
        let mask = Tensor::<2, Bool>::from_data(TensorData::new(padding, [inputs.host_ids.len(), 1]), &inputs.device);
        embedded.clone().mask_where(mask.expand(embedded.dims()), embedded.detach())
    }
}

/// The projection to the vocabulary, which holds only what it has of its own.
#[derive(Module, Debug)]
pub struct LmHead {
    /// [vocab, dim]; none when the word embeddings are used.
    weight: Option<Param<Tensor<2>>>,
    /// `[vocab]`
    bias: Option<Param<Tensor<1>>>,
}

impl LmHead {
    /// A head for vectors of `dim` values, without a bias.
    pub fn new(vocab: usize, dim: usize, tied: bool, builder: &Builder) -> Self {
        let weight = (!tied).then(|| builder.parameter([vocab, dim], Kind::Head, builder.normal()));
        Self { weight, bias: None }
    }

    /// A head with a bias.
    pub fn with_bias(vocab: usize, dim: usize, tied: bool, builder: &Builder) -> Self {
        Self { bias: Some(builder.bias(vocab)), ..Self::new(vocab, dim, tied, builder) }
    }

    /// The projection, by the word embeddings where the head is tied to them.
    pub fn decoder(&self, word_embeddings: &Embedding) -> Decoder {
        let weight = self.weight.as_ref().unwrap_or(&word_embeddings.weight).val();
        Decoder { weight, bias: self.bias.as_ref().map(Param::val) }
    }
}
