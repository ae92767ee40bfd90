//! `--do_train`: from the plan to the trained model in the output folder.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use lm_data::collate::Split;
use lm_models::AutoModel;

use crate::checkpoint::{self, CheckpointSize, ModelFiles, Saved, checkpoints_added, values};
use crate::device;
use crate::observe::format::count;
use crate::observe::history;
use crate::observe::memory::Stage;
use crate::observe::report::Report;
use crate::observe::{Callbacks, Console, LogFile, TrainerState};
use crate::run::Run;
use crate::run::counts::Parameters;
use crate::run::output_dir::what_is_kept;
use crate::run::push::PushCheckpoints;
use crate::run::reporting;
use crate::run::results::Results;
use crate::run::resume;
use crate::sys::noted::Noted;
use crate::sys::signals::{self, Ended};
use crate::train::batches::TrainData;
use crate::train::cadence;
use crate::train::plan::Plan;
use crate::train::ranks::fingerprint;
use crate::train::samples::{self, Samples};
use crate::train::saves::Saves;
use crate::train::trainer::{Diverged, Trainer};

impl Run<'_> {
    /// Trains the model, from the checkpoint if there is one, and makes it the output folder's own; none if a signal ended
    /// training first. `memory` is watched until training begins.
    pub(super) fn train(
        &self,
        model: AutoModel,
        saved: Option<Saved>,
        memory: Option<Stage>,
        callbacks: &mut Callbacks,
        results: &mut Results,
    ) -> Result<Option<(AutoModel, TrainerState)>> {
        let training = &self.args.training;
        let (mut data, plan) = self.world.agree(self.plan(saved.as_ref()))?;
        self.world.expect_same("training examples", &plan.fingerprint.data)?;
        self.world.expect_same("model", &fingerprint(self.world, &model))?;
        let (parameters, adapts) = (model.parameters(), self.files.adapter.is_some());
        let size = CheckpointSize::new(&parameters, adapts, plan.optimizer, self.files.dtype, plan.save_only_model);
        let trained = values(parameters.iter().filter(|info| info.trainable));
        let parameters = Parameters { all: values(&parameters), trained };
        if self.world.is_main() {
            self.add_callbacks(callbacks, &plan, parameters)?;
        }
        let mut trainer = self.trainer(model, &plan, size, callbacks)?;
        let resumed = saved.as_ref().map_or(Ok(()), |saved| {
            resume::check_unchanged(self.args, &plan, saved)?;
            trainer.resume(saved)
        });
        self.world.agree(resumed)?;
        let first_step = trainer.state.global_step;
        let samples = match self.world.is_main() {
            true => self.begin(&mut trainer, &plan, parameters, size, saved).map(Some),
            false => Ok(None),
        };
        let samples = self.world.agree(samples)?;
        let before = memory.map(Stage::stop);
        let during = self.watch_memory("train")?;

        self.stop.begin_training();
        self.world.limit_waits(Some(Duration::from_secs(training.ddp_timeout as u64)));
        let ended = trainer.train(&mut data, self.stop).map_err(|error| {
            let diverged = Noted::cause_of::<Diverged>(&error).is_some();
            Noted::add(error, if diverged { String::new() } else { what_is_kept(self.args) })
        })?;
        if let Ended::Signal(signal) = ended {
            if self.world.is_main() {
                self.say_stopped(signal, trainer.state.global_step);
            }
            return Ok(None);
        }
        let last_save = trainer.finish_saves();
        if training.load_best_model_at_end {
            trainer.load_best()?;
        }
        let mut metrics = trainer.log_metrics([before, during.map(Stage::stop)].into_iter().flatten());
        let Some(samples) = samples else { return Ok(Some(trainer.into_model())) };

        self.publish(trainer.model(), &trainer.state, last_save)?;
        self.add_samples(&mut trainer, &samples)?;
        if trainer.state.global_step == first_step {
            tracing::info!("nothing left to train: the checkpoint is at step {first_step} already");
        }
        self.keep_the_best_only(&trainer.state);
        if let Some(examples) = self.data.train_examples() {
            metrics.set("train_samples", examples);
        }
        trainer.state.add_progress(&mut metrics);
        results.save(self.output.path(), "train", &metrics)?;
        Ok(Some(trainer.into_model()))
    }

    /// What is left to do before the first step, where the run is written: the texts that it will show.
    fn begin(
        &self,
        trainer: &mut Trainer,
        plan: &Plan,
        parameters: Parameters,
        size: CheckpointSize,
        saved: Option<Saved>,
    ) -> Result<Arc<Samples>> {
        self.check_disk(plan, size, trainer.state.global_step)?;
        let samples = self.sample(trainer)?;
        self.announce(plan, parameters, &trainer.state);
        if self.args.training.do_eval || self.args.training.eval_on_start {
            self.data.evaluation(&self.devices[0], plan.step.compute)?.warn_if_nothing_is_predicted()?;
        }
        // What another run left is renamed only now that all is there to begin.
        self.output.set_aside_after(saved.map(|saved| saved.state.global_step))?;
        Ok(samples)
    }

    /// The training examples from where the run stands, and what is done with them.
    fn plan(&self, saved: Option<&Saved>) -> Result<(TrainData, Plan)> {
        if self.args.training.do_eval {
            // What an evaluation cannot do is better known before training than after.
            self.data.evaluation(&self.devices[0], self.compute_of_evaluation())?;
        }
        let (data, key) = self.data.train_data(saved)?;
        let plan = Plan::new(self.args, data.batches_per_epoch(), key)?;
        Ok((data, plan))
    }

    fn add_callbacks(&self, callbacks: &mut Callbacks, plan: &Plan, parameters: Parameters) -> Result<()> {
        let (training, folder) = (&self.args.training, self.output.path());
        callbacks.add(Console::new(training.disable_tqdm.unwrap_or(false)));
        callbacks.add(LogFile::new(folder));
        reporting::add_tensorboard(callbacks, self.args, &self.files);
        reporting::add_services(callbacks, self.args, &self.files, parameters.all)?;
        callbacks.add(Report::new(folder, self.facts(plan, parameters)?));
        if let Some(push) = &self.push {
            callbacks.add(PushCheckpoints(Arc::clone(push)));
        }
        Ok(())
    }

    fn trainer<'a>(
        &'a self,
        model: AutoModel,
        plan: &Plan,
        size: CheckpointSize,
        callbacks: &'a mut Callbacks,
    ) -> Result<Trainer<'a>> {
        let evaluation =
            plan.evaluates().then(|| self.data.evaluation(&self.devices[0], plan.step.compute)).transpose()?;
        let saves = Saves::new(self.output.path(), self.files.clone(), plan.save_limit, size, !plan.ignore_disk_check);
        let mut trainer = Trainer::new(self.args, plan.clone(), self.world, model, &self.devices, saves, callbacks)?;
        trainer.evaluation = evaluation;
        Ok(trainer)
    }

    fn check_disk(&self, plan: &Plan, size: CheckpointSize, step: u64) -> Result<()> {
        let existing = checkpoint::list(self.output.path())?.len() as u64;
        let added = checkpoints_added(cadence::saves_after(plan, step), plan.checkpoints_kept(), existing);
        match size.check_run(added, self.output.path()) {
            Err(error) if plan.ignore_disk_check => tracing::warn!("{error}"),
            result => result?,
        }
        Ok(())
    }

    /// The texts that the model fills in or continues, as it does before training.
    fn sample(&self, trainer: &mut Trainer) -> Result<Arc<Samples>> {
        let examples = || self.data.first_examples(samples::CANDIDATES);
        let collator = self.data.collator(Split::Eval)?;
        let samples = Arc::new(Samples::new(self.args, &self.data.tokenizer, &*collator, examples)?);
        let given = samples.given();
        // A resumed run has those of before.
        let known = &mut trainer.state.history.samples;
        if known.given != given {
            *known = history::Samples { given, versions: Vec::new() };
            self.add_samples(trainer, &samples)?;
        }
        trainer.samples = Some(Arc::clone(&samples));
        Ok(samples)
    }

    /// What the model makes of the texts now.
    fn add_samples(&self, trainer: &mut Trainer, samples: &Samples) -> Result<()> {
        let step = trainer.state.global_step;
        let made = samples.made(&trainer.model().valid(), &self.devices[0], trainer.compute(), step)?;
        trainer.state.history.samples.add(step, made);
        Ok(())
    }

    /// What Python prints when training starts.
    fn announce(&self, plan: &Plan, parameters: Parameters, state: &TrainerState) {
        let examples = self.data.train_examples().map_or_else(|| "streamed".to_owned(), count);
        let per_step = match plan.lengths.batches_per_step {
            1 => String::new(),
            batches => format!(" × {batches} batches per step"),
        };
        tracing::info!(
            "training {}, {parameters}, on {}: {examples} examples, {} per batch{per_step}, {} steps, {} epoch{}",
            self.files.config.family().class,
            device::full_names(self.args.beyond.device_list()),
            self.args.training.per_device_train_batch_size,
            count(plan.max_steps),
            state.num_train_epochs,
            if state.num_train_epochs == 1 { "" } else { "s" }
        );
    }

    fn say_stopped(&self, signal: i32, step: u64) {
        let name = signals::name(signal);
        if step == 0 {
            tracing::warn!("{name} received: stopped before the first step was made; there is nothing to save");
            return;
        }
        let folder = checkpoint::folder_of(self.output.path(), step);
        let way_on = if self.args.training.save_only_model {
            "without the optimizer (--save_only_model), so go on from it with --model_name_or_path"
        } else {
            "the same command goes on from there"
        };
        tracing::warn!("{name} received: stopped after step {step} and saved {}; {way_on}", folder.display());
    }

    /// Makes the model the output folder's own.
    fn publish(&self, model: &AutoModel, state: &TrainerState, last_save: Result<()>) -> Result<()> {
        let folder = self.output.path();
        let published = if self.files.adapter.is_some() && self.args.lora.merge_lora {
            let files = ModelFiles { adapter: None, ..self.files.clone() };
            files.publish(folder, &model.valid().merge().snapshot(), Some(state))
        } else {
            self.files.publish(folder, &model.snapshot(), Some(state))
        };
        published.map_err(|error| anyhow!("the model is trained, but {error}{}", what_is_kept(self.args)))?;
        let folder = self.output.path().display();
        last_save.with_context(|| format!("the trained model is saved in {folder}, but not its last checkpoint"))
    }

    /// `--save_total_limit 1` leaves a finished run its best checkpoint, as in Python.
    fn keep_the_best_only(&self, state: &TrainerState) {
        if self.args.training.checkpoint_limit() == Some(1)
            && let Some(step) = state.best_global_step
        {
            let best = checkpoint::folder_of(self.output.path(), step);
            if let Err(error) = checkpoint::keep_only(self.output.path(), &best) {
                tracing::warn!("--save_total_limit 1: {error}");
            }
        }
    }
}
