//! What an update rule is.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use lm_models::ops::{self, Compute};

/// The numbers of an update rule, by Python's names.
#[derive(Clone, Copy, Debug)]
pub struct Hyperparameters {
    /// `--adam_beta1`
    pub adam_beta1: f64,
    /// `--adam_beta2`
    pub adam_beta2: f64,
    /// `--adam_epsilon`
    pub adam_epsilon: f64,
    /// `--weight_decay`, on the parameters that [`Kind::decays`](lm_models::parameters::Kind::decays) says.
    pub weight_decay: f64,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self { adam_beta1: 0.9, adam_beta2: 0.999, adam_epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// An update rule.
pub struct Rule {
    /// Names of the tensors kept for a parameter of this shape; each has the parameter's size unless factored.
    pub slots: fn(&[usize]) -> &'static [&'static str],
    /// The parameter, flattened, moved against its gradient, whose slots are updated.
    pub update: fn(Tensor<1>, Tensor<1>, &mut Slots, &Update) -> Tensor<1>,
}

/// One step of one parameter.
pub struct Update<'a> {
    /// The parameter's shape.
    pub shape: &'a [usize],
    /// Steps of the parameter, this one counted.
    pub step: i32,
    /// What the gradient is multiplied with.
    pub factor: f64,
    pub learning_rate: f64,
    /// With the decay of this parameter.
    pub hyper: Hyperparameters,
    /// By which operations.
    pub compute: Compute,
}

impl Update<'_> {
    /// The gradient times its factor.
    pub fn scaled(&self, g: Tensor<1>) -> Tensor<1> {
        if self.factor == 1.0 { g } else { g * self.factor }
    }

    /// The gradient times its factor, and the decay as a part of it, as torch's optimizers before AdamW have it.
    pub fn with_decay(&self, g: Tensor<1>, p: &Tensor<1>) -> Tensor<1> {
        let (g, decay) = (self.scaled(g), self.hyper.weight_decay);
        if decay == 0.0 { g } else { g + p.clone() * decay }
    }
}

/// The state's tensors of one parameter.
#[derive(Clone, Default)]
pub struct Slots(BTreeMap<&'static str, Tensor<1>>);

impl Slots {
    /// Takes the tensor out: zeros before the parameter's first step.
    pub fn take(&mut self, slot: &'static str, update: &Update, like: &Tensor<1>) -> Tensor<1> {
        self.0.remove(slot).unwrap_or_else(|| ops::zeros(slot_len(slot, update.shape), &like.device(), update.compute))
    }

    /// Keeps it for the next step.
    pub fn put(&mut self, slot: &'static str, tensor: Tensor<1>) {
        self.0.insert(slot, tensor);
    }

    /// Each with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Tensor<1>)> {
        self.0.iter().map(|(slot, tensor)| (*slot, tensor))
    }
}

/// Values of a slot of a parameter of this shape.
pub fn slot_len(slot: &str, shape: &[usize]) -> usize {
    let len = shape.iter().fold(1, |len: usize, &size| len.saturating_mul(size));
    match (slot, shape) {
        ("exp_avg_sq_row", [.., _, columns]) => len / (*columns).max(1),
        ("exp_avg_sq_col", [.., rows, _]) => len / (*rows).max(1),
        _ => len,
    }
}
