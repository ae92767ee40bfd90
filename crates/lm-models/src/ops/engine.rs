//! How a pass computes, and which implementation of an operation that means for a tensor.

#[cfg(any(feature = "flex", feature = "tch"))]
use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, FloatDType, Tensor};

use super::precision::Precision;

/// How operations compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compute {
    /// Of the operands of matrix products.
    pub precision: Precision,
    /// Takes the plain implementation of every operation (`--plain_ops`).
    pub plain: bool,
    /// Whether norms, gated activations, attention and linear maps keep their inputs for the backward pass in bfloat16, on
    /// the CPU backend: half the memory, and gradients that are rounded where the base is, too (`--base_dtype bfloat16`).
    pub narrow_saved: bool,
}

impl Default for Compute {
    /// In float32, as fast as can be.
    fn default() -> Self {
        Self { precision: Precision::Float32, plain: false, narrow_saved: false }
    }
}

impl Compute {
    /// An operand of a matrix product.
    pub(super) fn narrow<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        let dtype = self.operands(x.device());
        match Engine::of(&x, self) {
            #[cfg(feature = "tch")]
            Engine::Torch if x.dtype() != dtype.into() => super::torch::cast::cast(x, dtype),
            _ => x.cast(dtype),
        }
    }

    /// The type in which operands of matrix products are tensors on this device: ours on the CPU backend take float32,
    /// and round it to bfloat16 themselves.
    pub(super) fn operands(self, device: Device) -> FloatDType {
        match Engine::on(device, DType::F32, self) {
            #[cfg(feature = "flex")]
            Engine::Flex if self.precision != Precision::Float16 => FloatDType::F32,
            _ => self.precision.dtype(),
        }
    }
}

/// Which implementation of an operation serves a tensor. An operation that a fast engine lacks, or does not do in some
/// form, says so where it asks for the engine: everything else is plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// The operation's definition, out of Burn's tensor operations.
    Plain,
    /// Ours by hand, on the CPU backend.
    #[cfg(feature = "flex")]
    Flex,
    /// ATen's.
    #[cfg(feature = "tch")]
    Torch,
}

impl Engine {
    /// For an operation whose first operand is this.
    pub fn of<const D: usize>(x: &Tensor<D>, compute: Compute) -> Self {
        Self::on(x.device(), x.dtype(), compute)
    }

    /// For tensors of this type on this device. Our own on the CPU backend know float32 only.
    // burn-tch is marked deprecated in 0.22, the last line that has it.
    #[allow(deprecated)]
    #[cfg(any(feature = "flex", feature = "tch"))]
    pub fn on(device: Device, dtype: DType, compute: Compute) -> Self {
        match device.inner().as_dispatch() {
            _ if compute.plain => Self::Plain,
            #[cfg(feature = "flex")]
            DispatchDevice::Flex(_) if dtype == DType::F32 => Self::Flex,
            #[cfg(feature = "tch")]
            DispatchDevice::LibTorch(_) if dtype.is_float() => Self::Torch,
            _ => Self::Plain,
        }
    }

    /// This build has no other.
    #[cfg(not(any(feature = "flex", feature = "tch")))]
    pub fn on(_: Device, _: DType, _: Compute) -> Self {
        Self::Plain
    }
}
