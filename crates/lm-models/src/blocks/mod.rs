//! The layers that architectures are built from. Parameters keep the names, shapes and layout of the Hugging Face files.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::inputs::{Mode, ModelInputs};
use crate::ops;

/// A parameter that holds zeros until [`crate::params::initialize`] or a checkpoint gives it its value.
pub fn parameter<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::uninitialized(
        ParamId::new(),
        move |device, require_grad| Tensor::zeros(shape, device).set_require_grad(require_grad),
        device.clone(),
        true,
        shape.into(),
    )
}

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
    pub fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self { weight: parameter([outputs, inputs], device), bias: Some(parameter([outputs], device)) }
    }

    /// A layer without one, such as a decoder that is not the word embeddings.
    pub fn without_bias(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self { weight: parameter([outputs, inputs], device), bias: None }
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
    pub fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self { weight: parameter([inputs, outputs], device), bias: parameter([outputs], device) }
    }

    /// [rows, in] → [rows, out]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        ops::linear_in_out(x, self.weight.val(), Some(self.bias.val()), mode)
    }
}

/// Layer normalisation over the last dimension. The optimizer finds norm weights by this type's name.
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
    pub fn new(dim: usize, epsilon: f64, device: &Device) -> Self {
        Self { weight: parameter([dim], device), bias: parameter([dim], device), epsilon }
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
}

impl Embedding {
    /// A table of `count` vectors of `dim` values.
    pub fn new(count: usize, dim: usize, device: &Device) -> Self {
        Self { weight: parameter([count, dim], device) }
    }

    /// `[rows]` → [rows, dim]
    pub fn forward(&self, ids: Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        ops::embedding(self.weight.val(), ids, mode)
    }

    /// The embeddings of the batch's tokens, [rows, dim]. The row `padding_idx` of the table gets no gradient from here
    /// (torch's `padding_idx`), should the token occur in the text. Training may add NEFTune's noise.
    pub fn forward_tokens(&self, inputs: &ModelInputs, padding_idx: Option<usize>, mode: &Mode) -> Tensor<2> {
        let embedded = self.forward_padded(inputs, padding_idx, mode);
        mode.neftune(embedded, &inputs.sequences)
    }

    fn forward_padded(&self, inputs: &ModelInputs, padding_idx: Option<usize>, mode: &Mode) -> Tensor<2> {
        let embedded = self.forward(inputs.input_ids.clone(), mode);
        let is_padding = |&id: &i32| padding_idx.is_some_and(|padding| id as usize == padding);
        if !inputs.host_ids.iter().any(is_padding) {
            return embedded;
        }
        let padding: Vec<bool> = inputs.host_ids.iter().map(is_padding).collect();
        let mask = Tensor::<2, Bool>::from_data(TensorData::new(padding, [inputs.host_ids.len(), 1]), &inputs.device);
        embedded.clone().mask_where(mask.expand(embedded.dims()), embedded.detach())
    }
}
