//! The parts that architectures are composed of. Parameters keep the names, shapes and layout of the Hugging Face files.

mod attention;
mod embedding;
mod encoder;
mod feed_forward;
mod head;
mod linear;
mod mlm_head;
mod norm;
mod rotary;
mod text_embeddings;

pub use attention::CausalAttention;
pub use embedding::Embedding;
pub use encoder::{ENCODER_NAMES, Encoder, EncoderConfig};
pub use feed_forward::{GatedMlp, Mlp};
pub use head::LmHead;
pub use linear::{Linear, projections};
pub use mlm_head::{BertHead, FlatHead, HeadTransform};
pub use norm::{LayerNorm, RmsNorm};
pub use rotary::{Angles, Rotary};
pub use text_embeddings::{POSITION_BUFFERS, TextEmbeddings};
