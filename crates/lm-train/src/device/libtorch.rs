//! Devices of libtorch.
// burn-tch is marked deprecated in 0.22, the last line that has it.
#![allow(deprecated)]

use std::fs;

use burn::tensor::Device;

use super::found::{Found, Usable};

/// CUDA's devices, Apple's, the processor.
pub(super) fn find() -> Found {
    let mut found = Found::default();
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    let model = model();
    for index in 0..count {
        let what = format!("{} by CUDA (libtorch)", model.as_deref().unwrap_or("NVIDIA GPU"));
        let (name, device) = (format!("libtorch:cuda:{index}"), Device::libtorch_cuda(index));
        found.usable.push(Usable { name, what, fast: true, device });
    }
    if count == 0 {
        let reason = if fs::exists("/proc/driver/nvidia/version").unwrap_or(false) {
            "there is an NVIDIA driver, but libtorch finds no CUDA device: was it installed without CUDA, or does \
             CUDA_VISIBLE_DEVICES hide them?"
        } else {
            "no NVIDIA driver is loaded"
        };
        found.missing.push(("libtorch:cuda", reason.to_owned()));
    }
    if tch::utils::has_mps() {
        let (name, what) = ("libtorch:mps".into(), "Apple GPU (libtorch)".into());
        found.usable.push(Usable { name, what, fast: true, device: Device::libtorch_mps() });
    } else {
        found.missing.push(("libtorch:mps", "only Apple's machines have it".to_owned()));
    }
    let what = format!("the processor, {} threads (libtorch)", tch::get_num_threads());
    found.usable.push(Usable { name: "libtorch:cpu".into(), what, fast: false, device: Device::libtorch() });
    found
}

pub(super) fn is_processor(device: &Device) -> bool {
    *device == Device::libtorch()
}

/// What the driver calls the GPUs, if they are all of one model: its order is not always CUDA's.
fn model() -> Option<String> {
    let mut models = Vec::new();
    for entry in fs::read_dir("/proc/driver/nvidia/gpus").ok()?.flatten() {
        let text = fs::read_to_string(entry.path().join("information")).ok()?;
        models.push(text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned());
    }
    models.dedup();
    (models.len() == 1).then(|| models.remove(0))
}
