//! Gated activations in one pass, with the gate beside what it gates or apart; the backward pass computes the activation
//! again.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::activation::{gelu_of, gelu_tanh_of, silu_of};
use super::buffer::{CHUNK, build, zeros};
use super::simd::simd;
use super::tensor::{chunk_rows, dims, tensor, tensor_like, values};
use crate::ops::extension::{Operation, apply};
use crate::ops::options::Gate;

#[derive(Clone, Copy, Debug)]
struct Glu(Gate);

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
            || match self.0 {
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

    /// The gradients of both from that of the result.
    fn backward(self, [gate, up, g]: [&[f32]; 3], [of_gate, of_up]: [&mut [f32]; 2]) {
        #[inline(always)]
        fn all([gate, up, g]: [&[f32]; 3], [of_gate, of_up]: [&mut [f32]; 2], f: impl Fn(f32) -> (f32, f32)) {
            let inputs = gate.iter().zip(up).zip(g);
            for (((&gate, up), g), (of_gate, of_up)) in inputs.zip(of_gate.iter_mut().zip(of_up)) {
                let (value, slope) = f(gate);
                *of_up = g * value;
                *of_gate = g * up * slope;
            }
        }
        simd(
            #[inline(always)]
            || match self.0 {
                Gate::Silu => all(
                    [gate, up, g],
                    [of_gate, of_up],
                    #[inline(always)]
                    |x| silu_of(x),
                ),
                Gate::Gelu => all(
                    [gate, up, g],
                    [of_gate, of_up],
                    #[inline(always)]
                    |x| gelu_of(x),
                ),
                Gate::GeluTanh => all(
                    [gate, up, g],
                    [of_gate, of_up],
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

    fn backward(self, saved: Self::Saved, gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let ([gate, up], g) = (saved.each_ref().map(values), values(&gradient));
        let mut of_up = zeros(g.len());
        let mut of_gate = zeros(g.len());
        let chunks = of_gate.par_chunks_mut(CHUNK).zip(of_up.par_chunks_mut(CHUNK)).enumerate();
        chunks.for_each(|(chunk, (of_gate, of_up))| {
            let places = chunk * CHUNK..chunk * CHUNK + of_up.len();
            let inputs = [gate, up, g].map(|x| &x[places.clone()]);
            Glu::backward(self, inputs, [of_gate, of_up]);
        });
        [of_gate, of_up].map(|of| Some(tensor_like(of, &gradient)))
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

    fn backward(self, x: FlexTensor, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [rows, width] = dims(&x);
        let inner = width / 2;
        let (all, g) = (values(&x), values(&gradient));
        let of_x = build(rows * width, chunk_rows(width) * width, |start, out| {
            for (row, out) in (start / width..).zip(out.chunks_exact_mut(width)) {
                let (gate, up) = all[row * width..][..2 * inner].split_at(inner);
                let (of_gate, of_up) = out.split_at_mut(inner);
                Glu::backward(self, [gate, up, &g[row * inner..][..inner]], [of_gate, of_up]);
            }
        });
        [Some(tensor_like(of_x, &x))]
    }
}

/// See [`crate::ops::glu()`].
pub fn glu(gate: Tensor<2>, up: Tensor<2>, kind: Gate) -> Tensor<2> {
    apply::<Flex, _, 2, 2>(Glu(kind), [gate.into_dispatch(), up.into_dispatch()])
}

/// See [`crate::ops::glu_packed`].
pub fn glu_packed(gate_up: Tensor<2>, kind: Gate) -> Tensor<2> {
    apply::<Flex, _, 1, 2>(Glu(kind), [gate_up.into_dispatch()])
}
