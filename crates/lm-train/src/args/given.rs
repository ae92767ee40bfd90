//! Which arguments were given.

use super::{Flag, Origin};

/// The arguments that were given, each with where.
pub(super) struct Given(pub Vec<(&'static Flag, Origin)>);

impl Given {
    /// Whether `name` was given at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(flag, _)| flag.name == name)
    }

    /// Whether `name` was given by the command line itself, not by a file.
    pub fn by_flag(&self, name: &str) -> bool {
        self.0.iter().any(|(flag, origin)| flag.name == name && matches!(origin, Origin::Flag(_)))
    }
}
