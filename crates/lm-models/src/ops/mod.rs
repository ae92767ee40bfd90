//! Every hot operation behind one function: the one seam for speed.
//!
//! Models call these and nothing else for work that counts. Each operation is a file that says what it does, in a plain
//! implementation out of Burn tensor operations, which defines the result and serves every backend; the CPU backend has
//! its own, much faster ones in `fast`, and libtorch has ATen's in `torch`. [`Compute`] says whether those are taken, and
//! in how many bits matrices are multiplied.

mod activation;
mod attention;
mod cross_entropy;
mod dropout;
mod embedding;
mod engine;
#[cfg(any(feature = "flex", feature = "tch"))]
mod extension;
#[cfg(feature = "flex")]
mod fast;
mod layer_norm;
mod linear;
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

pub use activation::Activation;
pub(crate) use attention::thirds;
pub use attention::{Attention, attention, attention_to_past};
pub use cross_entropy::{Decoder, Loss, Predictions, cross_entropy, predictions};
pub use dropout::{dropout, dropout_add};
pub use embedding::embedding;
pub use engine::Compute;
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_in_out};
pub use optimizer::{AdamW, adamw, sum_of_squares, zeros};
pub use precision::Precision;
pub use relative_attention::{RelativeKeys, RelativeQueries, relative_attention};
pub use workers::on_worker;
