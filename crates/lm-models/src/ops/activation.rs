//! Activation functions by Python's names (`transformers.activations.ACT2FN`).

use burn::tensor::Tensor;
use burn::tensor::activation as burn_activation;
use serde::Deserialize;

use super::engine::Engine;
#[cfg(feature = "flex")]
use super::fast::activation::Gelu;
use super::options::Gate;
use crate::Mode;

/// An activation function, named as in config.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)`, by the error function.
    #[serde(alias = "gelu_python")]
    Gelu,
    /// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`; GPT calls it `gelu`, see `models::gpt::Afn`.
    #[serde(alias = "gelu_fast", alias = "gelu_pytorch_tanh", alias = "gelu_python_tanh", alias = "gelu_accurate")]
    GeluNew,
    /// `x σ(1.702 x)`
    QuickGelu,
    /// `max(x, 0)`
    Relu,
    /// `max(x, 0)²`
    #[serde(rename = "relu2")]
    Relu2,
    /// `x σ(x)`
    #[serde(alias = "swish")]
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// `x`
    Linear,
    /// `1 / (1 + e⁻ˣ)`
    Sigmoid,
    /// `x tanh(ln(1 + eˣ))`
    Mish,
}

impl Activation {
    /// Applies the function to every value.
    pub fn forward<const D: usize>(self, x: Tensor<D>, mode: &Mode) -> Tensor<D> {
        let engine = Engine::of(&x, mode.compute());
        #[cfg(feature = "flex")]
        if engine == Engine::Flex
            && let Some(kind) = self.gelu()
        {
            return super::fast::activation::gelu(x, kind);
        }
        match (engine, self) {
            #[cfg(feature = "tch")]
            (Engine::Torch, Self::Gelu) => super::torch::activation::gelu(x),
            #[cfg(feature = "tch")]
            (Engine::Torch, Self::GeluNew) => super::torch::activation::gelu_tanh(x),
            _ => self.plain(x),
        }
    }

    /// The GELU that it is, if it is one.
    #[cfg(feature = "flex")]
    pub(super) fn gelu(self) -> Option<Gelu> {
        match self {
            Self::Gelu => Some(Gelu::Exact),
            Self::GeluNew => Some(Gelu::Tanh),
            _ => None,
        }
    }

    /// The gate of [`super::glu`] by this function, if there is one.
    pub fn gate(self) -> Option<Gate> {
        match self {
            Self::Silu => Some(Gate::Silu),
            Self::Gelu => Some(Gate::Gelu),
            Self::GeluNew => Some(Gate::GeluTanh),
            _ => None,
        }
    }

    pub(super) fn plain<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => burn_activation::gelu(x),
            Self::GeluNew => {
                let inner = (x.clone() + x.clone().powi_scalar(3) * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
                x * 0.5 * (inner.tanh() + 1.0)
            }
            Self::QuickGelu => x.clone() * burn_activation::sigmoid(x * 1.702),
            Self::Relu => burn_activation::relu(x),
            Self::Relu2 => burn_activation::relu(x).powi_scalar(2),
            Self::Silu => burn_activation::silu(x),
            Self::Tanh => x.tanh(),
            Self::Linear => x,
            Self::Sigmoid => burn_activation::sigmoid(x),
            Self::Mish => burn_activation::mish(x),
        }
    }
}
