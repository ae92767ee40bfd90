//! What a backend finds on this machine.

use burn::tensor::Device;

/// A device that this program can use on this machine.
pub struct Usable {
    /// What `--device` calls it.
    pub name: String,
    /// What it is, for people.
    pub what: String,
    /// Whether it is hardware made for this, which `auto` prefers to the processor.
    pub fast: bool,
    pub device: Device,
}

/// What a backend has on this machine, the best first.
#[derive(Default)]
pub struct Found {
    pub usable: Vec<Usable>,
    /// What `--device` would call it, and why it can't be used.
    pub missing: Vec<(&'static str, String)>,
}
