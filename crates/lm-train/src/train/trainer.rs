//! The training loop: load, step, log, evaluate, save, the detail one call away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use burn::tensor::Device;
use lm_data::tokenizer::LmTokenizer;
use lm_data::{Batch, StreamPosition};
use lm_models::parameters::{Kind, ParameterInfo};
use lm_models::{AutoModel, Task, ops};

use crate::args::{IntervalStrategy, SaveStrategy, TokenCount};
use crate::checkpoint::{self, Fingerprint, Pending, RUN_STATE_VERSION, RunState, Saved, SinceLog, Writer};
use crate::disk::{self, CheckpointSize};
use crate::observe::{Callbacks, LogRecord, Outcome, StepInfo, TrainerState, speed_metrics};
use crate::optim::GradScaler;
use crate::optim::{Optimizer, OptimizerNames};
use crate::schedule::Schedule;
use crate::sys::memory::{self, Stage};
use crate::sys::noted::Noted;
use crate::sys::panics;
use crate::sys::signals::{self, StopSignal};
use crate::train::batches::{Batches, Lengths, TrainData, to_inputs};
use crate::train::early_stopping::EarlyStopping;
use crate::train::evaluate::Evaluation;
use crate::train::samples::Samples;
use crate::train::step::{StepGradients, StepOptions, StepOutcome, apply, gradients};

/// A gradient that overflows with a loss scale below this is not the scale's fault.
const SMALLEST_SCALE: f32 = 1.0 / 65536.0;

/// When things happen, in optimizer steps, and what is counted.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is predicted.
    pub task: Task,
    /// Steps of the whole run.
    pub max_steps: u64,
    /// How batches make steps and epochs.
    pub lengths: Lengths,
    /// `--logging_strategy` and `--logging_steps`
    pub logging: (IntervalStrategy, u64),
    /// `--logging_first_step`
    pub log_first_step: bool,
    /// `--eval_strategy` and `--eval_steps`
    pub evaluation: (IntervalStrategy, u64),
    /// `--eval_delay`: steps or epochs, as the strategy counts.
    pub eval_delay: f64,
    /// `--eval_on_start`
    pub eval_on_start: bool,
    /// `--save_strategy` and `--save_steps`
    pub saving: (SaveStrategy, u64),
    /// `--save_only_model`
    pub save_only_model: bool,
    /// `--load_best_model_at_end`
    pub load_best_model_at_end: bool,
    /// `--metric_for_best_model`, with its `eval_`, and `--greater_is_better`.
    pub best: Option<(String, bool)>,
    /// Threads that build batches, and how many they build ahead.
    pub workers: (usize, usize),
    /// `--include_num_input_tokens_seen`
    pub count_tokens: TokenCount,
    /// `--include_tokens_per_second`
    pub tokens_per_second: bool,
    /// Arithmetic of a step; rate and position are filled in for each.
    pub step: StepOptions,
    /// What must not change on resume.
    pub fingerprint: Fingerprint,
    /// `--optim`
    pub optimizer: String,
    /// `--ignore_disk_check`
    pub ignore_disk_check: bool,
}

impl Plan {
    /// Checkpoints that the run writes after `step`; at most, where that depends on a metric.
    pub fn saves_after(&self, step: u64) -> u64 {
        let left = self.max_steps.saturating_sub(step);
        let every = |steps: u64| self.max_steps.div_ceil(steps.max(1)).saturating_sub(step / steps.max(1)).min(left);
        match self.saving {
            (SaveStrategy::No, _) => 0,
            (SaveStrategy::Steps, steps) => every(steps),
            (SaveStrategy::Epoch, _) => every(self.lengths.steps_per_epoch().unwrap_or(self.max_steps)),
            (SaveStrategy::Best, _) => every(self.evaluation.1),
        }
    }

    /// Checkpoints that `--save_total_limit` lets stay: the best is one of them, but never the only one.
    pub fn checkpoints_kept(&self, limit: Option<usize>) -> Option<u64> {
        limit.map(|limit| (limit as u64).max(1 + u64::from(self.best.is_some())))
    }
}

/// The loss is no longer a number, which going on from a checkpoint would only repeat.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Diverged(String);

/// What a round of the loop came to.
enum Round {
    /// The run goes on.
    GoOn,
    /// All is done.
    Finished,
    /// A signal asked for the end; what was begun is given up, and the run stands after its last whole step.
    Interrupted(i32),
}

/// What is due after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    log: bool,
    evaluate: bool,
    save: bool,
}

/// A run in progress.
pub struct Trainer {
    /// How far the run is.
    pub state: TrainerState,
    /// Who is told.
    pub callbacks: Callbacks,
    /// The validation set, if evaluation is asked for during training.
    pub evaluation: Option<Evaluation>,
    /// What the model continues at every evaluation (`--sample_prompts`).
    pub sampler: Option<Sampler>,
    /// Prompts of the report, and what the model made of them before the run's first step.
    pub first_samples: Vec<(String, String)>,
    /// Memory before training, if it is watched (`--skip_memory_metrics false`).
    pub memory_before: Option<LogRecord>,
    plan: Plan,
    parameters: Vec<ParameterInfo>,
    optimizer: Optimizer,
    schedule: Schedule,
    /// Steps that the schedule has made: all but those skipped by the scaler.
    scheduled: u64,
    /// Scales the loss, with `--fp16`.
    grad_scaler: Option<GradScaler>,
    writer: Writer,
    output_dir: PathBuf,
    devices: Vec<Device>,
    early_stopping: Option<EarlyStopping>,
    flops_per_token: f64,
    checkpoint_size: CheckpointSize,
    total_loss: f64,
    /// Tokens of this process, padding included.
    tokens: u64,
    /// When this process began to train, and `num_input_tokens_seen` then.
    begin: (Instant, u64),
    since_log: SinceLog,
    latest: Latest,
    stop_early: bool,
    /// An evaluation belongs to the last step that has not been made: a signal came before.
    evaluation_due: bool,
    /// Place in the corpus after the last whole step, of a stream.
    stream_position: Option<StreamPosition>,
    /// Saves in a row that failed, and the step after which the next is tried.
    failed_saves: Option<(u32, u64)>,
    /// The newest checkpoint on disk of this run, and whether an evaluation was due in it.
    on_disk: Option<(PathBuf, bool)>,
    /// Whether an evaluation is due in the checkpoint that is being written.
    saving_due: bool,
}

/// What a log record says of this process and of the last step, so a resumed run has no need of it.
#[derive(Default)]
struct Latest {
    grad_norm: f64,
    learning_rate: f64,
    /// Steps since the last record in this process, their seconds and tokens.
    steps: u64,
    seconds: f64,
    real_tokens: u64,
}

/// Prompts, and the tokenizer that makes text of their continuations.
pub struct Sampler {
    /// The prompts.
    pub samples: Arc<Samples>,
    /// The model's.
    pub tokenizer: Arc<LmTokenizer>,
}

/// How a run went.
pub struct Finished {
    /// The model, the best one with `--load_best_model_at_end`.
    pub model: AutoModel,
    /// History and position.
    pub state: TrainerState,
    /// Who was told, to be told how the run ended.
    pub callbacks: Callbacks,
    /// Python's metrics of training.
    pub metrics: LogRecord,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether the last checkpoint is on disk.
    pub last_save: Result<()>,
}

/// What a trainer is made of, besides its plan.
pub struct Parts {
    /// The optimizer.
    pub optimizer: Optimizer,
    /// `--optim`
    pub optimizer_kind: OptimizerNames,
    /// The learning rate.
    pub schedule: Schedule,
    /// Scales the loss, with `--fp16`.
    pub grad_scaler: Option<GradScaler>,
    /// The validation set.
    pub evaluation: Option<Evaluation>,
    /// Who is told.
    pub callbacks: Callbacks,
    /// Who writes checkpoints.
    pub writer: Writer,
    /// `--output_dir`
    pub output_dir: PathBuf,
    /// Where to compute, with autodiff; the model lives on the first.
    pub devices: Vec<Device>,
    /// `--early_stopping_patience`
    pub early_stopping: Option<EarlyStopping>,
    /// A state with the run's constants filled in.
    pub state: TrainerState,
}

impl Trainer {
    /// A trainer of this model before its first step.
    pub fn new(model: &AutoModel, parts: Parts, plan: Plan) -> Self {
        let parameters = model.parameters();
        let computed: usize =
            parameters.iter().filter(|info| info.kind != Kind::Embedding).map(|info| info.len()).sum();
        let dtype = parts.writer.files().dtype;
        let checkpoint_size = CheckpointSize::new(&parameters, parts.optimizer_kind, dtype, plan.save_only_model);
        Self {
            state: parts.state,
            callbacks: parts.callbacks,
            evaluation: parts.evaluation,
            sampler: None,
            first_samples: Vec::new(),
            memory_before: None,
            parameters,
            optimizer: parts.optimizer,
            schedule: parts.schedule,
            scheduled: 0,
            grad_scaler: parts.grad_scaler,
            writer: parts.writer,
            output_dir: parts.output_dir,
            devices: parts.devices,
            early_stopping: parts.early_stopping,
            // Python's estimate: forward and backward take six operations per parameter and token.
            flops_per_token: 6.0 * computed as f64,
            checkpoint_size,
            total_loss: 0.0,
            tokens: 0,
            begin: (Instant::now(), 0),
            since_log: SinceLog::default(),
            latest: Latest::default(),
            stop_early: false,
            evaluation_due: false,
            stream_position: None,
            failed_saves: None,
            on_disk: None,
            saving_due: false,
            plan,
        }
    }

    /// What one checkpoint takes on disk.
    pub fn checkpoint_size(&self) -> CheckpointSize {
        self.checkpoint_size
    }

    /// Goes on where a checkpoint stopped; the model has been loaded from it already.
    pub fn resume(&mut self, saved: &Saved) -> Result<()> {
        let run = &saved.run_state;
        let history = TrainerState { max_steps: self.plan.max_steps, ..saved.state.clone() };
        let fresh = std::mem::replace(&mut self.state, history);
        self.state.num_train_epochs = fresh.num_train_epochs;
        self.state.counts_tokens = fresh.counts_tokens;
        (self.state.logging_steps, self.state.eval_steps, self.state.save_steps) =
            (fresh.logging_steps, fresh.eval_steps, fresh.save_steps);
        self.scheduled = run.schedule.next_step;
        self.schedule.resume(run.schedule.clone())?;
        self.grad_scaler = self.grad_scaler.map(|fresh| run.grad_scaler.unwrap_or(fresh));
        let device = self.devices[0].clone().inner();
        saved.with_optimizer(|tensors| {
            Ok(self.optimizer.load(&self.parameters, &run.optimizer_steps, tensors, &device)?)
        })?;
        self.total_loss = run.total_loss;
        self.since_log = run.since_log;
        self.evaluation_due = run.evaluation_due && self.evaluation.is_some();
        self.on_disk = Some((saved.folder.clone(), run.evaluation_due));
        if let Some(stopping) = &mut self.early_stopping {
            self.stop_early = stopping.restore(&self.state.stateful_callbacks);
        }
        // The output folder may have been moved since.
        let best = self.state.best_global_step.map(|step| checkpoint::folder_of(&self.output_dir, step));
        if let Some(folder) = best.filter(|folder| folder.exists()) {
            self.state.best_model_checkpoint = Some(folder.display().to_string());
        }
        Ok(())
    }

    /// Trains the model, which has autodiff, to the last step, or until a signal, early stopping or an error ends it.
    pub fn train(mut self, model: AutoModel, mut data: TrainData, stop: &StopSignal) -> Result<Finished> {
        let first_step = self.state.global_step;
        self.begin = (Instant::now(), self.state.num_input_tokens_seen);
        let memory = if self.memory_before.is_some() { Stage::start("train")? } else { None };
        self.callbacks.on_train_begin(&self.state);
        let result = self.run(model, &mut data, stop);
        let outcome = match &result {
            Ok((_, None)) => Outcome::Finished,
            Ok((_, Some(signal))) => Outcome::Stopped(signals::name(*signal).to_owned()),
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        if outcome != Outcome::Finished {
            self.callbacks.on_train_end(&self.state, &outcome);
        }
        let (mut model, signal) = result?;
        let last_save = if signal.is_none() { self.finish_saves(&model) } else { Ok(()) };
        if signal.is_none()
            && self.plan.load_best_model_at_end
            && let Some(best) = self.load_best()
        {
            model = best;
        }
        let mut metrics = self.training_metrics(first_step);
        for figures in [self.memory_before.take(), memory.map(Stage::stop)].into_iter().flatten() {
            metrics.extend(figures);
        }
        if signal.is_none() {
            let record = self.state.log(metrics.clone());
            self.callbacks.on_log(&self.state, &record);
        }
        Ok(Finished { model, state: self.state, callbacks: self.callbacks, metrics, signal, last_save })
    }

    /// The loop; the trained model, and the signal that ended it, if one did. Nobody else holds the model, so that the
    /// optimizer moves it in place. Whatever ends the loop, the model is whole, and saved if it is not yet.
    fn run(
        &mut self,
        mut model: AutoModel,
        data: &mut TrainData,
        stop: &StopSignal,
    ) -> Result<(AutoModel, Option<i32>)> {
        if self.plan.eval_on_start && self.state.global_step == 0 {
            self.evaluate(&model, stop)?;
        }
        let first_batch = self.plan.lengths.batches_before(self.state.global_step);
        let mut batches = data
            .batches_from(first_batch, self.plan.workers.0, self.plan.workers.1)
            .context("--dataloader_num_workers: a thread cannot be started")?;
        self.stream_position = batches.stream_position.clone();
        loop {
            let round;
            (model, round) = self.round(model, &mut batches, stop);
            match round {
                Ok(Round::GoOn) => {}
                Ok(Round::Finished) => return Ok((model, None)),
                Ok(Round::Interrupted(signal)) => {
                    self.save_now(&model, false)?;
                    return Ok((model, Some(signal)));
                }
                Err(error) => return Err(self.save_first(&model, error)),
            }
        }
    }

    /// One step and what is due after it.
    fn round(&mut self, model: AutoModel, batches: &mut Batches, stop: &StopSignal) -> (AutoModel, Result<Round>) {
        let mut model = model;
        if !self.evaluation_due {
            if self.state.global_step >= self.plan.max_steps || self.stop_early {
                return (model, Ok(Round::Finished));
            }
            let micro_batches = match self.next_micro_batches(batches, stop) {
                Ok(Some(micro_batches)) => micro_batches,
                Ok(None) => return (model, Ok(stop.received().map_or(Round::Finished, Round::Interrupted))),
                Err(error) => return (model, Err(error)),
            };
            let stepped;
            (model, stepped) = self.step(model, &micro_batches, stop);
            match stepped {
                Ok(true) => self.stream_position = batches.stream_position.clone(),
                Ok(false) => return (model, Ok(stop.received().map_or(Round::GoOn, Round::Interrupted))),
                Err(error) => return (model, Err(error)),
            }
            if self.due().log {
                self.log();
            }
            self.evaluation_due = self.due().evaluate;
        }
        let after_step = self.after_step(&model, stop);
        (model, after_step)
    }

    /// The evaluation and the save that are due.
    fn after_step(&mut self, model: &AutoModel, stop: &StopSignal) -> Result<Round> {
        let mut save = self.due().save;
        if self.evaluation_due
            && let Some(metrics) = self.evaluate(model, stop)?
        {
            self.evaluation_due = false;
            let is_best = self.judge(&metrics)?;
            save |= self.plan.saving.0 == SaveStrategy::Best && is_best;
        }
        if self.writer.is_done() {
            self.finish_save();
        }
        if let Some(signal) = stop.received() {
            return Ok(Round::Interrupted(signal));
        }
        if save || self.failed_saves.is_some_and(|(_, retry)| self.state.global_step >= retry) {
            self.start_save(model, false);
        }
        Ok(Round::GoOn)
    }

    /// The batches of a step; none if a signal came before all were there.
    fn next_micro_batches(&mut self, batches: &mut Batches, stop: &StopSignal) -> Result<Option<Vec<Batch>>> {
        let step = self.state.global_step;
        let mut micro_batches = Vec::new();
        for _ in 0..self.plan.lengths.batches_of(step) {
            if stop.received().is_some() {
                return Ok(None);
            }
            match batches.next_batch() {
                Some(Ok(batch)) => micro_batches.push(batch),
                // A mended file is another one to the run.
                Some(Err(error)) if self.stream_position.is_some() => {
                    let how = "reading the training data (once it is mended, --allow_changes_on_resume goes on)";
                    return Err(error).context(how);
                }
                Some(Err(error)) => return Err(error).context("reading the training data"),
                None => bail!("the stream ended after {step} of {} steps", self.plan.max_steps),
            }
        }
        Ok(Some(micro_batches))
    }

    /// One optimizer step; false if a signal came before it was whole. The model is whole in any case.
    fn step(&mut self, model: AutoModel, micro_batches: &[Batch], stop: &StopSignal) -> (AutoModel, Result<bool>) {
        let begin = Instant::now();
        let index = self.state.global_step;
        let options = StepOptions {
            learning_rate: self.schedule.rate(self.scheduled),
            loss_scale: self.grad_scaler.map_or(1.0, |scaler| scaler.scale.into()),
            first_micro_batch: self.plan.lengths.batches_before(index),
            ..self.plan.step
        };
        let gradients = match self.gradients(&model, micro_batches, &options, stop) {
            Ok(Some(gradients)) => gradients,
            Ok(None) => return (model, Ok(false)),
            Err(error) => return (model, Err(error)),
        };
        let StepOutcome { loss, grad_norm } = gradients.outcome;
        let overflows = !grad_norm.is_finite();
        if !loss.is_finite() || (overflows && self.grad_scaler.is_none_or(|scaler| scaler.scale < SMALLEST_SCALE)) {
            let diverged = self.diverged(index + 1, gradients.outcome, options.learning_rate);
            return (model, Err(diverged));
        }
        let optimizer = &mut self.optimizer;
        let model = match &self.devices[..] {
            [device] => ops::on_worker(device, || apply(model, optimizer, gradients, &options)),
            _ => apply(model, optimizer, gradients, &options),
        };
        self.count(micro_batches, &options, loss, grad_norm, begin.elapsed());
        (model, Ok(true))
    }

    /// Forward and backward. A panic here, such as exhausted memory, leaves the model whole.
    fn gradients(
        &self,
        model: &AutoModel,
        micro_batches: &[Batch],
        options: &StepOptions,
        stop: &StopSignal,
    ) -> Result<Option<StepGradients>> {
        let inputs: Vec<_> = micro_batches
            .iter()
            .zip(self.devices.iter().cycle())
            .map(|(batch, device)| to_inputs(batch, self.plan.task, device))
            .collect::<Result<_, _>>()?;
        let compute = || gradients(model, &inputs, options, stop);
        panics::caught(|| match &self.devices[..] {
            [device] => ops::on_worker(device, compute),
            _ => compute(),
        })
        .with_context(|| format!("step {}", self.state.global_step + 1))
    }

    fn diverged(&self, step: u64, outcome: StepOutcome, learning_rate: f64) -> anyhow::Error {
        let StepOutcome { loss, grad_norm } = outcome;
        if step == 1 && !loss.is_finite() {
            return anyhow!(
                "step 1: the loss is {loss} before any training: no learning rate helps; the weights that the model \
                 starts from do not compute to usable numbers (in this precision): look at the model, or take another"
            );
        }
        let diverged = format!(
            "step {step}: loss {loss}, gradient norm {grad_norm}: training has diverged and stops here; try a lower \
             --learning_rate (it was {learning_rate:e}), more --warmup_steps or a smaller --max_grad_norm, in another \
             --output_dir, from the beginning or from the weights of a checkpoint (--model_name_or_path)"
        );
        Diverged(diverged).into()
    }

    /// Counts a whole step, and tells of it.
    fn count(&mut self, micro_batches: &[Batch], options: &StepOptions, loss: f64, grad_norm: f64, elapsed: Duration) {
        let overflows = !grad_norm.is_finite();
        if let Some(scaler) = &mut self.grad_scaler {
            scaler.update(overflows);
        }
        // Python's Trainer does not move the schedule with a step that the scaler skipped.
        if !overflows {
            self.scheduled += 1;
        }
        let tokens: u64 = micro_batches.iter().map(|batch| batch.input_ids.len() as u64).sum();
        let real_tokens: u64 =
            micro_batches.iter().flat_map(|batch| &batch.attention_mask).map(|&mask| u64::from(mask)).sum();
        self.state.global_step += 1;
        self.state.epoch = Some(self.plan.lengths.epoch(self.state.global_step, self.plan.max_steps));
        self.state.total_flos += self.flops_per_token * tokens as f64;
        self.state.num_input_tokens_seen += match self.plan.count_tokens {
            TokenCount::No => 0,
            TokenCount::All => tokens,
            TokenCount::NonPadding => real_tokens,
        };
        self.total_loss += loss;
        self.tokens += tokens;
        let since = &mut self.since_log;
        since.steps += 1;
        since.loss += loss;
        since.tokens += tokens;
        since.real_tokens += real_tokens;
        let latest = &mut self.latest;
        (latest.grad_norm, latest.learning_rate) = (grad_norm, options.learning_rate);
        latest.steps += 1;
        latest.seconds += elapsed.as_secs_f64();
        latest.real_tokens += real_tokens;
        let info = StepInfo { loss: Some(loss), learning_rate: options.learning_rate, tokens: real_tokens };
        self.callbacks.on_step_end(&self.state, &info);
    }

    /// Python's `DefaultFlowCallback`.
    fn due(&self) -> Due {
        let step = self.state.global_step;
        let last = step >= self.plan.max_steps;
        let epoch_ends = self.plan.lengths.steps_per_epoch().map_or(last, |steps| step.is_multiple_of(steps)) || last;
        let every = |steps: u64| steps > 0 && step.is_multiple_of(steps);
        let (logging, logging_steps) = self.plan.logging;
        let (evaluation, eval_steps) = self.plan.evaluation;
        let (saving, save_steps) = self.plan.saving;
        Due {
            log: match logging {
                IntervalStrategy::No => false,
                IntervalStrategy::Steps => every(logging_steps),
                IntervalStrategy::Epoch => epoch_ends,
            } || (step == 1 && self.plan.log_first_step),
            evaluate: match evaluation {
                IntervalStrategy::No => false,
                IntervalStrategy::Steps => every(eval_steps) && self.plan.eval_delay <= step as f64,
                IntervalStrategy::Epoch => epoch_ends && self.plan.eval_delay <= self.state.epoch.unwrap_or(0.0),
            },
            save: match saving {
                SaveStrategy::No | SaveStrategy::Best => false,
                SaveStrategy::Steps => every(save_steps) || last,
                SaveStrategy::Epoch => epoch_ends,
            },
        }
    }

    fn log(&mut self) {
        let since = std::mem::take(&mut self.since_log);
        let latest = std::mem::take(&mut self.latest);
        let steps = since.steps.max(1) as f64;
        let mut record = LogRecord::new()
            .with("loss", since.loss / steps)
            .with("grad_norm", latest.grad_norm)
            .with("learning_rate", latest.learning_rate)
            .with("tokens", since.tokens as f64 / steps)
            .with("real_tokens", since.real_tokens as f64 / steps);
        if latest.seconds > 0.0 {
            record.set(LogRecord::TOKENS_PER_SECOND, latest.real_tokens as f64 / latest.seconds);
            record.set("step_seconds", latest.seconds / latest.steps as f64);
        }
        if let Some(bytes) = memory::resident() {
            record.set(LogRecord::MEMORY, bytes);
        }
        if self.plan.count_tokens != TokenCount::No {
            let tokens = self.state.num_input_tokens_seen - self.begin.1;
            record.extend(speed_metrics("train", self.begin.0.elapsed().as_secs_f64(), None, None, Some(tokens)));
        }
        let record = self.state.log(record);
        self.callbacks.on_log(&self.state, &record);
    }

    /// Evaluates and logs; none if a signal came before the end.
    fn evaluate(&mut self, model: &AutoModel, stop: &StopSignal) -> Result<Option<LogRecord>> {
        let Some(evaluation) = &self.evaluation else { return Ok(None) };
        let model = model.valid();
        let metrics = panics::caught(|| evaluation.run(&model, &mut self.callbacks, stop))
            .unwrap_or_else(|panic| Err(panic.into()))
            .with_context(|| format!("evaluating after step {}", self.state.global_step))?;
        let Some(metrics) = metrics else { return Ok(None) };
        if let Some(Sampler { samples, tokenizer }) = &self.sampler {
            let texts =
                samples.texts(&model, tokenizer, &evaluation.device, evaluation.compute, self.state.global_step)?;
            let numbered = texts.into_iter().enumerate();
            let record =
                numbered.fold(LogRecord::new(), |record, (i, text)| record.with(&format!("sample_{}", i + 1), text));
            let record = self.state.log(record);
            self.callbacks.on_log(&self.state, &record);
        }
        let record = self.state.log(metrics);
        self.callbacks.on_log(&self.state, &record);
        self.callbacks.on_evaluate(&self.state, &record);
        Ok(Some(record))
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

    /// Hands a checkpoint to the thread that writes it. If that cannot be done now it is tried again: what training has
    /// done is worth more than a checkpoint at the planned step.
    fn start_save(&mut self, model: &AutoModel, keep_all: bool) {
        self.finish_save();
        if let Err(error) = self.try_start_save(model, keep_all) {
            self.save_failed(&error);
        }
    }

    fn try_start_save(&mut self, model: &AutoModel, keep_all: bool) -> Result<()> {
        if !self.plan.ignore_disk_check {
            disk::check_one(self.checkpoint_size, &self.output_dir)?;
        }
        let step = self.state.global_step;
        if let Some(best_step) = self.state.best_global_step {
            let folder = checkpoint::folder_of(&self.output_dir, best_step);
            if best_step == step || folder.exists() {
                self.state.best_model_checkpoint = Some(folder.display().to_string());
            }
        }
        if let Some(stopping) = &self.early_stopping {
            stopping.save(&mut self.state.stateful_callbacks);
        }
        let due = self.due();
        self.state.set_control(step >= self.plan.max_steps || self.stop_early, due.evaluate, due.log);
        let run_state = RunState {
            version: RUN_STATE_VERSION,
            fingerprint: self.plan.fingerprint.clone(),
            schedule: self.schedule.state(self.scheduled),
            optimizer: self.plan.optimizer.clone(),
            optimizer_steps: self.optimizer.steps(),
            grad_scaler: self.grad_scaler,
            stream_position: self.stream_position.clone(),
            total_loss: self.total_loss,
            since_log: self.since_log,
            samples: self.first_samples.clone(),
            evaluation_due: self.evaluation_due,
            files: Default::default(),
        };
        let pending = Pending {
            step,
            parameters: model.snapshot(),
            optimizer: (!self.plan.save_only_model).then(|| self.optimizer.state(&self.parameters)),
            state: self.state.clone(),
            run_state: (!self.plan.save_only_model).then_some(run_state),
        };
        let best = self.state.best_model_checkpoint.as_ref().map(PathBuf::from);
        self.saving_due = self.evaluation_due;
        Ok(self.writer.start(pending, best, keep_all)?)
    }

    /// Waits for the save that is under way and tells of it.
    fn finish_save(&mut self) {
        match self.writer.finish() {
            Ok(None) => {}
            Ok(Some(folder)) => self.saved(&folder),
            Err(error) => self.save_failed(&error.into()),
        }
    }

    /// Notes that a save failed: it is tried again after the next step, and then ever more rarely, since each try may cost
    /// as much as many steps.
    fn save_failed(&mut self, error: &anyhow::Error) {
        let failures = self.failed_saves.map_or(0, |(failures, _)| failures) + 1;
        self.failed_saves = Some((failures, self.state.global_step + (1 << (failures - 1).min(10))));
        if failures == 1 {
            tracing::warn!("{error:#}; training goes on, and saving is tried again");
        }
    }

    /// Waits for the save that is under way, and makes up for one that failed.
    fn finish_saves(&mut self, model: &AutoModel) -> Result<()> {
        self.finish_save();
        if self.failed_saves.is_some() { self.save_now(model, false) } else { Ok(()) }
    }

    /// A checkpoint of the last whole step, on disk when this returns; before the first step there is nothing to save.
    fn save_now(&mut self, model: &AutoModel, keep_all: bool) -> Result<()> {
        self.finish_save();
        let now = (checkpoint::folder_of(&self.output_dir, self.state.global_step), self.evaluation_due);
        if self.state.global_step == 0 || self.on_disk.as_ref() == Some(&now) {
            return Ok(());
        }
        self.try_start_save(model, keep_all)?;
        if let Some(folder) = self.writer.finish()? {
            self.saved(&folder);
        }
        Ok(())
    }

    fn saved(&mut self, folder: &Path) {
        self.failed_saves = None;
        self.on_disk = Some((folder.to_owned(), self.saving_due));
        self.callbacks.on_save(&self.state, folder);
    }

    /// The error that ends the run, after the model, which is whole, has been saved. Nothing is removed for it: nobody knows
    /// yet which checkpoint the way on begins at.
    fn save_first(&mut self, model: &AutoModel, error: anyhow::Error) -> anyhow::Error {
        let saved = self.save_now(model, true);
        let folder = checkpoint::folder_of(&self.output_dir, self.state.global_step);
        let note = match saved {
            _ if self.state.global_step == 0 => String::new(),
            Ok(()) if error.is::<Diverged>() => format!("; {} is the model before that step", folder.display()),
            Ok(()) => format!("; all up to step {} is saved", self.state.global_step),
            Err(save) => format!("; and saving failed: {save:#}"),
        };
        Noted::add(error, note)
    }

    /// The best model, if it can be had: rather the last than none after all this training, as in Python.
    fn load_best(&self) -> Option<AutoModel> {
        let Some(folder) = self.state.best_model_checkpoint.as_ref().map(PathBuf::from) else {
            tracing::warn!("--load_best_model_at_end: no evaluation found a best model; the last one is kept");
            return None;
        };
        match checkpoint::load_model(&folder, &self.writer.files().config, &self.devices[0]) {
            Ok(model) => {
                let step = self.state.best_global_step.unwrap_or(0);
                tracing::info!("loaded the best model from {} (step {step})", folder.display());
                Some(model)
            }
            Err(error) => {
                tracing::error!("--load_best_model_at_end: {error}; the last model is kept");
                None
            }
        }
    }

    /// Python's `train_metrics`.
    fn training_metrics(&self, first_step: u64) -> LogRecord {
        let steps = self.state.global_step;
        let batch_size = self.plan.fingerprint.per_device_train_batch_size as u64;
        let samples =
            self.plan.lengths.batches_before(steps).saturating_sub(self.plan.lengths.batches_before(first_step))
                * batch_size;
        let tokens = self.plan.tokens_per_second.then_some(self.tokens);
        let mut metrics = speed_metrics(
            "train",
            self.begin.0.elapsed().as_secs_f64(),
            Some(samples),
            Some(steps - first_step),
            tokens,
        );
        metrics.set("total_flos", self.state.total_flos);
        metrics.set("train_loss", self.total_loss / (steps as f64).max(0.001));
        metrics
    }
}
