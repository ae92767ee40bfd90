//! Rows of a table.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Int, Tensor};

use super::buffer::build;
use super::buffer::zeros;
use super::simd::{add, wide};
use super::tensor::{chunk_rows, dims, is_in_16_bits, tensor, values, values_in_16_bits, values_mut};
use crate::ops::extension::{Operation, apply};

#[derive(Debug)]
struct Embedding {
    ids: Vec<usize>,
}

impl Embedding {
    /// The vectors of `dim` values, each written by `copy`.
    fn rows<T: Sync>(&self, table: &[T], dim: usize, copy: impl Fn(&[T], &mut [f32]) + Sync) -> Vec<f32> {
        build(self.ids.len() * dim, chunk_rows(dim) * dim, |start, rows| {
            for (row, id) in rows.chunks_exact_mut(dim).zip(&self.ids[start / dim..]) {
                copy(&table[id * dim..(id + 1) * dim], row);
            }
        })
    }
}

impl Operation<Flex, 1> for Embedding {
    /// Rows of the table.
    type Saved = usize;

    fn forward(&self, [table]: [FlexTensor; 1]) -> (FlexTensor, usize) {
        let [count, dim] = dims(&table);
        let rows = match is_in_16_bits(&table) {
            true => self.rows(values_in_16_bits(&table), dim, |row, out| {
                out.iter_mut().zip(row).for_each(|(out, x)| *out = wide(*x))
            }),
            false => self.rows(values(&table), dim, |row, out| out.copy_from_slice(row)),
        };
        (tensor(rows, [self.ids.len(), dim]), count)
    }

    fn backward(self, count: usize, gradient: FlexTensor, wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [_, dim] = dims(&gradient);
        self.backward_onto(count, gradient, wanted, tensor(zeros(count * dim), [count, dim]))
    }

    fn backward_onto(
        self,
        _: usize,
        gradient: FlexTensor,
        _: [bool; 1],
        mut left: FlexTensor,
    ) -> [Option<FlexTensor>; 1] {
        let [_, dim] = dims(&gradient);
        let (gradient, table) = (values(&gradient), values_mut(&mut left));
        // What comes to a vector is added up first: the bits are those of a table of sums that is added to the other.
        let mut rows: Vec<usize> = (0..self.ids.len()).collect();
        rows.sort_by_key(|&row| self.ids[row]);
        let mut sum = vec![0.0; dim];
        for rows in rows.chunk_by(|&a, &b| self.ids[a] == self.ids[b]) {
            sum.fill(0.0);
            rows.iter().for_each(|row| add(&mut sum, &gradient[row * dim..(row + 1) * dim]));
            let id = self.ids[rows[0]];
            add(&mut table[id * dim..(id + 1) * dim], &sum);
        }
        [Some(left)]
    }
}

/// See [`crate::ops::embedding`]. The gradient of a table that is the decoder's too is added to what the loss has left.
pub fn embedding(table: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    let ids = ids.into_data().iter::<i64>().map(|id| id as usize).collect();
    apply(Embedding { ids }, [table.into_dispatch()])
}
