//! Special tokens and generation_config.json: kept from a checkpoint, made for a new model where Python makes one.

use anyhow::{Context, Result};
use lm_data::tokenizer::LmTokenizer;
use lm_models::config::GenerationConfig;
use lm_models::config::{SpecialIds, align};

use crate::run::resolve::ModelSource;

/// How this model generates; none for models that do not.
pub fn generation_config(source: &ModelSource) -> Result<Option<GenerationConfig>> {
    let path = source.folder().map(|folder| folder.join("generation_config.json"));
    let path = path.filter(|path| path.symlink_metadata().is_ok());
    let read = |path: std::path::PathBuf| {
        lm_files::read_to_string(&path, lm_files::SMALL).with_context(|| path.display().to_string())
    };
    let loaded = path.map(read).transpose()?;
    Ok(GenerationConfig::new(&source.config, loaded.as_deref()))
}

/// Before training, as Python's Trainer: the model ends, begins and pads a text as its tokenizer does.
pub fn align_special_tokens(source: &mut ModelSource, tokenizer: &LmTokenizer) {
    let special = tokenizer.special();
    let ids = SpecialIds { eos: special.eos, bos: special.bos, pad: special.pad };
    let updated = align(&mut source.config, source.generation.as_mut(), ids);
    if !updated.is_empty() {
        let list: Vec<String> = updated.iter().map(ToString::to_string).collect();
        tracing::warn!(
            "the tokenizer's special tokens are not the model's, which takes them over as in Python: {}",
            list.join(", ")
        );
    }
}
