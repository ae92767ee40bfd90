//! GELU, exact and by tanh.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::simd::{erf, exp, simd};
use super::{CHUNK, Operation, apply, build, tensor_like, values, values_mut};

#[derive(Clone, Copy, Debug)]
enum Gelu {
    /// x Φ(x)
    Exact,
    /// x σ(2u) with u = √(2/π) (x + 0.044715 x³), which is `x/2 (1 + tanh u)`.
    Tanh,
}

const CUBIC: f32 = 0.044_715;
/// 2 √(2/π)
const SLOPE: f32 = 1.595_769;

/// Φ(x)
#[inline(always)]
fn normal(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// σ(2u)
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-SLOPE * (x + CUBIC * x * x * x)))
}

#[inline(always)]
fn map(y: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f(x);
    }
}

#[inline(always)]
fn scale_by(gradient: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    for (g, &x) in gradient.iter_mut().zip(x) {
        *g *= f(x);
    }
}

impl Operation<Flex, 1> for Gelu {
    type Saved = FlexTensor;

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, FlexTensor) {
        let all = values(&x);
        let y = build(all.len(), CHUNK, |start, y| {
            let x = &all[start..start + y.len()];
            match self {
                Self::Exact => simd(
                    #[inline(always)]
                    || {
                        map(
                            y,
                            x,
                            #[inline(always)]
                            |x| x * normal(x),
                        )
                    },
                ),
                Self::Tanh => simd(
                    #[inline(always)]
                    || {
                        map(
                            y,
                            x,
                            #[inline(always)]
                            |x| x * sigmoid(x),
                        )
                    },
                ),
            }
        });
        (tensor_like(y, &x), x)
    }

    fn backward(self, x: FlexTensor, mut gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        const DENSITY: f32 = 0.398_942_3; // 1/√(2π)
        let chunks = values_mut(&mut gradient).par_chunks_mut(CHUNK).zip(values(&x).par_chunks(CHUNK));
        chunks.for_each(|(g, x)| match self {
            Self::Exact => simd(
                #[inline(always)]
                || {
                    scale_by(
                        g,
                        x,
                        #[inline(always)]
                        |x| normal(x) + x * DENSITY * exp(-0.5 * x * x),
                    )
                },
            ),
            Self::Tanh => simd(
                #[inline(always)]
                || {
                    scale_by(
                        g,
                        x,
                        #[inline(always)]
                        |x| {
                            let s = sigmoid(x);
                            s + x * s * (1.0 - s) * SLOPE * (1.0 + 3.0 * CUBIC * x * x)
                        },
                    );
                },
            ),
        });
        [Some(gradient)]
    }
}

/// `x Φ(x)`
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    apply(Gelu::Exact, [x.into_dispatch()])
}

/// GELU by tanh.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    apply(Gelu::Tanh, [x.into_dispatch()])
}
