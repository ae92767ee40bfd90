//! The story of a run, from its arguments to its last file; the parts are one call away.
//!
//! ```text
//! arguments ─ dataset (its files) ─ paths (is all there?) ─ resolve (config, tokenizer, model) ─ room (in memory?) ─ output_dir (lock, checkpoint)
//!           ─ data (examples) ─┬─ dry_run (--plan)
//!                              └─ resume (the same run?) ─ training ─ evaluation ─ results, model card
//! arguments ─ paths ─ inference (--fill, --generate, --score: resolve, and what the model says)
//! ```

mod adapter;
mod counts;
mod data;
mod dataset;
mod dry_run;
mod evaluation;
mod generation;
mod inference;
mod less_memory;
mod merge;
mod output_dir;
mod paths;
mod push;
mod report_facts;
mod reporting;
mod resolve;
mod results;
mod resume;
mod room;
mod training;
mod unigram;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use lm_models::parameters::ParameterInfo;
use lm_models::{AutoModel, Task};

use crate::args::{ArgsError, Arguments, DataTrainingArguments, TokenCount};
use crate::checkpoint::{self, ModelFiles, Saved};
use crate::device::{self, precision};
use crate::dist::World;
use crate::observe::memory::Stage;
use crate::observe::model_card::ModelCard;
use crate::observe::{Callbacks, Outcome, TrainerState, console, notes::notes, report};
use crate::sys::escape::shell_word;
use crate::sys::panics::{self, Batches};
use crate::sys::signals::{Ended, StopSignal};
use data::Data;
use less_memory::{batches, with_batches};
use output_dir::OutputDir;
use push::Push;
use resolve::ModelSource;
use results::Results;

pub use output_dir::what_is_kept;

/// Does what the arguments ask for, with all processes of the run, until `stop` hears a signal.
///
/// # Errors
/// An [`ArgsError`] for arguments that this machine cannot follow; else what failed.
pub fn run(args: &Arguments, world: &World, stop: &StopSignal) -> Result<Ended> {
    let training = &args.training;
    if let Some(folders) = &args.beyond.compare {
        return compare(folders, &training.output_dir);
    }
    let (args, devices) = world.agree(open_devices(args, world))?;
    world.agree(paths::check_given(&args).and_then(|()| Ok(reporting::check(&args)?)))?;
    // What is not here is fetched.
    let args = &world.in_turn(|| dataset::found(&adapter::found(&args)?))?;
    world.agree(paths::check(args))?;
    if let Some(asked) = args.inference.asked() {
        stop.begin_answering();
        inference::run(args, asked, &devices[0])?;
        return Ok(Ended::Done);
    }
    if !(training.auto_find_batch_size && training.do_train) || args.beyond.plan {
        return attempt(args, devices, world, stop);
    }
    ensure!(
        world.size() == 1,
        "--auto_find_batch_size works within one process: find the size with one, and give it as --per_device_train_batch_size"
    );
    panics::with_smaller_batches(batches(args), |batches| {
        attempt(&with_batches(args, batches), devices.clone(), world, stop)
    })
}

/// `--compare`: reads runs that are there, and makes none.
fn compare(folders: &[String], into: &Path) -> Result<Ended> {
    console::Messages::release();
    let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    let page = report::compare(&folders, into)?;
    console::say(&format!("{} runs compared: {}", folders.len(), page.display()));
    Ok(Ended::Done)
}

/// The arguments with the device of this process, and it opened.
fn open_devices(args: &Arguments, world: &World) -> Result<(Arguments, Vec<Device>)> {
    let mut args = args.clone();
    if world.size() > 1 && args.beyond.devices.is_none() {
        args.beyond.device = device::of_process(&args.beyond.device, world.local_rank());
    }
    let names = args.beyond.device_list();
    let devices = device::open_all(names).map_err(|error| ArgsError::Rule(error.to_string()))?;
    for device in &devices {
        device::prepare(names, device, args.beyond.autotune).map_err(|error| ArgsError::Rule(error.to_string()))?;
        precision::check(&args, device)?;
        if args.training.full_determinism && !device::is_flex(device) {
            let line =
                format!("--full_determinism: only --device cpu is sure to give the same bits again, not {names}");
            return Err(ArgsError::Rule(line).into());
        }
    }
    Ok((args, devices))
}

fn with_accumulation(args: &Arguments, steps: usize) -> Arguments {
    let mut args = args.clone();
    args.accumulation_asked = Some(args.training.gradient_accumulation_steps);
    args.training.gradient_accumulation_steps = steps;
    args
}

/// The whole of a run, with the batch size that the arguments name.
fn attempt(args: &Arguments, devices: Vec<Device>, world: &World, stop: &StopSignal) -> Result<Ended> {
    let training = &args.training;
    let mut source = world.in_turn(|| {
        let source = wants_model(args).then(|| resolve::model_source(args)).transpose()?;
        source.as_ref().map_or(Ok(()), |source| room::expect(args, source, &devices[0]))?;
        Ok(source)
    })?;
    let trains = training.do_train && !args.beyond.plan;
    let output = if args.shows_only() || args.beyond.plan { None } else { Some(OutputDir::open(args, trains, world)?) };
    // A batch size that was found is not looked for again, as in Python.
    let found =
        output.as_ref().and_then(OutputDir::batch_size).filter(|size| *size < training.per_device_train_batch_size);
    if let Some(size) = found.filter(|_| training.auto_find_batch_size) {
        tracing::info!("--auto_find_batch_size: the checkpoint was made with --per_device_train_batch_size {size}");
        drop(output);
        let (now, examples) = (batches(args), batches(args).size.saturating_mul(batches(args).count));
        let count = if examples.is_multiple_of(size) { examples / size } else { now.count };
        return attempt(&with_batches(args, Batches { size, count }), devices, world, stop);
    }
    let checkpoint = output.as_ref().and_then(OutputDir::checkpoint);
    let accumulation = checkpoint.map(|saved| resume::accumulation(args, saved)).transpose();
    if let Some(steps) = world.agree(accumulation)?.flatten() {
        drop(output);
        return attempt(&with_accumulation(args, steps), devices, world, stop);
    }

    if args.merges_only()
        && let (Some(source), Some(output)) = (source.take(), &output)
    {
        merge::run(args, source, &devices[0], output)?;
        return Ok(Ended::Done);
    }
    let uploads = world.is_main() && output.is_some();
    let push = world.agree(if uploads { Push::open(args) } else { Ok(None) })?;
    let data = world.in_turn(|| Data::prepare(args, source.as_mut(), &devices[0]))?;
    if world.is_main() {
        data.show()?;
    }
    let Some(source) = source else { return Ok(Ended::Done) };
    if args.beyond.plan {
        let _armed = less_memory::plan_again_with_less(args, &devices[0]);
        dry_run::print(args, &source, &data, &devices)?;
        return Ok(Ended::Done);
    }
    let Some(mut output) = output else { return Ok(Ended::Done) };
    let files = ModelFiles {
        config: source.config.clone(),
        generation_config: source.generation.as_ref().map(|generation| generation.to_json()),
        tokenizer: Arc::clone(&data.tokenizer),
        arguments: serde_json::to_string_pretty(&args.to_json())? + "\n",
        training_arguments: args.training_to_json(),
        dtype: resolve::dtype(args, &source)?,
        adapter: adapter::config(args, &source.config)?
            .map(|config| (config, source.vocab_in_checkpoint != source.config.vocab_size())),
    };
    let saved = world.agree(resume::unless_another_run(args, &data, output.take_checkpoint()))?;
    Run { args, devices, world, data, files, output, push, stop }.work(&source, saved)
}

fn wants_model(args: &Arguments) -> bool {
    !args.shows_only()
        || args.beyond.train_tokenizer.is_some()
        || args.model.model_name_or_path.is_some()
        || args.model.config_name.is_some()
        || args.model.model_type.is_some()
}

/// What training and evaluation share.
struct Run<'a> {
    args: &'a Arguments,
    /// The first has the model, and evaluates.
    devices: Vec<Device>,
    /// The processes of the run.
    world: &'a World,
    data: Data<'a>,
    files: ModelFiles,
    output: OutputDir,
    /// `--push_to_hub`
    push: Option<Arc<Push>>,
    stop: &'a StopSignal,
}

impl Run<'_> {
    /// Training, evaluation and the model card.
    fn work(&self, source: &ModelSource, saved: Option<Saved>) -> Result<Ended> {
        let training = &self.args.training;
        let (mut callbacks, mut results) = (Callbacks::default(), Results::default());
        let counts_tokens = training.include_num_input_tokens_seen != TokenCount::No;
        let mut state = TrainerState { counts_tokens, ..TrainerState::default() };
        let mut model = self.world.agree(self.model(source, saved.as_ref()))?;
        let mut memory = self.watch_memory("init")?;
        if training.do_train {
            let _armed = less_memory::begin_again_with_smaller_batches(self.args, &self.devices[0]);
            let trained = self.train(model, saved, memory.take(), &mut callbacks, &mut results)?;
            let Some(trained) = trained else { return Ok(self.stop.ended()) };
            (model, state) = trained;
        }
        let ended = match training.do_eval {
            true => self.evaluate(&model, &mut state, memory, &mut callbacks, &mut results),
            false => Ok(Ended::Done),
        };
        if !self.world.is_main() {
            return ended;
        }
        let ended = ended.and_then(|ended| self.describe(&state, ended));
        callbacks.on_train_end(&state, &Outcome::of(&ended));
        if let (Some(push), Ok(Ended::Done)) = (&self.push, &ended) {
            push.finish();
        }
        if matches!(ended, Ok(Ended::Done)) && training.do_train {
            self.say_what_next(&state)?;
        }
        ended
    }

    /// The model to begin or to go on with.
    fn model(&self, source: &ModelSource, saved: Option<&Saved>) -> Result<AutoModel> {
        let device = self.devices[0].clone().autodiff();
        let adapter = self.files.adapter.as_ref().map(|(config, _)| config);
        let begin = || resolve::model(self.args, source, adapter, self.files.dtype, &device);
        let Some(saved) = saved else { return begin() };
        tracing::info!("resuming from {} (step {})", saved.folder.display(), saved.state.global_step);
        if let Some(config) = adapter {
            adapter::expect_same(config, &saved.folder)?;
            return checkpoint::load_adapter(begin()?, &saved.folder, &source.config).context("resuming");
        }
        let model = {
            let in_16_bits = |weight: &ParameterInfo| adapter::in_16_bits(self.args, None, weight);
            checkpoint::load_model(&saved.folder, &source.config, &device, in_16_bits).context("resuming")?
        };
        adapter::prepare(self.args, model, None, &source.config)
    }

    /// `--skip_memory_metrics false` watches the memory of a part of the run.
    fn watch_memory(&self, part: &'static str) -> Result<Option<Stage>> {
        if self.args.training.skip_memory_metrics { Ok(None) } else { Ok(Stage::start(part)?) }
    }

    /// The file that describes the whole, unless a signal left nothing to describe.
    fn describe(&self, state: &TrainerState, ended: Ended) -> Result<Ended> {
        if ended == Ended::Done || self.args.training.do_train {
            let repository = self.push.as_ref().map(|push| push.repository());
            let mut card = ModelCard::of(self.args, self.files.config.family(), self.data.facts()?, repository);
            card.unigram_perplexity = self.data.unigram_perplexity()?;
            card.write(self.output.path(), &state.log_history)?;
        }
        Ok(ended)
    }

    /// What to notice, where the results are, and what can be done with them.
    fn say_what_next(&self, state: &TrainerState) -> Result<()> {
        let length_flag = DataTrainingArguments::length_flag(self.args.task);
        for note in notes(state, self.data.facts()?, length_flag, true) {
            console::say(&format!("note: {note}"));
        }
        let shown = self.output.path().display().to_string();
        let class = self.files.config.family().class;
        console::say(&format!(
            "\nSaved to {shown}\n  look at it:       {shown}/report.html\n  try it:           {}\n  use it in Python: {class}.from_pretrained({shown:?})\n  train it further: {} --model_name_or_path {} --train_file YOUR.txt --do_train --do_eval --output_dir results/next",
            self.command_to_try(),
            self.args.task.binary(),
            shell_word(&shown)
        ));
        Ok(())
    }

    /// A command that uses the model, to be tried.
    fn command_to_try(&self) -> String {
        let mask = self.data.tokenizer.special().mask.and_then(|mask| self.data.tokenizer.token(mask));
        let words = match self.args.task {
            Task::Mlm => format!("--fill \"The {} sat.\"", mask.unwrap_or_default()),
            Task::Clm => "--generate \"Once\"".to_owned(),
            Task::Plm => "--score YOUR.txt".to_owned(),
        };
        let folder = self.output.path().display().to_string();
        format!("{} --model_name_or_path {} {words}", self.args.task.binary(), shell_word(&folder))
    }
}
