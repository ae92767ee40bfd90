//! Convolutions along sequences, each head or column by itself.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::engine::Engine;
use super::precision::widen;
use crate::{Mode, Sequences};

/// `y[i] = Σ_j kernel[j] x[i + j - width / 2]` along each sequence for each column, `width` being odd, with zeros beyond the
/// ends of the padded batch, whose padding must be there. `x` and the result are [rows, columns], `kernel` is
/// [columns, width].
pub fn convolution(x: Tensor<2>, kernel: Tensor<2>, sequences: &Sequences, mode: &Mode) -> Tensor<2> {
    let (dtype, [columns, width]) = (x.dtype(), kernel.dims());
    let x = widen(x);
    let y = match Engine::of(&x, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::convolution::depthwise(x, kernel.transpose(), sequences.seq),
        _ => plain(x, kernel.reshape([1, 1, columns, width]), sequences),
    };
    y.cast(dtype)
}

/// The same for each head, with a kernel for each row that is the softmax of its scores (Jiang et al., 2020): `x` is
/// [rows, heads · head_dim], `scores` is [rows, heads · width].
pub fn dynamic_convolution(
    x: Tensor<2>,
    scores: Tensor<2>,
    heads: usize,
    sequences: &Sequences,
    mode: &Mode,
) -> Tensor<2> {
    let (dtype, [rows, widths]) = (x.dtype(), scores.dims());
    let x = widen(x);
    let kernel = softmax(widen(scores).reshape([rows, heads, widths / heads]), 2);
    let y = match Engine::of(&x, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::convolution::dynamic(x, kernel.reshape([rows, widths]), heads, sequences.seq),
        _ => plain(x, kernel.reshape([sequences.batch, sequences.seq, heads, widths / heads]), sequences),
    };
    y.cast(dtype)
}

/// `kernel` is [batch or 1, seq or 1, heads, width].
fn plain(x: Tensor<2>, kernel: Tensor<4>, sequences: &Sequences) -> Tensor<2> {
    let ([rows, columns], [.., heads, width]) = (x.dims(), kernel.dims());
    let (batch, seq, dim) = (sequences.batch, sequences.seq, columns / heads);
    let x = x.reshape([batch, seq, heads, dim]);
    let beyond = Tensor::zeros([batch, width / 2, heads, dim], (&x.device(), x.dtype()));
    let padded = Tensor::cat(vec![beyond.clone(), x, beyond], 1);
    let term = |place: usize| padded.clone().narrow(1, place, seq) * kernel.clone().narrow(3, place, 1);
    let sum = (1..width).fold(term(0), |sum, place| sum + term(place));
    sum.reshape([rows, columns])
}
