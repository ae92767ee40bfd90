//! From 32 to 16 bits and back.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::{FloatDType, Tensor};

use super::{Operation, apply};

#[derive(Debug)]
struct Cast(tch::Kind);

impl Operation<LibTorch, 1> for Cast {
    type Saved = tch::Kind;

    fn forward(&self, [x]: [TchTensor; 1]) -> (TchTensor, tch::Kind) {
        (TchTensor::new(x.tensor.to_kind(self.0)), x.tensor.kind())
    }

    fn backward(self, kind: tch::Kind, gradient: TchTensor, _: [bool; 1]) -> [Option<TchTensor>; 1] {
        [Some(TchTensor::new(gradient.tensor.to_kind(kind)))]
    }
}

/// The values in another type. Burn's own would do, but that it does not say when the gradient of a parameter is whole.
pub fn cast<const D: usize>(x: Tensor<D>, dtype: FloatDType) -> Tensor<D> {
    let kind = match dtype {
        FloatDType::F64 => tch::Kind::Double,
        FloatDType::F32 | FloatDType::Flex32 => tch::Kind::Float,
        FloatDType::F16 => tch::Kind::Half,
        FloatDType::BF16 => tch::Kind::BFloat16,
    };
    apply::<LibTorch, _, 1, D>(Cast(kind), [x.into_dispatch()])
}
