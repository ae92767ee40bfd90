//! Normalisations.

use burn::module::{Module, ModuleDisplay, Param};
use burn::tensor::Tensor;

use crate::inputs::Mode;
use crate::ops;
use crate::parameters::{Builder, Initial, Kind};

/// Whichever normalisation a family ends with.
pub trait Norm: Module + ModuleDisplay + Sync + 'static {
    /// [rows, dim] → [rows, dim]
    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2>;
}

impl Norm for LayerNorm {
    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.forward(x, mode)
    }
}

impl Norm for RmsNorm {
    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.forward(x, mode)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[dim]`; ones where there is none.
    pub weight: Option<Param<Tensor<1>>>,
    /// `[dim]`; zeros where there is none.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    dim: usize,
    #[module(skip)]
    epsilon: f64,
}

impl LayerNorm {
    /// Normalises rows of `dim` values; `epsilon` is added to the variance.
    pub fn new(dim: usize, epsilon: f64, builder: &Builder) -> Self {
        Self::with_bias(dim, epsilon, true, builder)
    }

    /// The same with a shift or without one, as config.json says.
    pub fn with_bias(dim: usize, epsilon: f64, bias: bool, builder: &Builder) -> Self {
        let parameter = |initial| builder.parameter([dim], Kind::Norm, initial);
        let (weight, bias) = (parameter(Initial::Ones), bias.then(|| parameter(Initial::Zeros)));
        Self { weight: Some(weight), bias, dim, epsilon }
    }

    /// The same, neither scaled nor shifted.
    pub fn without_parameters(dim: usize, epsilon: f64) -> Self {
        Self { weight: None, bias: None, dim, epsilon }
    }

    /// [rows, dim] → [rows, dim]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let device = x.device();
        let weight = self.weight.as_ref().map_or_else(|| Tensor::ones([self.dim], &device), Param::val);
        let bias = self.bias.as_ref().map_or_else(|| Tensor::zeros([self.dim], &device), Param::val);
        ops::layer_norm(x, weight, bias, self.epsilon, mode)
    }

    /// Each head on its own, `dim` being that of a head; [rows, heads · dim] → [rows, heads · dim].
    pub fn forward_heads(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let [rows, width] = x.dims();
        self.forward(x.reshape([rows * width / self.dim, self.dim]), mode).reshape([rows, width])
    }
}

/// Normalisation by the root of the mean square.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// `[dim]`
    pub weight: Param<Tensor<1>>,
    #[module(skip)]
    offset: f64,
    #[module(skip)]
    epsilon: f64,
}

impl RmsNorm {
    /// Normalises rows of `dim` values; `epsilon` is added to the mean square.
    pub fn new(dim: usize, epsilon: f64, builder: &Builder) -> Self {
        Self { weight: builder.parameter([dim], Kind::Norm, Initial::Ones), offset: 0.0, epsilon }
    }

    /// The same with weights that are added to 1 and start at zero (Gemma).
    pub fn around_one(dim: usize, epsilon: f64, builder: &Builder) -> Self {
        Self { weight: builder.parameter([dim], Kind::Norm, Initial::Zeros), offset: 1.0, epsilon }
    }

    /// [rows, dim] → [rows, dim]
    pub fn forward(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        ops::rms_norm(x, self.weight.val(), self.offset, self.epsilon, mode)
    }

    /// Each `dim` columns on their own, which may be those of a head; [rows, n · dim] → [rows, n · dim].
    pub fn forward_parts(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let ([rows, width], dim) = (x.dims(), self.weight.lazy_shape()[0]);
        self.forward(x.reshape([rows * width / dim, dim]), mode).reshape([rows, width])
    }
}
