//! The vocabulary projection with its loss and gradients, a piece of rows at a time, in one buffer.

use burn::backend::Flex;
use burn::tensor::{Int, Tensor};
use rayon::prelude::*;

use super::buffer::zeros;
use super::linear::column_sums;
use super::matmul::{Threads, matmul, product};
use super::matrix::Matrix;
use super::simd::{add, exp, max, simd, sum, tanh};
use super::tensor::{dims, primitive, right, tensor, values, wrap};
use crate::ops::carrier::carrier;
use crate::ops::options::{Decoder, Loss, Predictions};
use crate::ops::precision::Precision;

/// Logits that exist at once, a quarter of a gigabyte of them: each piece passes over the whole vocabulary three times. Tests
/// meet several.
const PIECE: usize = if cfg!(test) { 1 << 20 } else { 1 << 26 };

/// The same where the vocabulary is frozen, which a piece passes over twice and adds nothing to.
const FROZEN_PIECE: usize = PIECE >> 5;

/// See [`crate::ops::cross_entropy`].
pub fn cross_entropy(
    rows: Tensor<2>,
    decoder: &Decoder,
    targets: Tensor<1, Int>,
    label_smoothing: f64,
    factor: f64,
    precision: Precision,
) -> Loss {
    let x = primitive(rows.clone());
    let weight = primitive(decoder.weight.clone());
    let bias = decoder.bias.clone().map(primitive);
    let targets: Vec<usize> = targets.into_data().iter::<i64>().map(|id| id as usize).collect();
    let ([count, dim], [vocab, _]) = (dims(&x), dims(&weight));
    let matrix = right(&weight);

    let (smoothing, factor) = (label_smoothing as f32, factor as f32);
    let mut loss = 0.0;
    // Written by the first piece.
    let mut weight_gradient = if count == 0 && !decoder.frozen { zeros(vocab * dim) } else { Vec::new() };
    let mut bias_gradient = vec![0.0; vocab];
    let mut row_gradient = zeros(count * dim);
    let piece = (if decoder.frozen { FROZEN_PIECE } else { PIECE } / vocab.max(1)).max(1);
    let pieces = values(&x).chunks(piece * dim.max(1)).zip(row_gradient.chunks_mut(piece * dim.max(1)));
    for (index, ((x, row_gradient), targets)) in pieces.zip(targets.chunks(piece)).enumerate() {
        let x = Matrix::new(x, targets.len(), dim);
        let mut logits = product(x, matrix.transpose(), bias.as_ref().map(values), Threads::All, precision);
        // Where logits are capped, `slopes` is what a row keeps of the caps' slopes.
        let losses = logits.par_chunks_mut(vocab).zip(targets).map_init(Vec::new, |slopes, (logits, &target)| {
            simd(
                #[inline(always)]
                || {
                    let Some(cap) = decoder.softcap else { return row(logits, target, smoothing, factor) };
                    soften(logits, cap as f32);
                    slopes.clear();
                    slopes.extend(logits.iter().map(|logit| 1.0 - (logit / cap as f32) * (logit / cap as f32)));
                    let loss = row(logits, target, smoothing, factor);
                    logits.iter_mut().zip(&*slopes).for_each(|(gradient, slope)| *gradient *= slope);
                    loss
                },
            )
        });
        loss += losses.collect::<Vec<f32>>().iter().map(|&loss| f64::from(loss)).sum::<f64>();
        // `logits` holds their gradients from here on.
        let gradient = Matrix::new(&logits, targets.len(), vocab);
        matmul(row_gradient, gradient, matrix, false, Threads::All, precision);
        match (decoder.frozen, index) {
            (true, _) => {}
            (false, 0) => weight_gradient = product(gradient.transpose(), x, None, Threads::All, precision),
            (false, _) => matmul(&mut weight_gradient, gradient.transpose(), x, true, Threads::All, precision),
        }
        if bias.is_some() {
            add(&mut bias_gradient, &column_sums(&logits, vocab));
        }
    }

    let row_gradient = tensor(row_gradient, [count, dim]);
    let weight_gradient = (!decoder.frozen).then(|| (decoder.weight.clone(), tensor(weight_gradient, [vocab, dim])));
    let bias = decoder.bias.clone().map(|bias| (bias, tensor(bias_gradient, [vocab])));
    let carrier = carrier::<Flex>((rows, row_gradient), weight_gradient, bias);
    Loss { value: wrap(tensor(vec![loss as f32], [1])), carrier }
}

/// See [`crate::ops::predictions`].
pub fn predictions(
    rows: Tensor<2>,
    decoder: &Decoder,
    targets: Tensor<1, Int>,
    label_smoothing: f64,
    precision: Precision,
) -> Predictions {
    let (x, weight) = (primitive(rows), primitive(decoder.weight.clone()));
    let bias = decoder.bias.clone().map(primitive);
    let targets: Vec<usize> = targets.into_data().iter::<i64>().map(|id| id as usize).collect();
    let ([count, dim], [vocab, _]) = (dims(&x), dims(&weight));
    let matrix = right(&weight);

    let mut total = Predictions { count, ..Predictions::default() };
    let piece = (PIECE / vocab.max(1)).max(1);
    for (x, targets) in values(&x).chunks(piece * dim.max(1)).zip(targets.chunks(piece)) {
        let x = Matrix::new(x, targets.len(), dim);
        let mut logits = product(x, matrix.transpose(), bias.as_ref().map(values), Threads::All, precision);
        let judged = logits.par_chunks_mut(vocab).zip(targets).map(|(logits, &target)| {
            simd(
                #[inline(always)]
                || {
                    if let Some(cap) = decoder.softcap {
                        soften(logits, cap as f32);
                    }
                    let (largest, of_target) = (max(logits), logits[target]);
                    // The first of several equals is the one predicted.
                    let correct = of_target == largest && !logits[..target].contains(&largest);
                    let smoothing = label_smoothing as f32;
                    let mean = if smoothing > 0.0 { sum(logits) / vocab as f32 } else { 0.0 };
                    let total = exponentials(logits, largest);
                    (smoothed(total.ln() + largest, of_target, mean, smoothing), correct)
                },
            )
        });
        for (loss, correct) in judged.collect::<Vec<(f32, bool)>>() {
            total.loss_sum += f64::from(loss);
            total.correct += usize::from(correct);
        }
    }
    total
}

/// The loss of one row of logits, which become their gradient: `factor · (softmax(logits) - target distribution)`.
#[inline(always)]
fn row(logits: &mut [f32], target: usize, smoothing: f32, factor: f32) -> f32 {
    let vocab = logits.len() as f32;
    let largest = max(logits);
    let mean = if smoothing > 0.0 { sum(logits) / vocab } else { 0.0 };
    let of_target = logits[target];
    let total = exponentials(logits, largest);
    let log_sum = total.ln() + largest;
    let (scale, uniform) = (factor / total, factor * smoothing / vocab);
    for logit in logits.iter_mut() {
        *logit = *logit * scale - uniform;
    }
    logits[target] -= factor * (1.0 - smoothing);
    smoothed(log_sum, of_target, mean, smoothing)
}

/// The logits become `exp(logit - largest)`, whose sum is the result.
#[inline(always)]
fn exponentials(logits: &mut [f32], largest: f32) -> f32 {
    // Few enough to be added up while they are in the first cache.
    const PART: usize = 1 << 12;
    let mut total = 0.0;
    for part in logits.chunks_mut(PART) {
        part.iter_mut().for_each(|logit| *logit = exp(*logit - largest));
        total += sum(part);
    }
    total
}

/// The soft cap.
#[inline(always)]
fn soften(logits: &mut [f32], cap: f32) {
    for logit in logits.iter_mut() {
        *logit = cap * tanh(*logit / cap);
    }
}

/// The cross-entropy from log Σ exp, the target's logit and the mean of all.
#[inline(always)]
fn smoothed(log_sum: f32, of_target: f32, mean: f32, smoothing: f32) -> f32 {
    if smoothing > 0.0 {
        (1.0 - smoothing) * (log_sum - of_target) + smoothing * (log_sum - mean)
    } else {
        log_sum - of_target
    }
}
