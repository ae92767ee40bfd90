//! Every hot operation behind one function: the one seam for speed.
//!
//! Models call these and nothing else for work that counts. Each is defined by its plain implementation out of Burn
//! tensor operations, which serves every backend; the CPU backend has its own, much faster ones in `fast`, and libtorch
//! has ATen's in `torch`, unless [`set_plain`] says no.

mod activation;
mod attention;
mod cross_entropy;
mod dropout;
#[cfg(any(feature = "flex", feature = "tch"))]
mod extension;
#[cfg(feature = "flex")]
mod fast;
mod optimizer;
mod precision;
mod relative_attention;
#[cfg(all(test, any(feature = "flex", feature = "tch")))]
mod tests;
// burn-tch is marked deprecated in 0.22, the last line that has it.
#[cfg(feature = "tch")]
#[allow(deprecated)]
mod torch;
mod workers;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Int, Tensor};
use precision::{narrow, widen};

pub use activation::Activation;
pub(crate) use attention::thirds;
pub use attention::{Attention, attention, attention_to_past};
pub use cross_entropy::{Decoder, Loss, Predictions, cross_entropy, predictions};
pub use dropout::dropout;
pub use optimizer::{AdamW, adamw, sum_of_squares, zeros};
pub use precision::{Precision, precision, set_precision};
pub use relative_attention::{RelativeKeys, RelativeQueries, relative_attention};
pub use workers::on_worker;

static PLAIN: LazyLock<AtomicBool> =
    LazyLock::new(|| AtomicBool::new(std::env::var_os("LM_PLAIN_OPS").is_some_and(|value| value == "1")));

/// Makes every operation take its plain implementation (`--plain_ops`); the environment's `LM_PLAIN_OPS=1` does too.
pub fn set_plain(plain: bool) {
    PLAIN.store(plain, Ordering::Relaxed);
}

/// Whether [`set_plain`] said so.
#[cfg(any(feature = "flex", feature = "tch", feature = "wgpu", feature = "cuda"))]
fn is_plain() -> bool {
    PLAIN.load(Ordering::Relaxed)
}

/// How the weight of an affine map is stored.
#[cfg(any(feature = "flex", feature = "tch"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// [out, in], as torch's `nn.Linear`.
    OutIn,
    /// [in, out], as GPT-2's `Conv1D`.
    InOut,
}

/// `x Wᵀ + b` for a weight stored [out, in]; [rows, in] → [rows, out].
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let (x, weight, bias) = (narrow(x), narrow(weight), bias.map(narrow));
    #[cfg(feature = "flex")]
    if fast::applies(&x) {
        return fast::linear::linear(x, weight, bias, Layout::OutIn);
    }
    #[cfg(feature = "tch")]
    if torch::applies(&x) {
        return torch::linear::linear(x, weight, bias, Layout::OutIn);
    }
    affine(x, weight.transpose(), bias)
}

/// `x W + b` for a weight stored [in, out]; [rows, in] → [rows, out].
pub fn linear_in_out(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let (x, weight, bias) = (narrow(x), narrow(weight), bias.map(narrow));
    #[cfg(feature = "flex")]
    if fast::applies(&x) {
        return fast::linear::linear(x, weight, bias, Layout::InOut);
    }
    #[cfg(feature = "tch")]
    if torch::applies(&x) {
        return torch::linear::linear(x, weight, bias, Layout::InOut);
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
    let x = widen(x);
    #[cfg(feature = "flex")]
    if fast::applies(&x) {
        return fast::layer_norm::layer_norm(x, weight, bias, epsilon);
    }
    #[cfg(feature = "tch")]
    if torch::applies(&x) {
        return torch::layer_norm::layer_norm(x, weight, bias, epsilon);
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
    #[cfg(feature = "tch")]
    if torch::applies(&table) {
        return torch::embedding::embedding(table, ids);
    }
    table.select(0, ids)
}

/// `dropout(x) + residual`, the end of every transformer sublayer.
pub fn dropout_add(x: Tensor<2>, residual: Tensor<2>, probability: f64, mode: &crate::Mode) -> Tensor<2> {
    let (x, residual) = (widen(x), widen(residual));
    #[cfg(feature = "flex")]
    if fast::applies(&x) {
        return match mode.next_dropout(probability) {
            Some((site, p)) => fast::dropout::dropout_add(x, residual, site, p),
            None => x + residual,
        };
    }
    dropout(x, probability, mode) + residual
}
