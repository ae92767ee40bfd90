//! Normalisation by the root of the mean square, forward and backward in one pass over each row.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::buffer::zeros;
use super::saved::{saved, widened};
use super::simd::{add, dot, simd};
use super::tensor::{chunk_rows, dims, tensor, values, values_mut};
use crate::ops::extension::{Operation, apply};

#[derive(Clone, Copy, Debug)]
struct RmsNorm {
    offset: f32,
    epsilon: f32,
    /// Whether x is kept in bfloat16.
    narrow_saved: bool,
}

/// x, the weight, and 1 / √(mean(x²) + ε) of each row.
type Saved = (FlexTensor, FlexTensor, Vec<f32>);

impl RmsNorm {
    /// Of x, with `left` added, and the weight.
    fn gradients(
        &self,
        (x, weight, scales): Saved,
        mut gradient: FlexTensor,
        left: Option<&FlexTensor>,
    ) -> [Option<FlexTensor>; 2] {
        let x = widened(x);
        let [rows, columns] = dims(&x);
        let mut of_weight = vec![0.0; columns];
        if rows * columns > 0 {
            let (x, w) = (values(&x), values(&weight));
            let chunk = chunk_rows(columns);
            let chunks = values_mut(&mut gradient).par_chunks_mut(chunk * columns).zip(x.par_chunks(chunk * columns));
            let partial = chunks.zip(scales.par_chunks(chunk)).enumerate().map(|(index, ((g, x), scales))| {
                let mut sums = vec![0.0; columns];
                simd(
                    #[inline(always)]
                    || {
                        let rows = g.chunks_exact_mut(columns).zip(x.chunks_exact(columns)).zip(scales);
                        for ((g, x), scale) in rows {
                            for (((g, x), s), w) in g.iter_mut().zip(x).zip(&mut sums).zip(w) {
                                *s += *g * x * scale;
                                *g *= self.offset + w;
                            }
                            // ∂x = (h - n mean(h n)) / σ with h = ∂y · weight, n = the normalised row
                            let along = dot(g, x) / columns as f32 * scale * scale;
                            for (g, x) in g.iter_mut().zip(x) {
                                *g = (*g - x * along) * scale;
                            }
                        }
                        if let Some(left) = left {
                            add(g, &values(left)[index * chunk * columns..][..g.len()]);
                        }
                    },
                );
                sums
            });
            for sums in partial.collect::<Vec<_>>() {
                add(&mut of_weight, &sums);
            }
        }
        [Some(gradient), Some(tensor(of_weight, [columns]))]
    }
}

impl Operation<Flex, 2> for RmsNorm {
    type Saved = Saved;

    fn forward(&self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
        let [rows, columns] = dims(&x);
        let mut y = zeros(rows * columns);
        let mut scales = vec![0.0; rows];
        if columns > 0 {
            let (all, w) = (values(&x), values(&weight));
            let chunk = chunk_rows(columns);
            let chunks = y.par_chunks_mut(chunk * columns).zip(scales.par_chunks_mut(chunk));
            chunks.zip(all.par_chunks(chunk * columns)).for_each(|((y, scales), x)| {
                simd(
                    #[inline(always)]
                    || {
                        let rows = y.chunks_exact_mut(columns).zip(x.chunks_exact(columns)).zip(scales);
                        for ((y, x), scale) in rows {
                            *scale = 1.0 / (dot(x, x) / columns as f32 + self.epsilon).sqrt();
                            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                                *y = x * *scale * (self.offset + w);
                            }
                        }
                    },
                );
            });
        }
        (tensor(y, [rows, columns]), (x, weight, scales))
    }

    fn needed(&self, (x, weight, scales): Saved, wanted: [bool; 2]) -> Saved {
        (saved(x, self.narrow_saved, &wanted), weight, scales)
    }

    /// Unless x is kept rounded: the result would be another one.
    fn again(&self) -> Option<Self> {
        (!self.narrow_saved).then_some(*self)
    }

    fn backward(self, saved: Self::Saved, gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        self.gradients(saved, gradient, None)
    }

    fn backward_onto(
        self,
        saved: Self::Saved,
        gradient: FlexTensor,
        _: [bool; 2],
        left: FlexTensor,
    ) -> [Option<FlexTensor>; 2] {
        self.gradients(saved, gradient, Some(&left))
    }
}

/// See [`crate::ops::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, offset: f64, epsilon: f64, narrow_saved: bool) -> Tensor<2> {
    let operation = RmsNorm { offset: offset as f32, epsilon: epsilon as f32, narrow_saved };
    apply(operation, [x.into_dispatch(), weight.into_dispatch()])
}
