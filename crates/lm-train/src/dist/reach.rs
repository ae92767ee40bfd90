//! Which of the ways to the other processes a run takes.

use super::launched::Launched;
use super::link::Link;

/// Reaches the other processes.
///
/// # Errors
/// If they cannot be reached, with what to do.
pub fn open(launched: &Launched) -> Result<Box<dyn Link>, String> {
    #[cfg(any(feature = "gloo", feature = "nccl"))]
    if let Some(store) = super::c10d::store(&|name| std::env::var(name).ok(), launched)? {
        return Ok(Box::new(super::c10d::C10d::open(&store, launched)?));
    }
    launched.check()?;
    #[cfg(feature = "mpi")]
    return Ok(Box::new(super::mpi::Mpi::open(launched)?));
    #[cfg(not(feature = "mpi"))]
    Err(launched.by_itself())
}
