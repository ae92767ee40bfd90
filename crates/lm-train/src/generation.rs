//! generation_config.json: kept from a checkpoint, made for a new model where Python makes one.

use anyhow::{Context, Result};

use crate::setup::ModelSource;

/// The text of generation_config.json for this model; none for models that do not generate.
pub fn generation_config(source: &ModelSource) -> Result<Option<String>> {
    if let Some(path) =
        source.weights.as_ref().map(|folder| folder.join("generation_config.json")).filter(|path| path.is_file())
    {
        return std::fs::read_to_string(&path).map(Some).with_context(|| path.display().to_string());
    }
    Ok(source.config.generation_config())
}
