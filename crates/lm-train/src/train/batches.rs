//! The batches of a run, from wherever it stands: a stored data set or a stream, and their way onto the device.

use std::sync::Arc;

use burn::tensor::Device;
use lm_data::collate::Collator;
use lm_data::{Batch, DataError, ExampleStream, IGNORE, Loader, Prefetch, StreamPosition};
use lm_models::inputs::{HostBatch, InputError, Objective, Padding};
use lm_models::{ModelInputs, Task};

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

    /// The batches with these numbers, counted from the start of the run. A stream stands where it was opened, can be walked
    /// once, and gives all. `workers` threads build them, and at most `ahead` wait.
    pub fn batches_at(
        &mut self,
        numbers: impl Iterator<Item = u64> + Send + 'static,
        workers: usize,
        ahead: usize,
    ) -> std::io::Result<Batches> {
        let stream_position = match self {
            Self::Streamed { stream: Some(stream), .. } => Some(stream.position()),
            _ => None,
        };
        let items = match self {
            Self::Stored(loader) => Items::Stored(loader.batches_at(numbers, workers, ahead)?),
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
    /// The next batch of all, which is either this process's `own` or another's: that one a stream walks past. None at the
    /// end of a stream that ends.
    pub fn next_batch(&mut self, own: bool) -> Option<Result<Option<Batch>, DataError>> {
        match &mut self.items {
            Items::Stored(batches) if own => batches.next().map(|batch| batch.map(Some)),
            Items::Stored(_) => Some(Ok(None)),
            Items::Streamed(batches) => batches.as_mut()?.next().map(|item| {
                let (batch, position) = item?;
                self.stream_position = Some(position);
                Ok(own.then_some(batch))
            }),
        }
    }
}

/// Single sequences as one batch, so that the weights are read once; padded on the right, where nobody looks.
pub fn joined(sequences: &[Batch]) -> Batch {
    let seq = sequences.iter().map(|one| one.seq_len).max().unwrap_or(0);
    let pad = |values: &[i32], with: i32| {
        let mut values = values.to_vec();
        values.resize(seq, with);
        values
    };
    let permuted = sequences.iter().any(|one| one.perm_mask.is_some());
    let perm_mask = permuted.then(|| {
        let visible = |one: &Batch, i: usize, j: usize| {
            i.max(j) < one.seq_len && one.perm_mask.as_ref().is_none_or(|mask| mask[i * one.seq_len + j] == 0)
        };
        let places = || (0..seq).flat_map(|i| (0..seq).map(move |j| (i, j)));
        sequences.iter().flat_map(|one| places().map(|(i, j)| u8::from(!visible(one, i, j)))).collect()
    });
    Batch {
        batch_size: sequences.len(),
        seq_len: seq,
        input_ids: sequences.iter().flat_map(|one| pad(&one.input_ids, 0)).collect(),
        attention_mask: sequences.iter().flat_map(|one| (0..seq).map(|i| u8::from(i < one.seq_len))).collect(),
        labels: sequences.iter().flat_map(|one| pad(&one.labels, IGNORE)).collect(),
        perm_mask,
        example_ids: sequences.iter().flat_map(|one| one.example_ids.clone()).collect(),
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
