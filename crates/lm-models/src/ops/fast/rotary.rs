//! Rotary position embeddings in one pass over each row; the backward pass turns the other way.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Int, Tensor};
use rayon::prelude::*;

use super::simd::simd;
use super::tensor::{chunk_rows, dims, primitive, values, values_mut};
use crate::ops::extension::{Operation, apply};
use crate::ops::options::Pairs;

#[derive(Debug)]
struct Rotary {
    heads: usize,
    pairs: Pairs,
    positions: Vec<usize>,
    /// Each [positions, rotated / 2].
    cos: FlexTensor,
    sin: FlexTensor,
}

impl Rotary {
    /// By the angles, or with `direction` -1 against them; in place where nobody else holds `x`.
    fn turn(&self, mut x: FlexTensor, direction: f32) -> FlexTensor {
        let ([_, width], [_, half]) = (dims(&x), dims(&self.cos));
        if width == 0 || half == 0 {
            return x;
        }
        let (cos, sin) = (values(&self.cos), values(&self.sin));
        let chunk = chunk_rows(width);
        let chunks = values_mut(&mut x).par_chunks_mut(chunk * width).zip(self.positions.par_chunks(chunk));
        chunks.for_each(|(x, positions)| {
            simd(
                #[inline(always)]
                || {
                    for (x, &position) in x.chunks_exact_mut(width).zip(positions) {
                        let (cos, sin) = (&cos[position * half..][..half], &sin[position * half..][..half]);
                        for head in x.chunks_exact_mut(width / self.heads) {
                            self.turn_head(&mut head[..2 * half], cos, sin, direction);
                        }
                    }
                },
            );
        });
        x
    }

    #[inline(always)]
    fn turn_head(&self, head: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
        match self.pairs {
            Pairs::Halves => {
                let (first, second) = head.split_at_mut(cos.len());
                for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                    let sin = sin * direction;
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
            Pairs::Interleaved => {
                for (([a, b], cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                    let sin = sin * direction;
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}

impl Operation<Flex, 1> for Rotary {
    type Saved = ();

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
        (self.turn(x, 1.0), ())
    }

    fn backward(self, (): (), gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.turn(gradient, -1.0))]
    }
}

/// See [`crate::ops::rotary()`].
pub fn rotary(
    x: Tensor<2>,
    tables: [Tensor<2>; 2],
    positions: Tensor<1, Int>,
    heads: usize,
    pairs: Pairs,
) -> Tensor<2> {
    let [cos, sin] = tables.map(primitive);
    let positions = positions.into_data().iter::<i64>().map(|position| position as usize).collect();
    apply(Rotary { heads, pairs, positions, cos, sin }, [x.into_dispatch()])
}
