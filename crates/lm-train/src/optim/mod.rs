//! Optimizers by Python's names, over the model's parameters in place of torch's parameter groups.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use lm_models::AutoModel;
use lm_models::ops::{self, Compute};
use lm_models::params::{self, Map, ParameterInfo};
use safetensors::Dtype;

use crate::train::gradients::GradientSum;

/// What can't be done about an optimizer.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    /// `--optim` names none of ours.
    #[error("--optim {0} is not supported; known: {known}", known = OptimizerKind::names())]
    Unknown(String),
    /// A saved state does not fit the model.
    #[error("optimizer state: {0}")]
    State(String),
}

/// Which update rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptimizerKind {
    /// Decoupled weight decay (Loshchilov and Hutter, 2019), as torch computes it.
    AdamW,
    /// Factored second moments (Shazeer and Stern, 2018), as `transformers.Adafactor` with a given learning rate.
    Adafactor,
    /// Plain stochastic gradient descent, as `torch.optim.SGD`.
    Sgd,
    /// Accumulated squares (Duchi et al., 2011), as `torch.optim.Adagrad`.
    Adagrad,
    /// Running squares (Tieleman and Hinton, 2012), as `torch.optim.RMSprop`.
    RmsProp,
    /// The sign of the momentum (Chen et al., 2023).
    Lion,
}

impl OptimizerKind {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("adamw_torch", Self::AdamW),
        ("adamw_torch_fused", Self::AdamW),
        ("adafactor", Self::Adafactor),
        ("sgd", Self::Sgd),
        ("adagrad", Self::Adagrad),
        ("rmsprop", Self::RmsProp),
        ("lion_32bit", Self::Lion),
    ];

    /// The optimizer of Python's name.
    pub fn from_name(name: &str) -> Result<Self, OptimizerError> {
        let known = Self::NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, kind)| *kind).ok_or_else(|| OptimizerError::Unknown(name.to_owned()))
    }

    /// All names, for messages.
    pub fn names() -> String {
        Self::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// Names of the tensors kept per parameter of this shape; each has the parameter's size unless factored.
    fn slots(self, shape: &[usize]) -> &'static [&'static str] {
        match self {
            Self::AdamW => &["exp_avg", "exp_avg_sq"],
            Self::Adafactor if shape.len() >= 2 => &["exp_avg_sq_row", "exp_avg_sq_col"],
            Self::Adafactor => &["exp_avg_sq"],
            Self::Sgd => &[],
            Self::Adagrad => &["sum"],
            Self::RmsProp => &["square_avg"],
            Self::Lion => &["exp_avg"],
        }
    }

    /// Bytes of state for a parameter of this shape, however large, for the plans of disk and memory.
    pub fn state_bytes(self, shape: &[usize]) -> u64 {
        let bytes = |slot: &&str| (slot_len(slot, shape) as u64).saturating_mul(4);
        self.slots(shape).iter().map(bytes).fold(0, u64::saturating_add)
    }
}

fn slot_len(slot: &str, shape: &[usize]) -> usize {
    let len = shape.iter().fold(1, |len: usize, &size| len.saturating_mul(size));
    match (slot, shape) {
        ("exp_avg_sq_row", [.., _, columns]) => len / (*columns).max(1),
        ("exp_avg_sq_col", [.., rows, _]) => len / (*rows).max(1),
        _ => len,
    }
}

/// The numbers of an update rule, by Python's names.
#[derive(Clone, Copy, Debug)]
pub struct Hyperparameters {
    /// `--adam_beta1`
    pub adam_beta1: f64,
    /// `--adam_beta2`
    pub adam_beta2: f64,
    /// `--adam_epsilon`
    pub adam_epsilon: f64,
    /// `--weight_decay`, on the parameters that [`ParameterInfo::decays`] says.
    pub weight_decay: f64,
}

impl Default for Hyperparameters {
    fn default() -> Self {
        Self { adam_beta1: 0.9, adam_beta2: 0.999, adam_epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// State of one parameter. A parameter that never had a gradient has none.
#[derive(Clone, Default)]
struct State {
    step: u64,
    slots: BTreeMap<&'static str, Tensor<1>>,
}

/// An optimizer and its state.
#[derive(Clone)]
pub struct Optimizer {
    kind: OptimizerKind,
    hyper: Hyperparameters,
    /// By which operations.
    compute: Compute,
    states: Vec<State>,
}

/// One tensor of the optimizer's state, on its way to or from a checkpoint.
pub struct StateTensor {
    /// `<slot>.<parameter name>`
    pub name: String,
    /// `[values]`
    pub tensor: Tensor<1>,
}

impl Optimizer {
    /// An optimizer that has taken no step.
    pub fn new(kind: OptimizerKind, hyper: Hyperparameters, compute: Compute) -> Self {
        Self { kind, hyper, compute, states: Vec::new() }
    }

    /// Moves the parameters against the gradients times `factor`. Parameters without a gradient stay, as in torch.
    pub fn step(&mut self, model: AutoModel, gradients: GradientSum, factor: f64, learning_rate: f64) -> AutoModel {
        struct Step<'a> {
            optimizer: &'a mut Optimizer,
            gradients: std::vec::IntoIter<Option<Tensor<1>>>,
            factor: f64,
            learning_rate: f64,
            next: usize,
        }
        impl Map for Step<'_> {
            fn map<const D: usize>(&mut self, info: ParameterInfo, tensor: Tensor<D>) -> Tensor<D> {
                let index = self.next;
                self.next += 1;
                let Some(gradient) = self.gradients.next().flatten() else { return tensor };
                let (shape, flat) = (tensor.dims(), tensor.flatten(0, D - 1));
                self.optimizer.update(index, &info, flat, gradient, self.factor, self.learning_rate).reshape(shape)
            }
        }
        let gradients = gradients.into_inner().into_iter();
        params::map(model, &mut Step { optimizer: self, gradients, factor, learning_rate, next: 0 })
    }

    /// The update of one parameter, flattened, by its gradient times `factor`.
    fn update(
        &mut self,
        index: usize,
        info: &ParameterInfo,
        p: Tensor<1>,
        g: Tensor<1>,
        factor: f64,
        lr: f64,
    ) -> Tensor<1> {
        if self.states.len() <= index {
            self.states.resize_with(index + 1, State::default);
        }
        let state = &mut self.states[index];
        let Hyperparameters { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: eps, .. } = self.hyper;
        let decay = if info.decays() { self.hyper.weight_decay } else { 0.0 };
        state.step += 1;
        let (step, compute) = (state.step as i32, self.compute);
        let device = g.device();
        let mut take = |slot: &'static str| {
            let len = slot_len(slot, &info.shape);
            state.slots.remove(slot).unwrap_or_else(|| ops::zeros(len, &device, compute))
        };
        let g = if self.kind == OptimizerKind::AdamW || factor == 1.0 { g } else { g * factor };
        match self.kind {
            OptimizerKind::AdamW => {
                let (m, v) = (take("exp_avg"), take("exp_avg_sq"));
                let options =
                    ops::AdamW { learning_rate: lr, beta1, beta2, epsilon: eps, weight_decay: decay, step, factor };
                let (p, m, v) = ops::adamw(p, m, v, g, options, compute);
                state.slots.extend([("exp_avg", m), ("exp_avg_sq", v)]);
                p
            }
            OptimizerKind::Adafactor => {
                // transformers.Adafactor(scale_parameter=False, relative_step=False), which is how the Trainer calls it.
                const EPS: f64 = 1e-30;
                const CLIP_THRESHOLD: f64 = 1.0;
                let beta2 = 1.0 - f64::from(step).powf(-0.8);
                let squares = g.clone() * g.clone() + EPS;
                let update = if let [.., rows, columns] = info.shape[..] {
                    let outer = info.len() / (rows * columns).max(1);
                    let squares = squares.reshape([outer, rows, columns]);
                    let row =
                        take("exp_avg_sq_row") * beta2 + squares.clone().mean_dim(2).flatten(0, 2) * (1.0 - beta2);
                    let col = take("exp_avg_sq_col") * beta2 + squares.mean_dim(1).flatten(0, 2) * (1.0 - beta2);
                    let r = row.clone().reshape([outer, rows, 1]);
                    let r = (r.clone() / r.mean_dim(1)).sqrt().recip();
                    let c = col.clone().reshape([outer, 1, columns]).sqrt().recip();
                    state.slots.extend([("exp_avg_sq_row", row), ("exp_avg_sq_col", col)]);
                    (r * c).flatten::<1>(0, 2) * g
                } else {
                    let v = take("exp_avg_sq") * beta2 + squares * (1.0 - beta2);
                    state.slots.insert("exp_avg_sq", v.clone());
                    g / v.sqrt()
                };
                let rms = (update.clone() * update.clone()).mean().sqrt();
                let update = update / (rms / CLIP_THRESHOLD).clamp_min(1.0) * lr;
                let p = if decay == 0.0 { p } else { p.clone() - p * (decay * lr) };
                p - update
            }
            OptimizerKind::Sgd => {
                let g = if decay == 0.0 { g } else { g + p.clone() * decay };
                p - g * lr
            }
            OptimizerKind::Adagrad => {
                let g = if decay == 0.0 { g } else { g + p.clone() * decay };
                let sum = take("sum") + g.clone() * g.clone();
                state.slots.insert("sum", sum.clone());
                p - g / (sum.sqrt() + 1e-10) * lr
            }
            OptimizerKind::RmsProp => {
                let g = if decay == 0.0 { g } else { g + p.clone() * decay };
                let square = take("square_avg") * 0.99 + g.clone() * g.clone() * 0.01;
                state.slots.insert("square_avg", square.clone());
                p - g / (square.sqrt() + 1e-8) * lr
            }
            OptimizerKind::Lion => {
                let m = take("exp_avg");
                let direction = (m.clone() * beta1 + g.clone() * (1.0 - beta1)).sign();
                let p = if decay == 0.0 { p } else { p * (1.0 - lr * decay) };
                state.slots.insert("exp_avg", m * beta2 + g * (1.0 - beta2));
                p - direction * lr
            }
        }
    }

    /// The state's tensors, named after the parameters; `parameters` is [`params::list`] of the model.
    pub fn state(&self, parameters: &[ParameterInfo]) -> Vec<StateTensor> {
        let states = self.states.iter().zip(parameters);
        let tensors = states.flat_map(|(state, info)| {
            state
                .slots
                .iter()
                .map(|(slot, tensor)| StateTensor { name: format!("{slot}.{}", info.name), tensor: tensor.clone() })
        });
        tensors.collect()
    }

    /// Steps taken by each parameter, in visiting order.
    pub fn steps(&self) -> Vec<u64> {
        self.states.iter().map(|state| state.step).collect()
    }

    /// Takes up a saved state again.
    pub fn load(
        &mut self,
        parameters: &[ParameterInfo],
        steps: &[u64],
        saved: &safetensors::SafeTensors,
        device: &burn::tensor::Device,
    ) -> Result<(), OptimizerError> {
        let bad = |reason: String| OptimizerError::State(reason);
        if steps.len() > parameters.len() {
            return Err(bad(format!(
                "{} parameters in the checkpoint, {} in the model",
                steps.len(),
                parameters.len()
            )));
        }
        let mut states = Vec::with_capacity(steps.len());
        for (info, &step) in parameters.iter().zip(steps) {
            let mut state = State { step, slots: BTreeMap::new() };
            for slot in if step > 0 { self.kind.slots(&info.shape) } else { &[] } {
                let name = format!("{slot}.{}", info.name);
                let view = saved.tensor(&name).map_err(|e| bad(format!("tensor {name}: {e}")))?;
                let expected = slot_len(slot, &info.shape);
                if view.dtype() != Dtype::F32 || view.data().len() != 4 * expected {
                    return Err(bad(format!(
                        "tensor {name} has {:?} {:?}, expected {expected} x F32",
                        view.dtype(),
                        view.shape()
                    )));
                }
                let values: Vec<f32> = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                state.slots.insert(slot, Tensor::from_data(TensorData::new(values, [expected]), device));
            }
            states.push(state);
        }
        self.states = states;
        Ok(())
    }
}
