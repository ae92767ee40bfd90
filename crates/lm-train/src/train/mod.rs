//! Training: the loop, the arithmetic of a step, and what the loop calls.

pub mod batches;
pub mod early_stopping;
pub mod evaluate;
pub mod ranks;
pub mod samples;
pub mod step;
pub mod trainer;
