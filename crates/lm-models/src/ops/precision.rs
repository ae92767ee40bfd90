//! Matrix products in 16 bits, as `torch.autocast` has them (`--bf16`, `--fp16`): parameters, optimizer, residual
//! stream, norms, softmax and loss stay float32; a product takes 16-bit copies of its operands, and its 16-bit result is
//! widened where it meets float32. Activation functions and dropout in between work on what they are given.
//!
//! Our operations on the CPU backend round less: the operands of large products, while these are laid out for the
//! processor. Sums and results are float32.

use burn::tensor::{FloatDType, Tensor};
#[cfg(feature = "flex")]
use half::slice::HalfFloatSliceExt;
#[cfg(feature = "flex")]
use half::{bf16, f16};

/// The type in which matrices are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits throughout.
    Float32,
    /// 16 bits with the range of float32 and 8 bits of precision.
    BFloat16,
    /// 16 bits with 11 bits of precision, up to 65504: gradients need a scaled loss.
    Float16,
}

impl Precision {
    /// Burn's name of the type.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::Float32 => FloatDType::F32,
            Self::BFloat16 => FloatDType::BF16,
            Self::Float16 => FloatDType::F16,
        }
    }

    /// Values become the nearest of the type, ties to even.
    #[cfg(feature = "flex")]
    pub(super) fn round(self, values: &mut [f32]) {
        match self {
            Self::Float32 => {}
            Self::BFloat16 => values.iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32()),
            Self::Float16 => {
                let mut narrow = [f16::ZERO; 64];
                for values in values.chunks_mut(narrow.len()) {
                    let narrow = &mut narrow[..values.len()];
                    narrow.convert_from_f32_slice(values);
                    narrow.convert_to_f32_slice(values);
                }
            }
        }
    }

    /// Python's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::BFloat16 => "bfloat16",
            Self::Float16 => "float16",
        }
    }
}

/// What has to be float32.
pub(super) fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::F32)
}
