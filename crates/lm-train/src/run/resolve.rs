//! From arguments to a tokenizer, a configuration, a model and data sets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use lm_data::collate::{
    ClmCollator, Collator, MlmCollator, MlmOptions, PadTo, Padding, PlmCollator, PlmOptions, Split,
};
use lm_data::dataset::Reading;
use lm_data::source::weighted;
use lm_data::tokenizer::{LmTokenizer, OTHER_FILES, TrainKind, VOCABULARY_FILES};
use lm_data::{Corpus, DataConfig, LoaderOptions, Order};
use lm_hub::{Files, HubOptions};
use lm_models::adapter::LoraConfig;
use lm_models::config::GenerationConfig;
use lm_models::parameters::ParameterInfo;
use lm_models::weights::FloatDtype;
use lm_models::{AutoModel, ModelConfig, Task, pretrained};

use crate::args::{ArgsError, Arguments, DataTrainingArguments, DatasetFiles, Dtype, SamplingStrategy};
use crate::observe::console;
use crate::observe::format::count;
use crate::run::adapter;
use crate::sys::cache_dir;

/// Python's cap on a length that nobody asked for.
const DEFAULT_LENGTH: usize = 1024;

/// The longest text that a new tokenizer allows, where the model does not say.
const TOKENIZER_LENGTH: usize = 512;

fn hub_options(args: &Arguments) -> HubOptions {
    HubOptions {
        revision: Some(args.model.model_revision.clone()),
        token: args.model.token.clone(),
        cache_dir: args.model.cache_dir.clone(),
    }
}

/// A model's configuration, and where its weights and its tokenizer are.
pub struct ModelSource {
    /// config.json, or an architecture's defaults with the overrides.
    pub config: ModelConfig,
    /// The folder of the checkpoint, or the beginning of the names of a TensorFlow 1 checkpoint's files; none for a new model.
    pub weights: Option<PathBuf>,
    /// Rows of the checkpoint's embeddings, once the configuration fits the tokenizer.
    pub vocab_in_checkpoint: usize,
    /// generation_config.json, once the configuration fits the tokenizer; none for models that do not generate.
    pub generation: Option<GenerationConfig>,
}

impl ModelSource {
    /// The folder that the weights lie in.
    pub fn folder(&self) -> Option<&Path> {
        self.weights.as_deref().map(folder_of)
    }
}

/// The folder that weights lie in.
fn folder_of(weights: &Path) -> &Path {
    match weights.parent() {
        Some(parent) if !weights.is_dir() && parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) if !weights.is_dir() => parent,
        _ => weights,
    }
}

/// Whether a name is not a folder's but the beginning of the names of a TensorFlow 1 checkpoint's files, as the scripts see
/// it (`from_tf=bool(".ckpt" in model_name_or_path)`).
fn is_tensorflow1(name: &str) -> bool {
    let path = Path::new(name);
    name.contains(".ckpt") && !path.is_dir() && folder_of(path).is_dir()
}

/// The configuration beside weights: config.json, or the only one that is called after a model, as bert_config.json in the
/// first releases of BERT, ALBERT and XLNet.
fn config_beside(weights: &Path) -> PathBuf {
    let folder = folder_of(weights);
    let paths = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = paths.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_suffix("_config.json").is_some_and(|of| lm_models::models::model_type_in(of).is_some())
    });
    match named.collect::<Vec<_>>().as_slice() {
        [only] if !folder.join("config.json").exists() => only.clone(),
        _ => folder.to_path_buf(),
    }
}

/// Finds the configuration that the arguments name (`--config_name`, `--model_name_or_path` or `--model_type`).
pub fn model_source(args: &Arguments) -> Result<ModelSource> {
    let model = &args.model;
    let resolve = |name: &str, files| lm_hub::resolve(name, files, &hub_options(args));
    let weights = match &model.model_name_or_path {
        Some(name) if is_tensorflow1(name) => Some(PathBuf::from(name)),
        Some(name) => {
            let files = if args.shows_only() { Files::Config } else { Files::Model };
            Some(resolve(name, files).context("--model_name_or_path")?)
        }
        None => None,
    };
    let mut config = match (&model.config_name, &weights, &model.model_type) {
        (Some(name), _, _) => {
            let path = Path::new(name);
            // What is no file, as a pipe, is refused where it is read.
            let is_folder = path.is_dir() || path.symlink_metadata().is_err();
            let path = if is_folder { resolve(name, Files::Config).context("--config_name")? } else { path.to_owned() };
            ModelConfig::from_named_path(&path, name, model.model_type.as_deref())?
        }
        (None, Some(weights), model_type) => {
            let name = model.model_name_or_path.as_deref().unwrap_or_default();
            ModelConfig::from_named_path(&config_beside(weights), name, model_type.as_deref())?
        }
        (None, None, Some(model_type)) => ModelConfig::from_model_type(model_type)
            .map_err(|error| ArgsError::Rule(format!("--model_type: {error}")))?,
        (None, None, None) if args.task == Task::Plm => ModelConfig::from_model_type("xlnet")?,
        (None, None, None) => bail!("no model: give --model_name_or_path, --config_name or --model_type"),
    };
    config.expect_task(args.task)?;
    if let Some(overrides) = &model.config_overrides {
        config.apply_overrides(overrides).map_err(|error| ArgsError::Rule(error.to_string()))?;
    }
    Ok(ModelSource { config, weights, vocab_in_checkpoint: 0, generation: None })
}

/// Loads the tokenizer that the arguments name, or trains one on the training text.
pub fn tokenizer(args: &Arguments, source: Option<&ModelSource>, corpus: &Corpus) -> Result<LmTokenizer> {
    if let Some(size) = args.beyond.train_tokenizer {
        let model_type = source.map_or("bert", |source| source.config.model_type());
        let kind = TrainKind::for_model_type(model_type).with_context(|| {
            format!("--train_tokenizer: no kind of tokenizer is known for `{model_type}`; give --tokenizer_name")
        })?;
        let files = args.data.train_file.as_ref().map(|files| files.0.join(", "));
        let files = files.or_else(|| args.data.dataset_name.clone()).unwrap_or_default();
        // This takes a while: whatever fails from here on, it was begun.
        console::Messages::release();
        tracing::info!("training a tokenizer with {} entries on {files}", count(size as u64));
        let _busy = console::busy("training a tokenizer");
        let limit = source.and_then(|source| source.config.max_positions()).or(Some(TOKENIZER_LENGTH));
        let lines = corpus.train_rows()?;
        return LmTokenizer::train::<anyhow::Error>(kind, size, limit, lines.map(|line| Ok(line?)))
            .with_context(|| format!("--train_tokenizer {size} on {files}"));
    }
    loaded_tokenizer(args, source)
}

/// The tokenizer that the arguments name. An adapter may have one of its own.
pub fn loaded_tokenizer(args: &Arguments, source: Option<&ModelSource>) -> Result<LmTokenizer> {
    let has_vocabulary = |name: &&String| VOCABULARY_FILES.iter().any(|file| Path::new(name).join(file).is_file());
    let of_adapter = args.lora.adapter_name_or_path.as_ref().filter(has_vocabulary);
    let (flag, name) = match (&args.model.tokenizer_name, of_adapter.or(args.model.model_name_or_path.as_ref())) {
        (Some(name), _) => ("--tokenizer_name", name),
        (None, Some(name)) if of_adapter.is_some() => ("--adapter_name_or_path", name),
        (None, Some(name)) => ("--model_name_or_path", name),
        (None, None) => bail!("no tokenizer: give --tokenizer_name or --train_tokenizer"),
    };
    let files = Files::Tokenizer { vocabularies: VOCABULARY_FILES, others: OTHER_FILES };
    let folder = match is_tensorflow1(name) {
        true => folder_of(Path::new(name)).to_path_buf(),
        false => lm_hub::resolve(name, files, &hub_options(args)).context(flag)?,
    };
    let of_model = source.map(|source| source.config.model_type());
    let named = if args.model.tokenizer_name.is_some() { lm_models::models::model_type_in(name) } else { None };
    LmTokenizer::from_folder_of(&folder, named.or(of_model)).context(flag)
}

/// Makes configuration and tokenizer fit: a larger vocabulary enlarges the embeddings, a new model with a new tokenizer
/// takes that tokenizer's size and special tokens.
pub fn fit_vocabulary(source: &mut ModelSource, tokenizer: &LmTokenizer, args: &Arguments) -> Result<()> {
    let config = &mut source.config;
    let rows = config.vocab_size();
    source.vocab_in_checkpoint = rows;
    if args.beyond.train_tokenizer.is_some() {
        config.set("vocab_size", tokenizer.len());
        let special = tokenizer.special();
        // A tokenizer without one of them, as GPT-2's without padding, leaves the model without it too.
        for (key, id) in [("pad_token_id", special.pad), ("bos_token_id", special.bos), ("eos_token_id", special.eos)] {
            if config.get(key).is_some_and(|value| !value.is_null()) {
                config.set(key, id);
            }
        }
        source.vocab_in_checkpoint = tokenizer.len();
        return Ok(());
    }
    if tokenizer.len() > rows {
        tracing::info!(
            "the tokenizer has {} entries, the model {}: the embeddings are enlarged",
            count(tokenizer.len() as u64),
            count(rows as u64)
        );
        config.set("vocab_size", tokenizer.len());
    }
    ensure!(
        (tokenizer.max_id() as usize) < config.vocab_size(),
        "the tokenizer has ids up to {} but only {} entries, and the model {} embeddings: the tokenizer does not belong to this model, or its files have holes; give the right --tokenizer_name",
        tokenizer.max_id(),
        tokenizer.len(),
        config.vocab_size()
    );
    Ok(())
}

/// The length of an example: what the command line asks for, within what tokenizer and model can do (the rules of the
/// scripts for `--max_seq_length` and `--block_size`).
pub fn sequence_length(args: &Arguments, tokenizer: &LmTokenizer, config: Option<&ModelConfig>) -> Result<usize> {
    let flag = DataTrainingArguments::length_flag(args.task);
    let positions = config.and_then(ModelConfig::max_positions);
    let limit = tokenizer.model_max_length();
    let length = match args.data.sequence_length(args.task) {
        Some(asked) => {
            let explicit = args.task != Task::Plm || asked != 512;
            if asked > limit {
                tracing::warn!("{flag} {asked} is longer than the tokenizer allows ({limit}): using {limit}");
            }
            let length = asked.min(limit);
            // Computed positions have no end: config.json says what is usual.
            let positions = positions.filter(|_| config.is_none_or(|config| !config.family().computes_positions));
            if let Some(positions) = positions.filter(|&positions| length > positions) {
                ensure!(
                    !explicit,
                    "{flag} {asked}: the model has {positions} positions; give at most {flag} {positions}"
                );
            }
            positions.map_or(length, |positions| length.min(positions))
        }
        None => {
            if limit > DEFAULT_LENGTH {
                tracing::warn!(
                    "the tokenizer allows {} tokens: using {DEFAULT_LENGTH}, which {flag} can change",
                    if limit > usize::MAX / 2 { "any number of".to_owned() } else { limit.to_string() }
                );
            }
            let length = limit.min(DEFAULT_LENGTH);
            if let Some(positions) = positions.filter(|&positions| length > positions) {
                tracing::warn!("the model has {positions} positions: using {flag} {positions}");
            }
            positions.map_or(length, |positions| length.min(positions))
        }
    };
    if let Some(config) = config {
        config.expect_length(length).context(flag)?;
    }
    let special = tokenizer.num_special_tokens_to_add();
    ensure!(
        length > special,
        "{flag} {length}: the tokenizer adds {special} special tokens to every text, which leaves no room for any; give at least {}",
        special + 1
    );
    Ok(length)
}

/// Whether rows are held out where no validation file is given: for an evaluation, or to be shown with the others.
pub fn needs_validation(args: &Arguments) -> bool {
    args.training.do_eval || args.training.eval_on_start || args.shows_only()
}

/// What decides the examples. `length` may be filled in when the tokenizer is known.
pub fn data_config(args: &Arguments, length: usize) -> DataConfig {
    let data = &args.data;
    let files = |files: &Option<crate::args::Files>| files.as_ref().map(|files| files.0.clone()).unwrap_or_default();
    let dataset = args.dataset.clone().unwrap_or_else(|| DatasetFiles {
        train: files(&data.train_file),
        validation: files(&data.validation_file),
        ..DatasetFiles::default()
    });
    // What is wrong with weights was told before.
    let (train_files, train_weights) = match args.dataset {
        None => weighted(&dataset.train).unwrap_or_default(),
        Some(_) => (dataset.train, Vec::new()),
    };
    let Reading { mut rows, column } = dataset.reading;
    // As in Python, the argument is about files; a data set says itself what becomes of its line breaks.
    if args.dataset.is_none() {
        rows.keep_linebreaks = args.task == Task::Clm && data.keep_linebreaks;
    }
    rows.sample_by = args.beyond.sample_by.unwrap_or(rows.sample_by);
    if let Some(names) = &args.beyond.column_names {
        (rows.csv.column_names, rows.csv.header) = (names.clone(), Some(false));
    }
    DataConfig {
        train_files,
        train_weights,
        validation_files: dataset.validation,
        remote_files: dataset.remote,
        train_parts: dataset.train_parts,
        validation_parts: dataset.validation_parts,
        text_column: args.beyond.text_column.clone().or(column),
        validation_split_percentage: if needs_validation(args) {
            data.validation_split_percentage.unwrap_or(5) as u32
        } else {
            0
        },
        length,
        line_by_line: data.line_by_line,
        rows,
        group_batch_size: args.beyond.group_batch_size,
        max_train_samples: data.max_train_samples,
        max_eval_samples: data.max_eval_samples,
        workers: data.preprocessing_num_workers,
        shuffle_buffer_size: args.beyond.shuffle_buffer_size,
        order_seed: args.training.order_seed(),
        cache_dir: args.beyond.data_cache_dir.clone().unwrap_or_else(|| {
            cache_dir().map_or_else(|| args.training.output_dir.join("cache"), |base| base.join("examples"))
        }),
        cache_limit: (args.beyond.data_cache_limit * 1e9) as u64,
        overwrite_cache: data.overwrite_cache,
        verify_data: args.beyond.verify_data,
        ignore_disk_check: args.beyond.ignore_disk_check,
    }
}

/// How batches of a task are padded: lines for 16 bits to a multiple of 8, as `run_mlm.py` alone does it.
pub fn padding(args: &Arguments, tokenizer: &LmTokenizer, length: usize) -> Padding {
    let (data, training) = (&args.data, &args.training);
    let to = match (data.line_by_line, data.pad_to_max_length) {
        (true, true) => PadTo::Length(length),
        (true, false) if args.task == Task::Mlm && (training.fp16 || training.bf16) => PadTo::MultipleOf(8),
        _ => PadTo::Longest,
    };
    Padding::new(tokenizer, to)
}

/// The collator of a task.
pub fn collator(
    args: &Arguments,
    tokenizer: &LmTokenizer,
    padding: Padding,
    split: Split,
) -> Result<Arc<dyn Collator>> {
    let (data, seed) = (&args.data, args.training.seed);
    Ok(match args.task {
        Task::Mlm => {
            let options = MlmOptions {
                mlm_probability: data.mlm_probability,
                whole_word_mask: args.beyond.whole_word_mask,
                special_in_text: !args.training.remove_unused_columns,
            };
            Arc::new(MlmCollator::new(tokenizer, options, padding, seed, split)?)
        }
        Task::Clm => Arc::new(ClmCollator::new(padding)),
        Task::Plm => {
            let options = PlmOptions { plm_probability: data.plm_probability, max_span_length: data.max_span_length };
            Arc::new(PlmCollator::new(tokenizer, options, padding, seed, split)?)
        }
    })
}

/// The order in which training walks its examples.
pub fn train_options(args: &Arguments) -> LoaderOptions {
    let training = &args.training;
    LoaderOptions {
        batch_size: training.per_device_train_batch_size,
        order: match training.train_sampling_strategy {
            SamplingStrategy::Random => Order::Shuffled,
            SamplingStrategy::Sequential => Order::Sequential,
            SamplingStrategy::GroupByLength => Order::GroupedByLength,
        },
        drop_last: training.dataloader_drop_last,
        seed: training.order_seed(),
    }
}

/// The order in which evaluation walks its examples.
pub fn eval_options(args: &Arguments) -> LoaderOptions {
    LoaderOptions {
        batch_size: args.training.per_device_eval_batch_size,
        order: Order::Sequential,
        drop_last: args.training.dataloader_drop_last,
        seed: args.training.seed,
    }
}

/// A model's type on disk, and the rounding its weights take when they are loaded (`--dtype`).
pub fn dtype(args: &Arguments, source: &ModelSource) -> Result<FloatDtype> {
    let named = |name: &str| {
        FloatDtype::from_name(name)
            .with_context(|| format!("config.json: dtype `{name}` is not supported; give --dtype float32"))
    };
    match args.model.dtype {
        None | Some(Dtype::Float32) => Ok(FloatDtype::F32),
        Some(Dtype::Bfloat16) => Ok(FloatDtype::BF16),
        Some(Dtype::Float16) => Ok(FloatDtype::F16),
        Some(Dtype::Auto) => {
            source.config.get("dtype").and_then(|dtype| dtype.as_str()).map_or(Ok(FloatDtype::F32), named)
        }
    }
}

/// The model: from its checkpoint, with a word on what was missing there, or new; with its adapter, if it has one.
pub fn model(
    args: &Arguments,
    source: &ModelSource,
    adapter: Option<&LoraConfig>,
    dtype: FloatDtype,
    device: &Device,
) -> Result<AutoModel> {
    let seed = args.training.seed;
    let model = match &source.weights {
        None => AutoModel::from_config(&source.config, seed, device)?,
        Some(folder) => {
            let _busy = console::busy("loading weights");
            let in_16_bits = |weight: &ParameterInfo| adapter::in_16_bits(args, adapter, weight);
            let (config, rows) = (&source.config, source.vocab_in_checkpoint);
            let loaded = pretrained::load_some_in_16_bits(folder, config, rows, seed, device, in_16_bits)?;
            let name = args.model.model_name_or_path.as_deref().unwrap_or_default();
            tracing::info!("{}", loaded.report.read_message(name));
            loaded.report.listing().for_each(|line| tracing::debug!("{line}"));
            let messages = [
                loaded.report.renamed_message(),
                loaded.report.unexpected_message(name),
                loaded.report.missing_message(name),
            ];
            messages.into_iter().flatten().for_each(|message| tracing::warn!("{message}"));
            loaded.model
        }
    };
    adapter::prepare(args, pretrained::round_to(model, dtype), adapter, &source.config)
}
