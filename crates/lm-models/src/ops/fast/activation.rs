//! GELU, exact and by tanh.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::buffer::{CHUNK, build};
use super::simd::{erf, exp, simd};
use super::tensor::{tensor_like, values, values_mut};
use crate::ops::extension::{Operation, apply};

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

/// `x Φ(x)` and its slope.
#[inline(always)]
pub fn gelu_of(x: f32) -> (f32, f32) {
    const DENSITY: f32 = 0.398_942_3; // 1/√(2π)
    let below = normal(x);
    (x * below, below + x * DENSITY * exp(-0.5 * x * x))
}

/// GELU by tanh and its slope.
#[inline(always)]
pub fn gelu_tanh_of(x: f32) -> (f32, f32) {
    let s = sigmoid(x);
    (x * s, s + x * s * (1.0 - s) * SLOPE * (1.0 + 3.0 * CUBIC * x * x))
}

/// `x σ(x)` and its slope.
#[inline(always)]
pub fn silu_of(x: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp(-x));
    (x * s, s + x * s * (1.0 - s))
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
                            |x| gelu_of(x).0,
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
                            |x| gelu_tanh_of(x).0,
                        )
                    },
                ),
            }
        });
        (tensor_like(y, &x), x)
    }

    fn backward(self, x: FlexTensor, mut gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let chunks = values_mut(&mut gradient).par_chunks_mut(CHUNK).zip(values(&x).par_chunks(CHUNK));
        chunks.for_each(|(g, x)| match self {
            Self::Exact => simd(
                #[inline(always)]
                || {
                    scale_by(
                        g,
                        x,
                        #[inline(always)]
                        |x| gelu_of(x).1,
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
                        |x| gelu_tanh_of(x).1,
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
