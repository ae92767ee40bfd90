//! The training loop: the whole of training on one screen, each part one call away.

mod saving;
mod stepping;

use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::Device;
use lm_data::StreamPosition;
use lm_models::AutoModel;
use lm_models::ops::Compute;
use lm_models::parameters::{Kind, ParameterInfo};

use crate::args::{Arguments, SaveStrategy, TokenCount};
use crate::dist::World;
use crate::observe::history::{What, joined as text_of};
use crate::observe::{Callbacks, LogRecord, Outcome, TrainerState};
use crate::optim::{GradScaler, Hyperparameters, Optimizer};
use crate::schedule::{Schedule, warmup_steps};
use crate::sys::panics;
use crate::sys::signals::{Ended, StopSignal};
use crate::train::batches::{Batches, TrainData};
use crate::train::cadence::due;
use crate::train::early_stopping::EarlyStopping;
use crate::train::evaluate::Evaluation;
use crate::train::exchange::Route;
use crate::train::plan::Plan;
use crate::train::progress::Progress;
use crate::train::ranks::whole;
use crate::train::samples::Samples;
use crate::train::saves::Saves;
use crate::train::sharded::owners;

/// The loss is no longer a number, which going on from a checkpoint would only repeat.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Diverged(String);

/// A run in progress.
pub struct Trainer<'a> {
    /// How far the run is.
    pub state: TrainerState,
    /// What the model fills in or continues, for the report.
    pub samples: Option<Arc<Samples>>,
    /// What the plan's evaluations are made of.
    pub evaluation: Option<Evaluation>,
    plan: Plan,
    /// The processes that train together.
    world: &'a World,
    /// There but while the optimizer has it, which moves the parameters in place, because nobody else holds them.
    model: Option<AutoModel>,
    parameters: Vec<ParameterInfo>,
    /// In what order gradients go to the other processes.
    route: Route,
    optimizer: Optimizer,
    /// The rank that moves each parameter, with `--sharded_optimizer`.
    owners: Option<Vec<usize>>,
    schedule: Schedule,
    /// Steps that the schedule has made: all but those skipped by the scaler.
    scheduled: u64,
    /// Scales the loss, with `--fp16`.
    grad_scaler: Option<GradScaler>,
    /// Where to compute, with autodiff; the model lives on the first.
    devices: Vec<Device>,
    progress: Progress,
    saves: Saves,
    /// An evaluation belongs to the last step that has not been made: a signal came before.
    evaluation_due: bool,
    early_stopping: Option<EarlyStopping>,
    stop_early: bool,
    /// Place in the corpus after the last whole step, of a stream.
    stream_position: Option<StreamPosition>,
    callbacks: &'a mut Callbacks,
}

impl<'a> Trainer<'a> {
    /// A trainer of this model, which has autodiff and lives on the first device, before its first step, without samples
    /// and evaluations.
    ///
    /// # Errors
    /// If the learning-rate schedule cannot be what the arguments say.
    pub fn new(
        args: &Arguments,
        plan: Plan,
        world: &'a World,
        model: AutoModel,
        devices: &[Device],
        saves: Saves,
        callbacks: &'a mut Callbacks,
    ) -> Result<Self> {
        let (training, beyond) = (&args.training, &args.beyond);
        let parameters = model.parameters();
        let computed: usize =
            parameters.iter().filter(|info| info.kind != Kind::Embedding).map(|info| info.len()).sum();
        let hyper = Hyperparameters {
            adam_beta1: training.adam_beta1,
            adam_beta2: training.adam_beta2,
            adam_epsilon: training.adam_epsilon,
            weight_decay: training.weight_decay,
        };
        let mut optimizer = Optimizer::new(plan.optimizer, hyper, plan.step.compute);
        let owners = (beyond.sharded_optimizer && world.size() > 1).then(|| owners(&parameters, world.size()));
        if let Some(owners) = &owners {
            optimizer.keep_only(owners.iter().map(|owner| *owner == world.rank()).collect());
        }
        let patience = beyond.early_stopping_patience;
        Ok(Self {
            state: initial_state(args, &plan),
            samples: None,
            model: Some(model),
            route: Route::new(&parameters),
            parameters,
            optimizer,
            owners,
            schedule: schedule(args, &plan)?,
            scheduled: 0,
            grad_scaler: training.fp16.then(GradScaler::default),
            devices: devices.iter().map(|device| device.clone().autodiff()).collect(),
            // Python's estimate: forward and backward take six operations per parameter and token.
            progress: Progress::new(6.0 * computed as f64),
            saves,
            evaluation: None,
            evaluation_due: false,
            early_stopping: patience.map(|patience| EarlyStopping::new(patience, beyond.early_stopping_threshold)),
            stop_early: false,
            stream_position: None,
            callbacks,
            world,
            plan,
        })
    }

    /// The model, whole, as the last step left it.
    pub fn model(&self) -> &AutoModel {
        self.model.as_ref().expect("the optimizer gives the model back")
    }

    /// The trained model, and how far it has come.
    pub fn into_model(self) -> (AutoModel, TrainerState) {
        (self.model.expect("the optimizer gives the model back"), self.state)
    }

    /// In what precision the run computes, and by which operations.
    pub fn compute(&self) -> Compute {
        self.plan.step.compute
    }

    /// Trains to the last step, or until a signal, early stopping or an error ends it. Whatever does, the model is saved
    /// first, if it is not yet, as the last whole step left it.
    ///
    /// # Errors
    /// Whatever failed, with what is saved.
    pub fn train(&mut self, data: &mut TrainData, stop: &StopSignal) -> Result<Ended> {
        self.progress.begin(&self.state);
        self.callbacks.on_train_begin(&self.state);
        let ended = self.run(data, stop);
        if !matches!(ended, Ok(Ended::Done)) {
            self.callbacks.on_train_end(&self.state, &Outcome::of(&ended));
        }
        ended
    }

    fn run(&mut self, data: &mut TrainData, stop: &StopSignal) -> Result<Ended> {
        if self.plan.eval_on_start && self.state.global_step == 0 {
            self.evaluate(stop)?;
        }
        let numbers = self.plan.lengths.batches_of_rank(self.state.global_step, self.world.rank(), self.world.size());
        let batches = data
            .batches_at(numbers, self.plan.workers.0, self.plan.workers.1)
            .context("--dataloader_num_workers: a thread cannot be started");
        let mut batches = self.world.agree(batches)?;
        self.stream_position = batches.stream_position.clone();
        let ended = self.steps(&mut batches, stop);
        // What rank 0 writes now may take long.
        self.world.limit_waits(None);
        match ended {
            Ok(Ended::Done) => Ok(Ended::Done),
            Ok(Ended::Signal(signal)) => {
                self.state.history.note(self.state.global_step, What::Stopped);
                self.save_now(false).map(|()| Ended::Signal(signal))
            }
            Err(error) => Err(self.save_first(error)),
        }
    }

    /// The loop.
    fn steps(&mut self, batches: &mut Batches, stop: &StopSignal) -> Result<Ended> {
        loop {
            // A signal before the last step's evaluation left it to be made up for.
            if !self.evaluation_due {
                if self.state.global_step >= self.plan.max_steps || self.stop_early {
                    return Ok(Ended::Done);
                }
                let Some((inputs, counts)) = self.next_inputs(batches, stop)? else { return Ok(stop.ended()) };
                let Some(step) = self.step(&inputs, counts, stop)? else { return Ok(stop.ended()) };
                self.stream_position = batches.stream_position.clone();
                self.progress.count(&self.plan, &mut self.state, &step);
                self.callbacks.on_step_end(&self.state, &step);

                let due = due(&self.plan, self.state.global_step);
                if due.log {
                    let record = self.progress.record(&self.plan, &self.state, &step);
                    self.log(record);
                }
                self.evaluation_due = due.evaluate;
            }
            let mut save = due(&self.plan, self.state.global_step).save;
            if self.evaluation_due
                && let Some(metrics) = self.evaluate(stop)?
            {
                self.evaluation_due = false;
                let is_best = self.judge(&metrics);
                save |= self.world.agree(is_best)? && self.plan.saving.0 == SaveStrategy::Best;
            }
            if self.saves.is_done() {
                self.finish_save();
            }
            save |= self.saves.retries(self.state.global_step);
            let goes_on = Ok(stop.received().is_none().then_some(()));
            let Some((_, saves)) = whole(self.world, stop, goes_on, save)? else { return Ok(stop.ended()) };
            // Only rank 0 knows of a save that failed.
            if saves[0] {
                self.save();
            }
        }
    }

    fn log(&mut self, record: LogRecord) -> LogRecord {
        let record = self.state.log(record);
        self.callbacks.on_log(&self.state, &record);
        record
    }

    /// Evaluates and logs; none if a signal came before the end.
    fn evaluate(&mut self, stop: &StopSignal) -> Result<Option<LogRecord>> {
        let Some(evaluation) = &self.evaluation else { return Ok(None) };
        let model = self.model().valid();
        let metrics = panics::caught(|| evaluation.run(&model, self.world, self.callbacks, stop))
            .unwrap_or_else(|panic| Err(panic.into()))
            .with_context(|| format!("evaluating after step {}", self.state.global_step))?;
        let Some(metrics) = metrics else { return Ok(None) };
        let sampled = self.sample(&model);
        self.world.agree(sampled)?;
        let record = self.log(metrics);
        self.callbacks.on_evaluate(&self.state, &record);
        Ok(Some(record))
    }

    /// What the model makes of the texts of the report, where they are made.
    fn sample(&mut self, model: &AutoModel) -> Result<()> {
        let samples = self.samples.clone().filter(|samples| samples.at_evaluations());
        let (Some(samples), Some(evaluation)) = (samples, &self.evaluation) else { return Ok(()) };
        let step = self.state.global_step;
        let made = samples.made(model, &evaluation.device, evaluation.compute, step)?;
        if samples.are_logged() {
            let numbered = made.iter().map(text_of).enumerate();
            self.log(
                numbered.fold(LogRecord::new(), |record, (i, text)| record.with(&format!("sample_{}", i + 1), text)),
            );
        }
        self.state.history.samples.add(step, made);
        Ok(())
    }

    /// Draws the consequences of an evaluation; whether its metric is the best so far.
    fn judge(&mut self, record: &LogRecord) -> Result<bool> {
        let Some((name, greater_is_better)) = &self.plan.best else { return Ok(false) };
        let metric = record.get(name).with_context(|| {
            let known: Vec<&str> =
                record.iter().map(|(name, _)| name).filter(|name| name.starts_with("eval_")).collect();
            format!("--metric_for_best_model: an evaluation has no `{name}`, only {}", known.join(", "))
        })?;
        if metric.is_nan() {
            // Nothing to judge by, which has been said.
            return Ok(false);
        }
        self.schedule.observe(metric);
        if let Some(stopping) = &mut self.early_stopping {
            self.stop_early = stopping.should_stop(metric, self.state.best_metric, *greater_is_better);
            if self.stop_early {
                tracing::info!("early stopping after step {}: {name} no longer improves", self.state.global_step);
            }
        }
        Ok(self.state.update_best(metric, *greater_is_better))
    }

    /// Logs Python's `train_metrics`, with further figures.
    pub fn log_metrics(&mut self, further: impl IntoIterator<Item = LogRecord>) -> LogRecord {
        let mut metrics = self.progress.metrics(&self.plan, &self.state);
        further.into_iter().for_each(|figures| metrics.extend(figures));
        self.log(metrics.clone());
        metrics
    }
}

/// The state of a run before its first step.
fn initial_state(args: &Arguments, plan: &Plan) -> TrainerState {
    TrainerState {
        max_steps: plan.max_steps,
        num_train_epochs: plan.lengths.steps_per_epoch().map_or(1, |steps| plan.max_steps.div_ceil(steps)),
        logging_steps: plan.logging.1,
        eval_steps: plan.evaluation.1,
        save_steps: plan.saving.1,
        train_batch_size: Some(args.training.per_device_train_batch_size as u64),
        epoch: Some(0.0),
        counts_tokens: plan.count_tokens != TokenCount::No,
        ..TrainerState::default()
    }
}

fn schedule(args: &Arguments, plan: &Plan) -> Result<Schedule> {
    let training = &args.training;
    let warmup = warmup_steps(training.warmup_steps.0, training.warmup_ratio, plan.max_steps);
    let kwargs = training.lr_scheduler_kwargs.as_ref().map(|kwargs| kwargs.0.clone()).unwrap_or_default();
    let schedule = Schedule::new(training.lr_scheduler_type, training.learning_rate, warmup, plan.max_steps, &kwargs)?;
    for name in schedule.unused_kwargs() {
        tracing::warn!("--lr_scheduler_kwargs: {} has no use for `{name}`, as in Python", schedule.kind());
    }
    Ok(schedule)
}
