//! Gradients that are known before the backward pass begins.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{FloatDType, Tensor};

use super::extension::{Extended, Operation, apply};

/// Hands them over.
#[derive(Debug)]
struct Carrier<B: Extended, const N: usize>([FloatTensor<B>; N]);

impl<B: Extended, const N: usize> Operation<B, N> for Carrier<B, N> {
    type Saved = ();

    fn forward(&self, _: [FloatTensor<B>; N]) -> (FloatTensor<B>, ()) {
        (B::float_zeros([1].into(), &self.0[0].device(), FloatDType::F32), ())
    }

    /// The pass begins here, with 1: there is nothing to multiply them by.
    fn backward(self, (): (), _: FloatTensor<B>, wanted: [bool; N]) -> [Option<FloatTensor<B>>; N] {
        let mut wanted = wanted.into_iter();
        self.0.map(|known| wanted.next().unwrap_or(false).then_some(known))
    }
}

/// A tensor `[1]` from which the backward pass takes the gradients of the rows, of the weight and of the bias; each comes
/// with its own.
pub(super) fn carrier<B: Extended>(
    (rows, of_rows): (Tensor<2>, FloatTensor<B>),
    weight: Option<(Tensor<2>, FloatTensor<B>)>,
    bias: Option<(Tensor<1>, FloatTensor<B>)>,
) -> Tensor<1> {
    let rows = rows.into_dispatch();
    let weight = weight.map(|(weight, gradient)| (weight.into_dispatch(), gradient));
    let bias = bias.map(|(bias, gradient)| (bias.into_dispatch(), gradient));
    match (weight, bias) {
        (Some((weight, of_weight)), Some((bias, of_bias))) => {
            apply(Carrier::<B, 3>([of_rows, of_weight, of_bias]), [rows, weight, bias])
        }
        (Some((other, of_other)), None) | (None, Some((other, of_other))) => {
            apply(Carrier::<B, 2>([of_rows, of_other]), [rows, other])
        }
        (None, None) => apply(Carrier::<B, 1>([of_rows]), [rows]),
    }
}
