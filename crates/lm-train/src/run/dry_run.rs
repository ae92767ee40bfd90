//! `--plan`: what a run will take, without running it.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use lm_data::Loader;
use lm_data::collate::Split;
use lm_models::AutoModel;
use lm_models::ops;
use lm_models::parameters::{ParameterInfo, Snapshot};

use crate::args::Arguments;
use crate::checkpoint::{CheckpointSize, available_space, checkpoints_added, values};
use crate::device::precision;
use crate::observe::format::{count, duration, human_size};
use crate::optim::{Hyperparameters, Optimizer};
use crate::run::adapter;
use crate::run::counts::Parameters;
use crate::run::data::Data;
use crate::run::resolve::{self, ModelSource};
use crate::sys::memory;
use crate::train::batches::to_inputs;
use crate::train::cadence;
use crate::train::plan::Plan;
use crate::train::samples::{self, Samples};
use crate::train::step::{evaluate, step};

/// Steps timed for the estimate; the first one, which warms up, is not counted.
const TIMED_STEPS: u64 = 3;

/// Prints parameters, memory, steps, tokens, checkpoints, disk and an estimate of the time.
///
/// # Errors
/// If the model cannot be built, or the examples cannot be read.
pub fn print(args: &Arguments, source: &ModelSource, data: &Data, devices: &[Device]) -> Result<()> {
    let training = &args.training;
    let dtype = resolve::dtype(args, source)?;
    let adapter = adapter::config(args, &source.config)?;
    let model = resolve::model(args, source, adapter.as_ref(), dtype, &devices[0].clone().autodiff())?;
    let parameters = model.parameters();
    let trained = || parameters.iter().filter(|info| info.trainable);
    let number = Parameters { all: values(&parameters), trained: values(trained()) };
    let optimizer_bytes: u64 = trained().map(|info| training.optim.state_bytes(&info.shape, info.kind)).sum();
    let narrow = model.in_16_bits();
    let bytes = |info: &ParameterInfo| info.len() as u64 * if narrow.contains(&info.name) { 2 } else { 4 };
    let weights: u64 = parameters.iter().map(bytes).sum();
    let mut out = io::stdout().lock();
    writeln!(out, "model        {} with {number}", source.config.family().class)?;
    writeln!(
        out,
        "memory       {} weights + {} gradients + {} optimizer, activations besides",
        human_size(weights),
        human_size(4 * number.trained),
        human_size(optimizer_bytes)
    )?;
    let Some(loader) = data.train_loader()? else {
        let length = data.config.length;
        writeln!(out, "data         streamed, {length} tokens per example at most: steps as --max_steps says")?;
        return Ok(());
    };
    let plan = Plan::new(args, Some(loader.batches_per_epoch()), String::new())?;
    print_length(&mut out, &plan, &loader)?;
    let size = CheckpointSize::new(&parameters, adapter.is_some(), plan.optimizer, dtype, plan.save_only_model);
    print_disk(&mut out, &plan, size, &training.output_dir)?;
    let optimizer = Optimizer::new(plan.optimizer, Hyperparameters::default(), plan.step.compute);
    let mut rehearsal = Rehearsal { plan: &plan, loader: &loader, devices, model: Some(model), optimizer };
    rehearsal.samples(args, data)?;
    print_time(&mut out, &mut rehearsal)?;
    rehearsal.other_parts(args, data, &parameters)?;
    if let Some(peak) = memory::peak() {
        writeln!(out, "peak memory  {}", human_size(peak))?;
    }
    Ok(())
}

/// Examples, tokens, steps and epochs.
fn print_length(out: &mut impl Write, plan: &Plan, loader: &Loader) -> Result<()> {
    let batch_size = plan.fingerprint.per_device_train_batch_size as u64;
    let per_step = batch_size.saturating_mul(plan.lengths.batches_per_step);
    let (store, tokens) = (loader.store(), loader.store().total_tokens()?);
    let (examples, size) = (count(store.len() as u64), human_size(store.bytes()));
    writeln!(out, "data         {examples} examples, {} tokens, {size} in the cache", count(tokens))?;
    let epochs = plan.lengths.epoch(plan.max_steps, plan.max_steps);
    let seen = count((tokens as f64 * epochs) as u64);
    let steps = count(plan.max_steps);
    writeln!(out, "steps        {steps} of {per_step} examples: {epochs:.2} epochs, about {seen} tokens")?;
    Ok(())
}

/// Checkpoints, and the room that they need.
fn print_disk(out: &mut impl Write, plan: &Plan, size: CheckpointSize, output_dir: &Path) -> Result<()> {
    let (saves, limit) = (cadence::saves_after(plan, 0), plan.checkpoints_kept());
    let kept = limit.map_or("all".to_owned(), |limit| format!("the newest {limit}"));
    writeln!(out, "checkpoints  {saves} of {}, {kept} kept", human_size(size.checkpoint()))?;
    let (most, free) = (size.run(checkpoints_added(saves, limit, 0)), available_space(output_dir)?);
    writeln!(out, "disk         {} at most, {} free", human_size(most), human_size(free))?;
    Ok(())
}

/// The time that a few steps take, and all of them would.
fn print_time(out: &mut impl Write, rehearsal: &mut Rehearsal) -> Result<()> {
    let steps = rehearsal.plan.max_steps;
    let mut seconds = Vec::new();
    for index in 0..TIMED_STEPS.min(steps) {
        let begin = Instant::now();
        rehearsal.step(index)?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let timed = &seconds[usize::from(seconds.len() > 1)..];
    let mean = timed.iter().sum::<f64>() / timed.len().max(1) as f64;
    let all = duration(mean * steps as f64);
    writeln!(out, "time         about {all} ({mean:.2} s per step, {} steps timed)", timed.len())?;
    Ok(())
}

/// Each part of a run once, for its time and its memory. Nothing is learned: the rate is zero.
struct Rehearsal<'a> {
    plan: &'a Plan,
    loader: &'a Loader,
    devices: &'a [Device],
    /// There but while a step has it.
    model: Option<AutoModel>,
    optimizer: Optimizer,
}

impl Rehearsal<'_> {
    fn step(&mut self, index: u64) -> Result<()> {
        let (plan, first) = (self.plan, self.plan.lengths.batches_before(index));
        let inputs = (0..plan.lengths.batches_of(index)).zip(self.devices.iter().cycle()).map(|(i, device)| {
            let place = self.loader.position(first + i);
            Ok(to_inputs(&self.loader.batch(place.epoch, place.index)?, plan.task, device)?)
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let (model, optimizer) = (self.model.take(), &mut self.optimizer);
        let compute = || model.map(|model| step(model, optimizer, &inputs, &plan.step).0);
        self.model = match self.devices {
            [device] => ops::on_worker(device, compute),
            _ => compute(),
        };
        Ok(())
    }

    /// What the model fills in or continues before the first step.
    fn samples(&self, args: &Arguments, data: &Data) -> Result<()> {
        let Some(model) = &self.model else { return Ok(()) };
        let collator = data.collator(Split::Eval)?;
        let examples = || data.first_examples(samples::CANDIDATES);
        let samples = Samples::new(args, &data.tokenizer, &*collator, examples)?;
        samples.made(&model.valid(), &self.devices[0], self.plan.step.compute, 0)?;
        Ok(())
    }

    /// What takes memory besides: an evaluation, a checkpoint that a thread writes while training goes on and still writes at
    /// the end, and the model of the end, of both of which one tensor after the other is copied.
    fn other_parts(&mut self, args: &Arguments, data: &Data, parameters: &[ParameterInfo]) -> Result<()> {
        let Some(model) = &self.model else { return Ok(()) };
        if args.training.do_eval {
            let evaluation = data.evaluation(&self.devices[0], precision::of_evaluation(args))?;
            let inputs = to_inputs(&evaluation.loader.batch(0, 0)?, self.plan.task, &evaluation.device)?;
            evaluate(&model.valid(), &inputs, evaluation.label_smoothing, evaluation.compute);
        }
        // The largest, since two threads copy at their own pace.
        let copy = |saved: &[Snapshot], all: bool| {
            let copied = saved.iter().filter(|saved| all || saved.info.trainable);
            copied.max_by_key(|saved| saved.tensor.shape().num_elements()).map(|saved| saved.tensor.to_data())
        };
        let saves = cadence::saves_after(self.plan, 0);
        let checkpoint = (saves > 0).then(|| (model.snapshot(), self.optimizer.state(parameters)));
        let written = checkpoint.as_ref().map(|(weights, _)| copy(weights, !args.adapts()));
        if saves > 1 {
            self.step(0)?;
        }
        let Some(model) = &self.model else { return Ok(()) };
        let last = if args.lora.merge_lora { model.valid().merge() } else { model.clone() };
        drop((copy(&last.snapshot(), !args.writes_adapter()), written, checkpoint));
        Ok(())
    }
}
