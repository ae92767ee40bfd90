//! `--bf16`, `--fp16`, `--bf16_full_eval`, `--fp16_full_eval`, `--tf32` and moments of 8 bits: what the arguments ask for, and whether the
//! device can.

use burn::tensor::{DType, Device};
use lm_models::ops::{Compute, Precision};

use crate::args::{ArgsError, Arguments, BaseDtype};
use crate::device;
use crate::optim::OptimizerNames;

/// How training computes, and evaluation while it goes on.
pub fn of_training(args: &Arguments) -> Compute {
    let precision = match (args.training.bf16, args.training.fp16) {
        (true, _) => Precision::BFloat16,
        (_, true) => Precision::Float16,
        _ => Precision::Float32,
    };
    Compute {
        precision,
        plain: args.beyond.plain_ops || plain_ops_in_environment(),
        narrow_saved: args.lora.base_dtype == BaseDtype::Bfloat16,
    }
}

/// How the evaluation computes that does not belong to training.
pub fn of_evaluation(args: &Arguments) -> Compute {
    let training = of_training(args);
    let precision = match (args.training.bf16_full_eval, args.training.fp16_full_eval) {
        (true, _) => Precision::BFloat16,
        (_, true) => Precision::Float16,
        _ => training.precision,
    };
    Compute { precision, ..training }
}

/// `LM_PLAIN_OPS=1`, which stands for `--plain_ops`.
fn plain_ops_in_environment() -> bool {
    std::env::var_os("LM_PLAIN_OPS").is_some_and(|value| value == "1")
}

/// Whether the device computes in what the arguments ask for.
pub fn check(args: &Arguments, device: &Device) -> Result<(), ArgsError> {
    let training = &args.training;
    let halves = [
        (training.bf16, "bf16", Precision::BFloat16),
        (training.fp16, "fp16", Precision::Float16),
        (training.bf16_full_eval, "bf16_full_eval", Precision::BFloat16),
        (training.fp16_full_eval, "fp16_full_eval", Precision::Float16),
    ];
    for (_, flag, precision) in halves.into_iter().filter(|(asked, ..)| *asked) {
        if !device.supports_dtype(precision.dtype()) {
            return Err(ArgsError::Rule(format!(
                "--{flag}: {} has no arithmetic in {}; leave the flag out, or name another --device",
                args.beyond.device,
                precision.name()
            )));
        }
        if device::is_flex(device) {
            match precision {
                Precision::BFloat16 if multiplies_bfloat16() => {}
                Precision::BFloat16 => tracing::warn!(
                    "--{flag}: this processor has no instructions for bfloat16: rounded to it, but no faster than float32"
                ),
                _ => tracing::warn!(
                    "--{flag}: the CPU backend rounds to {} and is slower than in float32",
                    precision.name()
                ),
            }
        }
    }
    if args.lora.base_dtype == BaseDtype::Bfloat16 && !device.supports_dtype(DType::BF16) {
        return Err(ArgsError::Rule(format!(
            "--base_dtype bfloat16: {} has no such tensors; leave it out, or name another --device",
            args.beyond.device
        )));
    }
    if training.optim.canonical() == OptimizerNames::Adamw8bit && !device.supports_dtype(DType::U8) {
        return Err(ArgsError::Rule(format!(
            "--optim {}: {} has no integers of 8 bits; take adamw_torch, or name another --device",
            training.optim, args.beyond.device
        )));
    }
    if training.tf32 == Some(true) {
        if !has_tensor_float(device) {
            return Err(ArgsError::Rule(
                "--tf32: TensorFloat-32 is a mode of NVIDIA's GPUs that only libtorch offers here: name --device libtorch:cuda".into(),
            ));
        }
        if !tensor_float_is_on() {
            return Err(ArgsError::Rule(format!(
                "--tf32: libtorch reads it from the environment when it is loaded: start with {TENSOR_FLOAT_VARIABLE}=1"
            )));
        }
    }
    if training.tf32 == Some(false) && has_tensor_float(device) && tensor_float_is_on() {
        return Err(ArgsError::Rule(format!(
            "--tf32 false: the environment has {TENSOR_FLOAT_VARIABLE}=1; leave that out"
        )));
    }
    Ok(())
}

/// Whether this processor gains by products in bfloat16.
fn multiplies_bfloat16() -> bool {
    #[cfg(feature = "flex")]
    let found = lm_models::ops::bfloat16_instructions().is_some();
    #[cfg(not(feature = "flex"))]
    let found = false;
    found
}

fn tensor_float_is_on() -> bool {
    std::env::var_os(TENSOR_FLOAT_VARIABLE).is_some_and(|value| value == "1")
}

/// Read by ATen's Context when the library is loaded; there is no call for it in the `tch` crate.
const TENSOR_FLOAT_VARIABLE: &str = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE";

// burn-tch is marked deprecated in 0.22, the last line that has it.
#[cfg(feature = "tch")]
#[allow(deprecated)]
fn has_tensor_float(device: &Device) -> bool {
    use burn::backend::{DispatchDevice, LibTorchDevice};
    matches!(device.as_dispatch(), DispatchDevice::LibTorch(LibTorchDevice::Cuda(_)))
}

#[cfg(not(feature = "tch"))]
fn has_tensor_float(_: &Device) -> bool {
    false
}
