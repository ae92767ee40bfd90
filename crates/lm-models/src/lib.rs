//! Hugging Face language models as Burn modules: config.json and weights in, the same files out.
//!
//! Read first: `models/bert.rs` for what an architecture looks like, `model.rs` for what a model is whatever its
//! architecture, [`inputs`] for what goes in, [`ops`] for where the time goes.
//!
//! ```text
//! config.json ─ config ─┐                    input_ids, lengths, labels ─ inputs ─┐
//!                     models ─ bert, gpt2, … ─────────────── stages ──────────────┴─ rows to predict ─ ops::cross_entropy
//! *.safetensors ─ weights ┘        └─ blocks ─ ops (linear, layer_norm, attention, dropout, …)
//! ```

pub mod adapter;
mod blocks;
mod cache;
mod causal;
mod checkpointing;
pub mod config;
pub mod generate;
pub mod inputs;
mod low_rank;
mod model;
pub mod models;
pub mod ops;
mod optimizer_order;
pub mod parameters;
pub mod pretrained;
pub mod sizes;
mod stages;
#[cfg(test)]
mod testing;
pub mod weights;

pub use checkpointing::checkpointed;
pub use config::{ConfigError, ModelConfig};
pub use inputs::{Mode, ModelInputs, Sequences};
pub use model::{AutoModel, Model, Parameter, Task};
pub use optimizer_order::optimizer_order;
