//! A whole optimizer step of some families, 6 layers of width 384, and of BERT-base, with random weights, 8 × 128 random
//! tokens, dropout at its defaults. No files are needed.
//!
//! `cargo bench --workspace --bench step -- gpt2` runs one of them.

mod models;

use burn::tensor::Device;
use divan::Bencher;
use divan::counter::ItemsCount;
use lm_models::ops::{self, Compute};
use lm_train::keep_memory;
use lm_train::optim::{Hyperparameters, Optimizer, OptimizerNames};
use lm_train::step::{StepOptions, step};
use models::{BATCH, MODELS, SEQ, options, prepare};

fn main() {
    keep_memory("bench");
    divan::main();
}

#[divan::bench(args = MODELS, sample_count = 10, max_time = 30)]
fn fast(bencher: Bencher, model: &str) {
    run(bencher, model, false, false);
}

#[divan::bench(args = MODELS, sample_count = 10, max_time = 30)]
fn plain(bencher: Bencher, model: &str) {
    run(bencher, model, true, false);
}

#[divan::bench(args = MODELS, sample_count = 10, max_time = 30)]
fn gradient_checkpointing(bencher: Bencher, model: &str) {
    run(bencher, model, false, true);
}

fn run(bencher: Bencher, name: &str, plain: bool, gradient_checkpointing: bool) {
    let compute = Compute { plain, ..Compute::default() };
    let device = Device::flex();
    let (model, inputs) = match prepare(name, &device.clone().autodiff()) {
        Ok(prepared) => prepared,
        Err(error) => return eprintln!("{name}: {error}"),
    };
    let options = StepOptions { gradient_checkpointing, ..options(compute) };
    let mut optimizer = Optimizer::new(OptimizerNames::AdamwTorch, Hyperparameters::default(), compute);
    let mut model = Some(model);
    bencher.counter(ItemsCount::new(BATCH * SEQ)).bench_local(|| {
        let begin = model.take();
        model = ops::on_worker(&device, || begin.map(|model| step(model, &mut optimizer, &inputs, &options).0));
    });
}
