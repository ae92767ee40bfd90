//! Text to token ids to training examples to batches.
//!
//! ```text
//! names ── dataset ──> splits ── source ──> rows ── tokenizer ──> ids ── example ──> ExampleStore ── loader + collate ──> Batch
//!                                                                     └─ stream ──────────────────── collate ──────────> Batch
//! ```
//! [`Corpus`] does everything up to the store. Every random choice is a function of (seed, purpose, epoch, example).

mod batch;
mod build;
mod cache;
mod caught;
pub mod collate;
mod config;
mod counts;
pub mod dataset;
mod digest;
mod error;
pub mod example;
mod loader;
mod memo;
mod mixture;
mod prefetch;
mod prepare;
mod preview;
mod reading;
mod room;
pub mod source;
#[cfg(test)]
mod store_tests;
mod stream;
mod survey;
#[cfg(test)]
mod testing;
pub mod tokenizer;

pub use batch::{Batch, IGNORE};
pub use config::DataConfig;
pub use dataset::Corpus;
pub use error::DataError;
pub use loader::{Loader, LoaderOptions, Order, Position};
pub use prefetch::Prefetch;
pub use prepare::Reading;
pub use preview::{dump_examples, preview};
pub use stream::{ExampleStream, StreamPosition};
