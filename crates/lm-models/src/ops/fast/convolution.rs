//! Convolutions along sequences without a copy of what they slide over: each row gathers from the rows around it, and in
//! the backward pass its gradient from theirs.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::buffer::build;
use super::simd::{add, dot, simd};
use super::tensor::{chunk_rows, dims, tensor, values};
use crate::ops::extension::{Operation, apply};

/// How far a convolution reaches.
#[derive(Clone, Copy, Debug)]
struct Reach {
    /// Rows of each sequence.
    seq: usize,
    /// Rows that are seen: as many before as behind, and the row itself.
    width: usize,
}

impl Reach {
    /// The rows that a row sees, each with its place in the kernel.
    #[inline(always)]
    fn around(self, row: usize) -> impl Iterator<Item = (usize, usize)> {
        let (half, place) = (self.width / 2, row % self.seq);
        let places = half.saturating_sub(place)..self.width.min(self.seq + half - place);
        places.map(move |j| (j, row + j - half))
    }

    /// The rows that see a row, each with the row's place in its kernel.
    #[inline(always)]
    fn seen_by(self, row: usize) -> impl Iterator<Item = (usize, usize)> {
        self.around(row).map(move |(j, other)| (self.width - 1 - j, other))
    }

    /// All rows, a chunk at a time on all threads, each made of zeros by `fill`.
    fn rows(self, rows: usize, columns: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> FlexTensor {
        let chunk = chunk_rows(columns * self.width) * columns;
        let values = build(rows * columns, chunk, |start, values| {
            simd(
                #[inline(always)]
                || {
                    for (index, row) in values.chunks_exact_mut(columns).enumerate() {
                        fill(start / columns + index, row);
                    }
                },
            );
        });
        tensor(values, [rows, columns])
    }
}

/// `y += a x`
#[inline(always)]
fn add_scaled(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// `y += a x`, value by value.
#[inline(always)]
fn add_products(y: &mut [f32], a: &[f32], x: &[f32]) {
    for ((y, a), x) in y.iter_mut().zip(a).zip(x) {
        *y += a * x;
    }
}

/// A kernel for each head of each row.
#[derive(Debug)]
struct Dynamic {
    heads: usize,
    reach: Reach,
}

impl Dynamic {
    /// Each row becomes a sum over `others`, rows with places in a kernel: the row's own, or theirs.
    fn gather<I: Iterator<Item = (usize, usize)>>(
        &self,
        x: &FlexTensor,
        kernel: &FlexTensor,
        others: impl Fn(usize) -> I + Sync,
        own: bool,
    ) -> FlexTensor {
        let ([rows, columns], width) = (dims(x), self.reach.width);
        let (x, kernel, dim) = (values(x), values(kernel), columns / self.heads);
        self.reach.rows(rows, columns, |row, y| {
            for (j, other) in others(row) {
                let kernel = &kernel[if own { row } else { other } * self.heads * width..];
                let heads = y.chunks_exact_mut(dim).zip(x[other * columns..][..columns].chunks_exact(dim));
                for (head, (y, x)) in heads.enumerate() {
                    add_scaled(y, kernel[head * width + j], x);
                }
            }
        })
    }
}

impl Operation<Flex, 2> for Dynamic {
    type Saved = [FlexTensor; 2];

    fn forward(&self, [x, kernel]: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
        (self.gather(&x, &kernel, |row| self.reach.around(row), true), [x, kernel])
    }

    fn backward(self, [x, kernel]: Self::Saved, gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let ([rows, columns], width) = (dims(&x), self.reach.width);
        let of_x = self.gather(&gradient, &kernel, |row| self.reach.seen_by(row), false);
        let (x, g, dim) = (values(&x), values(&gradient), columns / self.heads);
        let of_kernel = self.reach.rows(rows, self.heads * width, |row, k| {
            for (j, other) in self.reach.around(row) {
                let heads = g[row * columns..][..columns].chunks_exact(dim);
                for (head, (g, x)) in heads.zip(x[other * columns..][..columns].chunks_exact(dim)).enumerate() {
                    k[head * width + j] = dot(g, x);
                }
            }
        });
        [Some(of_x), Some(of_kernel)]
    }
}

/// A kernel for each column.
#[derive(Debug)]
struct Depthwise {
    reach: Reach,
}

impl Depthwise {
    /// `kernel` is [width, columns].
    fn gather<I: Iterator<Item = (usize, usize)>>(
        &self,
        x: &FlexTensor,
        kernel: &FlexTensor,
        others: impl Fn(usize) -> I + Sync,
    ) -> FlexTensor {
        let [rows, columns] = dims(x);
        let (x, kernel) = (values(x), values(kernel));
        self.reach.rows(rows, columns, |row, y| {
            for (j, other) in others(row) {
                add_products(y, &kernel[j * columns..][..columns], &x[other * columns..][..columns]);
            }
        })
    }
}

impl Operation<Flex, 2> for Depthwise {
    type Saved = [FlexTensor; 2];

    fn forward(&self, [x, kernel]: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
        (self.gather(&x, &kernel, |row| self.reach.around(row)), [x, kernel])
    }

    fn backward(self, [x, kernel]: Self::Saved, gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let [rows, columns] = dims(&x);
        let of_x = self.gather(&gradient, &kernel, |row| self.reach.seen_by(row));
        let (x, g, len) = (values(&x), values(&gradient), self.reach.width * columns);
        let all: Vec<usize> = (0..rows).collect();
        let partial = all.par_chunks(chunk_rows(len)).map(|rows| {
            let mut sums = vec![0.0; len];
            simd(
                #[inline(always)]
                || {
                    for &row in rows {
                        for (j, other) in self.reach.around(row) {
                            let (g, x) = (&g[row * columns..][..columns], &x[other * columns..][..columns]);
                            add_products(&mut sums[j * columns..][..columns], g, x);
                        }
                    }
                },
            );
            sums
        });
        let mut of_kernel = vec![0.0; len];
        for sums in partial.collect::<Vec<_>>() {
            add(&mut of_kernel, &sums);
        }
        [Some(of_x), Some(tensor(of_kernel, [self.reach.width, columns]))]
    }
}

/// See [`crate::ops::convolution()`]; `kernel` is [width, columns].
pub fn depthwise(x: Tensor<2>, kernel: Tensor<2>, seq: usize) -> Tensor<2> {
    let reach = Reach { seq, width: kernel.dims()[0] };
    apply(Depthwise { reach }, [x.into_dispatch(), kernel.into_dispatch()])
}

/// See [`crate::ops::dynamic_convolution`]; `kernel` is [rows, heads · width].
pub fn dynamic(x: Tensor<2>, kernel: Tensor<2>, heads: usize, seq: usize) -> Tensor<2> {
    let reach = Reach { seq, width: kernel.dims()[1] / heads };
    apply(Dynamic { heads, reach }, [x.into_dispatch(), kernel.into_dispatch()])
}
