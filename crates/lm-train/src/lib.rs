//! The run itself.
pub mod callbacks;
pub mod schedule;
