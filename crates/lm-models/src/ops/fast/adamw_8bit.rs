//! AdamW with moments of 8 bits, in place.

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind};
use burn::tensor::{Int, Tensor};
use rayon::prelude::*;

use super::adamw::Numbers;
use super::buffer::CHUNK;
use super::simd::simd;
use super::tensor::{primitive, values, values_mut, wrap};
use crate::ops::dynamic_map::{DynamicMap, SIGNED, UNSIGNED};
use crate::ops::options::AdamW;
use crate::ops::quantized::{BLOCK, Quantized};

/// See [`crate::ops::adamw_8bit`].
pub fn adamw_8bit(
    p: Tensor<1>,
    m: Quantized,
    v: Quantized,
    g: Tensor<1>,
    options: AdamW,
) -> (Tensor<1>, Quantized, Quantized) {
    const BLOCKS: usize = CHUNK / BLOCK;
    let numbers = Numbers::new(options);
    let (mut p, g) = (primitive(p), primitive(g));
    let [(mut m, mut m_max), (mut v, mut v_max)] = [m, v].map(|of| (bytes(of.codes), primitive(of.absmax)));
    let of_m = bytes_mut(&mut m).par_chunks_mut(CHUNK).zip(values_mut(&mut m_max).par_chunks_mut(BLOCKS));
    let of_v = bytes_mut(&mut v).par_chunks_mut(CHUNK).zip(values_mut(&mut v_max).par_chunks_mut(BLOCKS));
    let of_p = values_mut(&mut p).par_chunks_mut(CHUNK).zip(values(&g).par_chunks(CHUNK));
    of_p.zip(of_m).zip(of_v).for_each(|(((p, g), (m, m_max)), (v, v_max))| {
        let of_p = p.chunks_mut(BLOCK).zip(g.chunks(BLOCK));
        let moments = m.chunks_mut(BLOCK).zip(m_max).zip(v.chunks_mut(BLOCK).zip(v_max));
        for ((p, g), ((m, m_max), (v, v_max))) in of_p.zip(moments) {
            let (mut means, mut squares) = ([0.0; BLOCK], [0.0; BLOCK]);
            let (means, squares) = (&mut means[..p.len()], &mut squares[..p.len()]);
            expand(m, *m_max, &SIGNED, means);
            expand(v, *v_max, &UNSIGNED, squares);
            simd(
                #[inline(always)]
                || numbers.update(p, means, squares, g),
            );
            *m_max = reduce(means, &SIGNED, m);
            *v_max = reduce(squares, &UNSIGNED, v);
        }
    });
    let [m, v] = [(m, m_max), (v, v_max)].map(|(codes, absmax)| Quantized { codes: ints(codes), absmax: wrap(absmax) });
    (wrap(p), m, v)
}

fn expand(codes: &[u8], absmax: f32, map: &DynamicMap, values: &mut [f32]) {
    for (value, code) in values.iter_mut().zip(codes) {
        *value = map.values[usize::from(*code)] * absmax;
    }
}

/// Gives the largest absolute value of the block.
fn reduce(values: &[f32], map: &DynamicMap, codes: &mut [u8]) -> f32 {
    let absmax = values.iter().fold(0.0, |max: f32, value| max.max(value.abs()));
    let absmax = if absmax == 0.0 { 1.0 } else { absmax };
    for (code, value) in codes.iter_mut().zip(values) {
        let nearest = map.nearest(value / absmax);
        *code = if map.keeps_positive { nearest.max(u8::from(*value > 0.0)) } else { nearest };
    }
    absmax
}

/// The contiguous tensor behind one of unsigned bytes.
fn bytes(codes: Tensor<1, Int>) -> FlexTensor {
    match codes.into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Int(codes)) if codes.is_contiguous() => codes,
        DispatchTensorKind::Flex(BackendTensor::Int(codes)) => codes.to_contiguous(),
        other => unreachable!("not on the CPU backend: {other:?}"),
    }
}

/// Its bytes, to be changed: copied first if somebody else holds them too.
fn bytes_mut(codes: &mut FlexTensor) -> &mut [u8] {
    let (start, end) = codes.layout().contiguous_offsets().unwrap_or((0, 0));
    &mut codes.storage_mut()[start..end]
}

fn ints(codes: FlexTensor) -> Tensor<1, Int> {
    let kind = DispatchTensorKind::Flex(BackendTensor::Int(codes));
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled })
}
