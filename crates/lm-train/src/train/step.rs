//! One optimizer step: the arithmetic of training, apart from everything around it.

use std::mem;

use burn::tensor::{Device, Tensor};
use lm_models::ops::{self, Compute, Predictions};
use lm_models::{AutoModel, Mode, ModelInputs, checkpointed};

use crate::optim::GradientSum;
use crate::optim::Optimizer;
use crate::sys::signals::StopSignal;
use crate::train::exchange::Outgoing;
use crate::train::ranks::{on_each, sum_gradients};

/// What a step needs to know besides the batches.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions {
    /// The rate of this step.
    pub learning_rate: f64,
    /// `--max_grad_norm`; 0 for no clipping.
    pub max_grad_norm: f64,
    /// `--label_smoothing_factor`
    pub label_smoothing: f64,
    /// `--neftune_noise_alpha`
    pub neftune_noise_alpha: Option<f64>,
    /// Factor on the loss in the backward pass, of `--fp16`; 1 without.
    pub loss_scale: f64,
    /// The run's seed, for dropout.
    pub seed: u64,
    /// Number of the step's first forward pass since the run began, for dropout.
    pub first_micro_batch: u64,
    /// This process among those of the run: micro-batch j belongs to rank j mod `ranks`.
    pub rank: usize,
    /// Processes of the run.
    pub ranks: usize,
    /// Devices of each process: its i-th micro-batch is on the device i mod `devices`.
    pub devices: usize,
    /// `--gradient_checkpointing`
    pub gradient_checkpointing: bool,
    /// In what precision, and by which operations.
    pub compute: Compute,
}

/// What a step was like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean cross-entropy over all predicted tokens of the step, in nats.
    pub loss: f64,
    /// Norm over all gradients, before clipping.
    pub grad_norm: f64,
}

/// The gradients of a step and what it was like, before anything has moved.
pub struct StepGradients {
    sum: GradientSum,
    /// Loss and norm.
    pub outcome: StepOutcome,
}

/// The sum of a step's losses: what is still on the device, where reading it would wait, and what was read.
#[derive(Default)]
pub struct LossSum {
    /// Sums of micro-batches, each `[1]`, on one device.
    on_device: Vec<Tensor<1>>,
    read: f64,
}

impl LossSum {
    /// The number.
    pub fn read(self) -> f64 {
        self.read + ops::numbers(self.on_device).iter().sum::<f64>()
    }
}

impl From<f64> for LossSum {
    fn from(read: f64) -> Self {
        Self { read, ..Self::default() }
    }
}

impl StepGradients {
    /// Out of the sums over all micro-batches: of the gradients, and of the losses of so many predicted tokens.
    pub fn new(sum: GradientSum, losses: LossSum, predicted: usize, options: &StepOptions) -> Self {
        // The losses were left unread until here, where all batches are on their way and the norm is waited for anyway.
        let (norm, read) = sum.norm_and(losses.on_device, options.compute);
        let loss = losses.read + read.into_iter().sum::<f64>();
        let outcome = StepOutcome { loss: loss / predicted.max(1) as f64, grad_norm: norm / options.loss_scale };
        Self { outcome, sum }
    }

    /// Which parameters they move, in visiting order.
    pub fn moves(&self) -> Vec<bool> {
        if self.is_finite() { self.sum.present() } else { Vec::new() }
    }

    /// Whether the model can be moved by them.
    pub fn is_finite(&self) -> bool {
        self.outcome.loss.is_finite() && self.outcome.grad_norm.is_finite()
    }
}

/// Runs this process's micro-batches forward and backward, each device its own: the sums of their gradients and losses.
/// The loss that is minimised is the mean over the tokens that all micro-batches of all processes predict together, as
/// Python's Trainer has it since 4.46. What `outgoing` takes, where there is one, is no part of the sum. None if a signal
/// came before the last one.
pub fn gradients(
    model: &AutoModel,
    micro_batches: &[ModelInputs],
    predicted: usize,
    options: &StepOptions,
    stop: &StopSignal,
    outgoing: Option<&Outgoing>,
) -> Option<(GradientSum, LossSum)> {
    let devices: Vec<Device> = micro_batches.iter().take(options.devices).map(|inputs| inputs.device.clone()).collect();
    let on_devices = on_each(model, &devices, |device, model| {
        let mut gradients = GradientSum::default();
        let mut sums = Vec::new();
        let own = micro_batches.iter().enumerate().skip(device).step_by(options.devices);
        let mut own = own.filter(|(_, inputs)| !inputs.host_predicted.is_empty()).peekable();
        while let Some((index, inputs)) = own.next() {
            if stop.received().is_some() {
                return None;
            }
            // Those of several devices have to be summed first.
            let outgoing = outgoing.filter(|_| devices.len() == 1 && own.peek().is_none());
            let _watching = outgoing.map(|outgoing| outgoing.last_batch(model, mem::take(&mut gradients)));
            let number = (options.rank + index * options.ranks) as u64;
            let (of_batch, sum) = backward(model, inputs, options, number, predicted as f64);
            gradients.merge(of_batch);
            sums.push(sum);
        }
        Some((gradients, sums))
    });
    let (sums, losses): (Vec<_>, Vec<Vec<_>>) = on_devices.into_iter().collect::<Option<Vec<_>>>()?.into_iter().unzip();
    let first = model.decoder().weight.device().inner();
    let on_device = losses.into_iter().flatten().map(|loss| loss.to_device(&first)).collect();
    Some((sum_gradients(sums, &first), LossSum { on_device, read: 0.0 }))
}

/// Moves the model. Gradients that are no finite numbers leave it as it was.
pub fn apply(
    model: AutoModel,
    optimizer: &mut Optimizer,
    gradients: StepGradients,
    options: &StepOptions,
) -> AutoModel {
    if !gradients.is_finite() {
        return model;
    }
    let norm = gradients.outcome.grad_norm;
    let factor = GradientSum::clip_factor(norm, options.max_grad_norm) / options.loss_scale;
    optimizer.step(model, gradients.sum, factor, options.learning_rate)
}

/// A whole step of one process, with nobody to interrupt it.
pub fn step(
    model: AutoModel,
    optimizer: &mut Optimizer,
    micro_batches: &[ModelInputs],
    options: &StepOptions,
) -> (AutoModel, StepOutcome) {
    let predicted = micro_batches.iter().map(|inputs| inputs.host_predicted.len()).sum();
    match gradients(&model, micro_batches, predicted, options, &StopSignal::default(), None) {
        Some((sum, losses)) => {
            let gradients = StepGradients::new(sum, losses, predicted, options);
            let outcome = gradients.outcome;
            (apply(model, optimizer, gradients, options), outcome)
        }
        None => (model, StepOutcome { loss: f64::NAN, grad_norm: f64::NAN }),
    }
}

/// One micro-batch forward and backward: the gradients of the sum of its losses divided by `predicted` and scaled, and
/// the sum, `[1]`.
fn backward(
    model: &AutoModel,
    inputs: &ModelInputs,
    options: &StepOptions,
    index: u64,
    predicted: f64,
) -> (GradientSum, Tensor<1>) {
    let StepOptions { compute, label_smoothing, .. } = *options;
    let micro_batch = options.first_micro_batch + index;
    let mode = Mode::train(compute, options.seed, micro_batch, options.neftune_noise_alpha);
    let factor = options.loss_scale / predicted;
    let loss = |rows: Tensor<2>| {
        ops::cross_entropy(rows, &model.decoder(), inputs.targets.clone(), label_smoothing, factor, compute)
    };
    let mut gradients = GradientSum::default();
    let sum = if options.gradient_checkpointing {
        checkpointed(model, inputs, &mode, loss, |of_stage| gradients.add(model, of_stage))
    } else {
        let (value, of_batch) = loss(model.forward(inputs, &mode)).backward();
        gradients.add(model, of_batch);
        value
    };
    (gradients, sum)
}

/// Loss, smoothed as in training, and accuracy on one batch, without gradients; `model` is one of
/// [`burn::module::Module::valid`].
pub fn evaluate(model: &AutoModel, inputs: &ModelInputs, label_smoothing: f64, compute: Compute) -> Predictions {
    if inputs.host_predicted.is_empty() {
        return Predictions::default();
    }
    let rows = model.forward(inputs, &Mode::eval(compute));
    ops::predictions(rows, &model.decoder(), inputs.targets.clone(), label_smoothing, compute)
}
