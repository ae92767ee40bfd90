//! Convolutions along sequences, each head or column by itself.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

use super::precision::widen;
use crate::Sequences;

/// `y[i] = Σ_j kernel[j] x[i + j - width / 2]` along each sequence for each column, `width` being odd, with zeros beyond the
/// ends of the padded batch, whose padding must be there. `x` and the result are [rows, columns], `kernel` is
/// [columns, width].
pub fn convolution(x: Tensor<2>, kernel: Tensor<2>, sequences: &Sequences) -> Tensor<2> {
    let [columns, width] = kernel.dims();
    convolve(x, kernel.reshape([1, 1, columns, width]), sequences)
}

/// The same for each head, with a kernel for each row that is the softmax of its scores (Jiang et al., 2020): `x` is
/// [rows, heads · head_dim], `scores` is [rows, heads · width].
pub fn dynamic_convolution(x: Tensor<2>, scores: Tensor<2>, heads: usize, sequences: &Sequences) -> Tensor<2> {
    let width = scores.dims()[1] / heads;
    let scores = widen(scores).reshape([sequences.batch, sequences.seq, heads, width]);
    convolve(x, softmax(scores, 3), sequences)
}

/// `kernel` is [batch or 1, seq or 1, heads, width].
fn convolve(x: Tensor<2>, kernel: Tensor<4>, sequences: &Sequences) -> Tensor<2> {
    let ([rows, columns], dtype) = (x.dims(), x.dtype());
    let [.., heads, width] = kernel.dims();
    let (batch, seq, dim) = (sequences.batch, sequences.seq, columns / heads);
    let x = widen(x).reshape([batch, seq, heads, dim]);
    let beyond = Tensor::zeros([batch, width / 2, heads, dim], (&x.device(), x.dtype()));
    let padded = Tensor::cat(vec![beyond.clone(), x, beyond], 1);
    let term = |place: usize| padded.clone().narrow(1, place, seq) * kernel.clone().narrow(3, place, 1);
    let sum = (1..width).fold(term(0), |sum, place| sum + term(place));
    sum.reshape([rows, columns]).cast(dtype)
}
