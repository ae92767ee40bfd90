//! The batches of a run, from wherever it stands: a stored data set or a stream, and their way onto the device.

use std::sync::Arc;

use burn::tensor::Device;
use lm_data::collate::Collator;
use lm_data::{Batch, DataError, ExampleStream, Loader, Prefetch, StreamPosition};
use lm_models::inputs::{HostBatch, InputError, Objective, Padding};
use lm_models::{ModelInputs, Task};
use serde::{Deserialize, Serialize};

/// Where the training examples come from.
pub enum TrainData {
    /// All tokenized before training.
    Stored(Loader),
    /// Read and tokenized while training (`--streaming`).
    Streamed {
        /// The examples, at the place where this run begins or goes on.
        stream: Option<ExampleStream>,
        /// Makes batches of them.
        collator: Arc<dyn Collator>,
        /// `--per_device_train_batch_size`
        batch_size: usize,
        /// `--dataloader_drop_last`
        drop_last: bool,
    },
}

/// How many steps make what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// Batches of an epoch; none of a stream.
    pub batches_per_epoch: Option<u64>,
    /// Batches of a step: `--gradient_accumulation_steps` on each device.
    pub batches_per_step: u64,
}

impl Lengths {
    /// Optimizer steps of an epoch; the last may have fewer batches than the others.
    pub fn steps_per_epoch(&self) -> Option<u64> {
        Some(self.batches_per_epoch?.div_ceil(self.batches_per_step).max(1))
    }

    /// Epochs after `step` steps, the current one as a fraction; of a stream, as a share of the run (Python takes a
    /// stream for one epoch of `max_steps`).
    pub fn epoch(&self, step: u64, max_steps: u64) -> f64 {
        match (self.batches_per_epoch, self.steps_per_epoch()) {
            (Some(batches), Some(steps)) => {
                let within = ((step % steps) * self.batches_per_step).min(batches);
                (step / steps) as f64 + within as f64 / batches as f64
            }
            _ => step as f64 / max_steps.max(1) as f64,
        }
    }

    /// Batches of the step with this index, from 0.
    pub fn batches_of(&self, step: u64) -> u64 {
        match (self.batches_per_epoch, self.steps_per_epoch()) {
            (Some(batches), Some(steps)) => {
                (batches - (step % steps) * self.batches_per_step).min(self.batches_per_step)
            }
            _ => self.batches_per_step,
        }
    }

    /// Batches of all steps before this one.
    pub fn batches_before(&self, step: u64) -> u64 {
        match (self.batches_per_epoch, self.steps_per_epoch()) {
            (Some(batches), Some(steps)) => step / steps * batches + step % steps * self.batches_per_step,
            _ => step * self.batches_per_step,
        }
    }
}

/// The batches from a step on, made ahead of their use on other threads.
pub struct Batches {
    items: Items,
    /// The place after the last batch taken, of a stream.
    pub stream_position: Option<StreamPosition>,
}

enum Items {
    Stored(Prefetch<Result<Batch, DataError>>),
    /// Each with the place after it; none of a stream that was walked already.
    Streamed(Option<Prefetch<Result<(Batch, StreamPosition), DataError>>>),
}

impl TrainData {
    /// Batches of an epoch; none of a stream.
    pub fn batches_per_epoch(&self) -> Option<u64> {
        match self {
            Self::Stored(loader) => Some(loader.batches_per_epoch()),
            Self::Streamed { .. } => None,
        }
    }

    /// The batches from the one with this index on, counted from the start of the run. A stream stands where it was
    /// opened, and can be walked once. `workers` threads build them, and at most `ahead` wait.
    pub fn batches_from(&mut self, batch: u64, workers: usize, ahead: usize) -> std::io::Result<Batches> {
        let stream_position = match self {
            Self::Streamed { stream: Some(stream), .. } => Some(stream.position()),
            _ => None,
        };
        let items = match self {
            Self::Stored(loader) => Items::Stored(loader.batches_from(loader.position(batch), workers, ahead)?),
            Self::Streamed { stream, collator, batch_size, drop_last } => {
                let batches = |stream: ExampleStream| {
                    stream.batches(Arc::clone(collator), *batch_size, *drop_last, workers, ahead)
                };
                Items::Streamed(stream.take().map(batches).transpose()?)
            }
        };
        Ok(Batches { items, stream_position })
    }
}

impl Batches {
    /// The next batch; none at the end of a stream that ends.
    pub fn next_batch(&mut self) -> Option<Result<Batch, DataError>> {
        match &mut self.items {
            Items::Stored(batches) => batches.next(),
            Items::Streamed(batches) => batches.as_mut()?.next().map(|item| {
                let (batch, position) = item?;
                self.stream_position = Some(position);
                Ok(batch)
            }),
        }
    }
}

/// A batch as the model of a task takes it.
pub fn to_inputs(batch: &Batch, task: Task, device: &Device) -> Result<ModelInputs, InputError> {
    let host = HostBatch {
        batch: batch.batch_size,
        seq: batch.seq_len,
        input_ids: &batch.input_ids,
        attention_mask: &batch.attention_mask,
        labels: &batch.labels,
        perm_mask: batch.perm_mask.as_deref(),
    };
    let (objective, padding) = match task {
        Task::Mlm => (Objective::Masked, Padding::Drop),
        Task::Clm => (Objective::Causal, Padding::Drop),
        Task::Plm => (Objective::Masked, Padding::See),
    };
    ModelInputs::new(host, objective, padding, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_partition_the_batches_of_every_epoch() {
        for batches in 1..20 {
            for batches_per_step in 1..6 {
                let lengths = Lengths { batches_per_epoch: Some(batches), batches_per_step };
                let mut before = 0;
                for step in 0..40 {
                    assert_eq!(lengths.batches_before(step), before, "{batches} {batches_per_step} {step}");
                    before += lengths.batches_of(step);
                }
                let steps = lengths.steps_per_epoch().unwrap();
                assert_eq!(lengths.batches_before(3 * steps), 3 * batches);
                assert_eq!(lengths.epoch(2 * steps, 0), 2.0);
            }
        }
    }
}
