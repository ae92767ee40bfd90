//! The run itself.
pub mod args;
pub mod batches;
pub mod callbacks;
pub mod checkpoint;
pub mod device;
pub mod disk;
pub mod gradients;
pub mod lock;
pub mod memory;
pub mod model_card;
pub mod optimizer;
pub mod report;
pub mod schedule;
pub mod step;
