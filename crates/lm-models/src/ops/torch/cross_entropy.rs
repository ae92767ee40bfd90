//! The vocabulary projection with its loss and gradients, a piece of rows at a time.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::{Int, Tensor};
use tch::Kind;

use super::{ints, primitive, wrap};
use crate::ops::carrier::carrier;
use crate::ops::options::{Decoder, Loss};

/// The product of 16-bit matrices in float32. CUDA's keeps the sums that it is made of; others round them once.
fn wide_product(a: &tch::Tensor, b: &tch::Tensor) -> tch::Tensor {
    let kept = if a.device().is_cuda() { a.f_mm_dtype(b, Kind::Float).ok() } else { None };
    kept.unwrap_or_else(|| a.mm(b).to_kind(Kind::Float))
}

/// See [`crate::ops::cross_entropy`].
pub fn cross_entropy(
    rows: Tensor<2>,
    decoder: &Decoder,
    targets: Tensor<1, Int>,
    label_smoothing: f64,
    factor: f64,
) -> Loss {
    let x = primitive(rows.clone()).tensor;
    let weight = primitive(decoder.weight.clone()).tensor;
    let bias = decoder.bias.clone().map(|bias| primitive(bias).tensor);
    let targets = ints(targets);
    let (count, vocab) = (x.size()[0], weight.size()[0]);

    let mut loss = tch::Tensor::zeros([1], (Kind::Float, x.device()));
    let row_gradient = x.zeros_like();
    // Sums over the pieces stay float32, as the parameters are: a 16-bit sum would lose what each piece adds.
    let sum_of = |parameter: &tch::Tensor| tch::Tensor::zeros(parameter.size(), (Kind::Float, x.device()));
    let mut weight_gradient = (!decoder.frozen).then(|| sum_of(&weight));
    let mut bias_gradient = bias.as_ref().map(sum_of);
    let piece = decoder.piece() as i64;
    for start in (0..count).step_by(piece as usize) {
        let len = piece.min(count - start);
        let x = x.narrow(0, start, len);
        let targets = targets.narrow(0, start, len).unsqueeze(1);
        let mut logarithms = x.linear(&weight, bias.as_ref()).log_softmax(1, Kind::Float);
        let losses = logarithms.gather(1, &targets, false).sum(Kind::Float);
        let _ = loss.g_sub_(&(losses * (1.0 - label_smoothing)));
        if label_smoothing > 0.0 {
            let _ = loss.g_sub_(&(logarithms.sum(Kind::Float) * (label_smoothing / vocab as f64)));
        }
        // ∂logits = softmax(logits) - target distribution
        let mut gradient = logarithms.exp_();
        if label_smoothing > 0.0 {
            let _ = gradient.g_sub_scalar_(label_smoothing / vocab as f64);
        }
        let at_label = tch::Tensor::full(targets.size(), label_smoothing - 1.0, (Kind::Float, x.device()));
        let _ = gradient.scatter_add_(1, &targets, &at_label);
        // Before 16 bits: float16 has no room for the small ones otherwise.
        let _ = gradient.g_mul_scalar_(factor);
        if let Some(sum) = &mut bias_gradient {
            let _ = sum.g_add_(&gradient.sum_dim_intlist(0i64, false, Kind::Float));
        }
        let gradient = gradient.to_kind(x.kind());
        row_gradient.narrow(0, start, len).copy_(&gradient.mm(&weight));
        weight_gradient = weight_gradient.map(|mut sum| match x.kind() {
            Kind::Float => sum.addmm_(&gradient.tr(), &x),
            _ => sum.g_add_(&wide_product(&gradient.tr(), &x)),
        });
    }

    let weight = weight_gradient.map(|gradient| (decoder.weight.clone(), TchTensor::new(gradient)));
    let bias = decoder.bias.clone().zip(bias_gradient.map(TchTensor::new));
    let carrier = carrier::<LibTorch>((rows, TchTensor::new(row_gradient)), weight, bias);
    Loss { value: wrap(loss), carrier }
}
