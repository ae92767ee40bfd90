//! One optimizer step: the arithmetic of training, apart from everything around it.

use lm_models::ops::{self, Predictions};
use lm_models::{AutoModel, Mode, ModelInputs};

use crate::gradients::GradientSum;
use crate::optimizer::Optimizer;

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
    /// The run's seed, for dropout.
    pub seed: u64,
    /// Number of the step's first forward pass since the run began, for dropout.
    pub first_micro_batch: u64,
}

/// What a step was like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean cross-entropy over all predicted tokens of the step, in nats.
    pub loss: f64,
    /// Norm over all gradients, before clipping.
    pub grad_norm: f64,
}

/// Runs the micro-batches forward and backward and moves the model. The loss is the mean over the predicted tokens of
/// all of them together, as Python's Trainer has it since 4.46. A step whose loss or gradient is no finite number leaves
/// the model as it was.
pub fn step(
    model: AutoModel,
    optimizer: &mut Optimizer,
    micro_batches: &[ModelInputs],
    options: &StepOptions,
) -> (AutoModel, StepOutcome) {
    let predicted: usize = micro_batches.iter().map(|inputs| inputs.host_predicted.len()).sum();
    let mut gradients = GradientSum::default();
    let mut loss = 0.0;
    for (index, inputs) in micro_batches.iter().enumerate().filter(|(_, inputs)| !inputs.host_predicted.is_empty()) {
        let mode = Mode::train(options.seed, options.first_micro_batch + index as u64, options.neftune_noise_alpha);
        let rows = model.forward(inputs, &mode);
        let sum = ops::cross_entropy(rows, &model.decoder(), inputs.targets.clone(), options.label_smoothing);
        gradients.add(&model, (sum.carrier / predicted as f64).backward());
        loss += sum.value.into_data().iter::<f64>().sum::<f64>() / predicted as f64;
    }
    let outcome = StepOutcome { loss, grad_norm: gradients.norm() };
    if !(outcome.loss.is_finite() && outcome.grad_norm.is_finite()) {
        return (model, outcome);
    }
    let factor = GradientSum::clip_factor(outcome.grad_norm, options.max_grad_norm);
    (optimizer.step(model, gradients, factor, options.learning_rate), outcome)
}

/// Loss and accuracy on one batch, without gradients; `model` is one of [`burn::module::Module::valid`].
pub fn evaluate(model: &AutoModel, inputs: &ModelInputs) -> Predictions {
    if inputs.host_predicted.is_empty() {
        return Predictions::default();
    }
    let rows = model.forward(inputs, &Mode::eval());
    ops::predictions(rows, &model.decoder(), inputs.targets.clone())
}
