//! `--device`: which of the backends compiled into this binary computes.

use burn::tensor::Device;

/// A device that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("--device {name}: {reason}; --device list shows what this program can use")]
pub struct DeviceError {
    name: String,
    reason: &'static str,
}

/// What a user may name, what it is, and whether this binary has it.
const DEVICES: &[(&str, &str, bool)] = &[
    ("cpu", "the processor, in pure Rust (flex)", cfg!(feature = "flex")),
    ("libtorch", "not in this build", false),
    ("wgpu", "not in this build", false),
];

/// The device of this name; `auto` takes the fastest there is.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    let fail = |reason| Err(DeviceError { name: name.to_owned(), reason });
    match name {
        #[cfg(feature = "flex")]
        "auto" | "cpu" | "flex" => Ok(Device::flex()),
        _ if DEVICES.iter().any(|(known, ..)| name.starts_with(known)) => {
            fail("this build does not include that backend")
        }
        _ => fail("no such device"),
    }
}

/// The text of `--device list`.
pub fn list() -> String {
    let line = |(name, what, usable): &(&str, &str, bool)| {
        format!("{name:10} {}  {what}\n", if *usable { "usable    " } else { "not usable" })
    };
    DEVICES.iter().map(line).collect()
}
