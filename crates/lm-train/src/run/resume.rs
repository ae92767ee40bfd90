//! Whether a run may go on from a checkpoint: a resumed run is the unbroken one, or is told that it need not be.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::args::Arguments;
use crate::checkpoint::{Fingerprint, Saved};
use crate::run::data::Data;
use crate::train::plan::Plan;

/// `--gradient_accumulation_steps` with which a step keeps the batches that it had, when as many processes as there are now
/// share them; none where the arguments' own do.
///
/// # Errors
/// If so many processes cannot share them evenly.
pub fn accumulation(args: &Arguments, saved: &Saved) -> Result<Option<usize>> {
    let Some(then) = &saved.run_state.fingerprint else { return Ok(None) };
    let given = args.training.gradient_accumulation_steps;
    let (batches, devices) = (then.batches_per_step(), args.num_devices());
    let another_number = then.ranks != args.ranks || then.asked_accumulation_steps.is_some();
    let same_command = then.asked_accumulation_steps.unwrap_or(then.gradient_accumulation_steps) == given
        && then.num_devices == args.beyond.num_devices();
    if !another_number || !same_command || given.saturating_mul(devices) == batches {
        return Ok(None);
    }
    if !batches.is_multiple_of(devices) {
        if args.beyond.allow_changes_on_resume {
            return Ok(None);
        }
        let each = args.beyond.num_devices();
        let fit: Vec<_> = (1..=batches / each.max(1)).filter(|ranks| batches.is_multiple_of(ranks * each)).collect();
        let fit = fit.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        bail!(
            "{}: a step has {batches} batches, which {} processes cannot share evenly: start {fit}, or go on regardless with --allow_changes_on_resume",
            saved.folder.display(),
            args.ranks
        );
    }
    let steps = batches / devices;
    tracing::info!(
        "{}: a step keeps its {batches} batches: {} processes take --gradient_accumulation_steps {steps} each",
        saved.folder.display(),
        args.ranks
    );
    Ok(Some(steps))
}

/// The checkpoint to go on from after all: `--overwrite_output_dir` goes on with an unfinished run only if its text is the
/// same too.
///
/// # Errors
/// If there are no training examples.
pub fn unless_another_run(args: &Arguments, data: &Data, saved: Option<Saved>) -> Result<Option<Saved>> {
    let training = &args.training;
    let may = training.overwrite_output_dir
        && training.resume_from_checkpoint.is_none()
        && !args.beyond.allow_changes_on_resume;
    let Some(saved) = saved else { return Ok(None) };
    if !may {
        return Ok(Some(saved));
    }
    let (examples, key) = data.train_data(Some(&saved))?;
    let plan = Plan::new(args, examples.batches_per_epoch(), key)?;
    let then = saved.run_state.fingerprint.as_ref();
    match then.and_then(|then| plan.fingerprint.difference(then)) {
        Some(difference) if !then.is_some_and(|then| may_differ(args, &plan, then)) => {
            tracing::info!("not the run of {} after all: {difference}; starting anew", saved.folder.display());
            Ok(None)
        }
        _ => Ok(Some(saved)),
    }
}

/// Whether a run differs from the checkpoint only by how its steps are cut into batches, where that may be looked for.
fn may_differ(args: &Arguments, plan: &Plan, then: &Fingerprint) -> bool {
    let (per_device_train_batch_size, gradient_accumulation_steps) =
        (then.per_device_train_batch_size, then.gradient_accumulation_steps);
    let same = Fingerprint { per_device_train_batch_size, gradient_accumulation_steps, ..plan.fingerprint.clone() };
    args.training.auto_find_batch_size && same.difference(then).is_none()
}

/// Looks for what would make the resumed run another one than the unbroken one.
///
/// # Errors
/// If there is such a thing, and `--allow_changes_on_resume` does not let it.
pub fn check_unchanged(args: &Arguments, plan: &Plan, saved: &Saved) -> Result<()> {
    let run = &saved.run_state;
    let folder = saved.folder.display();
    match &run.optimizer {
        None => tracing::warn!("{folder} holds the weights alone: their optimizer begins anew"),
        Some(then) => ensure!(
            then == plan.optimizer.as_str(),
            "{folder} was trained with --optim {then}, not {}: its moments are of no use to another optimizer",
            plan.optimizer
        ),
    }
    match &run.fingerprint {
        None => tracing::warn!(
            "{folder} does not tell its examples and their order, so whether they are the same can't be checked: masks, dropout and order are from now on those of this program's --seed {}",
            args.training.seed
        ),
        Some(then) => check_same_steps(args, plan, then, &saved.folder)?,
    }
    let changed = changed_arguments(args, saved);
    if !changed.is_empty() {
        tracing::info!("resuming with other arguments than the checkpoint was made with: {}", changed.join(", "));
    }
    if let Some(schedule) = &run.schedule
        && schedule.base_lr != args.training.learning_rate
    {
        tracing::warn!(
            "--learning_rate {} has no effect on a resumed run, as in Python: the checkpoint's {} goes on",
            args.training.learning_rate,
            schedule.base_lr
        );
    }
    Ok(())
}

/// Whether the steps to come have the examples that they would have had.
fn check_same_steps(args: &Arguments, plan: &Plan, then: &Fingerprint, folder: &Path) -> Result<()> {
    if plan.fingerprint.batches_differ(then) {
        tracing::info!(
            "the batches are cut otherwise than the checkpoint's run did: each step has the same examples, but its sums are rounded, and dropout is drawn, otherwise"
        );
    }
    if let Some(difference) = plan.fingerprint.difference(then) {
        ensure!(
            args.beyond.allow_changes_on_resume || may_differ(args, plan, then),
            "{} can't be continued as the same run: {difference}; give the old values, go on regardless with --allow_changes_on_resume, or start anew with --overwrite_output_dir",
            folder.display()
        );
        tracing::warn!("resuming although {difference}: the run is not what it would have been unbroken");
    }
    Ok(())
}

/// Arguments whose values differ from those in the checkpoint, which may be meant, but should be seen.
pub fn changed_arguments(args: &Arguments, saved: &Saved) -> Vec<String> {
    let then = saved.arguments();
    let now = args.to_json();
    let about_folders =
        ["output_dir", "overwrite_output_dir", "resume_from_checkpoint", "logging_dir", "allow_changes_on_resume"];
    now.as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !about_folders.contains(&name.as_str()))
        .filter(|(name, _)| {
            let found = ["per_device_train_batch_size", "gradient_accumulation_steps"];
            !args.training.auto_find_batch_size || !found.contains(&name.as_str())
        })
        .filter_map(|(name, value)| Some((name, value, then.get(name)?)))
        .filter(|(_, value, then)| value != then)
        .map(|(name, value, then)| format!("--{name} {value} (was {then})"))
        .collect()
}
