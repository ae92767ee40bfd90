//! Matrix products in 16 bits, as `torch.autocast` has them (`--bf16`, `--fp16`): parameters, optimizer, residual
//! stream, norms, softmax and loss stay float32; a product takes 16-bit copies of its operands, and its 16-bit result is
//! widened where it meets float32. Activation functions and dropout in between work on what they are given.
//!
//! Our operations on the CPU backend take bfloat16 otherwise: tensors stay float32, products round their operands while they
//! lay them out for the processor, and their sums and results are float32. float16 is Burn's there, with tensors of 16 bits.

use burn::tensor::{FloatDType, Tensor};

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
pub(crate) fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::F32)
}
