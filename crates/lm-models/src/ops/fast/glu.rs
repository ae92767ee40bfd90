//! Gated activations in one pass, with the gate beside what it gates or apart; the backward pass computes the activation
//! again.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::activation::{gelu_of, gelu_tanh_of, silu_of};
use super::buffer::{CHUNK, build, zeros};
use super::saved::{saved, widened, widened_part};
use super::simd::simd;
use super::tensor::{chunk_rows, dims, tensor, tensor_like, values, values_mut};
use crate::ops::extension::{Operation, apply};
use crate::ops::options::Gate;

#[derive(Clone, Copy, Debug)]
struct Glu {
    gate: Gate,
    /// Whether inputs are kept in bfloat16.
    narrow_saved: bool,
}

// A function handed over as such need not be inlined where the loops are compiled for vectors; these closures are.
#[allow(clippy::redundant_closure)]
impl Glu {
    /// `out = f(gate) · up`
    fn forward(self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        #[inline(always)]
        fn all(gate: &[f32], up: &[f32], out: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
            for ((out, &gate), up) in out.iter_mut().zip(gate).zip(up) {
                *out = f(gate).0 * up;
            }
        }
        simd(
            #[inline(always)]
            || match self.gate {
                Gate::Silu => all(
                    gate,
                    up,
                    out,
                    #[inline(always)]
                    |x| silu_of(x),
                ),
                Gate::Gelu => all(
                    gate,
                    up,
                    out,
                    #[inline(always)]
                    |x| gelu_of(x),
                ),
                Gate::GeluTanh => all(
                    gate,
                    up,
                    out,
                    #[inline(always)]
                    |x| gelu_tanh_of(x),
                ),
            },
        );
    }

    /// The gradients of both from that of the result, in whose place that of `up` is put.
    fn backward(self, [gate, up]: [&[f32]; 2], [of_gate, g]: [&mut [f32]; 2]) {
        #[inline(always)]
        fn all([gate, up]: [&[f32]; 2], [of_gate, g]: [&mut [f32]; 2], f: impl Fn(f32) -> (f32, f32)) {
            for ((&gate, up), (of_gate, g)) in gate.iter().zip(up).zip(of_gate.iter_mut().zip(g)) {
                let (value, slope) = f(gate);
                *of_gate = *g * up * slope;
                *g *= value;
            }
        }
        simd(
            #[inline(always)]
            || match self.gate {
                Gate::Silu => all(
                    [gate, up],
                    [of_gate, g],
                    #[inline(always)]
                    |x| silu_of(x),
                ),
                Gate::Gelu => all(
                    [gate, up],
                    [of_gate, g],
                    #[inline(always)]
                    |x| gelu_of(x),
                ),
                Gate::GeluTanh => all(
                    [gate, up],
                    [of_gate, g],
                    #[inline(always)]
                    |x| gelu_tanh_of(x),
                ),
            },
        );
    }
}

/// The gate and what it gates apart.
impl Operation<Flex, 2> for Glu {
    type Saved = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
        let [gate, up] = inputs.each_ref().map(values);
        let out = build(gate.len(), CHUNK, |start, out| {
            let places = start..start + out.len();
            Glu::forward(*self, &gate[places.clone()], &up[places], out);
        });
        (tensor_like(out, &inputs[0]), inputs)
    }

    fn needed(&self, inputs: Self::Saved, wanted: [bool; 2]) -> Self::Saved {
        inputs.map(|input| saved(input, self.narrow_saved, &wanted))
    }

    fn backward(self, [gate, up]: Self::Saved, mut gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let mut of_gate = zeros(values(&gradient).len());
        let chunks = of_gate.par_chunks_mut(CHUNK).zip(values_mut(&mut gradient).par_chunks_mut(CHUNK)).enumerate();
        chunks.for_each_init(
            Default::default,
            |(of_gates, of_ups): &mut (Vec<f32>, Vec<f32>), (chunk, (of_gate, g))| {
                let places = chunk * CHUNK..chunk * CHUNK + g.len();
                let gate = widened_part(&gate, places.clone(), of_gates);
                let up = widened_part(&up, places, of_ups);
                Glu::backward(self, [gate, up], [of_gate, g]);
            },
        );
        [Some(tensor_like(of_gate, &gradient)), Some(gradient)]
    }
}

/// Both side by side in each row, the gate first.
impl Operation<Flex, 1> for Glu {
    type Saved = FlexTensor;

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, FlexTensor) {
        let [rows, width] = dims(&x);
        let inner = width / 2;
        let all = values(&x);
        let out = build(rows * inner, chunk_rows(inner) * inner, |start, out| {
            for (row, out) in (start / inner..).zip(out.chunks_exact_mut(inner)) {
                let (gate, up) = all[row * width..][..2 * inner].split_at(inner);
                Glu::forward(*self, gate, up, out);
            }
        });
        (tensor(out, [rows, inner]), x)
    }

    fn needed(&self, x: FlexTensor, wanted: [bool; 1]) -> FlexTensor {
        saved(x, self.narrow_saved, &wanted)
    }

    fn backward(self, x: FlexTensor, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let x = widened(x);
        let [rows, width] = dims(&x);
        let inner = width / 2;
        let (all, g) = (values(&x), values(&gradient));
        let of_x = build(rows * width, chunk_rows(width) * width, |start, out| {
            for (row, out) in (start / width..).zip(out.chunks_exact_mut(width)) {
                let (gate, up) = all[row * width..][..2 * inner].split_at(inner);
                let (of_gate, of_up) = out.split_at_mut(inner);
                of_up.copy_from_slice(&g[row * inner..][..inner]);
                Glu::backward(self, [gate, up], [of_gate, of_up]);
            }
        });
        [Some(tensor_like(of_x, &x))]
    }
}

/// See [`crate::ops::glu()`].
pub fn glu(gate: Tensor<2>, up: Tensor<2>, kind: Gate, narrow_saved: bool) -> Tensor<2> {
    apply::<Flex, _, 2, 2>(Glu { gate: kind, narrow_saved }, [gate.into_dispatch(), up.into_dispatch()])
}

/// See [`crate::ops::glu_packed`].
pub fn glu_packed(gate_up: Tensor<2>, kind: Gate, narrow_saved: bool) -> Tensor<2> {
    apply::<Flex, _, 1, 2>(Glu { gate: kind, narrow_saved }, [gate_up.into_dispatch()])
}
