//! What the fuzz targets call.

pub mod targets;

/// For a target whose parser catches panics of a library, as that of tokenizers does: libFuzzer would end at each. One that
/// is not caught still ends the target.
pub fn let_panics_be_caught() {
    std::panic::set_hook(Box::new(|_| {}));
}
