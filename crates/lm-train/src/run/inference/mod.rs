//! A trained model in use, without training: `--fill`, `--generate`, `--score`. What they find goes to standard output, or to
//! the file that is named for it; nothing else is written.

mod fill;
mod generate;
mod lines;
mod score;

use std::io;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor};
use lm_data::Batch;
use lm_data::tokenizer::LmTokenizer;
use lm_models::ops::Compute;
use lm_models::{AutoModel, Mode, ModelConfig, ModelInputs, Task};

use crate::args::{Arguments, Inference};
use crate::device::precision;
use crate::observe::console;
use crate::run::{adapter, resolve, room};
use crate::train::batches::to_inputs;

/// A model that is used, not trained, and its tokenizer.
struct LanguageModel {
    task: Task,
    config: ModelConfig,
    model: AutoModel,
    tokenizer: LmTokenizer,
    device: Device,
    compute: Compute,
}

/// Loads the model and uses it.
///
/// # Errors
/// If it cannot be loaded, or a text cannot be read or is none for it.
pub fn run(args: &Arguments, inference: Inference, device: &Device) -> Result<()> {
    let mut source = resolve::model_source(args)?;
    room::expect(args, &source, device)?;
    // Nothing is wrong with the arguments themselves.
    console::Messages::release();
    let tokenizer = resolve::loaded_tokenizer(args, Some(&source))?;
    resolve::fit_vocabulary(&mut source, &tokenizer, args)?;
    let dtype = resolve::dtype(args, &source)?;
    let lora = adapter::config(args, &source.config)?;
    let model = resolve::model(args, &source, lora.as_ref(), dtype, device)?;
    let model = LanguageModel {
        task: args.task,
        config: source.config,
        model,
        tokenizer,
        device: device.clone(),
        compute: precision::of_evaluation(args),
    };
    let used = match inference {
        Inference::Fill(text) => fill::run(&model, text),
        Inference::Generate(text) => generate::run(&model, args, text),
        Inference::Score(path) => score::run(&model, args, path),
    };
    match used {
        // Nobody reads on, as after `| head`.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        used => used,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| Some(cause.downcast_ref::<io::Error>()?.kind());
    error.chain().filter_map(kind).any(|kind| kind == io::ErrorKind::BrokenPipe)
}

impl LanguageModel {
    /// Ids of a text with the special tokens around it; `place` is where it stands.
    fn encode(&self, text: &str, place: &str) -> Result<Vec<u32>> {
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
    fn mask(&self, flag: &str) -> Result<u32> {
        let mask = self.tokenizer.special().mask;
        mask.with_context(|| {
            format!("{flag}: the tokenizer has no mask token; name the right one with --tokenizer_name")
        })
    }

    /// The rows that predict the labels of a batch, [predicted, dim].
    fn predict(&self, batch: &Batch) -> Result<(ModelInputs, Tensor<2>)> {
        let inputs = to_inputs(batch, self.task, &self.device)?;
        let rows = self.model.forward(&inputs, &Mode::eval(self.compute));
        Ok((inputs, rows))
    }
}
