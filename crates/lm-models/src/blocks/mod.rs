//! The parts that architectures are composed of. Parameters keep the names, shapes and layout of the Hugging Face files.

mod embedding;
mod head;
mod linear;
mod norm;

pub use embedding::Embedding;
pub use head::LmHead;
pub use linear::{Conv1D, Linear, projections};
pub use norm::LayerNorm;
