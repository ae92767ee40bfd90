//! A model that is used, not trained, and its tokenizer.

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor};
use lm_data::Batch;
use lm_data::tokenizer::LmTokenizer;
use lm_models::ops::Compute;
use lm_models::{AutoModel, Mode, ModelConfig, ModelInputs, Task};

use crate::args::Arguments;
use crate::device::precision;
use crate::observe::console;
use crate::run::{adapter, resolve, room};
use crate::train::batches::to_inputs;

/// A model that is used, not trained, and its tokenizer.
pub struct LanguageModel {
    /// What it predicts.
    pub task: Task,
    /// config.json, fitted to the tokenizer.
    pub config: ModelConfig,
    /// The model, without autodiff.
    pub model: AutoModel,
    /// Its tokenizer.
    pub tokenizer: LmTokenizer,
    /// Where it computes.
    pub device: Device,
    /// In what precision, and by which operations.
    pub compute: Compute,
}

impl LanguageModel {
    /// Loads what the arguments name, with its adapter if it has one.
    ///
    /// # Errors
    /// If it cannot be loaded, or has no room in memory.
    pub fn load(args: &Arguments, device: &Device) -> Result<Self> {
        let mut source = resolve::model_source(args)?;
        room::expect(args, &source, device)?;
        let tokenizer = resolve::loaded_tokenizer(args, Some(&source))?;
        resolve::fit_vocabulary(&mut source, &tokenizer, args)?;
        let dtype = resolve::dtype(args, &source)?;
        let lora = adapter::config(args, &source.config)?;
        // Nothing is wrong with the arguments themselves.
        console::Messages::release();
        let model = resolve::model(args, &source, lora.as_ref(), dtype, device)?;
        Ok(Self {
            task: args.task,
            config: source.config,
            model,
            tokenizer,
            device: device.clone(),
            compute: precision::of_evaluation(args),
        })
    }

    /// Ids of a text with the special tokens around it; `place` is where it stands.
    ///
    /// # Errors
    /// If it cannot be encoded, or is longer than the model's sequences.
    pub fn encode(&self, text: &str, place: &str) -> Result<Vec<u32>> {
        let encoded = self.tokenizer.encode_batch(&[text], None).with_context(|| place.to_owned())?;
        let ids: Vec<u32> = encoded.into_iter().flat_map(|encoded| encoded.ids).collect();
        let limit = self.config.max_positions().filter(|_| !self.config.family().computes_positions);
        let limit = limit.unwrap_or(usize::MAX);
        ensure!(
            ids.len() <= limit,
            "{place}: the text has {} tokens and a sequence of this model at most {limit}: shorten it",
            ids.len()
        );
        self.config.expect_length(ids.len()).with_context(|| place.to_owned())?;
        Ok(ids)
    }

    /// The token that stands for one to predict.
    ///
    /// # Errors
    /// If the tokenizer has none.
    pub fn mask(&self, flag: &str) -> Result<u32> {
        let mask = self.tokenizer.special().mask;
        mask.with_context(|| {
            format!("{flag}: the tokenizer has no mask token; name the right one with --tokenizer_name")
        })
    }

    /// The rows that predict the labels of a batch, [predicted, dim].
    ///
    /// # Errors
    /// If the batch is none.
    pub fn predict(&self, batch: &Batch) -> Result<(ModelInputs, Tensor<2>)> {
        let inputs = to_inputs(batch, self.task, &self.device)?;
        let rows = self.model.forward(&inputs, &Mode::eval(self.compute));
        Ok((inputs, rows))
    }
}
