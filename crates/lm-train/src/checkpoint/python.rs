//! Checkpoints of Python's Trainer: optimizer.pt, scheduler.pt and scaler.pt beside the model and trainer_state.json. Nothing
//! in them is executed. Their random numbers (rng_state.pth) are of no use here, and their examples are not told.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::tensor::{Device, Element, TensorData};
use lm_models::ops;
use lm_models::optimizer_order;
use lm_models::parameters::ParameterInfo;
use lm_models::weights::{PickleValue, TorchFile};
use serde_json::{Map, Value};

use super::{
    CheckpointError, OPTIMIZER_NAME, QMAPS, RUN_STATE_VERSION, RunState, SCALER_NAME, SCHEDULER_NAME, SinceLog,
};
use crate::observe::history::RunHistory;
use crate::observe::{TRAINER_STATE_NAME, TrainerState};
use crate::optim::{GradScaler, Layout, Optimizer, Slot};
use crate::schedule::{PlateauState, ScheduleState};

/// Where bitsandbytes keeps what is of another shape than the parameter.
const BITSANDBYTES: &str = "__bnb_optimizer_quant_state__";

type Dict = HashMap<String, PickleValue>;

/// Whether there is all that Python's own resume asks for.
pub(super) fn is_whole(folder: &Path) -> bool {
    [OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME].iter().all(|name| folder.join(name).is_file())
}

/// What is known of a run from its trainer_state.json alone.
pub(super) fn run_state(state: &TrainerState) -> RunState {
    RunState {
        version: RUN_STATE_VERSION,
        fingerprint: None,
        schedule: None,
        optimizer: None,
        optimizer_steps: Vec::new(),
        grad_scaler: None,
        stream_position: None,
        total_loss: total_loss(state),
        since_log: SinceLog::default(),
        history: RunHistory::default(),
        evaluation_due: false,
        files: BTreeMap::new(),
    }
}

/// The sum of the losses of all steps, as far as the records tell: each is the mean of the steps since the one before.
fn total_loss(state: &TrainerState) -> f64 {
    let (mut sum, mut last) = (0.0, 0);
    for record in &state.log_history {
        if let (Some(loss), Some(step)) = (record.get("loss"), record.step()) {
            sum += loss * step.saturating_sub(last) as f64;
            last = step;
        }
    }
    if last == 0 { 0.0 } else { sum / last as f64 * state.global_step as f64 }
}

/// Everything but the model.
pub(super) fn read(folder: &Path, state: &TrainerState) -> Result<(RunState, Moments), CheckpointError> {
    let path = folder.join(OPTIMIZER_NAME);
    let file = open(&path)?;
    let groups = groups(dict(file.values())).map_err(|reason| CheckpointError::damaged(&path, reason))?;
    let name = optimizer_name(&groups).map_err(|reason| CheckpointError::damaged(&path, reason))?;
    let path = folder.join(SCHEDULER_NAME);
    let schedule = schedule(dict(open(&path)?.values()), groups[0], state.global_step);
    let schedule = schedule.map_err(|reason| CheckpointError::damaged(&path, reason))?;
    let path = folder.join(SCALER_NAME);
    let grad_scaler = match path.is_file() {
        true => Some(scaler(dict(open(&path)?.values())).map_err(|reason| CheckpointError::damaged(&path, reason))?),
        false => None,
    };
    let run_state =
        RunState { schedule: Some(schedule), optimizer: Some(name.to_owned()), grad_scaler, ..run_state(state) };
    Ok((run_state, Moments { file, steps: Steps::OfRun(state.global_step) }))
}

/// The arguments of Python's Trainer that a parameter group with weight decay tells.
fn arguments(group: &Dict) -> Map<String, Value> {
    let betas = list(group, "betas");
    let adam = |value: Option<&PickleValue>| number(value).filter(|_| !betas.is_empty());
    let told = [
        ("weight_decay", number(group.get("weight_decay"))),
        ("adam_beta1", adam(betas.first())),
        ("adam_beta2", adam(betas.get(1))),
        ("adam_epsilon", adam(group.get("eps"))),
    ];
    told.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
}

fn open(path: &Path) -> Result<TorchFile, CheckpointError> {
    Ok(TorchFile::open(path)?)
}

/// The entries of a dictionary; none of anything else, which then lacks what is looked for.
fn dict(value: &PickleValue) -> &Dict {
    static NONE: std::sync::LazyLock<Dict> = std::sync::LazyLock::new(Dict::new);
    match value {
        PickleValue::Dict(entries) => entries,
        _ => &NONE,
    }
}

fn list<'a>(entries: &'a Dict, name: &str) -> &'a [PickleValue] {
    match entries.get(name) {
        Some(PickleValue::List(values)) => values,
        _ => &[],
    }
}

fn number(value: Option<&PickleValue>) -> Option<f64> {
    match value? {
        PickleValue::Float(value) => Some(*value),
        PickleValue::Int(value) => Some(*value as f64),
        _ => None,
    }
}

fn needed(entries: &Dict, name: &str) -> Result<f64, String> {
    number(entries.get(name)).ok_or_else(|| format!("has no number {name:?}: it is not what Python's Trainer saves"))
}

/// The parameter groups: that with weight decay, and that without.
fn groups(optimizer: &Dict) -> Result<[&Dict; 2], String> {
    match list(optimizer, "param_groups") {
        [decaying, other] => Ok([dict(decaying), dict(other)]),
        other => Err(format!("has {} parameter groups, Python's Trainer saves 2", other.len())),
    }
}

/// `--optim`, which the hyperparameters that each optimizer has tell.
fn optimizer_name(groups: &[&Dict; 2]) -> Result<&'static str, String> {
    let has = |name: &str| groups[0].contains_key(name);
    // What moves by a momentum, or about a mean, has states that are not read.
    let plain = || number(groups[0].get("momentum")) == Some(0.0);
    if has("amsgrad") && groups[0].get("amsgrad") != Some(&PickleValue::Bool(true)) {
        Ok("adamw_torch")
    } else if has("relative_step") {
        Ok("adafactor")
    } else if has("t_alpha") {
        Ok("adamw_8bit")
    } else if has("lr_decay") {
        Ok("adagrad")
    } else if has("alpha") && groups[0].get("centered") == Some(&PickleValue::Bool(false)) && plain() {
        Ok("rmsprop")
    } else if has("nesterov") && plain() {
        Ok("sgd")
    } else {
        let mut names: Vec<&str> = groups[0].keys().map(String::as_str).collect();
        names.sort_unstable();
        Err(format!("is of an optimizer that is not supported (it has {})", names.join(", ")))
    }
}

fn schedule(scheduler: &Dict, group: &Dict, global_step: u64) -> Result<ScheduleState, String> {
    let rate = needed(group, "lr")?;
    if scheduler.contains_key("num_bad_epochs") {
        let best = needed(scheduler, "best")?;
        let plateau = PlateauState {
            learning_rate: rate,
            best: best.is_finite().then_some(best),
            num_bad_epochs: needed(scheduler, "num_bad_epochs")? as u64,
            cooldown_counter: needed(scheduler, "cooldown_counter")?,
        };
        let base_lr = number(group.get("initial_lr")).unwrap_or(rate);
        return Ok(ScheduleState { base_lr, next_step: global_step, next_rate: rate, plateau: Some(plateau) });
    }
    let base_lr = number(list(scheduler, "base_lrs").first()).ok_or("has no base_lrs")?;
    // With --fp16 fewer than the steps of the run: one that overflows does not count.
    let next_step = needed(scheduler, "last_epoch")? as u64;
    let next_rate = number(list(scheduler, "_last_lr").first()).unwrap_or(rate);
    Ok(ScheduleState { base_lr, next_step, next_rate, plateau: None })
}

fn scaler(scaler: &Dict) -> Result<GradScaler, String> {
    Ok(GradScaler { scale: needed(scaler, "scale")? as f32, growth_tracker: needed(scaler, "_growth_tracker")? as u32 })
}

fn flat<E: Element>(values: Vec<E>) -> TensorData {
    let len = values.len();
    TensorData::new(values, [len])
}

/// An open optimizer.pt.
pub(super) struct Moments {
    file: TorchFile,
    steps: Steps,
}

/// The steps that each parameter took.
enum Steps {
    /// In the file too; those of the run where the optimizer does not count.
    OfRun(u64),
    /// Of run_state.json, in visiting order.
    Known(Vec<u64>),
}

impl Moments {
    /// Those of a checkpoint of this program.
    pub(super) fn open(folder: &Path, steps: &[u64]) -> Result<Self, CheckpointError> {
        Ok(Self { file: open(&folder.join(OPTIMIZER_NAME))?, steps: Steps::Known(steps.to_vec()) })
    }

    /// See [`arguments`].
    pub(super) fn arguments(&self) -> Map<String, Value> {
        groups(dict(self.file.values())).map(|[decaying, _]| arguments(decaying)).unwrap_or_default()
    }

    /// Gives the optimizer its state.
    pub(super) fn load(
        &self,
        optimizer: &mut Optimizer,
        parameters: &[ParameterInfo],
        device: &Device,
    ) -> anyhow::Result<()> {
        let values = dict(self.file.values());
        let order = optimizer_order(parameters);
        let decaying = parameters.iter().filter(|info| info.trainable && info.decays).count();
        let others = order.len() - decaying;
        let found = groups(values).map_err(anyhow::Error::msg)?.map(|group| list(group, "params").len());
        anyhow::ensure!(
            found == [decaying, others],
            "{OPTIMIZER_NAME} is of {} parameters with and {} without weight decay, the model has {decaying} and {others}: it is of another model, or others were frozen",
            found[0],
            found[1]
        );
        // What is frozen has none.
        let mut positions = vec![None; parameters.len()];
        for (position, index) in order.into_iter().enumerate() {
            positions[index] = Some(position);
        }
        let states = values.get("state").map(dict);
        let steps = match &self.steps {
            Steps::Known(steps) => steps.clone(),
            Steps::OfRun(step) => {
                let steps = |position: &Option<usize>| {
                    position.map_or(Ok(0), |position| self.steps_in_file(states, position, *step))
                };
                positions.iter().map(steps).collect::<anyhow::Result<_>>()?
            }
        };
        let slot = |index: usize, slot: &Slot| {
            let position = positions[index].ok_or("is frozen, and has a state in the checkpoint")?;
            let info = &parameters[index];
            // bitsandbytes hides its own from those who gather a distributed state.
            let names = [format!("state.{position}."), format!("state.{position}.{BITSANDBYTES}.")];
            let names = names.map(|state| state + slot.name);
            let name = names.iter().find(|name| self.file.shape(name).is_some()).unwrap_or(&names[0]);
            let data = match slot.layout {
                Layout::Codes => {
                    self.expect_our_maps(&name[..name.len() - slot.name.len()])?;
                    self.file.read_u8(name).map(flat)
                }
                _ => self.file.read_f32(name).map(flat),
            };
            let data = data.map_err(|error| error.to_string())?;
            let expected = slot.layout.shape(&info.shape);
            match self.file.shape(name) {
                Some(shape) if data.num_elements() == slot.layout.len(&info.shape) && shape != expected => {
                    Err(format!("has shape {shape:?} in {OPTIMIZER_NAME}, and should have {expected:?}"))
                }
                _ => Ok(data),
            }
        };
        Ok(optimizer.load(parameters, &steps, slot, device)?)
    }

    /// What stands for a byte has changed before.
    fn expect_our_maps(&self, state: &str) -> Result<(), String> {
        for (name, map) in QMAPS.into_iter().zip(ops::dynamic_maps()) {
            if self.file.read_f32(&format!("{state}{name}")).map_err(|error| error.to_string())? != map {
                return Err(format!("{state}{name} is another map of 8 bits than that of bitsandbytes 0.50"));
            }
        }
        Ok(())
    }

    /// The steps that a parameter took: none if it has no state.
    fn steps_in_file(&self, states: Option<&Dict>, position: usize, of_run: u64) -> anyhow::Result<u64> {
        let Some(state) = states.and_then(|states| states.get(&position.to_string())).map(dict) else {
            // Stochastic gradient descent keeps nothing.
            return Ok(0);
        };
        Ok(match state.get("step") {
            None => of_run,
            Some(PickleValue::Unsupported(_)) => {
                self.file.read_f32(&format!("state.{position}.step"))?.first().map_or(0, |&step| step as u64)
            }
            step => number(step).map_or(of_run, |step| step as u64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// States of a momentum would be left out without a word.
    #[test]
    fn optimizers_with_states_that_are_not_read_are_refused() {
        let name = |entries: &[(&str, PickleValue)]| {
            let group: Dict = entries.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            optimizer_name(&[&group, &group])
        };
        let (momentum, bool) = (|value| ("momentum", PickleValue::Float(value)), PickleValue::Bool);
        for (centered, of, refused) in [(false, 0.0, false), (false, 0.9, true), (true, 0.0, true)] {
            let found = name(&[("alpha", PickleValue::Float(0.99)), ("centered", bool(centered)), momentum(of)]);
            assert_eq!(found.is_err(), refused, "rmsprop, centered {centered}, momentum {of}: {found:?}");
        }
        assert_eq!(name(&[("nesterov", bool(false)), momentum(0.0)]), Ok("sgd"));
        for (known, value) in [("nesterov", 0.9), ("neither", 0.0)] {
            let error = name(&[(known, bool(false)), momentum(value)]).unwrap_err();
            assert!(error.contains("not supported") && error.contains(known), "{error}");
        }
    }
}
