//! Columns of one matrix as matrices of their own, whose gradients are written side by side.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::buffer::{build, zeros};
use super::tensor::{chunk_rows, dims, tensor, values, values_mut};
use crate::ops::extension::{Part, parts};

/// The same columns of each of `groups` equal pieces of a row.
#[derive(Debug)]
struct Columns {
    groups: usize,
    range: Range<usize>,
}

impl Part<Flex> for Columns {
    fn take(&self, whole: &FlexTensor) -> FlexTensor {
        let ([rows, width], columns) = (dims(whole), self.groups * self.range.len());
        let whole = values(whole);
        let part = build(rows * columns, chunk_rows(columns) * columns, |start, out| {
            for (row, out) in (start / columns..).zip(out.chunks_exact_mut(columns)) {
                let pieces = whole[row * width..][..width].chunks_exact(width / self.groups);
                for (out, piece) in out.chunks_exact_mut(self.range.len()).zip(pieces) {
                    out.copy_from_slice(&piece[self.range.clone()]);
                }
            }
        });
        tensor(part, [rows, columns])
    }

    fn put(&self, part: FlexTensor, others: Option<FlexTensor>, [rows, width]: [usize; 2]) -> FlexTensor {
        let mut whole = others.unwrap_or_else(|| tensor(zeros(rows * width), [rows, width]));
        let (part, columns) = (values(&part), self.groups * self.range.len());
        if columns > 0 {
            let chunk = chunk_rows(width);
            let chunks = values_mut(&mut whole).par_chunks_mut(chunk * width).zip(part.par_chunks(chunk * columns));
            chunks.for_each(|(whole, part)| {
                let pieces = whole.chunks_exact_mut(width / self.groups);
                for (piece, part) in pieces.zip(part.chunks_exact(self.range.len())) {
                    for (whole, part) in piece[self.range.clone()].iter_mut().zip(part) {
                        *whole += part;
                    }
                }
            });
        }
        whole
    }
}

/// See [`crate::ops::columns`].
pub fn columns<const N: usize>(x: Tensor<2>, groups: usize, ranges: [Range<usize>; N]) -> [Tensor<2>; N] {
    let shape = x.dims();
    parts(x.into_dispatch(), ranges.map(|range| Columns { groups, range }), shape)
}
