//! Every hot operation behind one function: the one seam for speed.
//!
//! Models call these and nothing else for work that counts. Each is defined by its plain implementation out of Burn
//! tensor operations, which serves every backend; the CPU backend has its own, much faster ones in `fast`, unless
//! [`set_plain`] says no.

mod activation;
mod attention;
mod cross_entropy;
mod dropout;
#[cfg(feature = "flex")]
mod fast;
mod optimizer;
mod relative_attention;
#[cfg(all(test, feature = "flex"))]
mod tests;

use burn::tensor::{Int, Tensor};

pub use activation::Activation;
pub use attention::{Attention, attention, attention_to_past};
pub use cross_entropy::{Decoder, Loss, Predictions, cross_entropy, predictions};
pub use dropout::dropout;
#[cfg(feature = "flex")]
pub use fast::set_plain;
pub use optimizer::{AdamW, adamw, sum_of_squares};
pub use relative_attention::{RelativeKeys, RelativeQueries, relative_attention};

/// Makes every operation take its plain implementation (`--plain_ops`): without the CPU backend they all do.
#[cfg(not(feature = "flex"))]
pub fn set_plain(_: bool) {}

/// `x Wᵀ + b` for a weight stored [out, in]; [rows, in] → [rows, out].
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if fast::applies(&x) {
        return fast::linear::linear(x, weight, bias, fast::linear::Layout::OutIn);
    }
    affine(x, weight.transpose(), bias)
}

/// `x W + b` for a weight stored [in, out]; [rows, in] → [rows, out].
pub fn linear_in_out(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if fast::applies(&x) {
        return fast::linear::linear(x, weight, bias, fast::linear::Layout::InOut);
    }
    affine(x, weight, bias)
}

fn affine(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = x.matmul(weight);
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// `(x - mean) / sqrt(variance + ε) · weight + bias` over each row (Ba et al., 2016), the variance being the biased one.
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if fast::applies(&x) {
        return fast::layer_norm::layer_norm(x, weight, bias, epsilon);
    }
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let normal = centred / (variance + epsilon).sqrt();
    normal * weight.unsqueeze() + bias.unsqueeze()
}

/// Row `ids[i]` of the table for every i; `[rows]` → [rows, dim].
pub fn embedding(table: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if fast::applies(&table) {
        return fast::embedding::embedding(table, ids);
    }
    table.select(0, ids)
}

/// `dropout(x) + residual`, the end of every transformer sublayer.
pub fn dropout_add(x: Tensor<2>, residual: Tensor<2>, probability: f64, mode: &crate::Mode) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if fast::applies(&x) {
        return match mode.next_dropout(probability) {
            Some((site, p)) => fast::dropout::dropout_add(x, residual, site, p),
            None => x + residual,
        };
    }
    dropout(x, probability, mode) + residual
}
