//! What the run has to do with the system it runs on: signals, panics, memory, secrets, terminals, folders.

pub mod allocator;
pub(crate) mod escape;
mod large;
pub mod machine;
pub mod memory;
pub mod noted;
pub mod panics;
pub mod restart;
pub mod secrets;
pub mod signals;

use std::path::PathBuf;

/// A variable of the environment that is set, and to something.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The cache folder: `$XDG_CACHE_HOME/run_lm`, by default under `~/.cache`; none for who has no home.
pub fn cache_dir() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("run_lm"))
}
