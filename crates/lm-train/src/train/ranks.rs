//! Data parallelism: several devices of this machine share the micro-batches of a step, as Python's
//! `DistributedDataParallel` lets processes do.
//!
//! A device's number in the run is its rank. Rank 0 has the model that is trained; the others get a copy of it for the
//! length of a step. Everything is summed in the order of ranks, so a run can be repeated bit for bit.

use std::panic::resume_unwind;
use std::thread;

use burn::tensor::Device;
use lm_models::AutoModel;

use crate::optim::GradientSum;

/// Calls `work` once per device, with its rank and the model on it, each on a thread of its own. The model lives on the
/// first device. Results are in the order of the devices.
pub fn on_each<R: Send>(model: &AutoModel, devices: &[Device], work: impl Fn(usize, &AutoModel) -> R + Sync) -> Vec<R> {
    let others = devices.iter().skip(1);
    let replicas: Vec<AutoModel> = others.map(|device| model.clone().fork(device)).collect();
    let work = &work;
    thread::scope(|scope| {
        let ranks = replicas.iter().enumerate().map(|(index, replica)| scope.spawn(move || work(index + 1, replica)));
        let ranks: Vec<_> = ranks.collect();
        let mut results = vec![work(0, model)];
        results.extend(ranks.into_iter().map(|rank| rank.join().unwrap_or_else(|panic| resume_unwind(panic))));
        results
    })
}

/// The sum of the gradients of all ranks, on `device`. Ranks on other machines would come in here.
pub fn sum_gradients(ranks: Vec<GradientSum>, device: &Device) -> GradientSum {
    let mut sum = GradientSum::default();
    ranks.into_iter().for_each(|rank| sum.merge(rank.to_device(device)));
    sum
}
