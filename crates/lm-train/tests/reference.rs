//! Our numbers against Python's: logits, loss, every gradient and a short training run of every model folder there is.
//!
//! Folders are those of lm-models' fixtures, of `../shared/reference/models` where that exists, and of
//! `LM_REFERENCE_DIRS` (colon-separated; each a model folder or a folder of them), as `make_reference.py` writes them;
//! folders with the same files are checked once.
//! `LM_TEST_DEVICE` names the device, as `--device` does; the CPU by default.
//! Float32, 16 bits and the plain operations are checked one after the other; `LM_TEST_PRECISION` (float32, bfloat16,
//! float16) or `LM_PLAIN_OPS=1` choose one. Words are the families that are checked, or `adapters`, all if there is none:
//! `cargo test --release -p lm-train --test reference -- bert gpt2`.
//! Prints a line per folder with the largest deviations, as shares of what is allowed in brackets.

#[path = "reference/adapters.rs"]
mod adapters;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::Device;
use lm_models::inputs::{HostBatch, Objective, Padding};
use lm_models::models::FAMILIES;
use lm_models::ops::{self, Compute, Precision};
use lm_models::{AutoModel, Mode, ModelConfig, ModelInputs, Task, pretrained};
use lm_train::optim::GradientSum;
use lm_train::optim::{Hyperparameters, Optimizer, OptimizerNames};
use lm_train::schedule::Schedule;
use lm_train::step::{StepOptions, step};
use safetensors::SafeTensors;
use serde_json::Value;

/// How far from Python's float32 numbers ours may be.
struct Limits {
    /// A logit, absolutely.
    logits: f64,
    /// The loss, absolutely.
    loss: f64,
    /// A gradient, relative to its norm.
    gradient: f64,
    /// Norms of gradients and parameters below this count as this: attention is blind to the bias of its keys, so its
    /// gradient is rounding and nothing else. For gradients, it is as much of the norm of all of them together where that is
    /// above 1.
    floor: f64,
    /// A training step's loss, absolutely.
    step_loss: f64,
    /// A training step's gradient norm, relatively.
    step_norm: f64,
    /// A parameter after training, relative to its norm. Where a gradient is rounding and little else, as of the keys' biases
    /// for columns that are not turned, AdamW makes whole steps of it.
    after: f64,
    /// Factor on the loss in the backward pass.
    loss_scale: f64,
}

const FLOAT32: Limits = Limits {
    logits: 1e-4,
    loss: 1e-5,
    gradient: 1e-3,
    floor: 1e-6,
    step_loss: 2e-4,
    step_norm: 1e-3,
    after: 1e-3,
    loss_scale: 1.0,
};
/// Matrix products with 8 bits of precision. Python's own are off by as much on these folders: logits by 3.7e-2 under autocast,
/// and by 5.5e-2 where the operands of all products are rounded and nothing else, as ours are on the CPU (OLMo 2, which
/// normalises small outputs to large ones); under autocast the loss by 2.2e-3 (XLM-RoBERTa-XL, where ours on libtorch is
/// off by the same), gradients by 8.6e-2 and, in float16, 1.7e-2 (Gemma 3).
const BFLOAT16: Limits = Limits {
    logits: 6e-2,
    loss: 3e-3,
    gradient: 1e-1,
    floor: 1e-4,
    step_loss: 3e-3,
    step_norm: 2e-2,
    after: 4e-2,
    loss_scale: 1.0,
};
/// Matrix products with 11 bits of precision.
const FLOAT16: Limits = Limits {
    logits: 6e-3,
    loss: 5e-4,
    gradient: 2e-2,
    floor: 1e-4,
    step_loss: 1e-3,
    step_norm: 4e-3,
    after: 3e-2,
    loss_scale: 1024.0,
};

/// Where units are off below zero, those near it are on in one precision and off in another, and their gradients come and
/// go: in 16 bits only all gradients together are near Python's, and steps less so (torch's autocast is off by a third of
/// single gradients, and by 1.3 % of their norm, in the model of `mobilebert`).
fn has_kinks(folder: &Path, compute: Compute) -> Result<bool> {
    let config: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json"))?)?;
    // CTRL's are not said in config.json.
    let relu = config.as_object().is_some_and(|fields| fields.values().any(|value| value == "relu" || value == "ctrl"));
    Ok(relu && compute.precision != Precision::Float32)
}

/// How much further off the norm of a step may be then.
const KINKED_STEPS: f64 = 5.0;

/// What is checked on a device: float32, plain operations too, and 16 bits; `LM_TEST_PRECISION` or `LM_PLAIN_OPS` choose one of
/// them. What the GPU backend's operations come to in 16 bits depends on the adapter.
fn computes(device: &str) -> Result<Vec<Compute>> {
    let plain = std::env::var_os("LM_PLAIN_OPS").is_some_and(|value| value == "1");
    let known = [Precision::Float32, Precision::BFloat16, Precision::Float16];
    match std::env::var("LM_TEST_PRECISION") {
        Ok(name) => {
            let chosen = known.into_iter().find(|precision| precision.name() == name);
            let precision = chosen.with_context(|| format!("LM_TEST_PRECISION={name}: no such precision"))?;
            Ok(vec![Compute { precision, plain, ..Compute::default() }])
        }
        Err(_) if plain || device.starts_with("wgpu") => Ok(vec![Compute { plain, ..Compute::default() }]),
        Err(_) => {
            let plain = Compute { plain: true, ..Compute::default() };
            let fast = known.map(|precision| Compute { precision, ..Compute::default() });
            Ok(fast.into_iter().chain([plain]).collect())
        }
    }
}

fn limits(compute: Compute) -> &'static Limits {
    match compute.precision {
        Precision::Float32 => &FLOAT32,
        Precision::BFloat16 => &BFLOAT16,
        Precision::Float16 => &FLOAT16,
    }
}

fn main() -> ExitCode {
    // None of these is left out by default.
    if std::env::args().any(|word| word == "--ignored") {
        return ExitCode::SUCCESS;
    }
    let families: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    match check_all(&families) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("{failed} failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("FAILED {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Checks these families, all if none is named; how many folders failed.
fn check_all(families: &[String]) -> Result<usize> {
    let name = std::env::var("LM_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    let device = lm_train::device::open(&name).map_err(|error| anyhow!("LM_TEST_DEVICE: {error}"))?;
    lm_train::device::prepare(&name, &device, None).map_err(|error| anyhow!("LM_TEST_DEVICE: {error}"))?;
    let known = FAMILIES.iter().map(|family| family.model_type);
    let wanted: BTreeSet<&'static str> =
        known.filter(|known| families.is_empty() || families.iter().any(|name| name == known)).collect();
    // The words may be another test's.
    if wanted.is_empty() && !families.iter().any(|name| name == "adapters") {
        return Ok(0);
    }
    let mut failures = 0;
    for compute in computes(&name)? {
        println!("on {name} in {}{}", compute.precision.name(), if compute.plain { ", plain operations" } else { "" });
        let mut without = wanted.clone();
        let (mut checked, mut failed, mut others) = (0, 0, 0);
        for folder in folders() {
            let name = folder.display();
            match check(&folder, &wanted, &device.clone().autodiff(), compute) {
                Ok(Some((model_type, deviations))) => {
                    without.remove(model_type);
                    let excess = deviations.iter().any(|d| d.value.is_nan() || d.value > d.limit);
                    let columns: Vec<String> = deviations.iter().map(Deviation::to_string).collect();
                    println!("{} {name}: {}", if excess { "FAILED" } else { "ok    " }, columns.join("  "));
                    checked += 1;
                    failed += usize::from(excess);
                }
                Ok(None) => others += 1,
                Err(error) => {
                    println!("FAILED {name}: {error:#}");
                    checked += 1;
                    failed += 1;
                }
            }
        }
        for model_type in &without {
            println!("FAILED `{model_type}` has no reference folder");
        }
        println!("{} passed, {failed} failed; {others} folders of other architectures\n", checked - failed);
        failures += failed + without.len();
        if families.is_empty() || families.iter().any(|name| name == "adapters") {
            failures += adapters::check_all(&device.clone().autodiff(), compute)?;
        }
    }
    Ok(failures)
}

/// A figure and what it may be.
struct Deviation {
    what: &'static str,
    /// Where it was found.
    place: String,
    value: f64,
    limit: f64,
}

impl std::fmt::Display for Deviation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:.1e} ({:.0}%", self.what, self.value, 100.0 * self.value / self.limit)?;
        if self.value <= self.limit { write!(f, ")") } else { write!(f, " at {})", self.place) }
    }
}

impl Deviation {
    fn new(what: &'static str, limit: f64) -> Self {
        Self { what, place: String::new(), value: 0.0, limit }
    }

    /// Takes the larger one; what is no number is larger than everything.
    fn see(&mut self, value: f64, place: &str) {
        if !self.value.is_nan() && (value.is_nan() || value > self.value) {
            (self.value, self.place) = (value, place.to_owned());
        }
    }
}

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut roots = vec![root.join("crates/lm-models/tests/fixtures/models"), root.join("../shared/reference/models")];
    if let Some(more) = std::env::var_os("LM_REFERENCE_DIRS") {
        roots.extend(std::env::split_paths(&more).filter(|path| !path.as_os_str().is_empty()));
    }
    let mut found = Vec::new();
    for root in roots {
        if root.join("expected.json").is_file() {
            found.push(root);
            continue;
        }
        let Ok(entries) = std::fs::read_dir(&root) else { continue };
        let mut children: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        children.retain(|path| path.join("expected.json").is_file());
        children.sort();
        found.extend(children);
    }
    // The fixtures are some of the shared folders.
    let mut seen = HashSet::new();
    found.retain(|path| seen.insert(files(path)));
    found.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect()
}

/// Names and contents; what can't be read is told when the folder's turn comes.
fn files(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        paths.map(|path| (PathBuf::from(path.file_name().unwrap_or_default()), std::fs::read(&path).ok())).collect();
    files.sort();
    files
}

/// The arrays of expected.safetensors.
struct Expected<'a>(SafeTensors<'a>);

impl Expected<'_> {
    fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let view = self.0.tensor(name).with_context(|| name.to_owned())?;
        Ok(view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// The micro-batch with this index of the arrays under `prefix`.
    fn batch(&self, prefix: &str, index: usize) -> Result<OwnedBatch> {
        let ids = self.0.tensor(&format!("{prefix}input_ids"))?;
        let [.., batch, seq] = *ids.shape() else { anyhow::bail!("input_ids has no two dimensions") };
        let part = |name: &str, size: usize| -> Option<Vec<u8>> {
            let view = self.0.tensor(&format!("{prefix}{name}")).ok()?;
            Some(view.data().chunks_exact(size).nth(index)?.to_vec())
        };
        let ints = |name: &str| -> Option<Vec<i32>> {
            let bytes = part(name, 8 * batch * seq)?;
            Some(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as i32).collect())
        };
        let perm_mask = part("perm_mask", 4 * batch * seq * seq);
        Ok(OwnedBatch {
            batch,
            seq,
            input_ids: ints("input_ids").context("input_ids")?,
            attention_mask: ints("attention_mask").unwrap_or_else(|| vec![1; batch * seq]),
            labels: ints("labels").context("labels")?,
            perm_mask: perm_mask
                .map(|bytes| bytes.as_chunks().0.iter().map(|b| u8::from(f32::from_le_bytes(*b) != 0.0)).collect()),
        })
    }
}

struct OwnedBatch {
    batch: usize,
    seq: usize,
    input_ids: Vec<i32>,
    attention_mask: Vec<i32>,
    labels: Vec<i32>,
    perm_mask: Option<Vec<u8>>,
}

impl OwnedBatch {
    fn inputs(&self, objective: Objective, padding: Padding, device: &Device) -> Result<ModelInputs> {
        let attention_mask: Vec<u8> = self.attention_mask.iter().map(|&mask| mask as u8).collect();
        let host = HostBatch {
            batch: self.batch,
            seq: self.seq,
            input_ids: &self.input_ids,
            attention_mask: &attention_mask,
            labels: &self.labels,
            perm_mask: self.perm_mask.as_deref(),
        };
        Ok(ModelInputs::new(host, objective, padding, device)?)
    }
}

/// The architecture of a folder and all deviations; none if it is not one that is wanted.
fn check(
    folder: &Path,
    wanted: &BTreeSet<&'static str>,
    device: &Device,
    compute: Compute,
) -> Result<Option<(&'static str, Vec<Deviation>)>> {
    let facts: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json"))?)?;
    let model_type = facts["model_type"].as_str().context("model_type")?;
    let Some(&model_type) = wanted.get(model_type) else { return Ok(None) };
    let bytes = std::fs::read(folder.join("expected.safetensors"))?;
    let expected = Expected(SafeTensors::deserialize(&bytes)?);
    let config = ModelConfig::from_path(folder)?;
    let task = config.family().task;
    let loaded = pretrained::load(folder, &config, config.vocab_size(), 0, device)?;
    ensure!(loaded.report.missing.is_empty() && loaded.report.unexpected.is_empty(), "{:?}", loaded.report);
    let model = loaded.model;

    let batch = expected.batch("", 0)?;
    let (objective, padding) = match task {
        Task::Mlm => (Objective::Masked, Padding::Drop),
        Task::Clm => (Objective::Causal, Padding::Drop),
        Task::Plm => (Objective::Masked, Padding::See),
    };
    let mut deviations = Vec::new();
    deviations.push(logits(&model, &batch, &expected, device, compute)?);
    let (loss, gradients) = loss_and_gradients(&model, &batch.inputs(objective, padding, device)?, compute);
    let mut deviation = Deviation::new("loss", limits(compute).loss);
    deviation.see((loss - facts["loss"].as_f64().context("loss")?).abs(), "training");
    // Padding that stays in place changes nothing.
    let (masked, _) = loss_and_gradients(&model, &batch.inputs(objective, Padding::Mask, device)?, compute);
    deviation.see((masked - facts["loss"].as_f64().context("loss")?).abs(), "padding kept");
    deviations.push(deviation);
    let kinks = has_kinks(folder, compute)?;
    deviations.push(compare_gradients(&model, gradients, &expected, kinks, compute)?);
    let mut trained = training(model, &facts["train"], &expected, (objective, padding), device, compute)?;
    trained[1].limit *= if kinks { KINKED_STEPS } else { 1.0 };
    deviations.extend(trained);
    Ok(Some((model_type, deviations)))
}

/// Every position's logits, those of padding included.
fn logits(
    model: &AutoModel,
    batch: &OwnedBatch,
    expected: &Expected,
    device: &Device,
    compute: Compute,
) -> Result<Deviation> {
    let everywhere = OwnedBatch {
        labels: vec![0; batch.labels.len()],
        input_ids: batch.input_ids.clone(),
        attention_mask: batch.attention_mask.clone(),
        perm_mask: batch.perm_mask.clone(),
        ..*batch
    };
    let inputs = everywhere.inputs(Objective::Masked, Padding::Mask, device)?;
    let logits = model.decoder().logits(model.forward(&inputs, &Mode::eval(compute)), compute);
    let (ours, theirs) = (logits.into_data(), expected.floats("logits")?);
    ensure!(ours.num_elements() == theirs.len(), "{} logits, expected {}", ours.num_elements(), theirs.len());
    let mut deviation = Deviation::new("logits", limits(compute).logits);
    for (index, (ours, theirs)) in ours.iter::<f64>().zip(theirs).enumerate() {
        deviation.see((ours - f64::from(theirs)).abs(), &format!("value {index}"));
    }
    Ok(deviation)
}

fn loss_and_gradients(model: &AutoModel, inputs: &ModelInputs, compute: Compute) -> (f64, GradientSum) {
    let rows = model.forward(inputs, &Mode::train(compute, 0, 0, None));
    let count = inputs.host_predicted.len() as f64;
    let factor = limits(compute).loss_scale / count;
    let loss = ops::cross_entropy(rows, &model.decoder(), inputs.targets.clone(), 0.0, factor, compute);
    let mut gradients = GradientSum::default();
    let (value, of_batch) = loss.backward();
    gradients.add(model, of_batch);
    (value.into_data().iter::<f64>().sum::<f64>() / count, gradients)
}

fn compare_gradients(
    model: &AutoModel,
    gradients: GradientSum,
    expected: &Expected,
    together: bool,
    compute: Compute,
) -> Result<Deviation> {
    let mut deviation = Deviation::new("gradients", limits(compute).gradient);
    let (mut names, mut all_ours, mut all_theirs) = (0, Vec::new(), Vec::new());
    let all: Vec<&str> = expected.0.names().into_iter().filter(|name| name.starts_with("grad.")).collect();
    let squares = all.iter().map(|name| Ok(expected.floats(name)?.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>()));
    let floor = limits(compute).floor * squares.sum::<Result<f64>>()?.sqrt().max(1.0);
    for (info, gradient) in model.parameters().into_iter().zip(gradients.into_inner()) {
        let name = format!("grad.{}", info.name);
        let ours = gradient.map(|g| (g / limits(compute).loss_scale).into_data().iter().collect());
        let ours: Vec<f32> = ours.unwrap_or_default();
        // A parameter that the loss does not touch has no gradient in torch.
        let theirs = if expected.0.tensor(&name).is_ok() { expected.floats(&name)? } else { vec![0.0; ours.len()] };
        names += usize::from(expected.0.tensor(&name).is_ok());
        let ours = if ours.is_empty() { vec![0.0; theirs.len()] } else { ours };
        if together {
            all_ours.extend(ours);
            all_theirs.extend(theirs);
        } else {
            deviation.see(relative(&ours, &theirs, floor), &info.name);
        }
    }
    deviation.see(relative(&all_ours, &all_theirs, floor), "all together");
    let known = all.len();
    ensure!(names == known, "{known} gradients expected, {names} of them belong to parameters of ours");
    Ok(deviation)
}

/// ‖ours − theirs‖ / ‖theirs‖; different lengths are no number.
fn relative(ours: &[f32], theirs: &[f32], floor: f64) -> f64 {
    if ours.len() != theirs.len() {
        return f64::NAN;
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut ours.iter().zip(theirs).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut theirs.iter().map(|v| f64::from(*v))).max(floor)
}

/// The short training run, by the optimizer, the schedule and the step that real runs use.
fn training(
    mut model: AutoModel,
    facts: &Value,
    expected: &Expected,
    (objective, padding): (Objective, Padding),
    device: &Device,
    compute: Compute,
) -> Result<Vec<Deviation>> {
    let hyper = |name: &str| facts["hyper"][name].as_f64().with_context(|| format!("train.hyper.{name}"));
    let list = |name: &str| -> Result<Vec<f64>> {
        let values = facts[name].as_array().with_context(|| format!("train.{name}"))?;
        values.iter().map(|value| value.as_f64().with_context(|| format!("train.{name}"))).collect()
    };
    let without_decay: Vec<String> = model.parameters().into_iter().filter(|i| !i.decays).map(|i| i.name).collect();
    let mut ours = without_decay;
    ours.sort();
    let theirs: Vec<String> = serde_json::from_value(facts["parameters_without_decay"].clone())?;
    ensure!(ours == theirs, "parameters without decay: ours {ours:?}, theirs {theirs:?}");

    let (steps, accumulate) = (hyper("steps")? as u64, hyper("accumulate")? as usize);
    let kind = serde_json::from_value(facts["hyper"]["lr_scheduler_type"].clone()).context("lr_scheduler_type")?;
    let rate = hyper("learning_rate")?;
    let schedule = Schedule::new(kind, rate, hyper("warmup_steps")? as u64, steps, &serde_json::Map::new())?;
    let mut optimizer = Optimizer::new(
        OptimizerNames::AdamwTorch,
        Hyperparameters {
            adam_beta1: hyper("adam_beta1")?,
            adam_beta2: hyper("adam_beta2")?,
            adam_epsilon: hyper("adam_epsilon")?,
            weight_decay: hyper("weight_decay")?,
        },
        compute,
    );
    let (losses, norms, rates) = (list("losses")?, list("grad_norms")?, list("learning_rates")?);
    let mut loss = Deviation::new("step losses", limits(compute).step_loss);
    let mut norm = Deviation::new("step norms", limits(compute).step_norm);
    for index in 0..steps {
        let options = StepOptions {
            learning_rate: schedule.rate(index),
            max_grad_norm: hyper("max_grad_norm")?,
            label_smoothing: 0.0,
            neftune_noise_alpha: None,
            loss_scale: limits(compute).loss_scale,
            seed: 0,
            first_micro_batch: index * accumulate as u64,
            rank: 0,
            ranks: 1,
            devices: 1,
            gradient_checkpointing: false,
            compute,
        };
        let place = format!("step {}", index + 1);
        let theirs = rates[index as usize];
        ensure!(
            (options.learning_rate - theirs).abs() <= 1e-9 * theirs.abs(),
            "{place}: learning rate {}, expected {theirs}",
            options.learning_rate
        );
        let batches = (0..accumulate)
            .map(|i| expected.batch("train.", index as usize * accumulate + i)?.inputs(objective, padding, device));
        let (stepped, outcome) = step(model, &mut optimizer, &batches.collect::<Result<Vec<_>>>()?, &options);
        model = stepped;
        loss.see((outcome.loss - losses[index as usize]).abs(), &place);
        let theirs = norms[index as usize];
        norm.see((outcome.grad_norm - theirs).abs() / theirs.max(limits(compute).floor), &place);
    }

    let trained = model.snapshot().into_iter().map(|parameter| {
        let values: Vec<f32> = parameter.tensor.into_data().iter().collect();
        (parameter.info.name, values)
    });
    let trained: BTreeMap<String, Vec<f32>> = trained.collect();
    let mut after = Deviation::new("trained weights", limits(compute).after);
    for name in expected.0.names() {
        if let Some(parameter) = name.strip_prefix("after.") {
            let ours = trained.get(parameter).with_context(|| format!("no parameter {parameter}"))?;
            after.see(relative(ours, &expected.floats(name)?, limits(compute).floor), parameter);
        }
    }
    Ok(vec![loss, norm, after])
}
