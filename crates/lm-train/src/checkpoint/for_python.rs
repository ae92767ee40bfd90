//! optimizer.pt, scheduler.pt, scaler.pt, rng_state.pth and training_args.bin as Python's Trainer writes them, and goes on
//! from. This program reads the first of them too; what it needs of the others is in run_state.json.

use std::io;
use std::path::Path;

use lm_models::ops;
use lm_models::optimizer_order;
use lm_models::parameters::{ParameterInfo, Snapshot};
use serde_json::{Map, Value as Json};

use super::torch_save::{self, Value, Values};
use super::{
    CheckpointError, OPTIMIZER_NAME, QMAPS, RNG_STATE_NAME, Resumable, RunState, SCALER_NAME, SCHEDULER_NAME,
    TRAINING_ARGS_NAME, rng_state, training_args,
};
use crate::optim::{GradScaler, Hyperparameters, Kept, StateTensor, adafactor, adagrad, rmsprop};
use crate::schedule::ScheduleState;

/// Writes the files.
///
/// # Errors
/// If one cannot be written.
pub(super) fn save(
    folder: &Path,
    step: u64,
    arguments: &Map<String, Json>,
    parameters: &[Snapshot],
    Resumable { run_state: run, optimizer: tensors, hyper }: &Resumable,
) -> Result<(), CheckpointError> {
    let write = |file: &str, value: &Value| {
        let path = folder.join(file);
        let name = file.split('.').next().unwrap_or(file);
        torch_save::save(&path, name, value).map_err(CheckpointError::io("write", &path))
    };
    let Some(schedule) = &run.schedule else { return Ok(()) };
    let infos: Vec<ParameterInfo> = parameters.iter().map(|parameter| parameter.info.clone()).collect();
    write(OPTIMIZER_NAME, &optimizer(&infos, tensors, run, schedule, hyper))?;
    write(SCHEDULER_NAME, &scheduler(schedule))?;
    if let Some(grad_scaler) = &run.grad_scaler {
        write(SCALER_NAME, &scaler(grad_scaler))?;
    }
    let seed = run.fingerprint.as_ref().map_or(0, |fingerprint| fingerprint.seed);
    write(RNG_STATE_NAME, &rng_state::value(seed, step))?;
    write(TRAINING_ARGS_NAME, &training_args::value(arguments))
}

fn dict<'a, 'n>(entries: impl IntoIterator<Item = (&'n str, Value<'a>)>) -> Value<'a> {
    Value::Dict(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn optimizer<'a>(
    infos: &[ParameterInfo],
    tensors: &'a [StateTensor],
    run: &RunState,
    schedule: &ScheduleState,
    hyper: &Hyperparameters,
) -> Value<'a> {
    let name = run.optimizer.as_deref().unwrap_or_default();
    let mut states = Vec::new();
    let order = optimizer_order(infos);
    let count = order.len();
    for (position, index) in order.into_iter().enumerate() {
        let info = &infos[index];
        let Some(&step) = run.optimizer_steps.get(index).filter(|&&step| step > 0) else { continue };
        let slots = tensors.iter().filter_map(|state| {
            let slot = state.name.strip_suffix(&info.name)?.strip_suffix('.')?;
            Some((slot.to_owned(), Value::Tensor(state.shape.clone(), values(&state.values))))
        });
        let mut state: Vec<(String, Value<'a>)> = slots.collect();
        match name {
            "sgd" => {}
            "adafactor" => state.push(("step".to_owned(), Value::Int(step as i64))),
            "adamw_8bit" => {
                state.push(("step".to_owned(), Value::Int(step as i64)));
                if state.iter().any(|(slot, _)| slot == "absmax1") {
                    state.extend(QMAPS.into_iter().zip(ops::dynamic_maps()).map(|(name, map)| {
                        let values = Values::Float32(Box::new(|| Ok(map.to_vec())));
                        (name.to_owned(), Value::Tensor(vec![map.len()], values))
                    }));
                }
            }
            _ => {
                let step = Values::Float32(Box::new(move || Ok(vec![step as f32])));
                state.push(("step".to_owned(), Value::Tensor(Vec::new(), step)));
            }
        }
        states.push((position, Value::Dict(state)));
    }
    let decaying = infos.iter().filter(|info| info.trainable && info.decays).count();
    let group = |weight_decay: f64, positions: std::ops::Range<usize>| {
        let mut entries = hyperparameters(name, hyper);
        let rates = [("weight_decay", weight_decay), ("lr", schedule.next_rate), ("initial_lr", schedule.base_lr)];
        entries.extend(rates.map(|(name, value)| (name, Value::Float(value))));
        entries.push(("params", Value::List(positions.map(|position| Value::Int(position as i64)).collect())));
        dict(entries)
    };
    let groups = vec![group(hyper.weight_decay, 0..decaying), group(0.0, decaying..count)];
    dict([("state", Value::Numbered(states)), ("param_groups", Value::List(groups))])
}

/// A tensor's values, read from the device when they are written.
fn values(kept: &Kept) -> Values<'_> {
    fn other(error: impl std::fmt::Debug) -> io::Error {
        io::Error::other(format!("{error:?}"))
    }
    match kept {
        Kept::Float(tensor) => Values::Float32(Box::new(|| {
            tensor.clone().try_into_data().map_err(io::Error::other)?.try_into_vec_as().map_err(other)
        })),
        Kept::Codes(tensor) => Values::Uint8(Box::new(|| {
            tensor.clone().try_into_data().map_err(io::Error::other)?.try_into_vec_as().map_err(other)
        })),
    }
}

/// What a parameter group holds besides: everything, since Python takes the groups as they are saved.
fn hyperparameters(optimizer: &str, hyper: &Hyperparameters) -> Vec<(&'static str, Value<'static>)> {
    let (no, none) = (|| Value::Bool(false), || Value::None);
    let pair = |first, second| Value::Tuple(vec![Value::Float(first), Value::Float(second)]);
    let mut entries = match optimizer {
        "sgd" => vec![
            ("momentum", Value::Float(0.0)),
            ("dampening", Value::Float(0.0)),
            ("nesterov", no()),
            ("fused", none()),
        ],
        "adagrad" => vec![
            ("lr_decay", Value::Float(0.0)),
            ("eps", Value::Float(adagrad::EPS)),
            ("initial_accumulator_value", Value::Float(0.0)),
            ("fused", none()),
        ],
        "rmsprop" => vec![
            ("momentum", Value::Float(0.0)),
            ("alpha", Value::Float(rmsprop::ALPHA)),
            ("eps", Value::Float(rmsprop::EPS)),
            ("centered", no()),
            ("capturable", no()),
        ],
        "adamw_8bit" => {
            return vec![
                ("betas", pair(hyper.adam_beta1, hyper.adam_beta2)),
                ("eps", Value::Float(hyper.adam_epsilon)),
                ("alpha", Value::Float(0.0)),
                ("t_alpha", none()),
                ("t_beta3", none()),
            ];
        }
        "adafactor" => {
            return vec![
                ("eps", pair(adafactor::EPS, 1e-3)),
                ("clip_threshold", Value::Float(adafactor::CLIP_THRESHOLD)),
                ("decay_rate", Value::Float(adafactor::DECAY_RATE)),
                ("beta1", none()),
                ("scale_parameter", no()),
                ("relative_step", no()),
                ("warmup_init", no()),
            ];
        }
        _ => vec![
            ("betas", pair(hyper.adam_beta1, hyper.adam_beta2)),
            ("eps", Value::Float(hyper.adam_epsilon)),
            ("amsgrad", no()),
            ("capturable", no()),
            ("fused", none()),
            ("decoupled_weight_decay", Value::Bool(true)),
        ],
    };
    entries.extend([("maximize", no()), ("foreach", none()), ("differentiable", no())]);
    entries
}

fn scheduler(schedule: &ScheduleState) -> Value<'static> {
    let twice = |value: f64| Value::List(vec![Value::Float(value), Value::Float(value)]);
    if let Some(plateau) = &schedule.plateau {
        return dict([
            ("best", plateau.best.map_or(Value::Float(f64::INFINITY), Value::Float)),
            ("num_bad_epochs", Value::Int(plateau.num_bad_epochs as i64)),
            ("cooldown_counter", Value::Int(plateau.cooldown_counter as i64)),
            ("_last_lr", twice(plateau.learning_rate)),
        ]);
    }
    dict([
        ("base_lrs", twice(schedule.base_lr)),
        ("last_epoch", Value::Int(schedule.next_step as i64)),
        ("_step_count", Value::Int(schedule.next_step as i64 + 1)),
        ("_last_lr", twice(schedule.next_rate)),
        ("lr_lambdas", Value::List(vec![dict([]), dict([])])),
    ])
}

fn scaler(scaler: &GradScaler) -> Value<'static> {
    dict([
        ("scale", Value::Float(f64::from(scaler.scale))),
        ("growth_factor", Value::Float(2.0)),
        ("backoff_factor", Value::Float(0.5)),
        ("growth_interval", Value::Int(2000)),
        ("_growth_tracker", Value::Int(i64::from(scaler.growth_tracker))),
    ])
}
