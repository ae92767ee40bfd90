//! Every hot operation behind one function: the one seam for speed.
//!
//! Models call these and nothing else for work that counts. Each operation is a file that says what it does, in a plain
//! implementation out of Burn tensor operations, which defines the result and serves every backend; the CPU backend has
//! its own, much faster ones in `fast`, and libtorch has ATen's in `torch`. [`Compute`] says whether those are taken, and
//! in how many bits matrices are multiplied.

mod activation;
mod adamw_8bit;
// Only operations of these two hand gradients over early.
#[cfg_attr(not(any(feature = "flex", feature = "tch")), allow(dead_code))]
mod arrivals;
mod attention;
#[cfg(any(feature = "flex", feature = "tch"))]
mod carrier;
mod convolution;
mod cross_entropy;
mod disentangled;
mod dropout;
mod dynamic_map;
mod embedding;
mod engine;
#[cfg(any(feature = "flex", feature = "tch"))]
mod extension;
#[cfg(feature = "flex")]
mod fast;
mod glu;
mod layer_norm;
mod leaf;
mod linear;
mod optimizer;
mod options;
mod precision;
mod projections;
mod quantized;
mod relative_attention;
mod rms_norm;
mod rotary;
mod scale_shift;
#[cfg(all(test, any(feature = "flex", feature = "tch")))]
mod tests;
// burn-tch is marked deprecated in 0.22, the last line that has it.
#[cfg(feature = "tch")]
#[allow(deprecated)]
mod torch;
mod workers;

pub use activation::Activation;
pub use adamw_8bit::{adamw_8bit, dynamic_maps};
pub(crate) use arrivals::watch;
pub use arrivals::{Ready, Watching};
pub use attention::{alibi_slopes, attention};
pub use convolution::{convolution, dynamic_convolution};
pub use cross_entropy::{cross_entropy, predictions};
pub use disentangled::disentangled_bias;
pub use dropout::{add, dropout, dropout_add};
pub use embedding::embedding;
pub use engine::Compute;
#[cfg(feature = "flex")]
pub use fast::{bfloat16_instructions, vector_instructions};
pub use glu::{glu, glu_packed};
pub use layer_norm::layer_norm;
pub(crate) use leaf::leaf;
pub use linear::{linear, linear_in_out, linear_of_activation};
pub use optimizer::{AdamWStep, accumulate, adamw, numbers, sum_of_squares, zeros};
pub use options::{
    AdamW, Attention, AttentionBias, AttentionMask, Blind, Decoder, Disentangled, Gate, Layout, Loss, Pairs,
    Predictions, RelativeKeys, RelativeQueries,
};
pub use precision::Precision;
pub(crate) use precision::widen;
pub use projections::{columns, projections};
pub use quantized::Quantized;
pub use relative_attention::relative_attention;
pub use rms_norm::rms_norm;
pub use rotary::rotary;
pub use scale_shift::scale_shift;
pub use workers::on_worker;
