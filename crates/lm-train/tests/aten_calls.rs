//! How often a step on libtorch calls ATen, held against what Python's Trainer makes of the same model and batch, as
//! `scripts/compare/aten_calls.py` counts it. No stage of CI has libtorch; `scripts/ci_libtorch.sh` runs this, and
//!
//! `cargo test --release -p lm-train --features tch --test aten_calls -- --nocapture` prints the calls by name.
#![cfg(feature = "tch")]
// burn-tch is marked deprecated in 0.22, the last line that has it.
#![allow(deprecated)]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;
use lm_aten::Calls;
use lm_models::inputs::{HostBatch, IGNORE, Objective, Padding};
use lm_models::ops::Compute;
use lm_models::{AutoModel, ModelConfig, ModelInputs, Task};
use lm_train::optim::{Hyperparameters, Optimizer, OptimizerNames};
use lm_train::step::{StepOptions, step};

const VOCAB: usize = 100;
const BATCH: usize = 4;
const SEQ: usize = 16;

/// What looks at a tensor's memory in another way and computes nothing.
const VIEWS: &[&str] = &[
    "_reshape_alias",
    "_unsafe_view",
    "alias",
    "as_strided",
    "chunk",
    "detach",
    "expand",
    "expand_as",
    "flatten",
    "lift_fresh",
    "narrow",
    "numpy_T",
    "permute",
    "reshape",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "t",
    "transpose",
    "unbind",
    "unflatten",
    "unsqueeze",
    "view",
    "view_as",
];

/// What waits for a device: a number that the processor asks for.
const WAITS: &[&str] = &["_local_scalar_dense", "is_nonzero", "equal", "nonzero"];

/// What Python's Trainer calls in a step: torch 2.9.1, transformers 4.57.6, `adamw_torch_fused`.
struct Python {
    /// Of all functions.
    all: u64,
    /// Of those that are no views.
    computing: u64,
}

/// Two layers of it.
fn config(model_type: &str) -> ModelConfig {
    let mut config = ModelConfig::from_model_type(model_type).expect("a known type");
    // Each architecture reads those that it has.
    for (name, value) in [
        ("vocab_size", VOCAB),
        ("hidden_size", 32),
        ("num_hidden_layers", 2),
        ("num_attention_heads", 4),
        ("max_position_embeddings", 32),
        ("intermediate_size", 64),
        ("d_inner", 64),
    ] {
        config.set(name, value);
    }
    config
}

fn inputs(task: Task, device: &Device) -> ModelInputs {
    let input_ids: Vec<i32> = (0..BATCH * SEQ).map(|i| 5 + (i * 7 % (VOCAB - 5)) as i32).collect();
    let labels: Vec<i32> = match task {
        Task::Clm => input_ids.clone(),
        _ => input_ids.iter().enumerate().map(|(i, &id)| if i % 6 == 1 { id } else { IGNORE }).collect(),
    };
    // A query does not see itself, nor what comes before it.
    let perm_mask: Vec<u8> = (0..BATCH * SEQ * SEQ).map(|i| u8::from(i % SEQ <= i / SEQ % SEQ)).collect();
    let host = HostBatch {
        batch: BATCH,
        seq: SEQ,
        input_ids: &input_ids,
        attention_mask: &[1; BATCH * SEQ],
        labels: &labels,
        perm_mask: (task == Task::Plm).then_some(&perm_mask),
    };
    let objective = if task == Task::Clm { Objective::Causal } else { Objective::Masked };
    let padding = if task == Task::Plm { Padding::See } else { Padding::Drop };
    ModelInputs::new(host, objective, padding, device).expect("a batch")
}

/// ATen's functions that a piece of work calls.
fn counted<R>(work: impl FnOnce() -> R) -> (R, BTreeMap<String, u64>) {
    let calls = Calls::count().expect("a count");
    let result = work();
    let named =
        calls.finish().into_iter().filter_map(|(name, times)| Some((name.strip_prefix("aten::")?.to_owned(), times)));
    (result, named.collect())
}

fn sum(calls: &BTreeMap<String, u64>, is_one: impl Fn(&str) -> bool) -> u64 {
    calls.iter().filter(|(name, _)| is_one(name)).map(|(_, times)| times).sum()
}

/// Held by the test that counts: calls of all threads are counted.
static COUNTING: Mutex<()> = Mutex::new(());

/// Calls of the third step, when the optimizer has its state.
#[track_caller]
fn check(model_type: &str, python: &Python) {
    let _one_at_a_time = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let device = Device::libtorch();
    let config = config(model_type);
    let mut model = AutoModel::from_config(&config, 3, &device.clone().autodiff()).expect("a model");
    let hyper = Hyperparameters { weight_decay: 0.01, ..Hyperparameters::default() };
    let mut optimizer = Optimizer::new(OptimizerNames::AdamwTorch, hyper, Compute::default());
    let parameters = model.parameters().len() as u64;
    let options = StepOptions {
        learning_rate: 1e-3,
        // Small enough to clip.
        max_grad_norm: 1e-3,
        label_smoothing: 0.0,
        neftune_noise_alpha: None,
        loss_scale: 1.0,
        seed: 7,
        first_micro_batch: 0,
        rank: 0,
        ranks: 1,
        devices: 1,
        gradient_checkpointing: false,
        compute: Compute::default(),
    };
    for _ in 0..2 {
        model = step(model, &mut optimizer, &[inputs(config.family().task, &device)], &options).0;
    }
    let (inputs, of_inputs) = counted(|| inputs(config.family().task, &device));
    let (_, of_step) = counted(|| step(model, &mut optimizer, &[inputs], &options));

    println!("{model_type}: inputs {of_inputs:?}");
    let mut most: Vec<_> = of_step.iter().collect();
    most.sort_by_key(|(name, times)| (std::cmp::Reverse(**times), *name));
    most.iter().for_each(|(name, times)| println!("{times:6} {name}"));
    let (all, computing) = (sum(&of_step, |_| true), sum(&of_step, |name| !VIEWS.contains(&name)));
    let waits = sum(&of_step, |name| WAITS.contains(&name));
    println!("{model_type}: {all} calls, {computing} without views; {waits} waits");
    println!("Python's Trainer: {} calls, {} without views", python.all, python.computing);
    // On the processor the fused AdamW asks for the number of the step, once for each parameter; on a GPU it does not.
    assert!(waits <= parameters, "{model_type}: {waits} waits within a step, {parameters} parameters");
    assert!(all <= python.all && computing <= python.computing, "{model_type}: more calls than Python's Trainer");
}

#[test]
fn bert() {
    check("bert", &Python { all: 1784, computing: 1075 });
}

#[test]
fn gpt2() {
    check("gpt2", &Python { all: 1498, computing: 990 });
}

#[test]
fn xlnet() {
    check("xlnet", &Python { all: 3641, computing: 1709 });
}
