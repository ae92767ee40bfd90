//! The vocabulary projection and its loss, on predicted rows only and a piece at a time: the logits of a whole batch
//! never exist at once, neither in the forward nor in the backward pass.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use super::engine::{Compute, Engine};
use super::linear::affine;
use super::options::{Decoder, Layout, Loss, Predictions};
use super::precision::widen;

impl Decoder {
    /// [rows, dim] → [rows, vocab], float32
    pub fn logits(&self, rows: Tensor<2>, compute: Compute) -> Tensor<2> {
        let logits = widen(affine(rows, self.weight.clone(), self.bias.clone(), Layout::OutIn, compute));
        match self.softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }
}

/// The sum over rows of the cross-entropy between the decoded rows and `targets`, with gradients for the rows and the
/// decoder; `rows` is [predicted, dim], `targets` `[predicted]`. With `label_smoothing` ε the target is `(1 - ε)` at the
/// label and `ε / vocab` everywhere (Python's `LabelSmoother`). The gradients, not the value, are those of the loss times
/// `factor`.
///
/// The gradients are computed along with the loss, while a piece's logits are at hand, and handed to autodiff as
/// constants `∂x`: the carrier `Σ x·∂x` has exactly these gradients.
pub fn cross_entropy(
    rows: Tensor<2>,
    decoder: &Decoder,
    targets: Tensor<1, Int>,
    label_smoothing: f64,
    factor: f64,
    compute: Compute,
) -> Loss {
    // By the type of the products.
    match Engine::on(rows.device(), compute.operands(rows.device()).into(), compute) {
        #[cfg(feature = "flex")]
        Engine::Flex => {
            let precision = compute.precision;
            super::fast::cross_entropy::cross_entropy(rows, decoder, targets, label_smoothing, factor, precision)
        }
        #[cfg(feature = "tch")]
        Engine::Torch if decoder.softcap.is_none() => {
            let narrow = |bias| compute.narrow::<1>(bias);
            let weight = compute.narrow(decoder.weight.clone());
            let decoder = Decoder { weight, bias: decoder.bias.clone().map(narrow), ..*decoder };
            let rows = compute.narrow(rows);
            super::torch::cross_entropy::cross_entropy(rows, &decoder, targets, label_smoothing, factor)
        }
        _ => plain(rows, decoder, targets, label_smoothing, factor, compute),
    }
}

fn plain(
    rows: Tensor<2>,
    decoder: &Decoder,
    targets: Tensor<1, Int>,
    label_smoothing: f64,
    factor: f64,
    compute: Compute,
) -> Loss {
    let narrow = |x: Tensor<2>| compute.narrow(x);
    let (x, weight) = (narrow(rows.clone().inner()), narrow(decoder.weight.clone().inner()));
    let bias = decoder.bias.clone().map(Tensor::inner);
    let targets = targets.inner();
    let inner = Decoder { weight: weight.clone(), bias: bias.clone(), ..*decoder };
    let ([count, _], [vocab, _]) = (x.dims(), weight.dims());
    let smooth = label_smoothing / vocab as f64;

    let device = x.device();
    let mut loss = Tensor::<1>::zeros([1], &device);
    let mut weight_gradient = (!decoder.frozen).then(|| Tensor::zeros(weight.dims(), &device));
    let mut bias_gradient = bias.as_ref().map(Tensor::zeros_like);
    let mut row_gradients = Vec::new();
    let piece = inner.piece();
    for start in (0..count).step_by(piece) {
        let range = start..(start + piece).min(count);
        let x = x.clone().slice([range.clone()]);
        let targets = targets.clone().slice([range]).unsqueeze_dim::<2>(1);
        let (losses, [largest, total], logits) = losses(&inner, x.clone(), targets.clone(), compute);
        if label_smoothing > 0.0 {
            let mean = logits.clone().mean_dim(1);
            let uniform = (total.clone().log() + largest.clone() - mean).sum();
            loss = loss + losses.sum() * (1.0 - label_smoothing) + uniform * label_smoothing;
        } else {
            loss = loss + losses.sum();
        }
        // ∂logits = softmax(logits) - target distribution. By the sum itself: its logarithm beside large logits has lost bits
        // that matter where a probability is almost one.
        let ones = Tensor::full(targets.dims(), label_smoothing - 1.0, &device);
        let gradient = (logits.clone() - largest).exp() / total;
        let gradient = if smooth > 0.0 { gradient - smooth } else { gradient };
        // Scaled before it is narrowed: float16 has no room for the small ones otherwise.
        let gradient = gradient.scatter(1, targets, ones, IndexingUpdateOp::Add) * factor;
        let gradient = match decoder.softcap {
            // tanh' = 1 - tanh²
            Some(cap) => gradient * (1.0 - (logits / cap).powi_scalar(2)),
            None => gradient,
        };
        bias_gradient = bias_gradient.map(|sum| sum + gradient.clone().sum_dim(0).squeeze_dim(0));
        let gradient = narrow(gradient);
        row_gradients.push(widen(gradient.clone().matmul(weight.clone())));
        weight_gradient = weight_gradient.map(|sum| sum + widen(gradient.transpose().matmul(x)));
    }
    let row_gradient = match row_gradients.len() {
        0 => Tensor::zeros(x.dims(), &device),
        1 => row_gradients.remove(0),
        _ => Tensor::cat(row_gradients, 0),
    };
    let mut carrier = (widen(rows) * Tensor::from_inner(row_gradient)).sum();
    if let Some(gradient) = weight_gradient {
        carrier = carrier + (decoder.weight.clone() * Tensor::from_inner(gradient)).sum();
    }
    if let (Some(bias), Some(gradient)) = (decoder.bias.clone(), bias_gradient) {
        carrier = carrier + (bias * Tensor::from_inner(gradient)).sum();
    }
    Loss { value: loss, carrier }
}

/// Loss and accuracy of predicted rows, without gradients; the loss is that of [`cross_entropy`].
pub fn predictions(
    rows: Tensor<2>,
    decoder: &Decoder,
    targets: Tensor<1, Int>,
    label_smoothing: f64,
    compute: Compute,
) -> Predictions {
    match Engine::on(rows.device(), compute.operands(rows.device()).into(), compute) {
        #[cfg(feature = "flex")]
        Engine::Flex => {
            super::fast::cross_entropy::predictions(rows, decoder, targets, label_smoothing, compute.precision)
        }
        _ => plain_predictions(rows, decoder, targets, label_smoothing, compute),
    }
}

fn plain_predictions(
    rows: Tensor<2>,
    decoder: &Decoder,
    targets: Tensor<1, Int>,
    label_smoothing: f64,
    compute: Compute,
) -> Predictions {
    let [count, _] = rows.dims();
    let piece = decoder.piece();
    let mut total = Predictions { count, ..Predictions::default() };
    for start in (0..count).step_by(piece) {
        let range = start..(start + piece).min(count);
        let x = rows.clone().slice([range.clone()]);
        let targets = targets.clone().slice([range]).unsqueeze_dim::<2>(1);
        let (losses, [largest, sum], logits) = losses(decoder, x, targets.clone(), compute);
        let losses = if label_smoothing > 0.0 {
            let uniform = sum.log() + largest - logits.clone().mean_dim(1);
            losses * (1.0 - label_smoothing) + uniform * label_smoothing
        } else {
            losses
        };
        let correct = logits.argmax(1).equal(targets).int().sum();
        total.loss_sum += losses.into_data().iter::<f32>().map(f64::from).sum::<f64>();
        total.correct += correct.into_data().iter::<i64>().sum::<i64>() as usize;
    }
    total
}

/// Cross-entropy [rows, 1], the largest logit and Σ exp(logit - largest) [rows, 1], and logits [rows, vocab] of one piece.
fn losses(
    decoder: &Decoder,
    x: Tensor<2>,
    targets: Tensor<2, Int>,
    compute: Compute,
) -> (Tensor<2>, [Tensor<2>; 2], Tensor<2>) {
    let logits = decoder.logits(x, compute);
    let largest = logits.clone().max_dim(1);
    let total = (logits.clone() - largest.clone()).exp().sum_dim(1);
    let losses = total.clone().log() + largest.clone() - logits.clone().gather(1, targets);
    (losses, [largest, total], logits)
}
