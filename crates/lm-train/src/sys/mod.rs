//! What the run has to do with the system it runs on: signals, panics, memory, secrets, terminals.

pub mod allocator;
pub(crate) mod escape;
pub mod memory;
pub mod noted;
pub mod panics;
pub mod secrets;
pub mod signals;
