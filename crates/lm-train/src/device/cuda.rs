//! Burn's own CUDA backend.

use burn::tensor::Device;

use super::found::{Found, Usable};

/// The first CUDA device, never taken by `auto`.
pub(super) fn find() -> Found {
    let what = "Burn's own CUDA backend, untested".into();
    let usable = Usable { name: "cuda:0".into(), what, fast: false, device: Device::cuda(0usize) };
    Found { usable: vec![usable], missing: Vec::new() }
}
