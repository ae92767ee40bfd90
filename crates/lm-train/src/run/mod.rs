//! A run from its arguments to its last file: the order of things, each a call away.

pub mod dry_run;
pub mod generation;
pub mod output_dir;
pub mod paths;
pub mod resolve;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use burn::tensor::Device;
use lm_data::collate::{Collator, Padding, Split};
use lm_data::example::{Example, ExampleStore};
use lm_data::tokenizer::LmTokenizer;
use lm_data::{Corpus, DataConfig, DataError, Loader, LoaderOptions, Reading, StreamPosition, dump_examples, preview};
use lm_models::ops::Compute;
use lm_models::{AutoModel, Task};
use serde_json::{Map, Value};

use crate::args::{ArgsError, Arguments, Steps, TokenCount};
use crate::checkpoint::{self, Fingerprint, ModelFiles, Saved, Writer};
use crate::device::{self, precision};
use crate::disk::CheckpointPlan;
use crate::observe::model_card::{Hyperparameters as CardHyperparameters, ModelCard};
use crate::observe::report::{Argument, Report, RunFacts, SampleRow, SplitFacts};
use crate::observe::{
    Callbacks, Console, LogFile, LogRecord, Outcome, TRAINER_STATE_NAME, TensorBoard, TrainerState, console,
    default_logging_dir, json, round, steps_of,
};
use crate::optim::GradScaler;
use crate::optim::{Hyperparameters, Optimizer};
use crate::run::output_dir::{OutputDir, changed_arguments, what_is_kept};
use crate::run::resolve::ModelSource;
use crate::schedule::{self, Schedule};
use crate::sys::memory::Stage;
use crate::sys::noted::Noted;
use crate::sys::signals::StopSignal;
use crate::sys::{memory, panics, secrets, signals};
use crate::train::batches::{Lengths, TrainData};
use crate::train::early_stopping::EarlyStopping;
use crate::train::evaluate::Evaluation;
use crate::train::samples;
use crate::train::samples::Samples;
use crate::train::step::StepOptions;
use crate::train::trainer::{Diverged, Finished, Parts, Plan, Sampler, Trainer};

/// How a run ended, when no error did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was asked for is done.
    Done,
    /// A signal ended it after a step; the state is saved.
    Signal(i32),
}

/// Text, tokenizer and examples.
struct Data {
    corpus: Corpus,
    tokenizer: Arc<LmTokenizer>,
    config: DataConfig,
    padding: Padding,
    train: Train,
    /// None where nothing is evaluated and no file is given for it.
    validation: Option<ExampleStore>,
}

/// The training examples, as far as they are there before training.
enum Train {
    None,
    Stored(ExampleStore),
    Streamed,
}

/// Does what the arguments ask for, until `stop` hears a signal.
pub fn run(args: &Arguments, stop: &StopSignal) -> Result<Ended> {
    let training = &args.training;
    let names = args.beyond.device_list();
    let devices = device::open_all(names).map_err(|error| ArgsError::Rule(error.to_string()))?;
    for device in &devices {
        device::prepare(names, device, args.beyond.autotune).map_err(|error| ArgsError::Rule(error.to_string()))?;
        precision::check(args, device)?;
        if training.full_determinism && !device::is_flex(device) {
            let line =
                format!("--full_determinism: only --device cpu is sure to give the same bits again, not {names}");
            return Err(ArgsError::Rule(line).into());
        }
    }
    paths::check(args)?;
    if !(training.auto_find_batch_size && training.do_train) || args.beyond.plan {
        return attempt(args, devices, stop);
    }
    panics::with_smaller_batches(training.per_device_train_batch_size, |size| {
        attempt(&with_batch_size(args, size), devices.clone(), stop)
    })
}

fn with_batch_size(args: &Arguments, size: usize) -> Arguments {
    let mut args = args.clone();
    args.training.per_device_train_batch_size = size;
    args
}

/// The whole of a run, with the batch size that the arguments name.
fn attempt(args: &Arguments, devices: Vec<Device>, stop: &StopSignal) -> Result<Ended> {
    let training = &args.training;
    let source = wants_model(args).then(|| resolve::model_source(args)).transpose()?;
    if let Some(source) = &source {
        expect_room(args, source, &devices[0])?;
    }
    let trains = training.do_train && !args.beyond.plan;
    let output = if args.shows_only() || args.beyond.plan { None } else { Some(OutputDir::open(args, trains)?) };
    // A batch size that was found is not looked for again, as in Python.
    let found =
        output.as_ref().and_then(OutputDir::batch_size).filter(|size| *size < training.per_device_train_batch_size);
    if let Some(size) = found.filter(|_| training.auto_find_batch_size) {
        tracing::info!("--auto_find_batch_size: the checkpoint was made with --per_device_train_batch_size {size}");
        drop(output);
        return attempt(&with_batch_size(args, size), devices, stop);
    }

    let (data, source, vocab_in_checkpoint) = prepare_data(args, source, &devices[0])?;
    show_examples(args, &data)?;
    let Some(source) = source else { return Ok(Ended::Done) };
    if args.beyond.plan {
        dry_run::print(args, &source, &data.train_facts(args)?, vocab_in_checkpoint, &devices)?;
        return Ok(Ended::Done);
    }
    let Some(output) = output else { return Ok(Ended::Done) };

    let mut results = Results::default();
    let mut session = Session::new(args, &source, data, output, devices, stop)?;
    session.forget_another_run()?;
    let mut model = session.model(&source, vocab_in_checkpoint)?;
    if training.do_train {
        let signal;
        (model, signal) = session.train(model, &mut results)?;
        if let Some(signal) = signal {
            return Ok(Ended::Signal(signal));
        }
    }
    let finished = session.finish(&model, &mut results);
    let outcome = match &finished {
        Ok(None) => Outcome::Finished,
        Ok(Some(signal)) => Outcome::Stopped(signals::name(*signal).to_owned()),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    session.callbacks.on_train_end(&session.state, &outcome);
    if let Some(signal) = finished? {
        return Ok(Ended::Signal(signal));
    }
    session.say_what_next();
    Ok(Ended::Done)
}

fn wants_model(args: &Arguments) -> bool {
    !args.shows_only()
        || args.beyond.train_tokenizer.is_some()
        || args.model.model_name_or_path.is_some()
        || args.model.config_name.is_some()
        || args.model.model_type.is_some()
}

/// What is wrong with a configuration, or too large in it, is told before anything is read or built after it.
fn expect_room(args: &Arguments, source: &ModelSource, device: &Device) -> Result<()> {
    if !(args.training.do_train || args.training.do_eval || args.beyond.plan) {
        return Ok(());
    }
    let mut config = source.config.clone();
    if let Some(size) = args.beyond.train_tokenizer {
        config.set("vocab_size", size);
    }
    memory::expect_room(args, &config, device)
}

/// Tokenizer and examples, and the configuration fitted to the tokenizer.
fn prepare_data(
    args: &Arguments,
    mut source: Option<ModelSource>,
    device: &Device,
) -> Result<(Data, Option<ModelSource>, usize)> {
    let corpus = Corpus::open(&resolve::data_config(args, usize::MAX))?;
    let tokenizer = resolve::tokenizer(args, source.as_ref(), &corpus)?;
    let vocab = match &mut source {
        Some(source) => resolve::fit_vocabulary(source, &tokenizer, args)?,
        None => 0,
    };
    if let Some(source) = &mut source {
        source.generation = generation::generation_config(source)?;
        if args.training.do_train {
            generation::align_special_tokens(source, &tokenizer);
        }
        expect_room(args, source, device)?;
    }
    let length = resolve::sequence_length(args, &tokenizer, source.as_ref().map(|source| &source.config))?;
    let config = resolve::data_config(args, length);
    let padding = resolve::padding(args, &tokenizer, length);
    // What a collator refuses, such as a tokenizer without a mask token, is better known before the text is tokenized.
    resolve::collator(args, &tokenizer, padding, Split::Train)?;
    let tokenizer = Arc::new(tokenizer);
    let (training, beyond) = (&args.training, &args.beyond);
    let uses_train = training.do_train || beyond.plan || beyond.dump_examples.is_some() || beyond.preview.is_some();
    let train = if args.data.streaming && training.do_train {
        Train::Streamed
    } else if uses_train {
        corpus.train(&config, &tokenizer)?.map_or(Train::None, Train::Stored)
    } else {
        Train::None
    };
    // Where the training text is not tokenized, it is not read for the sake of a few rows of it.
    let reading = if matches!(train, Train::Stored(_)) { Reading::Whole } else { Reading::Nothing };
    let validation = corpus.validation(&config, &tokenizer, reading)?;
    if training.do_eval && !training.do_train && args.data.validation_file.is_none() {
        tracing::warn!(
            "no --validation_file: evaluating on the first {} % of the training file, which a --do_train run without --do_eval has trained on",
            config.validation_split_percentage
        );
    }
    Ok((Data { corpus, tokenizer, config, padding, train, validation }, source, vocab))
}

/// `--dump_examples` and `--preview`.
fn show_examples(args: &Arguments, data: &Data) -> Result<()> {
    let splits = || {
        let train = match &data.train {
            Train::Stored(store) => Some(("train", store)),
            Train::None | Train::Streamed => None,
        };
        train.into_iter().chain(data.validation.as_ref().map(|store| ("validation", store)))
    };
    if let Some(path) = &args.beyond.dump_examples {
        lm_files::write_with(path, |file| {
            let dump = |(split, store)| dump_examples(file, split, store, &data.padding).map_err(io::Error::other);
            splits().try_for_each(dump)
        })
        .with_context(|| format!("--dump_examples {}", path.display()))?;
        tracing::info!("examples written to {}", path.display());
    }
    if let Some(count) = args.beyond.preview
        && let Some((name, store)) = splits().next()
    {
        let store = store.take(count);
        let split = if name == "train" { Split::Train } else { Split::Eval };
        let collator = resolve::collator(args, &data.tokenizer, data.padding, split)?;
        for index in 0..store.len() {
            let Some(example) = store.get(index)? else { break };
            let batch = collator.collate(&[(index as u64, example)], 0)?;
            console::say(&format!("{name} {}", preview(&batch, &data.tokenizer).trim_end()));
        }
    }
    Ok(())
}

impl Data {
    fn train_facts(&self, args: &Arguments) -> Result<dry_run::TrainFacts> {
        Ok(match &self.train {
            Train::Stored(store) => {
                let collator = resolve::collator(args, &self.tokenizer, self.padding, Split::Train)?;
                let loader = Loader::new(store.clone(), collator, resolve::train_options(args))?;
                dry_run::TrainFacts { loader: Some(loader), length: self.config.length }
            }
            Train::None | Train::Streamed => dry_run::TrainFacts { loader: None, length: self.config.length },
        })
    }

    fn split_facts(&self, split: &str, loader: &Loader) -> Result<SplitFacts> {
        let store = loader.store();
        Ok(SplitFacts {
            split: split.to_owned(),
            examples: store.len() as u64,
            tokens: store.total_tokens()?,
            padding_share: Some(loader.padding_share(&self.padding)?),
            truncated_share: Some(store.statistics().truncated_share()),
        })
    }

    /// The first examples of the validation split, else of the training split, each with its index.
    fn first_examples(&self, count: usize) -> Result<Vec<(u64, Example)>> {
        let store = match (&self.validation, &self.train) {
            (Some(store), _) if !store.is_empty() => store,
            (_, Train::Stored(store)) => store,
            (_, Train::Streamed) => {
                let mut stream = self.corpus.stream(&self.config, &self.tokenizer, StreamPosition::default())?;
                return Ok(stream.next_examples(count)?.1);
            }
            (_, Train::None) => return Ok(Vec::new()),
        };
        let mut examples = Vec::new();
        for index in 0..store.len().min(count) {
            examples.extend(store.get(index)?.map(|example| (index as u64, example)));
        }
        Ok(examples)
    }
}

/// `train_results.json`, `eval_results.json` and `all_results.json`.
#[derive(Default)]
struct Results {
    all: Map<String, Value>,
}

impl Results {
    /// Prints the metrics of a split as Python's `log_metrics` and writes them as its `save_metrics`.
    fn save(&mut self, folder: &Path, split: &str, metrics: &LogRecord) -> Result<()> {
        let table = console::metrics_table(split, metrics);
        let Value::Object(metrics) = serde_json::to_value(metrics)? else { return Ok(()) };
        write_json(&folder.join(format!("{split}_results.json")), metrics.clone())?;
        self.all.extend(metrics);
        write_json(&folder.join("all_results.json"), self.all.clone())?;
        console::say(&table);
        Ok(())
    }
}

/// Sorted keys, four spaces, as Python writes its results.
fn write_json(path: &Path, mut object: Map<String, Value>) -> Result<()> {
    object.sort_keys();
    let text = json::to_string(&object, "    ")? + "\n";
    lm_files::write(path, text.as_bytes()).with_context(|| format!("{}: cannot be written", path.display()))
}

/// Training and evaluation with everything they share.
struct Session<'a> {
    args: &'a Arguments,
    output: OutputDir,
    /// The first has the model, and evaluates.
    devices: Vec<Device>,
    data: Data,
    files: ModelFiles,
    /// The checkpoint to go on from.
    saved: Option<Saved>,
    state: TrainerState,
    callbacks: Callbacks,
    stop: StopSignal,
    /// Memory from when the model was loaded to the first step or evaluation, with `--skip_memory_metrics false`.
    memory: Option<Stage>,
}

impl<'a> Session<'a> {
    fn new(
        args: &'a Arguments,
        source: &ModelSource,
        data: Data,
        mut output: OutputDir,
        devices: Vec<Device>,
        stop: &StopSignal,
    ) -> Result<Self> {
        let saved = output.take_checkpoint();
        let files = ModelFiles {
            config: source.config.clone(),
            generation_config: source.generation.as_ref().map(|generation| generation.to_json()),
            tokenizer: Arc::clone(&data.tokenizer),
            arguments: serde_json::to_string_pretty(&args.to_json())? + "\n",
            dtype: resolve::dtype(args, source)?,
        };
        let callbacks = Callbacks::default();
        let mut state = saved.as_ref().map(|saved| saved.state.clone()).unwrap_or_default();
        state.counts_tokens = args.training.include_num_input_tokens_seen != TokenCount::No;
        Ok(Self { args, output, devices, data, files, saved, state, callbacks, stop: stop.clone(), memory: None })
    }

    /// `--overwrite_output_dir` goes on with an unfinished run only if its text is the same too.
    fn forget_another_run(&mut self) -> Result<()> {
        let training = &self.args.training;
        let may = training.overwrite_output_dir
            && training.resume_from_checkpoint.is_none()
            && !self.args.beyond.allow_changes_on_resume;
        if let Some(saved) = self.saved.as_ref().filter(|_| may) {
            let (data, data_key) = self.train_data()?;
            let plan = training_plan(self.args, &data, data_key)?;
            if let Some(difference) = plan.fingerprint.difference(&saved.run_state.fingerprint)
                && !may_differ(self.args, &plan, saved)
            {
                tracing::info!("not the run of {} after all: {difference}; starting anew", saved.folder.display());
                let counts_tokens = self.state.counts_tokens;
                (self.saved, self.state) = (None, TrainerState { counts_tokens, ..TrainerState::default() });
            }
        }
        Ok(())
    }

    /// The model to begin or to go on with.
    fn model(&mut self, source: &ModelSource, vocab_in_checkpoint: usize) -> Result<AutoModel> {
        let device = self.devices[0].clone().autodiff();
        let model = match &self.saved {
            None => resolve::model(self.args, source, vocab_in_checkpoint, self.files.dtype, &device)?,
            Some(saved) => {
                tracing::info!("resuming from {} (step {})", saved.folder.display(), saved.state.global_step);
                checkpoint::load_model(&saved.folder, &source.config, &device).context("resuming")?
            }
        };
        self.memory = if self.args.training.skip_memory_metrics { None } else { Stage::start("init")? };
        Ok(model)
    }

    fn eval_collator(&self) -> Result<Arc<dyn Collator>> {
        resolve::collator(self.args, &self.data.tokenizer, self.data.padding, Split::Eval)
    }

    fn evaluation(&self, compute: Compute) -> Result<Evaluation> {
        let store = self.data.validation.clone().ok_or(DataError::NothingHeldOut)?;
        Ok(Evaluation {
            loader: Loader::new(store, self.eval_collator()?, resolve::eval_options(self.args))?,
            task: self.args.task,
            compute,
            label_smoothing: self.args.training.label_smoothing_factor,
            loss_only: self.args.training.prediction_loss_only,
            device: self.devices[0].clone(),
            workers: resolve::workers(self.args),
        })
    }

    /// The training examples from where the run stands, and what identifies them.
    fn train_data(&self) -> Result<(TrainData, String)> {
        let collator = resolve::collator(self.args, &self.data.tokenizer, self.data.padding, Split::Train)?;
        let options = resolve::train_options(self.args);
        Ok(match &self.data.train {
            Train::Stored(store) => {
                let key = format!("{} {}", store.key(), store.len());
                (TrainData::Stored(Loader::new(store.clone(), collator, options)?), key)
            }
            Train::Streamed => {
                let position = self.saved.as_ref().and_then(|saved| saved.run_state.stream_position.clone());
                let Data { corpus, config, tokenizer, .. } = &self.data;
                let stream = corpus.stream(config, tokenizer, position.unwrap_or_default())?;
                let key = stream.key()?;
                let data = TrainData::Streamed {
                    stream: Some(stream),
                    collator,
                    batch_size: options.batch_size,
                    drop_last: options.drop_last,
                };
                (data, key)
            }
            Train::None => anyhow::bail!("--do_train needs a --train_file"),
        })
    }

    /// Trains the model; the signal that ended it, if one did.
    fn train(&mut self, model: AutoModel, results: &mut Results) -> Result<(AutoModel, Option<i32>)> {
        let args = self.args;
        if args.training.do_eval {
            // What it cannot do is better known before training than after.
            self.evaluation(precision::of_evaluation(args))?;
        }
        let (data, data_key) = self.train_data()?;
        let plan = training_plan(args, &data, data_key)?;
        let report = self.add_callbacks(&plan, &data, &model)?;
        let mut trainer = self.trainer(&model, &plan)?;
        let mut first_samples = Vec::new();
        let mut going_on = None;
        if let Some(saved) = self.saved.take() {
            check_unchanged(args, &plan, &saved)?;
            trainer.resume(&saved)?;
            going_on = Some(saved.state.global_step);
            first_samples = saved.run_state.samples;
        }
        self.check_disk(&plan, &trainer)?;
        let examples = || self.data.first_examples(samples::CANDIDATES);
        let samples = Arc::new(Samples::new(args, &self.data.tokenizer, &*self.eval_collator()?, examples)?);
        let prompts = samples.prompts(&self.data.tokenizer);
        // "Before" is before the first step of all, not of this process.
        if !first_samples.iter().map(|(prompt, _)| prompt).eq(&prompts) {
            let texts = samples.texts(&model.valid(), &self.data.tokenizer, &self.devices[0], plan.step.compute, 0)?;
            first_samples = prompts.into_iter().zip(texts).collect();
        }
        let rows = first_samples.iter().cloned();
        lock(&report).samples = rows.map(|(prompt, before)| SampleRow { prompt, before, after: None }).collect();
        trainer.first_samples = first_samples;
        if args.beyond.sample_prompts.is_some() {
            let (samples, tokenizer) = (Arc::clone(&samples), Arc::clone(&self.data.tokenizer));
            trainer.sampler = Some(Sampler { samples, tokenizer });
        }
        self.announce(&plan, &trainer)?;
        if args.training.do_eval || args.training.eval_on_start {
            self.evaluation(plan.step.compute)?.warn_if_nothing_is_predicted()?;
        }

        let first_step = trainer.state.global_step;
        // What another run left is renamed only now that all is there to begin.
        self.output.set_aside_after(going_on)?;
        trainer.memory_before = self.memory.take().map(Stage::stop);
        self.stop.begin_training();
        let trained = trainer.train(model, data, &self.stop);
        let Finished { model, state, callbacks, metrics, signal, last_save } = trained.map_err(|error| {
            let diverged = Noted::cause_of::<Diverged>(&error).is_some();
            Noted::add(error, if diverged { String::new() } else { what_is_kept(args) })
        })?;
        self.state = state;
        if let Some(signal) = signal.filter(|_| self.state.global_step == 0) {
            let name = signals::name(signal);
            tracing::warn!("{name} received: stopped before the first step was made; there is nothing to save");
            return Ok((model, Some(signal)));
        }
        if let Some(signal) = signal {
            let folder = checkpoint::folder_of(self.output.path(), self.state.global_step);
            tracing::warn!(
                "{} received: stopped after step {} and saved {}; {}",
                signals::name(signal),
                self.state.global_step,
                folder.display(),
                if args.training.save_only_model {
                    "without the optimizer (--save_only_model), so go on from it with --model_name_or_path"
                } else {
                    "the same command goes on from there"
                }
            );
            return Ok((model, Some(signal)));
        }
        self.callbacks = callbacks;
        let final_model = self.files.publish(self.output.path(), &model.snapshot(), &self.state);
        final_model.map_err(|error| anyhow!("the model is trained, but {error}{}", what_is_kept(args)))?;
        let folder = self.output.path().display();
        last_save.with_context(|| format!("the trained model is saved in {folder}, but not its last checkpoint"))?;
        let (tokenizer, step) = (&self.data.tokenizer, self.state.global_step);
        let after = samples.texts(&model.valid(), tokenizer, &self.devices[0], plan.step.compute, step)?;
        for (row, after) in lock(&report).samples.iter_mut().zip(after) {
            row.after = Some(after);
        }
        if self.state.global_step == first_step {
            tracing::info!("nothing left to train: the checkpoint is at step {first_step} already");
        }
        if args.training.checkpoint_limit() == Some(1)
            && let Some(step) = self.state.best_global_step
        {
            let best = checkpoint::folder_of(self.output.path(), step);
            if let Err(error) = checkpoint::keep_only(self.output.path(), &best) {
                tracing::warn!("--save_total_limit 1: {error}");
            }
        }
        let mut metrics = metrics;
        if let Train::Stored(store) = &self.data.train {
            metrics.set("train_samples", store.len() as u64);
        }
        self.add_progress(&mut metrics);
        results.save(self.output.path(), "train", &metrics)?;
        Ok((model, None))
    }

    /// What Python's `Trainer.log` leaves in the metrics that it is given.
    fn add_progress(&self, metrics: &mut LogRecord) {
        if let Some(epoch) = self.state.epoch {
            metrics.set("epoch", epoch);
        }
        if self.state.counts_tokens {
            metrics.set("num_input_tokens_seen", self.state.num_input_tokens_seen);
        }
    }

    /// Evaluates; the signal that ended it, if one did.
    fn evaluate(&mut self, model: &AutoModel, results: &mut Results) -> Result<Option<i32>> {
        let compute = precision::of_evaluation(self.args);
        let evaluation = self.evaluation(compute)?;
        let examples = evaluation.loader.store().len() as u64;
        tracing::info!("evaluating on {examples} examples");
        let alone = !self.args.training.do_train;
        if alone {
            evaluation.warn_if_nothing_is_predicted()?;
            self.callbacks.add(Console::new(self.args.training.disable_tqdm.unwrap_or(false)));
        }
        let before = self.memory.take().map(Stage::stop);
        let memory = if self.args.training.skip_memory_metrics { None } else { Stage::start("eval")? };
        let begin = Instant::now();
        let model = model.valid();
        let preparation = round(begin.elapsed().as_secs_f64(), 4);
        let Some(mut metrics) = evaluation.run(&model, &mut self.callbacks, &self.stop)? else {
            tracing::warn!("the trained model is saved; a signal ended its evaluation, which --do_eval alone makes");
            return Ok(self.stop.received());
        };
        if alone {
            metrics.set("eval_model_preparation_time", preparation);
            self.state.log(metrics.clone());
        } else {
            let record = self.state.log(metrics.clone());
            self.callbacks.on_log(&self.state, &record);
            self.callbacks.on_evaluate(&self.state, &record);
            self.state.save(&self.output.path().join(TRAINER_STATE_NAME))?;
        }
        if alone && self.args.beyond.sample_prompts.is_some() {
            let no_examples = || Ok(Vec::new());
            let samples = Samples::new(self.args, &self.data.tokenizer, &*self.eval_collator()?, no_examples)?;
            let texts = samples.texts(&model, &self.data.tokenizer, &self.devices[0], compute, 0)?;
            for (index, text) in texts.iter().enumerate() {
                console::say(&format!("sample_{} {text}", index + 1));
            }
        }
        for figures in [before, memory.map(Stage::stop)].into_iter().flatten() {
            metrics.extend(figures);
        }
        metrics.set("eval_samples", examples);
        self.add_progress(&mut metrics);
        results.save(self.output.path(), "eval", &metrics)?;
        ensure!(
            metrics.get("eval_loss").is_some_and(f64::is_finite) || evaluation.predicts_nothing()?,
            "the validation loss is no finite number: the model's weights are no longer usable; go back to an earlier checkpoint, and train it with a lower --learning_rate"
        );
        Ok(None)
    }

    fn trainer(&mut self, model: &AutoModel, plan: &Plan) -> Result<Trainer> {
        let training = &self.args.training;
        let kind = training.optim;
        let hyper = Hyperparameters {
            adam_beta1: training.adam_beta1,
            adam_beta2: training.adam_beta2,
            adam_epsilon: training.adam_epsilon,
            weight_decay: training.weight_decay,
        };
        let warmup = schedule::warmup_steps(training.warmup_steps, training.warmup_ratio, plan.max_steps);
        let kwargs = training.lr_scheduler_kwargs.as_ref().map(|kwargs| kwargs.0.clone()).unwrap_or_default();
        let schedule =
            Schedule::new(training.lr_scheduler_type, training.learning_rate, warmup, plan.max_steps, &kwargs)?;
        for name in schedule.unused_kwargs() {
            tracing::warn!("--lr_scheduler_kwargs: {} has no use for `{name}`, as in Python", schedule.kind());
        }
        let state = TrainerState {
            max_steps: plan.max_steps,
            num_train_epochs: plan.lengths.steps_per_epoch().map_or(1, |steps| plan.max_steps.div_ceil(steps)),
            logging_steps: plan.logging.1,
            eval_steps: plan.evaluation.1,
            save_steps: plan.saving.1,
            train_batch_size: Some(training.per_device_train_batch_size as u64),
            epoch: Some(0.0),
            counts_tokens: training.include_num_input_tokens_seen != TokenCount::No,
            ..TrainerState::default()
        };
        let parts = Parts {
            optimizer: Optimizer::new(kind, hyper, plan.step.compute),
            optimizer_kind: kind,
            schedule,
            evaluation: (plan.evaluation.0 != crate::args::IntervalStrategy::No || plan.eval_on_start)
                .then(|| self.evaluation(plan.step.compute))
                .transpose()?,
            callbacks: std::mem::take(&mut self.callbacks),
            writer: Writer::new(self.output.path(), self.files.clone(), training.checkpoint_limit()),
            output_dir: self.output.path().to_owned(),
            devices: self.devices.iter().map(|device| device.clone().autodiff()).collect(),
            grad_scaler: training.fp16.then(GradScaler::default),
            early_stopping: self
                .args
                .beyond
                .early_stopping_patience
                .map(|patience| EarlyStopping::new(patience, self.args.beyond.early_stopping_threshold)),
            state,
        };
        Ok(Trainer::new(model, parts, plan.clone()))
    }

    fn add_callbacks(&mut self, plan: &Plan, data: &TrainData, model: &AutoModel) -> Result<Arc<Mutex<RunFacts>>> {
        let (args, folder) = (self.args, self.output.path());
        self.callbacks.add(Console::new(args.training.disable_tqdm.unwrap_or(false)));
        self.callbacks.add(LogFile::new(folder));
        if args.training.writes_tensorboard() {
            let logging_dir = args.training.logging_dir.clone().unwrap_or_else(|| default_logging_dir(folder));
            let texts = vec![
                ("args".to_owned(), self.files.arguments.clone()),
                ("model_config".to_owned(), self.files.config.to_json()),
            ];
            self.callbacks.add(TensorBoard::new(logging_dir, texts));
        }
        let report = Report::new(folder, self.run_facts(plan, data, model)?);
        let facts = report.facts();
        self.callbacks.add(report);
        Ok(facts)
    }

    fn run_facts(&self, plan: &Plan, data: &TrainData, model: &AutoModel) -> Result<RunFacts> {
        let parameters: usize = model.parameters().iter().map(|info| info.len()).sum();
        let family = self.files.config.family();
        let mut splits = Vec::new();
        if let TrainData::Stored(loader) = data {
            splits.push(self.data.split_facts("train", loader)?);
        }
        if let Some(store) = self.data.validation.clone().filter(|store| !store.is_empty()) {
            let options = LoaderOptions { drop_last: false, ..resolve::eval_options(self.args) };
            let loader = Loader::new(store, self.eval_collator()?, options)?;
            splits.push(self.data.split_facts("validation", &loader)?);
        }
        let defaults = Arguments::defaults(self.args.task).to_json();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let arguments = self.args.to_json().as_object().cloned().unwrap_or_default();
        Ok(RunFacts {
            title: self.output.path().display().to_string(),
            task: format!("{} model", family.task.noun()),
            command: secrets::command(std::env::args_os()),
            model: vec![
                ("architecture".into(), family.class.into()),
                ("parameters".into(), parameters.to_string()),
                ("started from".into(), self.args.model.model_name_or_path.clone().unwrap_or_else(|| "scratch".into())),
                ("device".into(), self.args.beyond.device_list().into()),
                ("dtype".into(), self.files.dtype.name().into()),
                ("steps".into(), plan.max_steps.to_string()),
            ],
            arguments: arguments
                .iter()
                .map(|(name, value)| Argument {
                    name: name.clone(),
                    value: text(value),
                    default: defaults.get(name).map(text).unwrap_or_default(),
                })
                .collect(),
            data: splits,
            samples: Vec::new(),
            mask_token: self.data.tokenizer.special().mask.and_then(|id| self.data.tokenizer.token(id)),
        })
    }

    fn check_disk(&self, plan: &Plan, trainer: &Trainer) -> Result<()> {
        let disk = CheckpointPlan {
            size: trainer.checkpoint_size(),
            saves: plan.saves_after(trainer.state.global_step),
            limit: plan.checkpoints_kept(self.args.training.checkpoint_limit()),
            existing: checkpoint::list(self.output.path())?.len() as u64,
        };
        match disk.check(self.output.path()) {
            Err(error) if plan.ignore_disk_check => tracing::warn!("{error}"),
            result => result?,
        }
        Ok(())
    }

    /// What Python prints when training starts.
    fn announce(&self, plan: &Plan, trainer: &Trainer) -> Result<()> {
        let training = &self.args.training;
        let parameters = trainer.checkpoint_size().parameters;
        let examples = match &self.data.train {
            Train::Stored(store) => store.len().to_string(),
            Train::None | Train::Streamed => "streamed".to_owned(),
        };
        tracing::info!(
            "training {} ({parameters} parameters) on {}: {examples} examples, {} per batch, {} batches per step, {} steps, {} epochs",
            self.files.config.family().class,
            self.args.beyond.device_list(),
            training.per_device_train_batch_size,
            plan.lengths.batches_per_step,
            plan.max_steps,
            trainer.state.num_train_epochs
        );
        Ok(())
    }

    /// The last evaluation, and the file that describes the whole.
    fn finish(&mut self, model: &AutoModel, results: &mut Results) -> Result<Option<i32>> {
        let signal = if self.args.training.do_eval { self.evaluate(model, results)? } else { None };
        if signal.is_some() && !self.args.training.do_train {
            return Ok(signal);
        }
        self.model_card().write(self.output.path(), &self.state.log_history)?;
        Ok(signal)
    }

    /// Where the results are, and what can be done with them.
    fn say_what_next(&self) {
        if !self.args.training.do_train {
            return;
        }
        let folder = self.output.path();
        let class = self.files.config.family().class;
        console::say(&format!(
            "\nSaved to {folder}\n  look at it:       {folder}/report.html\n  use it in Python: {class}.from_pretrained(\"{folder}\")\n  train it further: {} --model_name_or_path {folder} --train_file YOUR.txt --do_train --do_eval --output_dir results/next",
            self.args.task.binary(),
            folder = folder.display()
        ));
    }

    fn model_card(&self) -> ModelCard {
        let training = &self.args.training;
        let name = self.output.path().file_name().map(|name| name.to_string_lossy().into_owned());
        ModelCard {
            model_name: name.unwrap_or_else(|| "model".into()),
            finetuned_from: self.args.model.model_name_or_path.clone(),
            task: match self.args.task {
                Task::Mlm => "fill-mask".into(),
                Task::Clm | Task::Plm => "text-generation".into(),
            },
            dataset: None,
            dataset_config: None,
            hyperparameters: CardHyperparameters {
                learning_rate: training.learning_rate,
                train_batch_size: training.per_device_train_batch_size as u64,
                eval_batch_size: training.per_device_eval_batch_size as u64,
                seed: training.seed,
                gradient_accumulation_steps: training.gradient_accumulation_steps as u64,
                num_devices: self.devices.len() as u64,
                optim: training.optim.to_string(),
                optim_args: training.optim_args.clone(),
                adam_beta1: training.adam_beta1,
                adam_beta2: training.adam_beta2,
                adam_epsilon: training.adam_epsilon,
                lr_scheduler_type: training.lr_scheduler_type.to_string(),
                warmup_ratio: training.warmup_ratio,
                warmup_steps: training.warmup_steps,
                max_steps: training.fixed_steps(),
                num_train_epochs: training.num_train_epochs,
                mixed_precision: training.fp16,
                label_smoothing_factor: training.label_smoothing_factor,
            },
            framework_versions: vec![
                (self.args.task.binary().to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ("Burn".to_owned(), "0.22.1".to_owned()),
            ],
        }
    }
}

/// The facts are plain values that no panic leaves half-written.
fn lock(facts: &Mutex<RunFacts>) -> std::sync::MutexGuard<'_, RunFacts> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Steps and epochs as Python's `set_initial_training_values` counts them, and when things happen.
pub fn training_plan(args: &Arguments, data: &TrainData, data_key: String) -> Result<Plan> {
    let training = &args.training;
    let lengths = Lengths {
        batches_per_epoch: data.batches_per_epoch(),
        batches_per_step: training.gradient_accumulation_steps.saturating_mul(args.beyond.num_devices()) as u64,
    };
    let max_steps = match (training.fixed_steps(), lengths.steps_per_epoch()) {
        (Some(steps), _) => steps,
        (None, Some(per_epoch)) => (training.num_train_epochs * per_epoch as f64).ceil() as u64,
        (None, None) => {
            anyhow::bail!("--streaming needs --max_steps: a stream has no length that epochs could be counted in")
        }
    };
    ensure!(max_steps > 0, "--num_train_epochs {} makes no step", training.num_train_epochs);
    let steps = |steps: Steps| steps_of(steps.0, max_steps);
    let fingerprint = Fingerprint {
        data: data_key,
        per_device_train_batch_size: training.per_device_train_batch_size,
        gradient_accumulation_steps: training.gradient_accumulation_steps,
        num_devices: args.beyond.num_devices(),
        data_seed: training.order_seed(),
        seed: training.seed,
        order: format!("{}/{}", training.group_by_length, training.dataloader_drop_last),
        by_example: !(args.data.streaming || training.group_by_length || training.dataloader_drop_last),
    };
    let metric = training.metric_for_best_model.as_ref().map(|name| {
        let name = if name.starts_with("eval_") || name == LogRecord::PERPLEXITY {
            name.clone()
        } else {
            format!("eval_{name}")
        };
        (name, training.greater_is_better.unwrap_or(false))
    });
    Ok(Plan {
        task: args.task,
        max_steps,
        lengths,
        logging: (training.logging_strategy, steps(training.logging_steps)),
        log_first_step: training.logging_first_step,
        evaluation: (training.eval_strategy, steps(training.eval_steps.unwrap_or(training.logging_steps))),
        eval_delay: training.eval_delay.0,
        eval_on_start: training.eval_on_start,
        saving: (training.save_strategy, steps(training.save_steps)),
        save_only_model: training.save_only_model,
        load_best_model_at_end: training.load_best_model_at_end,
        best: metric,
        workers: resolve::workers(args),
        count_tokens: training.include_num_input_tokens_seen,
        tokens_per_second: training.include_tokens_per_second,
        step: StepOptions {
            learning_rate: 0.0,
            max_grad_norm: training.max_grad_norm,
            label_smoothing: training.label_smoothing_factor,
            neftune_noise_alpha: training.neftune_noise_alpha,
            loss_scale: 1.0,
            seed: training.seed,
            first_micro_batch: 0,
            devices: args.beyond.num_devices(),
            gradient_checkpointing: training.gradient_checkpointing,
            compute: precision::of_training(args),
        },
        fingerprint,
        optimizer: training.optim.canonical().to_string(),
        ignore_disk_check: args.beyond.ignore_disk_check,
    })
}

/// Whether a run differs from the checkpoint only by a batch size that may be looked for.
fn may_differ(args: &Arguments, plan: &Plan, saved: &Saved) -> bool {
    let then = &saved.run_state.fingerprint;
    let per_device_train_batch_size = then.per_device_train_batch_size;
    let same = Fingerprint { per_device_train_batch_size, ..plan.fingerprint.clone() };
    args.training.auto_find_batch_size && same.difference(then).is_none()
}

/// A resumed run must be the unbroken one, or be told that it need not be.
fn check_unchanged(args: &Arguments, plan: &Plan, saved: &Saved) -> Result<()> {
    let run = &saved.run_state;
    let folder = saved.folder.display();
    ensure!(
        run.optimizer == plan.optimizer,
        "{folder} was trained with --optim {}, not {}: its moments are of no use to another optimizer",
        run.optimizer,
        plan.optimizer
    );
    if plan.fingerprint.batches_differ(&run.fingerprint) {
        tracing::info!(
            "the batches are cut otherwise than the checkpoint's run did: each step has the same examples, but its sums are rounded, and dropout is drawn, otherwise"
        );
    }
    if let Some(difference) = plan.fingerprint.difference(&run.fingerprint) {
        ensure!(
            args.beyond.allow_changes_on_resume || may_differ(args, plan, saved),
            "{folder} can't be continued as the same run: {difference}; give the old values, go on regardless with --allow_changes_on_resume, or start anew with --overwrite_output_dir"
        );
        tracing::warn!("resuming although {difference}: the run is not what it would have been unbroken");
    }
    let changed = changed_arguments(args, saved);
    if !changed.is_empty() {
        tracing::info!("resuming with other arguments than the checkpoint was made with: {}", changed.join(", "));
    }
    if run.schedule.base_lr != args.training.learning_rate {
        tracing::warn!(
            "--learning_rate {} has no effect on a resumed run, as in Python: the checkpoint's {} goes on",
            args.training.learning_rate,
            run.schedule.base_lr
        );
    }
    Ok(())
}
