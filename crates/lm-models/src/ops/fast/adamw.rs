//! AdamW in place, and the norm that clipping needs.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::buffer::CHUNK;
use super::simd::{dot, simd};
use super::tensor::{primitive, values, values_mut, wrap};
use crate::ops::options::AdamW;

/// See [`crate::ops::adamw`].
pub fn adamw(
    p: Tensor<1>,
    m: Tensor<1>,
    v: Tensor<1>,
    g: Tensor<1>,
    options: AdamW,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let (mut p, mut m, mut v, g) = (primitive(p), primitive(m), primitive(v), primitive(g));
    let (factor, beta1, beta2) = (options.factor as f32, options.beta1 as f32, options.beta2 as f32);
    let (rest1, rest2) = ((1.0 - options.beta1) as f32, (1.0 - options.beta2) as f32);
    let keep = (1.0 - options.learning_rate * options.weight_decay) as f32;
    let root = (1.0 - options.beta2.powi(options.step)).sqrt() as f32;
    let epsilon = options.epsilon as f32;
    let rate = (options.learning_rate / (1.0 - options.beta1.powi(options.step))) as f32;
    let chunks = values_mut(&mut p).par_chunks_mut(CHUNK).zip(values_mut(&mut m).par_chunks_mut(CHUNK));
    let chunks = chunks.zip(values_mut(&mut v).par_chunks_mut(CHUNK)).zip(values(&g).par_chunks(CHUNK));
    chunks.for_each(|(((p, m), v), g)| {
        simd(
            #[inline(always)]
            || {
                for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
                    let g = g * factor;
                    *m = *m * beta1 + g * rest1;
                    *v = *v * beta2 + g * g * rest2;
                    *p = *p * keep - *m / (v.sqrt() / root + epsilon) * rate;
                }
            },
        );
    });
    (wrap(p), wrap(m), wrap(v))
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
