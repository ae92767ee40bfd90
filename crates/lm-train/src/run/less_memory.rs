//! What becomes of a run for which there is too little memory: `--auto_find_batch_size` begins again with smaller batches,
//! `--plan` with whatever else takes less, and says so.

use burn::tensor::Device;

use crate::args::{Arguments, BaseDtype};
use crate::device;
use crate::optim::OptimizerNames;
use crate::sys::memory;
use crate::sys::panics::Batches;
use crate::sys::restart::Armed;

/// How the arguments share out the examples of a step.
pub fn batches(args: &Arguments) -> Batches {
    let training = &args.training;
    Batches { size: training.per_device_train_batch_size, count: training.gradient_accumulation_steps }
}

/// The same arguments with a step that is shared out like this.
pub fn with_batches(args: &Arguments, batches: Batches) -> Arguments {
    let mut args = args.clone();
    args.training.per_device_train_batch_size = batches.size;
    args.training.gradient_accumulation_steps = batches.count;
    args
}

/// `--auto_find_batch_size`. Where the processor computes, nobody reports a lack of memory but the system that refuses it:
/// then the program begins again.
pub fn begin_again_with_smaller_batches(args: &Arguments, device: &Device) -> Option<Armed> {
    if !args.training.auto_find_batch_size {
        return None;
    }
    let (now, smaller) = (batches(args), batches(args).smaller()?);
    let line = format!("{}: warning: {}", args.task.binary(), now.too_large(smaller));
    arm(device, &flags_of(args, smaller), line)
}

/// `--plan`: what does not fit is planned again with one more of the flags that take less memory.
pub fn plan_again_with_less(args: &Arguments, device: &Device) -> Option<Armed> {
    let flags = thriftier(args)?;
    let line = format!("{}: --plan: too little memory; with {} besides:", args.task.binary(), flags.join(" "));
    arm(device, &flags, line)
}

/// From here on the system refuses before it would have to end a program.
fn arm(device: &Device, flags: &[String], line: String) -> Option<Armed> {
    if !device::is_flex(device) {
        return None;
    }
    memory::refuse_beyond_available();
    Some(Armed::new(flags, line))
}

fn flags_of(args: &Arguments, batches: Batches) -> Vec<String> {
    // Its old name counts before it.
    let old = args.training.per_gpu_train_batch_size.is_some();
    let size = if old { "per_gpu_train_batch_size" } else { "per_device_train_batch_size" };
    vec![format!("--{size}={}", batches.size), format!("--gradient_accumulation_steps={}", batches.count)]
}

/// Flags by which a run takes less memory, of those that it does not have: what changes no figure first, then what changes
/// few, and last what trains something else.
fn thriftier(args: &Arguments) -> Option<Vec<String>> {
    let flag = |text: &str| Some(vec![text.to_owned()]);
    if !args.training.gradient_checkpointing {
        return flag("--gradient_checkpointing");
    }
    if let Some(smaller) = batches(args).smaller() {
        return Some(flags_of(args, smaller));
    }
    if args.adapts() {
        return if args.lora.base_dtype == BaseDtype::Float32 { flag("--base_dtype=bfloat16") } else { None };
    }
    match args.training.optim.canonical() {
        OptimizerNames::AdamwTorch => flag("--optim=adamw_8bit"),
        _ if args.model.model_name_or_path.is_some() => flag("--use_lora"),
        _ => None,
    }
}
