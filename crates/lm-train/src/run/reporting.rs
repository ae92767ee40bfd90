//! `--report_to`: who gets the log of a run besides the output folder.

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::args::{ArgsError, Arguments};
use crate::checkpoint::ModelFiles;
use crate::observe::{
    Callbacks, LogRecord, Mlflow, MlflowSettings, Outcome, TensorBoard, TrainerState, Wandb, WandbSettings,
    default_logging_dir, json,
};
use crate::sys::{secrets, variable};

/// What Python's callbacks read and this program has no use for, each with the reason.
const WITHOUT_EFFECT: [(&str, &str, &str); 5] = [
    ("wandb", "WANDB_LOG_MODEL", "models are not uploaded; --push_to_hub uploads them to the Hub"),
    ("wandb", "WANDB_WATCH", "parameters and gradients are not logged; grad_norm is"),
    ("mlflow", "HF_MLFLOW_LOG_ARTIFACTS", "checkpoints are not uploaded"),
    ("mlflow", "MLFLOW_FLATTEN_PARAMS", "parameters are logged as they are"),
    ("mlflow", "MLFLOW_NESTED_RUN", "a run has no parent"),
];

/// Looks whether the server of `--report_to mlflow` has an address.
///
/// # Errors
/// If it has none.
pub(super) fn check(args: &Arguments) -> Result<(), ArgsError> {
    let training = &args.training;
    if (training.do_train || training.do_eval) && training.reports_to("mlflow") {
        mlflow(args)?;
    }
    Ok(())
}

fn mlflow(args: &Arguments) -> Result<MlflowSettings, ArgsError> {
    let settings = MlflowSettings::new(args.training.run_name.as_deref(), variable);
    settings.map_err(|error| ArgsError::Rule(format!("--report_to mlflow: {error}")))
}

/// Event files for TensorBoard, which only training writes.
pub(super) fn add_tensorboard(callbacks: &mut Callbacks, args: &Arguments, files: &ModelFiles) {
    let training = &args.training;
    if training.reports_to("tensorboard") {
        let logging_dir = training.logging_dir.clone().unwrap_or_else(|| default_logging_dir(&training.output_dir));
        let texts =
            vec![("args".to_owned(), files.arguments.clone()), ("model_config".to_owned(), files.config.to_json())];
        callbacks.add(TensorBoard::new(logging_dir, texts));
    }
}

/// The services that collect runs. `parameters` is the number of the model's values.
pub(super) fn add_services(
    callbacks: &mut Callbacks,
    args: &Arguments,
    files: &ModelFiles,
    parameters: u64,
) -> Result<()> {
    let training = &args.training;
    for (service, name, reason) in WITHOUT_EFFECT {
        let asked = variable(name).is_some_and(|value| !["false", "0"].contains(&value.to_lowercase().as_str()));
        if training.reports_to(service) && asked {
            tracing::warn!("{name} changes nothing here: {reason}");
        }
    }
    if training.reports_to("wandb") && !wandb_is_off() {
        let mut config = values(args, files)?;
        config.insert("model/num_parameters".to_owned(), parameters.into());
        callbacks.add(Wandb::new(WandbSettings::new(training.run_name.as_deref(), variable), config));
    }
    if training.reports_to("mlflow") {
        for name in ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"] {
            secrets::add(&variable(name).unwrap_or_default());
        }
        callbacks.add(Mlflow::new(mlflow(args)?, &values(args, files)?));
    }
    Ok(())
}

/// Reports the evaluation that is all of a run.
pub(super) fn report_evaluation(
    args: &Arguments,
    files: &ModelFiles,
    parameters: u64,
    state: &TrainerState,
    record: &LogRecord,
) -> Result<()> {
    let mut services = Callbacks::default();
    add_services(&mut services, args, files, parameters)?;
    services.on_log(state, record);
    services.on_train_end(state, &Outcome::Finished);
    Ok(())
}

/// The model's configuration and the arguments, which win where both have a name, as in Python.
fn values(args: &Arguments, files: &ModelFiles) -> Result<Map<String, Value>> {
    let mut values: Map<String, Value> = json::from_str(&files.config.to_json()).context("config.json")?;
    if let Value::Object(arguments) = args.to_json() {
        values.extend(arguments);
    }
    Ok(values)
}

/// Python's switches. They turn off what `--report_to` asks for, so it is said.
fn wandb_is_off() -> bool {
    let is =
        |name, values: &[&str]| variable(name).is_some_and(|value| values.contains(&value.to_lowercase().as_str()));
    let off = is("WANDB_MODE", &["disabled"]) || is("WANDB_DISABLED", &["1", "true", "yes", "on"]);
    if off {
        tracing::warn!("--report_to wandb: nothing is written, since WANDB_MODE or WANDB_DISABLED turns it off");
    }
    off
}
