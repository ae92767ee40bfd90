//! One step of a run: its batches, the gradients of all processes, and the move.

use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use lm_data::Batch;
use lm_models::ModelInputs;
use lm_models::ops;

use super::{Diverged, Trainer};
use crate::observe::StepInfo;
use crate::optim::GradientSum;
use crate::sys::panics;
use crate::sys::signals::StopSignal;
use crate::train::batches::{Batches, to_inputs};
use crate::train::exchange::{Came, Carrier};
use crate::train::ranks::{StepCounts, expect_all_used, whole};
use crate::train::sharded::spread;
use crate::train::step::{LossSum, StepGradients, StepOptions, StepOutcome, apply, gradients};

/// A gradient that overflows with a loss scale below this is not the scale's fault.
const SMALLEST_SCALE: f32 = 1.0 / 65536.0;

impl Trainer<'_> {
    /// The micro-batches of the next step that are this process's, on its devices, and what those of all processes hold;
    /// none if a signal came before all were there.
    pub(super) fn next_inputs(
        &self,
        batches: &mut Batches,
        stop: &StopSignal,
    ) -> Result<Option<(Vec<ModelInputs>, StepCounts)>> {
        let own = self.next_batches(batches, stop).and_then(|own| own.map(|own| self.inputs(&own)).transpose());
        let counts = own.as_ref().ok().and_then(Option::as_ref).map(|(_, counts)| *counts).unwrap_or_default();
        let whole = whole(self.world, stop, own, counts)?;
        Ok(whole.map(|((inputs, _), counts)| (inputs, counts.into_iter().sum())))
    }

    fn next_batches(&self, batches: &mut Batches, stop: &StopSignal) -> Result<Option<Vec<Batch>>> {
        let step = self.state.global_step;
        let mut micro_batches = Vec::new();
        for number in 0..self.plan.lengths.batches_of(step) {
            if stop.received().is_some() {
                return Ok(None);
            }
            let own = number % self.world.size() as u64 == self.world.rank() as u64;
            match batches.next_batch(own) {
                Some(Ok(batch)) => micro_batches.extend(batch),
                // A mended file is another one to the run.
                Some(Err(error)) if self.stream_position.is_some() => {
                    let how = "reading the training data (once it is mended, --allow_changes_on_resume goes on)";
                    return Err(error).context(how);
                }
                Some(Err(error)) => return Err(error).context("reading the training data"),
                None => bail!("the stream ended after {step} of {} steps", self.plan.max_steps),
            }
        }
        Ok(Some(micro_batches))
    }

    fn inputs(&self, micro_batches: &[Batch]) -> Result<(Vec<ModelInputs>, StepCounts)> {
        let on_devices = micro_batches.iter().zip(self.devices.iter().cycle());
        let inputs: Vec<_> =
            on_devices.map(|(batch, device)| to_inputs(batch, self.plan.task, device)).collect::<Result<_, _>>()?;
        let masks = micro_batches.iter().flat_map(|batch| &batch.attention_mask);
        let counts = StepCounts {
            predicted: inputs.iter().map(|inputs| inputs.host_predicted.len()).sum(),
            tokens: micro_batches.iter().map(|batch| batch.input_ids.len() as u64).sum(),
            real_tokens: masks.map(|&mask| u64::from(mask)).sum(),
        };
        Ok((inputs, counts))
    }

    /// One optimizer step; none if a signal came before it was whole.
    pub(super) fn step(
        &mut self,
        inputs: &[ModelInputs],
        counts: StepCounts,
        stop: &StopSignal,
    ) -> Result<Option<StepInfo>> {
        let begin = Instant::now();
        let options = StepOptions {
            learning_rate: self.schedule.rate(self.scheduled),
            loss_scale: self.grad_scaler.map_or(1.0, |scaler| scaler.scale.into()),
            first_micro_batch: self.plan.lengths.batches_before(self.state.global_step),
            rank: self.world.rank(),
            ..self.plan.step
        };
        let Some(gradients) = self.gradients(inputs, counts.predicted, &options, stop)? else { return Ok(None) };
        let StepOutcome { loss, grad_norm } = gradients.outcome;
        let overflows = !grad_norm.is_finite();
        if !loss.is_finite() || (overflows && self.grad_scaler.is_none_or(|scaler| scaler.scale < SMALLEST_SCALE)) {
            // As all ranks see.
            return self.world.agree(Err(diverged(
                self.state.global_step + 1,
                gradients.outcome,
                options.learning_rate,
            )));
        }
        self.apply(gradients, &options);
        if let Some(scaler) = &mut self.grad_scaler {
            scaler.update(overflows);
        }
        // Python's Trainer does not move the schedule with a step that the scaler skipped.
        if !overflows {
            self.scheduled += 1;
        }
        Ok(Some(StepInfo {
            loss,
            grad_norm,
            learning_rate: options.learning_rate,
            tokens: counts.tokens,
            real_tokens: counts.real_tokens,
            seconds: begin.elapsed().as_secs_f64(),
        }))
    }

    /// Forward and backward, and the gradients of all processes. A panic here, such as exhausted memory, leaves the model
    /// whole.
    fn gradients(
        &mut self,
        inputs: &[ModelInputs],
        predicted: usize,
        options: &StepOptions,
        stop: &StopSignal,
    ) -> Result<Option<StepGradients>> {
        let model = self.model();
        let summed = match self.world.size() {
            1 => self.computed(|| gradients(model, inputs, predicted, options, stop, None))?,
            _ => self.exchanged_gradients(inputs, predicted, options, stop)?,
        };
        let Some((sum, losses)) = summed else { return Ok(None) };
        let gradients = self.computed(|| StepGradients::new(sum, losses, predicted, options));
        let norm = gradients.as_ref().map_or(0, |gradients| gradients.outcome.grad_norm.to_bits());
        let (mut gradients, norms) = self.world.agree_with(gradients, &norm)?;
        // A processor that rounds otherwise than rank 0's must not move its model otherwise.
        gradients.outcome.grad_norm = f64::from_bits(norms[0]);
        Ok(Some(gradients))
    }

    /// The sums over several processes: of their gradients, and of their losses.
    fn exchanged_gradients(
        &mut self,
        inputs: &[ModelInputs],
        predicted: usize,
        options: &StepOptions,
        stop: &StopSignal,
    ) -> Result<Option<(GradientSum, LossSum)>> {
        let (model, device) = (self.model(), self.devices[0].clone().inner());
        let carrier =
            Carrier { world: self.world, parameters: &self.parameters, bucket: self.plan.bucket, device: &device };
        let (own, exchanged) = carrier.carry(&self.route, |outgoing| {
            let own = self.computed(|| gradients(model, inputs, predicted, options, stop, Some(outgoing)))?;
            Ok(own.map(|(rest, losses)| {
                outgoing.rest(rest);
                losses.read()
            }))
        });
        // A loss need not be a finite number.
        let loss = own.as_ref().map_or(0, |loss: &Option<f64>| loss.unwrap_or_default().to_bits());
        let Some((_, notes)) = whole(self.world, stop, own, (exchanged.came.clone(), loss))? else { return Ok(None) };
        let (came, losses): (Vec<Came>, Vec<u64>) = notes.into_iter().unzip();
        if self.plan.all_used {
            expect_all_used(self.world, &came, &self.parameters)?;
        }
        let sum = carrier.sums(exchanged, &came);
        self.route.learn(&came);
        Ok(Some((sum, losses.into_iter().map(f64::from_bits).sum::<f64>().into())))
    }

    /// Calls what computes; a panic in it is an error.
    fn computed<R: Send>(&self, compute: impl FnOnce() -> R + Send) -> Result<R> {
        panics::caught(|| match &self.devices[..] {
            [device] => ops::on_worker(device, compute),
            _ => compute(),
        })
        .with_context(|| format!("step {}", self.state.global_step + 1))
    }

    /// Moves the model.
    fn apply(&mut self, gradients: StepGradients, options: &StepOptions) {
        let moved = gradients.moves();
        let (model, optimizer) = (self.model.take(), &mut self.optimizer);
        let move_by = |model| apply(model, optimizer, gradients, options);
        let model = match &self.devices[..] {
            [device] => ops::on_worker(device, || model.map(move_by)),
            _ => model.map(move_by),
        };
        self.model = match &self.owners {
            Some(owners) => model.map(|model| spread(self.world, model, owners, &moved, self.plan.bucket)),
            None => model,
        };
    }
}

fn diverged(step: u64, outcome: StepOutcome, learning_rate: f64) -> anyhow::Error {
    let StepOutcome { loss, grad_norm } = outcome;
    if step == 1 && !loss.is_finite() {
        return anyhow!(
            "step 1: the loss is {loss} before any training: no learning rate helps; the weights that the model \
             starts from do not compute to usable numbers (in this precision): look at the model, or take another"
        );
    }
    let diverged = format!(
        "step {step}: loss {loss}, gradient norm {grad_norm}: training has diverged and stops here; try a lower \
         --learning_rate (it was {learning_rate:e}), more --warmup_steps or a smaller --max_grad_norm, in another \
         --output_dir, from the beginning or from the weights of a checkpoint (--model_name_or_path)"
    );
    Diverged(diverged).into()
}
