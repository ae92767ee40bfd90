//! generation_config.json: kept from a checkpoint, made for a new model where Python makes one.

use anyhow::{Context, Result};

use crate::setup::ModelSource;

/// The text of generation_config.json for this model; none for models that do not generate.
pub fn generation_config(source: &ModelSource) -> Result<Option<String>> {
    let path =
        source.weights.as_ref().map(|folder| folder.join("generation_config.json")).filter(|path| path.is_file());
    let read = |path: std::path::PathBuf| std::fs::read_to_string(&path).with_context(|| path.display().to_string());
    let loaded = path.map(read).transpose()?;
    Ok(lm_models::generation_config::generation_config(&source.config, loaded.as_deref()))
}
