//! An optimizer and its state, over all parameters of a model.

use std::cell::RefCell;

use burn::tensor::{Device, Tensor, TensorData};
use lm_models::AutoModel;
use lm_models::ops::{AdamWStep, Compute};
use lm_models::parameters::ParameterInfo;

use super::gradients::GradientSum;
use super::rule::{Hyperparameters, Kept, Slot, Slots, Update};
use super::rules::OptimizerNames;

/// A saved state does not fit the model.
#[derive(Debug, thiserror::Error)]
#[error("optimizer state: {0}")]
pub struct OptimizerStateError(String);

/// State of one parameter. A parameter that never had a gradient has none.
#[derive(Clone, Default)]
struct State {
    step: u64,
    slots: Slots,
}

/// An optimizer and its state.
#[derive(Clone)]
pub struct Optimizer {
    name: OptimizerNames,
    hyper: Hyperparameters,
    /// By which operations.
    compute: Compute,
    states: Vec<State>,
    /// The parameters that this process moves, in visiting order; all, where it says nothing.
    owned: Option<Vec<bool>>,
}

/// One tensor of the optimizer's state, on its way to or from a checkpoint.
pub struct StateTensor {
    /// `<slot>.<parameter name>`
    pub name: String,
    /// The shape that torch gives it.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Kept,
}

impl StateTensor {
    /// Name, shape, and whether the values are codes of 8 bits.
    pub fn described(&self) -> (String, Vec<usize>, bool) {
        (self.name.clone(), self.shape.clone(), matches!(self.values, Kept::Codes(_)))
    }
}

impl Optimizer {
    /// An optimizer that has taken no step.
    pub fn new(name: OptimizerNames, hyper: Hyperparameters, compute: Compute) -> Self {
        Self { name, hyper, compute, states: Vec::new(), owned: None }
    }

    /// From now on moves, and keeps state for, these parameters only, in visiting order; of the others it counts the steps.
    pub fn keep_only(&mut self, owned: Vec<bool>) {
        self.owned = Some(owned);
    }

    fn owns(&self, index: usize) -> bool {
        self.owned.as_ref().is_none_or(|owned| owned[index])
    }

    /// Moves the parameters against the gradients times `factor`. Parameters without a gradient stay, as in torch.
    pub fn step(&mut self, model: AutoModel, gradients: GradientSum, factor: f64, learning_rate: f64) -> AutoModel {
        let mut gradients = gradients.into_inner().into_iter();
        let (adamw, mut index) = (RefCell::default(), 0);
        let model = model.map(|info, tensor| {
            index += 1;
            match gradients.next().flatten() {
                Some(gradient) => self.update(index - 1, info, [tensor, gradient], (factor, learning_rate), &adamw),
                None => tensor,
            }
        });
        adamw.into_inner().finish();
        model
    }

    /// The update of one parameter, flattened, by its gradient times `factor`; what another process moves stays.
    fn update(
        &mut self,
        index: usize,
        info: &ParameterInfo,
        [p, g]: [Tensor<1>; 2],
        (factor, learning_rate): (f64, f64),
        adamw: &RefCell<AdamWStep>,
    ) -> Tensor<1> {
        if self.states.len() <= index {
            self.states.resize_with(index + 1, State::default);
        }
        let owns = self.owns(index);
        let state = &mut self.states[index];
        state.step += 1;
        if !owns {
            return p;
        }
        let weight_decay = if info.decays { self.hyper.weight_decay } else { 0.0 };
        let hyper = Hyperparameters { weight_decay, ..self.hyper };
        let (shape, kind, step, compute) = (&info.shape[..], info.kind, state.step as i32, self.compute);
        let update = Update { shape, kind, step, factor, learning_rate, hyper, compute, adamw };
        (self.name.rule().update)(p, g, &mut state.slots, &update)
    }

    /// The state's tensors, named after the parameters; `parameters` is [`AutoModel::parameters`].
    pub fn state(&self, parameters: &[ParameterInfo]) -> Vec<StateTensor> {
        let states = self.states.iter().zip(parameters);
        let tensors = states.flat_map(|(state, info)| {
            let slots = (self.name.rule().slots)(&info.shape, info.kind).iter();
            slots.filter_map(|Slot { name, layout }| {
                let values = state.slots.get(name)?.clone();
                Some(StateTensor { name: format!("{name}.{}", info.name), shape: layout.shape(&info.shape), values })
            })
        });
        tensors.collect()
    }

    /// The numbers it computes with.
    pub fn hyper(&self) -> Hyperparameters {
        self.hyper
    }

    /// Steps taken by each parameter, in visiting order.
    pub fn steps(&self) -> Vec<u64> {
        self.states.iter().map(|state| state.step).collect()
    }

    /// Takes up a saved state again: `steps` of each parameter in visiting order, and of `saved` the values of this slot of
    /// the parameter with this index, float32 or unsigned bytes as its layout is.
    ///
    /// # Errors
    /// If a tensor is missing, or is not what this optimizer keeps for the parameter.
    pub fn load(
        &mut self,
        parameters: &[ParameterInfo],
        steps: &[u64],
        mut saved: impl FnMut(usize, &Slot) -> Result<TensorData, String>,
        device: &Device,
    ) -> Result<(), OptimizerStateError> {
        let bad = OptimizerStateError;
        if steps.len() > parameters.len() {
            return Err(bad(format!(
                "{} parameters in the checkpoint, {} in the model",
                steps.len(),
                parameters.len()
            )));
        }
        let mut states = Vec::with_capacity(steps.len());
        for (index, (info, &step)) in parameters.iter().zip(steps).enumerate() {
            let mut state = State { step, slots: Slots::default() };
            for slot in
                if step > 0 && self.owns(index) { (self.name.rule().slots)(&info.shape, info.kind) } else { &[] }
            {
                let name = format!("{}.{}", slot.name, info.name);
                let data = saved(index, slot).map_err(|e| bad(format!("tensor {name}: {e}")))?;
                let (found, expected) = (data.num_elements(), slot.layout.len(&info.shape));
                if found != expected {
                    return Err(bad(format!("tensor {name} has {found} values, expected {expected}")));
                }
                state.slots.insert(slot.name, Kept::new(data, slot.layout, device));
            }
            states.push(state);
        }
        self.states = states;
        Ok(())
    }
}
