//! Hugging Face language models as Burn modules: config.json and weights in, the same files out.
//!
//! Read first: [`bert`] for what an architecture looks like, [`inputs`] for what goes in, [`ops`] for where the time
//! goes, [`auto`] for the list of architectures.
//!
//! ```text
//! config.json ─ config ─┐                    input_ids, lengths, labels ─ inputs ─┐
//!                       auto ─ bert, gpt2, … ─────────────── stages ──────────────┴─ rows to predict ─ ops::cross_entropy
//! *.safetensors ─ weights ┘        └─ layers ─ ops (linear, layer_norm, attention, dropout, …)
//! ```

pub mod auto;
pub mod bert;
pub mod config;
pub mod distilbert;
pub mod generate;
pub mod generation_config;
pub mod gpt;
pub mod gpt2;
pub mod inputs;
pub mod layers;
pub mod load;
pub mod ops;
pub mod params;
pub mod roberta;
pub mod sizes;
pub mod special_tokens;
pub mod stages;
pub mod weights;
pub mod xlnet;

pub use auto::{AutoModel, Task};
pub use config::{ConfigError, ModelConfig};
pub use inputs::{Mode, ModelInputs, Sequences};
pub use stages::{Stages, checkpointed};
