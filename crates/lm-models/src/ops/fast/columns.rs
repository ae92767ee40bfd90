//! Neighbouring columns of one matrix as matrices of their own, whose gradients are written side by side.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::buffer::{build, zeros};
use super::tensor::{chunk_rows, dims, tensor, values, values_mut};
use crate::ops::extension::{Part, parts};

#[derive(Debug)]
struct Columns(Range<usize>);

impl Part<Flex> for Columns {
    fn take(&self, whole: &FlexTensor) -> FlexTensor {
        let ([rows, width], columns) = (dims(whole), self.0.len());
        let whole = values(whole);
        let part = build(rows * columns, chunk_rows(columns) * columns, |start, out| {
            for (row, out) in (start / columns..).zip(out.chunks_exact_mut(columns)) {
                out.copy_from_slice(&whole[row * width + self.0.start..][..columns]);
            }
        });
        tensor(part, [rows, columns])
    }

    fn put(&self, part: FlexTensor, others: Option<FlexTensor>, [rows, width]: [usize; 2]) -> FlexTensor {
        let mut whole = others.unwrap_or_else(|| tensor(zeros(rows * width), [rows, width]));
        let (part, columns) = (values(&part), self.0.len());
        if columns > 0 {
            let chunk = chunk_rows(width);
            let chunks = values_mut(&mut whole).par_chunks_mut(chunk * width).zip(part.par_chunks(chunk * columns));
            chunks.for_each(|(whole, part)| {
                for (whole, part) in whole.chunks_exact_mut(width).zip(part.chunks_exact(columns)) {
                    for (whole, part) in whole[self.0.clone()].iter_mut().zip(part) {
                        *whole += part;
                    }
                }
            });
        }
        whole
    }
}

/// See [`crate::ops::columns`].
pub fn columns<const N: usize>(x: Tensor<2>, ranges: [Range<usize>; N]) -> [Tensor<2>; N] {
    let shape = x.dims();
    parts(x.into_dispatch(), ranges.map(Columns), shape)
}
