//! The run itself.
pub mod args;
pub mod callbacks;
pub mod disk;
pub mod lock;
pub mod memory;
pub mod model_card;
pub mod report;
pub mod schedule;
