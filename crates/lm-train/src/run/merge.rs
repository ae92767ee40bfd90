//! `--merge_lora` of an adapter alone: a plain model in the output folder.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use burn::tensor::Device;

use crate::args::Arguments;
use crate::checkpoint::ModelFiles;
use crate::observe::console;
use crate::run::output_dir::OutputDir;
use crate::run::resolve::{self, ModelSource};
use crate::run::{adapter, generation};

/// Adds the adapter to its base and saves that.
///
/// # Errors
/// If one of them can't be read, or the model can't be written.
pub fn run(args: &Arguments, mut source: ModelSource, device: &Device, output: &OutputDir) -> Result<()> {
    console::Messages::release();
    let tokenizer = resolve::loaded_tokenizer(args, Some(&source))?;
    resolve::fit_vocabulary(&mut source, &tokenizer, args)?;
    source.generation = generation::generation_config(&source)?;
    let dtype = resolve::dtype(args, &source)?;
    let lora = adapter::config(args, &source.config)?;
    let model = resolve::model(args, &source, lora.as_ref(), dtype, device)?.merge();
    let files = ModelFiles {
        config: source.config.clone(),
        generation_config: source.generation.as_ref().map(|generation| generation.to_json()),
        tokenizer: Arc::new(tokenizer),
        arguments: serde_json::to_string_pretty(&args.to_json())? + "\n",
        training_arguments: args.training_to_json(),
        dtype,
        adapter: None,
    };
    files.publish(output.path(), &model.snapshot(), None).map_err(|error| anyhow!("--merge_lora: {error}"))?;
    console::say(&format!("Saved the merged model to {}", output.path().display()));
    Ok(())
}
