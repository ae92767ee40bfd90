//! The parts that architectures are composed of. Parameters keep the names, shapes and layout of the Hugging Face files.

mod attention;
mod causal;
mod embedding;
mod feed_forward;
mod head;
mod linear;
mod norm;

pub use attention::CausalAttention;
pub use causal::CausalTransformer;
pub use embedding::Embedding;
pub use feed_forward::Mlp;
pub use head::LmHead;
pub use linear::{Linear, projections};
pub use norm::LayerNorm;
