//! `--plan`: what a run will take, without running it.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use lm_data::Loader;

use crate::args::Arguments;
use crate::disk::{CheckpointPlan, CheckpointSize, available_space, human_size};
use crate::observe::format::{count, duration};
use crate::optim::{Hyperparameters, Optimizer};
use crate::run;
use crate::run::resolve::{self, ModelSource};
use crate::sys::memory;
use crate::train::batches::{TrainData, to_inputs};
use crate::train::step::step;

/// What is known of the training set.
pub struct TrainFacts {
    /// The stored examples; none of a stream.
    pub loader: Option<Loader>,
    /// Tokens of an example at most.
    pub length: usize,
}

/// Steps timed for the estimate; the first one, which warms up, is not counted.
const TIMED_STEPS: u64 = 3;

/// Prints parameters, memory, steps, tokens, checkpoints, disk and an estimate of the time.
pub fn print(
    args: &Arguments,
    source: &ModelSource,
    data: &TrainFacts,
    vocab_in_checkpoint: usize,
    devices: &[Device],
) -> Result<()> {
    let training = &args.training;
    let device = devices[0].clone().autodiff();
    let mut model = resolve::model(args, source, vocab_in_checkpoint, resolve::dtype(args, source)?, &device)?;
    let parameters = model.parameters();
    let number: u64 = parameters.iter().map(|info| info.len() as u64).sum();
    let kind = training.optim;
    let optimizer_bytes: u64 = parameters.iter().map(|info| kind.state_bytes(&info.shape)).sum();
    let mut out = io::stdout().lock();
    writeln!(out, "model        {} with {} parameters", source.config.family().class, count(number))?;
    writeln!(
        out,
        "memory       {} weights + {} gradients + {} optimizer, activations besides",
        human_size(4 * number),
        human_size(4 * number),
        human_size(optimizer_bytes)
    )?;
    let Some(loader) = &data.loader else {
        writeln!(out, "data         streamed, {} tokens per example at most: steps as --max_steps says", data.length)?;
        return Ok(());
    };
    let plan = run::training_plan(args, &TrainData::Stored(loader.clone()), String::new())?;
    let per_step = (training.per_device_train_batch_size as u64).saturating_mul(plan.lengths.batches_per_step);
    let tokens = loader.store().total_tokens()?;
    writeln!(out, "data         {} examples, {} tokens", count(loader.store().len() as u64), count(tokens))?;
    let epochs = plan.lengths.epoch(plan.max_steps, plan.max_steps);
    writeln!(
        out,
        "steps        {} of {} examples: {:.2} epochs, about {} tokens",
        count(plan.max_steps),
        per_step,
        epochs,
        count((tokens as f64 * epochs) as u64)
    )?;
    let saves = plan.saves_after(0);
    let disk = CheckpointPlan {
        size: CheckpointSize::new(&parameters, kind, resolve::dtype(args, source)?, training.save_only_model),
        saves,
        limit: plan.checkpoints_kept(training.checkpoint_limit()),
        existing: 0,
    };
    writeln!(
        out,
        "checkpoints  {saves} of {}, {} kept",
        human_size(disk.size.checkpoint()),
        disk.limit.map_or("all".to_owned(), |limit| format!("the newest {limit}"))
    )?;
    let parent = training.output_dir.ancestors().find(|path| path.exists()).unwrap_or(std::path::Path::new("."));
    writeln!(out, "disk         {} at most, {} free", human_size(disk.bytes()), human_size(available_space(parent)?))?;

    let mut optimizer = Optimizer::new(kind, Hyperparameters::default(), plan.step.compute);
    let mut seconds = Vec::new();
    for index in 0..TIMED_STEPS.min(plan.max_steps) {
        let begin = Instant::now();
        let first = plan.lengths.batches_before(index);
        let inputs = (0..plan.lengths.batches_of(index)).zip(devices.iter().cycle()).map(|(i, device)| {
            let place = loader.position(first + i);
            Ok(to_inputs(&loader.batch(place.epoch, place.index)?, args.task, device)?)
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        (model, _) = step(model, &mut optimizer, &inputs, &plan.step);
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let timed = &seconds[usize::from(seconds.len() > 1)..];
    let mean = timed.iter().sum::<f64>() / timed.len().max(1) as f64;
    writeln!(
        out,
        "time         about {} ({mean:.2} s per step, {} steps timed)",
        duration(mean * plan.max_steps as f64),
        timed.len()
    )?;
    if let Some(peak) = memory::peak() {
        writeln!(out, "peak memory  {} in these steps", human_size(peak))?;
    }
    Ok(())
}
