//! A trained model in use, without training: `--fill`, `--generate`, `--score`. What they find goes to standard output, or to
//! the file that is named for it; nothing else is written.

mod fill;
mod generate;
mod language_model;
mod lines;
mod score;

use std::io;

use anyhow::Result;
use burn::tensor::Device;

use crate::args::{Arguments, Inference};
use language_model::LanguageModel;

/// Loads the model and uses it.
///
/// # Errors
/// If it cannot be loaded, or a text cannot be read or is none for it.
pub fn run(args: &Arguments, inference: Inference, device: &Device) -> Result<()> {
    let model = LanguageModel::load(args, device)?;
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
