//! Data parallelism: several devices of this machine share the micro-batches of a step, and several processes, here and on
//! other machines, share them before that, as Python's `DistributedDataParallel` lets processes do.
//!
//! The first device has the model that is trained; the others get a copy of it for the length of a step. Each process has a
//! model and an optimizer of its own, which move by the same gradients and so stay equal. Everything is summed in a fixed
//! order, so a run can be repeated bit for bit.

use std::iter::Sum;
use std::panic::resume_unwind;
use std::thread;

use anyhow::{Result, anyhow};
use burn::tensor::Device;
use lm_models::AutoModel;
use lm_models::parameters::ParameterInfo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dist::World;
use crate::optim::GradientSum;
use crate::sys::signals::StopSignal;
use crate::train::exchange::Came;

/// Calls `work` once per device, with its number and the model on it, each on a thread of its own. The model lives on the
/// first device. Results are in the order of the devices.
pub fn on_each<R: Send>(model: &AutoModel, devices: &[Device], work: impl Fn(usize, &AutoModel) -> R + Sync) -> Vec<R> {
    let others = devices.iter().skip(1);
    let replicas: Vec<AutoModel> = others.map(|device| model.clone().fork(device)).collect();
    let work = &work;
    thread::scope(|scope| {
        let threads = replicas.iter().enumerate().map(|(index, replica)| scope.spawn(move || work(index + 1, replica)));
        let threads: Vec<_> = threads.collect();
        let mut results = vec![work(0, model)];
        results.extend(threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))));
        results
    })
}

/// The sum of the gradients of all devices, on `device`.
pub fn sum_gradients(devices: Vec<GradientSum>, device: &Device) -> GradientSum {
    let mut sum = GradientSum::default();
    devices.into_iter().for_each(|of_one| sum.merge(of_one.to_device(device)));
    sum
}

/// What the batches of a step hold.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct StepCounts {
    /// Tokens that are predicted.
    pub predicted: usize,
    /// Tokens that go through the model, padding included.
    pub tokens: u64,
    /// The same without padding.
    pub real_tokens: u64,
}

impl Sum for StepCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, of_one| Self {
            predicted: sum.predicted + of_one.predicted,
            tokens: sum.tokens + of_one.tokens,
            real_tokens: sum.real_tokens + of_one.real_tokens,
        })
    }
}

/// What this rank has done of a piece of work, if all have done theirs, with a note of each rank. None if a signal came to
/// one of them before it was done: then all stop, as if it had come to them.
///
/// # Errors
/// What failed on a rank, on all.
pub fn whole<T, N>(world: &World, stop: &StopSignal, own: Result<Option<T>>, note: N) -> Result<Option<(T, Vec<N>)>>
where
    N: Serialize + DeserializeOwned + Clone,
{
    let signal = if matches!(own, Ok(None)) { stop.received() } else { None };
    let (own, said) = world.agree_with(own, &(signal, note))?;
    let (signals, notes): (Vec<Option<i32>>, Vec<N>) = said.into_iter().unzip();
    Ok(match signals.into_iter().flatten().next() {
        Some(signal) => {
            stop.take_up(signal);
            None
        }
        None => own.map(|own| (own, notes)),
    })
}

/// Makes sure that every trained parameter has a gradient on every rank of several, but those without a token to predict.
///
/// # Errors
/// The first that has none, as torch's `DistributedDataParallel` has it; on all ranks.
pub fn expect_all_used(world: &World, came: &[Came], parameters: &[ParameterInfo]) -> Result<()> {
    let ranks = came.iter().map(|of_rank| &of_rank.present).enumerate().filter(|(_, present)| present.contains(&true));
    let trained = || parameters.iter().enumerate().filter(|(_, info)| info.trainable);
    let mut unused = ranks
        .flat_map(|(rank, present)| trained().filter(|(index, _)| !present[*index]).map(move |(_, info)| (rank, info)));
    match unused.next() {
        Some((rank, info)) => world.agree(Err(anyhow!(
            "--ddp_find_unused_parameters false: {} has no gradient on {}, since nothing that is predicted depends on it; leave the flag out",
            info.name,
            world.name_of(rank)
        ))),
        None => Ok(()),
    }
}

/// A number that tells the values of two models apart.
pub fn fingerprint(world: &World, model: &AutoModel) -> String {
    let mut hasher = crc32fast::Hasher::new();
    if world.size() > 1 {
        model.snapshot().into_iter().for_each(|parameter| hasher.update(parameter.tensor.into_data().as_bytes()));
    }
    format!("{:08x}", hasher.finalize())
}
