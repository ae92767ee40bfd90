//! What further threads bring: whole optimizer steps, by turns on one thread and on all, in one process, so that a machine
//! whose speed changes does not change the ratio.
//!
//! `cargo bench --workspace --bench threads -- bert` measures one of the models.

mod models;

use std::env::args;
use std::error::Error;
use std::time::Instant;

use burn::tensor::Device;
use lm_models::ops::{self, Compute};
use lm_train::keep_memory;
use lm_train::optim::{Hyperparameters, Optimizer, OptimizerNames};
use lm_train::step::step;
use models::{BATCH, MODELS, SEQ, options, prepare};

const ROUNDS: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    keep_memory("bench");
    // Cargo passes `--bench`.
    let asked: Vec<String> = args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let threads = rayon::current_num_threads();
    println!("| {BATCH} × {SEQ} tokens | one thread, s | {threads} threads, s | ratio | range |");
    println!("|---|---|---|---|---|");
    for name in MODELS.iter().filter(|name| asked.is_empty() || asked.iter().any(|asked| asked == *name)) {
        measure(name, threads)?;
    }
    Ok(())
}

fn measure(name: &str, threads: usize) -> Result<(), Box<dyn Error>> {
    let compute = Compute::default();
    let device = Device::flex();
    let (mut model, inputs) = prepare(name, &device.clone().autodiff())?;
    let options = options(compute);
    let mut optimizer = Optimizer::new(OptimizerNames::AdamwTorch, Hyperparameters::default(), compute);
    let pools = [1, threads].map(|count| rayon::ThreadPoolBuilder::new().num_threads(count).build());
    let [one, all] = pools;
    let pools = [one?, all?];
    let mut times = [Vec::new(), Vec::new()];
    // The first round only warms up.
    for round in 0..=ROUNDS {
        for (pool, times) in pools.iter().zip(&mut times) {
            let begin = Instant::now();
            model = pool.install(|| ops::on_worker(&device, || step(model, &mut optimizer, &inputs, &options).0));
            if round > 0 {
                times.push(begin.elapsed().as_secs_f64());
            }
        }
    }
    let mut ratios: Vec<f64> = times[0].iter().zip(&times[1]).map(|(one, all)| one / all).collect();
    let [one, all] = times.each_mut().map(|times| median(times));
    let ratio = median(&mut ratios);
    println!("| {name} | {one:.3} | {all:.3} | {ratio:.2} | {:.2} to {:.2} |", ratios[0], ratios[ROUNDS - 1]);
    Ok(())
}

/// The middle one; sorts them.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
