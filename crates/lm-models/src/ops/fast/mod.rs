//! The operations by hand, for the CPU backend (`flex`): fused, multi-threaded, each with its own backward pass.
//!
//! Every one equals its plain twin in the parent module, which is tested, and its result does not depend on the number
//! of threads: work is cut into pieces of fixed size, and sums are taken piece by piece in order.

pub(super) mod activation;
pub(super) mod adamw;
pub(super) mod adamw_8bit;
pub(super) mod attention;
mod attention_scores;
#[cfg(target_arch = "x86_64")]
mod bfloat16;
mod blocked;
mod buffer;
pub(super) mod columns;
pub(super) mod convolution;
pub(super) mod cross_entropy;
pub(super) mod disentangled;
pub(super) mod dropout;
pub(super) mod embedding;
mod few_rows;
mod float32;
pub(super) mod glu;
mod heads;
pub(super) mod layer_norm;
pub(super) mod linear;
mod matmul;
mod matrix;
mod panels;
mod processor;
pub(super) mod relative_attention;
pub(super) mod rms_norm;
pub(super) mod rotary;
mod saved;
pub(super) mod scale_shift;
mod simd;
mod tensor;
mod workers;

pub use processor::{bfloat16_instructions, vector_instructions};
pub(super) use tensor::zeros;
pub(super) use workers::on_worker;
