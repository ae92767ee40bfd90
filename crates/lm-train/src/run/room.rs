//! Whether a model has room in the memory that is free, known before it is built.

use anyhow::{Result, ensure};
use burn::tensor::Device;
use lm_models::ModelConfig;
use lm_models::parameters::Kind;
use lm_models::sizes::Sizes;

use crate::args::{Arguments, BaseDtype};
use crate::device;
use crate::observe::format::{count, human_size};
use crate::optim::OptimizerNames;
use crate::run::resolve::ModelSource;
use crate::sys::memory;

/// What is wrong with a configuration, or too large in it, is told before anything is read or built after it.
///
/// # Errors
/// If the model cannot be built, or has no room.
pub fn expect(args: &Arguments, source: &ModelSource, device: &Device) -> Result<()> {
    let computes = args.training.do_train || args.training.do_eval || args.inference.asked().is_some();
    if !(computes || args.beyond.plan) {
        return Ok(());
    }
    let mut config = source.config.clone();
    if let Some(size) = args.beyond.train_tokenizer {
        config.set("vocab_size", size);
    }
    expect_for(args, &config, device)
}

/// Fails if a model of this configuration can't be built, or if its parameters, with what training keeps for each of them,
/// do not fit into the memory that is free. Of a model on another device only the weights pass through this memory.
fn expect_for(args: &Arguments, config: &ModelConfig, device: &Device) -> Result<()> {
    let sizes = Sizes::of(config, device)?;
    let Some(free) = memory::available() else { return Ok(()) };
    // An adapter's base may lie in 16 bits.
    let narrow = args.adapts() && args.lora.base_dtype == BaseDtype::Bfloat16;
    let weights = sizes.values().saturating_mul(if narrow { 2 } else { 4 });
    let on_host = device::in_main_memory(device);
    // Beside an adapter's base, what is trained is next to nothing.
    let trains = (args.training.do_train || args.beyond.plan) && !args.adapts();
    let (bytes, what) = if trains && on_host {
        // As if there were no embeddings, of which an optimizer of 8 bits keeps more: this is the least that is needed.
        let state = sizes.sum(|shape| args.training.optim.state_bytes(shape, Kind::Weight));
        (weights.saturating_mul(2).saturating_add(state), "weights, gradients and optimizer")
    } else {
        (weights, "weights")
    };
    let field = || Sizes::cause(config, device).map(|(name, value)| format!("`{name}` = {value} makes "));
    ensure!(
        bytes <= free,
        "config of `{}`: {}{} parameters, which need {} for {what}, and {} of memory are free: make the model smaller, or \
         free memory{}",
        config.model_type(),
        field().unwrap_or_default(),
        count(sizes.values()),
        human_size(bytes),
        human_size(free),
        advice(args, &sizes, free).unwrap_or_default()
    );
    Ok(())
}

/// The first of the flags that take less memory by which the parameters would fit.
fn advice(args: &Arguments, sizes: &Sizes, free: u64) -> Option<String> {
    let weights = sizes.values().saturating_mul(4);
    let state = sizes.sum(|shape| OptimizerNames::Adamw8bit.state_bytes(shape, Kind::Weight));
    let pretrained = args.model.model_name_or_path.is_some();
    let ways = [
        ("--optim adamw_8bit", weights.saturating_mul(2).saturating_add(state), !args.adapts()),
        ("--use_lora", weights, !args.adapts() && pretrained),
        ("--base_dtype bfloat16", weights / 2, args.adapts()),
        ("--use_lora --base_dtype bfloat16", weights / 2, !args.adapts() && pretrained),
    ];
    let fits = ways.iter().find(|(_, bytes, possible)| *possible && *bytes <= free);
    fits.map(|(flags, bytes, _)| format!("; with {flags} they need {}", human_size(*bytes)))
}
