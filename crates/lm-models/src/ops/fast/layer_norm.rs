//! Layer normalisation.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::buffer::zeros;
use super::saved::{saved, widened};
use super::simd::{add, dot, simd, sum};
use super::tensor::{chunk_rows, dims, tensor, values, values_mut};
use crate::ops::extension::{Operation, apply};

#[derive(Clone, Copy, Debug)]
struct LayerNorm {
    epsilon: f32,
    /// Whether the input is kept in bfloat16.
    narrow_saved: bool,
}

/// The input, the weight, and of each row mean and 1/σ.
type Saved = (FlexTensor, FlexTensor, Vec<[f32; 2]>);

impl Operation<Flex, 3> for LayerNorm {
    type Saved = Saved;

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        let [rows, columns] = dims(&x);
        let mut y = zeros(rows * columns);
        let mut moments = vec![[0.0; 2]; rows];
        if columns > 0 {
            let (values_x, w, b) = (values(&x), values(&weight), values(&bias));
            let chunk = chunk_rows(columns);
            let chunks = y.par_chunks_mut(chunk * columns).zip(moments.par_chunks_mut(chunk));
            chunks.zip(values_x.par_chunks(chunk * columns)).for_each(|((y, moments), x)| {
                simd(
                    #[inline(always)]
                    || {
                        let rows = y.chunks_exact_mut(columns).zip(x.chunks_exact(columns)).zip(moments);
                        for ((y, x), [mean, scale]) in rows {
                            *mean = sum(x) / columns as f32;
                            for (y, x) in y.iter_mut().zip(x) {
                                *y = x - *mean;
                            }
                            *scale = 1.0 / (dot(y, y) / columns as f32 + self.epsilon).sqrt();
                            for ((y, w), b) in y.iter_mut().zip(w).zip(b) {
                                *y = *y * *scale * w + b;
                            }
                        }
                    },
                );
            });
        }
        (tensor(y, [rows, columns]), (x, weight, moments))
    }

    fn needed(&self, (x, weight, moments): Saved, wanted: [bool; 3]) -> Saved {
        (saved(x, self.narrow_saved, &wanted), weight, moments)
    }

    /// Unless the input is kept rounded: the result would be another one.
    fn again(&self) -> Option<Self> {
        (!self.narrow_saved).then_some(*self)
    }

    fn backward(self, saved: Self::Saved, gradient: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        gradients(saved, gradient, None)
    }

    fn backward_onto(
        self,
        saved: Self::Saved,
        gradient: FlexTensor,
        _: [bool; 3],
        left: FlexTensor,
    ) -> [Option<FlexTensor>; 3] {
        gradients(saved, gradient, Some(&left))
    }
}

/// Of the input, with `left` added, the weight and the bias.
fn gradients(
    (x, weight, moments): Saved,
    mut gradient: FlexTensor,
    left: Option<&FlexTensor>,
) -> [Option<FlexTensor>; 3] {
    let x = widened(x);
    let [rows, columns] = dims(&x);
    let mut parameters = vec![0.0; 2 * columns];
    if rows * columns > 0 {
        let (x, w) = (values(&x), values(&weight));
        let chunk = chunk_rows(columns);
        let chunks = values_mut(&mut gradient).par_chunks_mut(chunk * columns).zip(x.par_chunks(chunk * columns));
        let partial = chunks.zip(moments.par_chunks(chunk)).enumerate().map(|(index, ((g, x), moments))| {
            let mut sums = vec![0.0; 2 * columns];
            let mut normal = vec![0.0; columns];
            let (weight_sums, bias_sums) = sums.split_at_mut(columns);
            simd(
                #[inline(always)]
                || {
                    let rows = g.chunks_exact_mut(columns).zip(x.chunks_exact(columns)).zip(moments);
                    for ((g, x), [mean, scale]) in rows {
                        add(bias_sums, g);
                        for ((((n, x), s), g), w) in normal.iter_mut().zip(x).zip(&mut *weight_sums).zip(&mut *g).zip(w)
                        {
                            *n = (x - mean) * scale;
                            *s += *g * *n;
                            *g *= w;
                        }
                        // ∂x = (h - mean(h) - n mean(h n)) / σ with h = ∂y · weight, n = the normalised row
                        let mean = sum(g) / columns as f32;
                        let along = dot(g, &normal) / columns as f32;
                        for (g, n) in g.iter_mut().zip(&normal) {
                            *g = (*g - mean - n * along) * scale;
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
            add(&mut parameters, &sums);
        }
    }
    let bias = parameters.split_off(columns);
    [Some(gradient), Some(tensor(parameters, [columns])), Some(tensor(bias, [columns]))]
}

/// See [`crate::ops::layer_norm`].
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64, narrow_saved: bool) -> Tensor<2> {
    let operation = LayerNorm { epsilon: epsilon as f32, narrow_saved };
    apply(operation, [x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch()])
}
