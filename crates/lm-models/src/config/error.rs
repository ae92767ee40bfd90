//! What can be wrong with a configuration.

use std::path::PathBuf;

use crate::model::Task;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// config.json can't be read.
    #[error("{}: {source}; a model folder has a config.json, made by Python's save_pretrained or by this program", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// config.json is no JSON object, or not of a model known here.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no `model_type`.
    #[error("{}: `model_type` is missing, and the folder's name has none of the known ones; say it with --model_type: {known}", path.display())]
    NoModelType {
        /// The file.
        path: PathBuf,
        /// The types there are.
        known: String,
    },
    /// The model type is not one of ours.
    #[error("unknown model_type `{model_type}`{}; known types: {known}", did_you_mean(nearest))]
    UnknownModelType {
        /// As given.
        model_type: String,
        /// The most similar known one.
        nearest: Option<String>,
        /// The types there are.
        known: String,
    },
    /// The architecture belongs to another program.
    #[error("`{model_type}` is a {} model: use {}; this program trains {known}", found.noun(), found.binary())]
    WrongTask {
        /// As given.
        model_type: String,
        /// What it is for.
        found: Task,
        /// The types that this program trains.
        known: String,
    },
    /// A value has the wrong type or is missing.
    #[error("config of `{model_type}`: {reason}")]
    Value {
        /// The architecture.
        model_type: String,
        /// Names the field and what is wrong.
        reason: String,
    },
    /// A value that this program can't compute with.
    #[error("config of `{model_type}`: `{field}` = {value} is not supported{hint}")]
    Unsupported {
        /// The architecture.
        model_type: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is, as a continuation of the sentence.
        hint: &'static str,
    },
    /// A value that this program can compute with for short sequences only.
    #[error(
        "config of `{model_type}`: `{field}` = {value} is supported for at most {longest} tokens, not for {length}; give a smaller length, or another `{field}` in config.json"
    )]
    ShortOnly {
        /// The architecture.
        model_type: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The most tokens of a sequence.
        longest: usize,
        /// Those asked for.
        length: usize,
    },
    /// `--config_overrides` names a field that the architecture does not have.
    #[error("--config_overrides: `{model_type}` has no field `{key}`{}", did_you_mean(nearest))]
    UnknownOverride {
        /// The architecture.
        model_type: String,
        /// As given.
        key: String,
        /// The most similar known one.
        nearest: Option<String>,
    },
    /// `--config_overrides` is not `key=value,key=value`, or a value has the wrong type.
    #[error("--config_overrides: `{item}` {reason}")]
    Override {
        /// The part at fault.
        item: String,
        /// What was expected.
        reason: String,
    },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|nearest| format!(" (did you mean `{nearest}`?)")).unwrap_or_default()
}

/// The candidate most similar to `word`, if any is similar at all.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}
