//! Evaluation: loss, accuracy and perplexity over a validation set.

use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use lm_data::{Batch, DataError, IGNORE, Loader, Prefetch};
use lm_models::ops::{self, Compute};
use lm_models::{AutoModel, Task};
use serde::{Deserialize, Serialize};

use crate::dist::World;
use crate::observe::{Callbacks, LogRecord, speed_metrics};
use crate::sys::panics;
use crate::sys::signals::StopSignal;
use crate::train::batches::to_inputs;
use crate::train::ranks::whole;
use crate::train::step;

/// Batches of a process before it hears how far the others are.
const AT_A_TIME: u64 = 8;

/// What a batch came to.
#[derive(Clone, Serialize, Deserialize)]
struct BatchResult {
    /// The bits of the sum of the losses, which need not be a finite number.
    loss_bits: u64,
    predicted: usize,
    correct: usize,
    examples: usize,
}

/// A validation set and how it is walked.
pub struct Evaluation {
    /// In order, the same masks every time.
    pub loader: Loader,
    /// What is predicted.
    pub task: Task,
    /// In what precision, and by which operations.
    pub compute: Compute,
    /// `--label_smoothing_factor`: the loss is the one that training minimises, as in Python.
    pub label_smoothing: f64,
    /// Leave out the accuracy (`--prediction_loss_only`).
    pub loss_only: bool,
    /// Where to compute; without autodiff.
    pub device: Device,
    /// Threads that build batches, and how many they build ahead.
    pub workers: (usize, usize),
}

impl Evaluation {
    /// Whether no token of the whole set is predicted, so that there can be no figure.
    ///
    /// # Errors
    /// If the examples cannot be read.
    pub fn predicts_nothing(&self) -> Result<bool> {
        for index in 0..self.loader.batches_per_epoch() {
            // Usually the first batch has one.
            if self.loader.batch(0, index)?.labels.iter().any(|&label| label != IGNORE) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says beforehand that there will be no figure.
    ///
    /// # Errors
    /// If the examples cannot be read.
    pub fn warn_if_nothing_is_predicted(&self) -> Result<()> {
        let advice = match self.task {
            Task::Mlm => "more text, or a higher --mlm_probability",
            Task::Clm | Task::Plm => "more text",
        };
        if self.predicts_nothing()? {
            tracing::warn!("no token of the validation set is predicted, so eval_loss will be null: give {advice}");
        }
        Ok(())
    }

    /// Python's metrics for the split, and the perplexity. The loss is Python's too: the mean over examples of their
    /// batch's mean over predicted tokens. Batches without a predicted token, whose mean is no number, are left out; if
    /// there are no others the figures are NaN. None if a signal came before the end.
    ///
    /// Each process evaluates its share of the batches. The figures are added up in the order of batches, so they are the same
    /// bits for any number of processes.
    pub fn run(
        &self,
        model: &AutoModel,
        world: &World,
        callbacks: &mut Callbacks,
        stop: &StopSignal,
    ) -> Result<Option<LogRecord>> {
        let begin = Instant::now();
        let batches = self.loader.batches_per_epoch();
        let (workers, ahead) = self.workers;
        let numbers = (world.rank() as u64..batches).step_by(world.size());
        let mut own = world.agree(self.loader.batches_at(numbers, workers, ahead).map_err(Into::into))?;
        let (mut loss, mut examples, mut correct, mut predicted) = (0.0, 0usize, 0, 0);
        let mut done = 0;
        while done < batches {
            let mut tell = |evaluated: u64| callbacks.on_prediction_step((done + evaluated).min(batches), batches);
            let results = self.some(model, &mut own, &mut |own| tell(own * world.size() as u64), stop);
            let note = results.as_ref().ok().cloned().flatten().unwrap_or_default();
            let Some((_, of_ranks)) = whole(world, stop, results, note)? else { return Ok(None) };
            let in_order = (0..AT_A_TIME as usize).flat_map(|at| of_ranks.iter().filter_map(move |rank| rank.get(at)));
            for result in in_order.filter(|result| result.predicted > 0) {
                loss += f64::from_bits(result.loss_bits) / result.predicted as f64 * result.examples as f64;
                examples += result.examples;
                correct += result.correct;
                predicted += result.predicted;
            }
            done += AT_A_TIME * world.size() as u64;
        }
        // Without a predicted token there is no figure; the mean of nothing is NaN, as in Python.
        let loss = loss / examples as f64;
        if predicted > 0 && !loss.is_finite() {
            tracing::warn!(
                "the validation loss is {loss}: weights or activations are no longer finite numbers; go back to an \
                 earlier checkpoint, and train it with a lower --learning_rate"
            );
        }
        let mut metrics = LogRecord::new().with("eval_loss", loss);
        if !self.loss_only {
            metrics.set("eval_accuracy", correct as f64 / predicted as f64);
        }
        metrics.set(LogRecord::PERPLEXITY, loss.exp());
        let samples = self.loader.store().len() as u64;
        metrics.extend(speed_metrics("eval", begin.elapsed().as_secs_f64(), Some(samples), Some(batches), None));
        Ok(Some(metrics))
    }

    /// The next few batches of this process; none if a signal came before they were done.
    fn some(
        &self,
        model: &AutoModel,
        batches: &mut Prefetch<Result<Batch, DataError>>,
        tell: &mut dyn FnMut(u64),
        stop: &StopSignal,
    ) -> Result<Option<Vec<BatchResult>>> {
        let mut results = Vec::new();
        for batch in batches.take(AT_A_TIME as usize) {
            if stop.received().is_some() {
                return Ok(None);
            }
            let batch = batch?;
            let inputs = to_inputs(&batch, self.task, &self.device)?;
            // A device without memory for it fails the evaluation, not the training.
            let result = panics::caught(|| {
                ops::on_worker(&self.device, || step::evaluate(model, &inputs, self.label_smoothing, self.compute))
            });
            let result = result.map_err(anyhow::Error::msg)?;
            results.push(BatchResult {
                loss_bits: result.loss_sum.to_bits(),
                predicted: result.count,
                correct: result.correct,
                examples: batch.batch_size,
            });
            tell(results.len() as u64);
        }
        Ok(Some(results))
    }
}
