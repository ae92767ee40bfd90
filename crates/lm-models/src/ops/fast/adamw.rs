//! AdamW in place, and the norm that clipping needs.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::buffer::CHUNK;
use super::simd::{LANES, dot, simd};
use super::tensor::{add_to, primitive, values, values_mut, wrap};
use crate::ops::options::AdamW;

/// Values that are left as they are together, when none of them has had a gradient yet: rows of a vocabulary that no text
/// has named.
const RUN: usize = 256;

/// See [`crate::ops::adamw`].
pub fn adamw(
    p: Tensor<1>,
    m: Tensor<1>,
    v: Tensor<1>,
    g: Tensor<1>,
    options: AdamW,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let (mut p, mut m, mut v, g) = (primitive(p), primitive(m), primitive(v), primitive(g));
    let numbers = Numbers::new(options);
    let chunks = values_mut(&mut p).par_chunks_mut(CHUNK).zip(values_mut(&mut m).par_chunks_mut(CHUNK));
    let chunks = chunks.zip(values_mut(&mut v).par_chunks_mut(CHUNK)).zip(values(&g).par_chunks(CHUNK));
    chunks.for_each(|(((p, m), v), g)| {
        simd(
            #[inline(always)]
            || {
                let runs = p.chunks_mut(RUN).zip(m.chunks_mut(RUN)).zip(v.chunks_mut(RUN)).zip(g.chunks(RUN));
                for (((p, m), v), g) in runs {
                    if !(numbers.rests && are_zero(g) && are_zero(m) && are_zero(v)) {
                        numbers.update(p, m, v, g);
                    }
                }
            },
        );
    });
    (wrap(p), wrap(m), wrap(v))
}

/// What of the options every value needs.
pub struct Numbers {
    factor: f32,
    beta1: f32,
    beta2: f32,
    /// 1 − β
    rest1: f32,
    rest2: f32,
    /// What the weight decay leaves.
    keep: f32,
    /// Root of the second moment's bias correction.
    root: f32,
    epsilon: f32,
    /// Over the first moment's bias correction.
    rate: f32,
    /// Whether a value whose moments and gradient are zero stays what it is.
    rests: bool,
}

impl Numbers {
    pub fn new(options: AdamW) -> Self {
        Self {
            factor: options.factor as f32,
            beta1: options.beta1 as f32,
            beta2: options.beta2 as f32,
            rest1: (1.0 - options.beta1) as f32,
            rest2: (1.0 - options.beta2) as f32,
            keep: (1.0 - options.learning_rate * options.weight_decay) as f32,
            root: (1.0 - options.beta2.powi(options.step)).sqrt() as f32,
            epsilon: options.epsilon as f32,
            rate: (options.learning_rate / (1.0 - options.beta1.powi(options.step))) as f32,
            rests: options.weight_decay == 0.0 && options.epsilon > 0.0 && options.factor.is_finite(),
        }
    }

    /// One step of each value.
    #[inline(always)]
    pub fn update(&self, p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * self.factor;
            *m = *m * self.beta1 + g * self.rest1;
            *v = *v * self.beta2 + g * g * self.rest2;
            *p = *p * self.keep - *m / (v.sqrt() / self.root + self.epsilon) * self.rate;
        }
    }
}

#[inline(always)]
fn are_zero(x: &[f32]) -> bool {
    let (lanes, rest) = x.as_chunks::<LANES>();
    lanes.iter().all(|lanes| lanes.iter().fold(true, |zero, &x| zero & (x == 0.0))) && rest.iter().all(|&x| x == 0.0)
}

/// See [`crate::ops::accumulate`].
pub fn accumulate(sum: Tensor<1>, new: Tensor<1>) -> Tensor<1> {
    let mut sum = primitive(sum);
    add_to(&mut sum, &primitive(new));
    wrap(sum)
}

/// See [`crate::ops::sum_of_squares`].
pub fn sum_of_squares(x: Tensor<1>) -> f64 {
    const PIECE: usize = 256;
    let x = primitive(x);
    let chunks = values(&x).par_chunks(CHUNK).map(|chunk| {
        simd(
            #[inline(always)]
            || chunk.chunks(PIECE).map(|x| f64::from(dot(x, x))).sum::<f64>(),
        )
    });
    chunks.collect::<Vec<f64>>().iter().sum()
}
