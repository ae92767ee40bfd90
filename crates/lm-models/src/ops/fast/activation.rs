//! GELU, exact and by tanh.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::buffer::{CHUNK, build, zeros};
use super::simd::{erf, exp, simd};
use super::tensor::{tensor_like, values, values_mut};
use crate::ops::extension::{Operation, apply};

/// Which of them.
#[derive(Clone, Copy, Debug)]
pub enum Gelu {
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

/// Runs a loop over the function of a kind, `f`, which gives value and slope, compiled for vectors.
macro_rules! with {
    ($kind:expr, $f:ident, $body:expr) => {
        match $kind {
            Gelu::Exact => simd(
                #[inline(always)]
                || {
                    let $f = gelu_of;
                    $body
                },
            ),
            Gelu::Tanh => simd(
                #[inline(always)]
                || {
                    let $f = gelu_tanh_of;
                    $body
                },
            ),
        }
    };
}

impl Gelu {
    /// The values at `x`.
    pub fn values(self, x: &[f32]) -> Vec<f32> {
        build(x.len(), CHUNK, |start, values| {
            let x = &x[start..start + values.len()];
            with!(self, f, values.iter_mut().zip(x).for_each(|(value, &x)| *value = f(x).0));
        })
    }

    /// Makes the gradient of the values that of `x`.
    fn back(self, x: &[f32], gradient: &mut [f32]) {
        gradient.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(gradient, x)| {
            with!(self, f, gradient.iter_mut().zip(x).for_each(|(g, &x)| *g *= f(x).1));
        });
    }

    /// The same, and the values at `x` again.
    pub fn values_and_back(self, x: &[f32], gradient: &mut [f32]) -> Vec<f32> {
        let mut values = zeros(x.len());
        let chunks = values.par_chunks_mut(CHUNK).zip(gradient.par_chunks_mut(CHUNK)).zip(x.par_chunks(CHUNK));
        chunks.for_each(|((values, gradient), x)| {
            with!(
                self,
                f,
                values.iter_mut().zip(gradient).zip(x).for_each(|((value, g), &x)| {
                    let (at_x, slope) = f(x);
                    *value = at_x;
                    *g *= slope;
                })
            );
        });
        values
    }
}

impl Operation<Flex, 1> for Gelu {
    type Saved = FlexTensor;

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, FlexTensor) {
        (tensor_like(self.values(values(&x)), &x), x)
    }

    fn backward(self, x: FlexTensor, mut gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        self.back(values(&x), values_mut(&mut gradient));
        [Some(gradient)]
    }
}

/// The function of every value.
pub fn gelu<const D: usize>(x: Tensor<D>, kind: Gelu) -> Tensor<D> {
    apply(kind, [x.into_dispatch()])
}
