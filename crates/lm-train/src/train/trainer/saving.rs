//! What a run in progress leaves on disk, and goes on from.

use std::path::Path;

use anyhow::Result;
use lm_models::parameters::ParameterInfo;

use super::{Diverged, Trainer};
use crate::checkpoint::{self, Pending, RUN_STATE_VERSION, Resumable, RunState, Saved};
use crate::observe::TrainerState;
use crate::observe::history::What;
use crate::optim::StateTensor;
use crate::sys::noted::Noted;
use crate::train::cadence::due;
use crate::train::sharded::gathered;

impl Trainer<'_> {
    /// Goes on where a checkpoint stopped; the model has been loaded from it already.
    ///
    /// # Errors
    /// If the checkpoint's optimizer or schedule is another one.
    pub fn resume(&mut self, saved: &Saved) -> Result<()> {
        let run = &saved.run_state;
        let history = TrainerState { max_steps: self.plan.max_steps, ..saved.state.clone() };
        let fresh = std::mem::replace(&mut self.state, history);
        self.state.num_train_epochs = fresh.num_train_epochs;
        self.state.counts_tokens = fresh.counts_tokens;
        (self.state.logging_steps, self.state.eval_steps, self.state.save_steps) =
            (fresh.logging_steps, fresh.eval_steps, fresh.save_steps);
        self.scheduled = run.schedule.as_ref().map_or(self.state.global_step, |schedule| schedule.next_step);
        if let Some(schedule) = &run.schedule {
            self.schedule.resume(schedule.clone())?;
        }
        self.grad_scaler = self.grad_scaler.map(|fresh| run.grad_scaler.unwrap_or(fresh));
        let device = self.devices[0].clone().inner();
        saved.load_optimizer(&mut self.optimizer, &self.parameters, &device)?;
        self.progress.resume(run);
        self.saves.resume(saved);
        self.state.history = run.history.clone();
        self.state.history.note(self.state.global_step, What::Resumed);
        self.evaluation_due = run.evaluation_due && self.evaluation.is_some();
        if let Some(stopping) = &mut self.early_stopping {
            self.stop_early = stopping.restore(&self.state.stateful_callbacks);
        }
        // The output folder may have been moved since.
        let best = self.state.best_global_step.map(|step| self.saves.folder_of(step));
        if let Some(folder) = best.filter(|folder| folder.exists()) {
            self.state.best_model_checkpoint = Some(folder.display().to_string());
        }
        Ok(())
    }

    /// Begins a checkpoint, which is written while training goes on. If that cannot be done now it is tried again.
    pub(super) fn save(&mut self) {
        self.finish_save();
        if let Err(error) = self.start_save(false) {
            self.saves.note_failure(self.state.global_step, &error);
        }
    }

    /// Rank 0 saves for all; where each has a part of the optimizer's state, the others hand theirs over.
    fn start_save(&mut self, keep_all: bool) -> Result<()> {
        let optimizer = match (&self.owners, self.plan.save_only_model) {
            (Some(_), false) => {
                let own = self.optimizer.state(&self.parameters);
                gathered(self.world, own, &self.parameters, &self.devices[0].clone().inner())?
            }
            _ => self.optimizer.state(&self.parameters),
        };
        if !self.world.is_main() {
            return Ok(());
        }
        self.saves.expect_room()?;
        let checkpoint = self.checkpoint(optimizer);
        self.saves.start(checkpoint, self.evaluation_due, keep_all)
    }

    /// Waits for the save that is under way and tells of it.
    pub(super) fn finish_save(&mut self) {
        match self.saves.wait() {
            Ok(Some((step, folder))) => self.saved(step, &folder),
            Ok(None) => {}
            Err(error) => self.saves.note_failure(self.state.global_step, &error),
        }
    }

    /// After the last step: waits for the save that is under way, and makes up for one that failed.
    ///
    /// # Errors
    /// If that fails too.
    pub fn finish_saves(&mut self) -> Result<()> {
        self.finish_save();
        if self.world.of_main(self.saves.has_failed())? { self.save_now(false) } else { Ok(()) }
    }

    /// A checkpoint of the last whole step, on disk when this returns; before the first step there is nothing to save.
    pub(super) fn save_now(&mut self, keep_all: bool) -> Result<()> {
        self.finish_save();
        if self.world.of_main(self.saves.has(self.state.global_step, self.evaluation_due))? {
            return Ok(());
        }
        self.start_save(keep_all)?;
        if let Some((step, folder)) = self.saves.wait()? {
            self.saved(step, &folder);
        }
        Ok(())
    }

    /// The checkpoint of `step` is complete on disk.
    fn saved(&mut self, step: u64, folder: &Path) {
        self.state.history.note(step, What::Checkpoint);
        self.callbacks.on_save(&self.state, folder);
    }

    /// The error that ends the run, after the model, which is whole, has been saved. Nothing is removed for it: nobody knows
    /// yet which checkpoint the way on begins at.
    pub(super) fn save_first(&mut self, error: anyhow::Error) -> anyhow::Error {
        let saved = self.save_now(true);
        let step = self.state.global_step;
        let note = match saved {
            _ if step == 0 => String::new(),
            Ok(()) if error.is::<Diverged>() => {
                format!("; {} is the model before that step", self.saves.folder_of(step).display())
            }
            Ok(()) => format!("; all up to step {step} is saved"),
            Err(save) => format!("; and saving failed: {save:#}"),
        };
        Noted::add(error, note)
    }

    /// What a checkpoint holds now.
    fn checkpoint(&mut self, optimizer: Vec<StateTensor>) -> Pending {
        let step = self.state.global_step;
        if let Some(best_step) = self.state.best_global_step {
            let folder = self.saves.folder_of(best_step);
            if best_step == step || folder.exists() {
                self.state.best_model_checkpoint = Some(folder.display().to_string());
            }
        }
        if let Some(stopping) = &self.early_stopping {
            stopping.save(&mut self.state.stateful_callbacks);
        }
        let due = due(&self.plan, step);
        self.state.set_control(step >= self.plan.max_steps || self.stop_early, due.evaluate, due.log);
        let mut history = self.state.history.clone();
        history.note(step, What::Checkpoint);
        let run_state = RunState {
            version: RUN_STATE_VERSION,
            fingerprint: Some(self.plan.fingerprint.clone()),
            schedule: Some(self.schedule.state(self.scheduled)),
            optimizer: Some(self.plan.optimizer.to_string()),
            optimizer_steps: self.optimizer.steps(),
            grad_scaler: self.grad_scaler,
            stream_position: self.stream_position.clone(),
            total_loss: self.progress.total_loss,
            since_log: self.progress.since_log,
            history,
            evaluation_due: self.evaluation_due,
            files: Default::default(),
        };
        let resumable = !self.plan.save_only_model;
        Pending {
            step,
            parameters: self.model().snapshot(),
            state: self.state.clone(),
            resumable: resumable.then(|| Resumable { run_state, optimizer, hyper: self.optimizer.hyper() }),
        }
    }

    /// Takes the best model, if it can be had: rather the last than none after all this training, as in Python. Every process
    /// reads it, or none keeps it.
    ///
    /// # Errors
    /// If the processes cannot hear each other.
    pub fn load_best(&mut self) -> Result<()> {
        let Some(folder) = self.world.of_main(self.state.best_model_checkpoint.clone())? else {
            tracing::warn!("--load_best_model_at_end: no evaluation found a best model; the last one is kept");
            return Ok(());
        };
        let (files, best) = (self.saves.files(), folder.as_ref());
        let loaded = match files.adapter {
            Some(_) => checkpoint::load_adapter(self.model().clone(), best, &files.config),
            None => {
                let narrow = self.model().in_16_bits();
                let in_16_bits = |weight: &ParameterInfo| narrow.contains(&weight.name);
                checkpoint::load_model(best, &files.config, &self.devices[0], in_16_bits)
            }
        };
        let failed = self.world.share(&loaded.as_ref().err().map(ToString::to_string))?.into_iter().flatten().next();
        match (loaded, failed) {
            (Ok(model), None) => {
                let step = self.state.best_global_step.unwrap_or(0);
                tracing::info!("loaded the best model from {folder} (step {step})");
                self.model = Some(model);
            }
            (_, failed) => {
                let why = failed.unwrap_or_default();
                tracing::error!("--load_best_model_at_end: {why}; the last model is kept");
            }
        }
        Ok(())
    }
}
