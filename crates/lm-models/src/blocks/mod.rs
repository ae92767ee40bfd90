//! The parts that architectures are composed of. Parameters keep the names, shapes and layout of the Hugging Face files.

mod attention;
mod convolution;
mod embedding;
mod encoder;
mod feed_forward;
mod head;
mod linear;
mod mlm_head;
mod norm;
mod pre_norm;
mod rotary;
mod text_embeddings;
mod window;

pub use attention::{CausalAttention, GroupedAttention, GroupedHeads};
pub use convolution::SequenceConv;
pub use embedding::Embedding;
pub use encoder::{Dense, ENCODER_NAMES, Encoder, EncoderConfig, PostNorm, SelfAttention};
pub use feed_forward::{GatedMlp, Mlp};
pub use head::LmHead;
pub use linear::{Linear, projections};
pub use mlm_head::{BertHead, FlatHead, HeadTransform};
pub use norm::{LayerNorm, Norm, RmsNorm};
pub use pre_norm::PreNormModel;
pub use rotary::{Angles, Rotary};
pub use text_embeddings::{POSITION_BUFFERS, TEXT_BUFFERS, TextEmbeddings};
pub use window::{LayerType, causal_window};
