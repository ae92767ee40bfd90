//! How many values a model has, and how many of them are trained.

use std::fmt;

use crate::observe::format::count;

/// Numbers of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// In all parameters.
    pub all: u64,
    /// In those that are not frozen.
    pub trained: u64,
}

/// `86,567,424 parameters`, or with what is trained of them.
impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parameters", count(self.all))?;
        if self.trained == self.all {
            return Ok(());
        }
        write!(f, ", {} of them trained ({})", count(self.trained), self.share())
    }
}

impl Parameters {
    /// The share that is trained, in percent.
    pub fn share(self) -> String {
        format!("{:.2} %", 100.0 * self.trained as f64 / self.all.max(1) as f64)
    }
}
