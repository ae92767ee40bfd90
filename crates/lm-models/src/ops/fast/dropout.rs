//! Dropout with its mask computed where it is used.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use lm_random::{Purpose, key};
use rayon::prelude::*;

use super::buffer::CHUNK;
use super::simd::simd;
use super::tensor::{add_to, values, values_mut};
use crate::inputs::DropoutKey;
use crate::ops::extension::{Operation, apply};

/// The factors of one dropout, as [`crate::ops::dropout::mask`] defines them.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    key: [u32; 2],
    site: DropoutKey,
    /// Words below it drop their element.
    dropped_below: u32,
    /// The factor of the others.
    kept: f32,
}

/// Factors computed before they are used.
const PIECE: usize = 512;

/// Counters worked on at once.
const LANES: usize = 16;

impl Mask {
    /// The mask of a site.
    pub fn new(site: DropoutKey, probability: f64) -> Self {
        let kept = if probability < 1.0 { (1.0 / (1.0 - probability)) as f32 } else { 0.0 };
        // A conversion that saturates: at probability 1 both factors are 0.
        let dropped_below = (probability * 2f64.powi(32)) as u32;
        Self { key: key(site.seed, Purpose::Dropout), site, dropped_below, kept }
    }

    /// The factors of the elements from `start` on.
    #[inline(always)]
    pub fn fill(&self, start: usize, out: &mut [f32]) {
        let skip = start % 4;
        let mut block = (start / 4) as u32;
        let mut factors = [0.0; 4 * LANES];
        let head = out.len().min(if skip == 0 { 0 } else { 4 * LANES - skip });
        let (head, rest) = out.split_at_mut(head);
        if !head.is_empty() {
            self.blocks(block, &mut factors);
            head.copy_from_slice(&factors[skip..skip + head.len()]);
            block = block.wrapping_add(LANES as u32);
        }
        for out in rest.chunks_mut(4 * LANES) {
            self.blocks(block, &mut factors);
            out.copy_from_slice(&factors[..out.len()]);
            block = block.wrapping_add(LANES as u32);
        }
    }

    /// The factors of `LANES` blocks of four: [`lm_random::philox`], side by side. Words lie in the lower halves of 64 bits, the
    /// upper ones left as they come: products need no room made for them, and none are taken apart.
    #[inline(always)]
    fn blocks(&self, first: u32, out: &mut [f32; 4 * LANES]) {
        const WORD: u64 = u32::MAX as u64;
        let DropoutKey { site, micro_batch, .. } = self.site;
        let [mut k0, mut k1] = self.key;
        let mut c0: [u64; LANES] = std::array::from_fn(|lane| first.wrapping_add(lane as u32).into());
        let mut c1 = [u64::from(site); LANES];
        let mut c2 = [micro_batch; LANES];
        let mut c3 = [micro_batch >> 32; LANES];
        for _ in 0..10 {
            for lane in 0..LANES {
                let p0 = 0xD251_1F53 * (c0[lane] & WORD);
                let p1 = 0xCD9E_8D57 * (c2[lane] & WORD);
                c0[lane] = p1 >> 32 ^ c1[lane] ^ u64::from(k0);
                c1[lane] = p1;
                c2[lane] = p0 >> 32 ^ c3[lane] ^ u64::from(k1);
                c3[lane] = p0;
            }
            k0 = k0.wrapping_add(0x9E37_79B9);
            k1 = k1.wrapping_add(0xBB67_AE85);
        }
        let factor = |word: u64| if (word as u32) < self.dropped_below { 0.0 } else { self.kept };
        for lane in 0..LANES {
            out[4 * lane] = factor(c0[lane]);
            out[4 * lane + 1] = factor(c1[lane]);
            out[4 * lane + 2] = factor(c2[lane]);
            out[4 * lane + 3] = factor(c3[lane]);
        }
    }

    /// `x · mask`, in place where nobody else holds `x`.
    fn scale(&self, mut x: FlexTensor) -> FlexTensor {
        values_mut(&mut x).par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, x)| {
            simd(
                #[inline(always)]
                || {
                    let mut factors = [0.0; PIECE];
                    for (piece, x) in x.chunks_mut(PIECE).enumerate() {
                        self.fill(chunk * CHUNK + piece * PIECE, &mut factors[..x.len()]);
                        for (x, factor) in x.iter_mut().zip(&factors) {
                            *x *= factor;
                        }
                    }
                },
            );
        });
        x
    }
}

#[derive(Debug)]
struct Dropout(Mask);

impl Operation<Flex, 1> for Dropout {
    type Saved = ();

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
        (self.0.scale(x), ())
    }

    fn backward(self, (): (), gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.0.scale(gradient))]
    }
}

#[derive(Debug)]
struct DropoutAdd(Mask);

impl Operation<Flex, 2> for DropoutAdd {
    type Saved = ();

    fn forward(&self, [mut x, residual]: [FlexTensor; 2]) -> (FlexTensor, ()) {
        let residual = values(&residual);
        values_mut(&mut x).par_chunks_mut(CHUNK).zip(residual.par_chunks(CHUNK)).enumerate().for_each(
            |(chunk, (x, residual))| {
                simd(
                    #[inline(always)]
                    || {
                        let mut factors = [0.0; PIECE];
                        for (piece, (x, residual)) in x.chunks_mut(PIECE).zip(residual.chunks(PIECE)).enumerate() {
                            self.0.fill(chunk * CHUNK + piece * PIECE, &mut factors[..x.len()]);
                            for ((x, residual), factor) in x.iter_mut().zip(residual).zip(&factors) {
                                *x = *x * factor + residual;
                            }
                        }
                    },
                );
            },
        );
        (x, ())
    }

    fn backward(self, (): (), gradient: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let x = wanted[0].then(|| self.0.scale(gradient.clone()));
        [x, wanted[1].then_some(gradient)]
    }
}

/// The end of a sublayer that drops nothing.
#[derive(Debug)]
struct Add;

impl Operation<Flex, 2> for Add {
    type Saved = ();

    fn forward(&self, [mut x, residual]: [FlexTensor; 2]) -> (FlexTensor, ()) {
        add_to(&mut x, &residual);
        (x, ())
    }

    fn backward(self, (): (), gradient: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        wanted.map(|wanted| wanted.then(|| gradient.clone()))
    }
}

/// `x + residual`
pub fn add(x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
    apply(Add, [x.into_dispatch(), residual.into_dispatch()])
}

/// `x · mask`
pub fn dropout<const D: usize>(x: Tensor<D>, site: DropoutKey, probability: f64) -> Tensor<D> {
    apply(Dropout(Mask::new(site, probability)), [x.into_dispatch()])
}

/// `x · mask + residual`
pub fn dropout_add(x: Tensor<2>, residual: Tensor<2>, site: DropoutKey, probability: f64) -> Tensor<2> {
    apply(DropoutAdd(Mask::new(site, probability)), [x.into_dispatch(), residual.into_dispatch()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::dropout::mask;

    #[test]
    fn a_part_of_a_mask_from_anywhere_is_that_of_the_whole() {
        let site = DropoutKey { seed: 5, micro_batch: 3 << 40 | 0xFFFF_FFFF, site: 0xFFFF_FFF0 };
        let whole = mask(site, 0.3, 1000);
        for start in (0..200).chain([517, 999]) {
            for len in [0, 1, 3, 63, 64, 65, 128, 333] {
                let mut part = vec![f32::NAN; len.min(whole.len() - start)];
                simd(|| Mask::new(site, 0.3).fill(start, &mut part));
                assert_eq!(part, whole[start..start + part.len()], "from {start}, {len} long");
            }
        }
    }
}
