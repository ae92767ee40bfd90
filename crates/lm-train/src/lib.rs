//! The run itself.
pub mod callbacks;
pub mod disk;
pub mod lock;
pub mod memory;
pub mod schedule;
