//! A scale and a shift for each column, forward and backward in one pass over each row.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::simd::{add, simd};
use super::tensor::{chunk_rows, dims, tensor, values, values_mut};
use crate::ops::extension::{Operation, apply};

#[derive(Debug)]
struct ScaleShift;

impl Operation<Flex, 3> for ScaleShift {
    /// x and the weight.
    type Saved = [FlexTensor; 2];

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        let mut y = x.clone();
        let columns = dims(&x)[1].max(1);
        let (w, b) = (values(&weight), values(&bias));
        values_mut(&mut y).par_chunks_mut(chunk_rows(columns) * columns).for_each(|y| {
            simd(
                #[inline(always)]
                || {
                    for y in y.chunks_exact_mut(columns) {
                        for ((y, w), b) in y.iter_mut().zip(w).zip(b) {
                            *y = *y * w + b;
                        }
                    }
                },
            );
        });
        (y, [x, weight])
    }

    fn backward(self, saved: Self::Saved, mut gradient: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let [x, weight] = saved;
        let columns = dims(&x)[1];
        let [mut of_weight, mut of_bias] = [0, 1].map(|_| vec![0.0; columns]);
        if columns > 0 {
            let (x, w) = (values(&x), values(&weight));
            let chunk = chunk_rows(columns) * columns;
            let chunks = values_mut(&mut gradient).par_chunks_mut(chunk).zip(x.par_chunks(chunk));
            let partial = chunks.map(|(g, x)| {
                let (mut weights, mut biases) = (vec![0.0; columns], vec![0.0; columns]);
                simd(
                    #[inline(always)]
                    || {
                        for (g, x) in g.chunks_exact_mut(columns).zip(x.chunks_exact(columns)) {
                            add(&mut biases, g);
                            for (((g, x), s), w) in g.iter_mut().zip(x).zip(&mut weights).zip(w) {
                                *s += *g * x;
                                *g *= w;
                            }
                        }
                    },
                );
                [weights, biases]
            });
            for [weights, biases] in partial.collect::<Vec<_>>() {
                add(&mut of_weight, &weights);
                add(&mut of_bias, &biases);
            }
        }
        [Some(gradient), Some(tensor(of_weight, [columns])), Some(tensor(of_bias, [columns]))]
    }
}

/// See [`crate::ops::scale_shift()`].
pub fn scale_shift(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>) -> Tensor<2> {
    apply(ScaleShift, [x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()])
}
