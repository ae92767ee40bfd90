//! Training: the loop, the arithmetic of a step, and what the loop calls.
//!
//! ```text
//! Plan ──> Trainer ─┬─ batches ─ step (ranks ─ gradients ─ optimizer)
//!                   ├─ progress (counts -> record) ─ cadence (what is due)
//!                   ├─ evaluate ─ early_stopping ─ samples
//!                   └─ saves (checkpoints, on a thread of their own)
//! ```
//!
//! Read first: `trainer`, whose `steps` is the whole of training; `step`, its arithmetic.

pub mod batches;
pub mod cadence;
pub mod early_stopping;
pub mod evaluate;
pub mod exchange;
mod lengths;
pub mod pieces;
pub mod plan;
mod progress;
pub mod ranks;
pub mod samples;
pub mod saves;
mod sharded;
pub mod step;
pub mod trainer;
