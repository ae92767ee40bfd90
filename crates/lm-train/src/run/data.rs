//! Text, tokenizer and examples of a run, and the ways through them.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use lm_data::collate::{Collator, Padding, Split};
use lm_data::example::{Example, ExampleStore};
use lm_data::tokenizer::LmTokenizer;
use lm_data::{Corpus, DataConfig, DataError, Loader, LoaderOptions, Reading, StreamPosition, dump_examples, preview};
use lm_models::ops::Compute;

use crate::args::Arguments;
use crate::checkpoint::Saved;
use crate::observe::console;
use crate::observe::report::SplitFacts;
use crate::run::resolve::{self, ModelSource};
use crate::run::{generation, room, unigram};
use crate::train::batches::TrainData;
use crate::train::evaluate::Evaluation;
use crate::train::plan;

/// Text, tokenizer and examples.
pub struct Data<'a> {
    /// The run's arguments.
    args: &'a Arguments,
    corpus: Corpus,
    /// The model's.
    pub tokenizer: Arc<LmTokenizer>,
    /// What decides the examples.
    pub config: DataConfig,
    padding: Padding,
    train: Train,
    /// None where nothing is evaluated and no file is given for it.
    validation: Option<ExampleStore>,
    facts: OnceCell<Vec<SplitFacts>>,
    unigram_perplexity: OnceCell<Option<f64>>,
}

/// What a cell holds; found the first time.
fn once<T>(cell: &OnceCell<T>, find: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = find()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

/// The training examples, as far as they are there before training.
enum Train {
    None,
    Stored(ExampleStore),
    Streamed,
}

impl<'a> Data<'a> {
    /// Tokenizer and examples; the configuration is fitted to the tokenizer.
    ///
    /// # Errors
    /// If text or tokenizer cannot be read, or do not fit the model.
    pub fn prepare(args: &'a Arguments, mut source: Option<&mut ModelSource>, device: &Device) -> Result<Self> {
        let corpus = Corpus::open(&resolve::data_config(args, usize::MAX))?;
        let tokenizer = resolve::tokenizer(args, source.as_deref(), &corpus)?;
        if let Some(source) = &mut source {
            resolve::fit_vocabulary(source, &tokenizer, args)?;
            source.generation = generation::generation_config(source)?;
            if args.training.do_train {
                generation::align_special_tokens(source, &tokenizer);
            }
            room::expect(args, source, device)?;
        }
        let length = resolve::sequence_length(args, &tokenizer, source.as_ref().map(|source| &source.config))?;
        let config = resolve::data_config(args, length);
        let padding = resolve::padding(args, &tokenizer, length);
        // What a collator refuses, such as a tokenizer without a mask token, is better known before the text is tokenized.
        resolve::collator(args, &tokenizer, padding, Split::Train)?;
        // Nothing is wrong with the arguments themselves.
        console::Messages::release();
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
        if training.do_eval && !training.do_train && config.validation_files.is_empty() {
            let missing = if args.dataset.is_some() { "no validation split" } else { "no --validation_file" };
            tracing::warn!(
                "{missing}: evaluating on the first {} % of the training file, which a --do_train run without --do_eval has trained on",
                config.validation_split_percentage
            );
        }
        let (facts, unigram_perplexity) = (OnceCell::new(), OnceCell::new());
        Ok(Self { args, corpus, tokenizer, config, padding, train, validation, facts, unigram_perplexity })
    }

    /// `--dump_examples` and `--preview`.
    ///
    /// # Errors
    /// If an example cannot be read, or the file written.
    pub fn show(&self) -> Result<()> {
        let splits = || {
            let train = match &self.train {
                Train::Stored(store) => Some(("train", store)),
                Train::None | Train::Streamed => None,
            };
            train.into_iter().chain(self.validation.as_ref().map(|store| ("validation", store)))
        };
        if let Some(path) = &self.args.beyond.dump_examples {
            lm_files::write_with(path, |file| {
                let dump = |(split, store)| dump_examples(file, split, store, &self.padding).map_err(io::Error::other);
                splits().try_for_each(dump)
            })
            .with_context(|| format!("--dump_examples {}", path.display()))?;
            tracing::info!("examples written to {}", path.display());
        }
        if let Some(count) = self.args.beyond.preview
            && let Some((name, store)) = splits().next()
        {
            let store = store.take(count);
            let collator = self.collator(if name == "train" { Split::Train } else { Split::Eval })?;
            for index in 0..store.len() {
                let Some(example) = store.get(index)? else { break };
                let batch = collator.collate(&[(index as u64, example)], 0)?;
                console::say(&format!("{name} {}", preview(&batch, &self.tokenizer).trim_end()));
            }
        }
        Ok(())
    }

    /// What makes batches of the examples of a split.
    ///
    /// # Errors
    /// If the tokenizer has not what the task needs.
    pub fn collator(&self, split: Split) -> Result<Arc<dyn Collator>> {
        resolve::collator(self.args, &self.tokenizer, self.padding, split)
    }

    /// The way through the stored training examples; none of a stream.
    ///
    /// # Errors
    /// If the examples make no batch.
    pub fn train_loader(&self) -> Result<Option<Loader>> {
        let Train::Stored(store) = &self.train else { return Ok(None) };
        let options = resolve::train_options(self.args);
        Ok(Some(Loader::new(store.clone(), self.collator(Split::Train)?, options)?))
    }

    /// The training examples from where the run stands, and what identifies them.
    ///
    /// # Errors
    /// If there are none.
    pub fn train_data(&self, saved: Option<&Saved>) -> Result<(TrainData, String)> {
        match &self.train {
            Train::None => bail!("--do_train needs a --train_file or a --dataset_name"),
            Train::Stored(store) => {
                let key = format!("{} {}", store.key(), store.len());
                let loader =
                    Loader::new(store.clone(), self.collator(Split::Train)?, resolve::train_options(self.args))?;
                Ok((TrainData::Stored(loader), key))
            }
            Train::Streamed => {
                let position = saved.and_then(|saved| saved.run_state.stream_position.clone()).unwrap_or_default();
                let stream = self.corpus.stream(&self.config, &self.tokenizer, position)?;
                let key = stream.key()?;
                let LoaderOptions { batch_size, drop_last, .. } = resolve::train_options(self.args);
                let collator = self.collator(Split::Train)?;
                Ok((TrainData::Streamed { stream: Some(stream), collator, batch_size, drop_last }, key))
            }
        }
    }

    /// How many training examples are stored; none of a stream.
    pub fn train_examples(&self) -> Option<u64> {
        match &self.train {
            Train::Stored(store) => Some(store.len() as u64),
            Train::None | Train::Streamed => None,
        }
    }

    /// The validation set.
    ///
    /// # Errors
    /// If there is none.
    pub fn evaluation(&self, device: &Device, compute: Compute) -> Result<Evaluation> {
        let store = self.validation.clone().ok_or(DataError::NothingHeldOut)?;
        Ok(Evaluation {
            loader: Loader::new(store, self.collator(Split::Eval)?, resolve::eval_options(self.args))?,
            task: self.args.task,
            compute,
            label_smoothing: self.args.training.label_smoothing_factor,
            loss_only: self.args.training.prediction_loss_only,
            device: device.clone(),
            workers: plan::workers(self.args),
        })
    }

    /// What the report says of the splits; looked at once.
    ///
    /// # Errors
    /// If the examples cannot be read.
    pub fn facts(&self) -> Result<&[SplitFacts]> {
        once(&self.facts, || self.find_facts()).map(Vec::as_slice)
    }

    fn find_facts(&self) -> Result<Vec<SplitFacts>> {
        let mut splits = Vec::new();
        // Examples that are only looked at need not make a batch.
        let loader = if self.args.training.do_train { self.train_loader()? } else { None };
        if let Some(loader) = loader {
            splits.push(self.split_facts("train", &loader)?);
        }
        if let Some(store) = self.validation.clone().filter(|store| !store.is_empty()) {
            let options = LoaderOptions { drop_last: false, ..resolve::eval_options(self.args) };
            splits.push(self.split_facts("validation", &Loader::new(store, self.collator(Split::Eval)?, options)?)?);
        }
        Ok(splits)
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

    /// The perplexity of guessing the validation text, else the training text, by the frequencies of tokens in the training
    /// text; none of a stream.
    ///
    /// # Errors
    /// If the examples cannot be read.
    pub fn unigram_perplexity(&self) -> Result<Option<f64>> {
        let Train::Stored(train) = &self.train else { return Ok(None) };
        let validation = self.validation.as_ref().filter(|store| !store.is_empty()).unwrap_or(train);
        once(&self.unigram_perplexity, || unigram::perplexity(train, validation, self.tokenizer.len())).copied()
    }

    /// The first examples of the validation split, else of the training split, each with its index.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn first_examples(&self, count: usize) -> Result<Vec<(u64, Example)>> {
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
