//! `--dataset_name` and what belongs to it: the rules, and the files that it stands for once they are found.

use lm_data::dataset::{Reading, Slice, SplitPart};
use lm_data::source::RemoteFiles;

use super::error::rule;
use super::{ArgsError, Arguments};

/// The files of a data set's splits that a run reads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DatasetFiles {
    /// Trained on.
    pub train: Vec<String>,
    /// Only these rows of them, if any are said.
    pub train_parts: Vec<SplitPart>,
    /// Evaluated on; if empty, a share of the others.
    pub validation: Vec<String>,
    /// Only these rows of them, if any are said.
    pub validation_parts: Vec<SplitPart>,
    /// Those of them that are read from the Hub as they are needed.
    pub remote: RemoteFiles,
    /// How they are read, as far as no argument says.
    pub reading: Reading,
}

/// A data set or files, not both, and nothing about a data set that is not named.
pub(super) fn check(args: &Arguments) -> Result<(), ArgsError> {
    let (data, beyond) = (&args.data, &args.beyond);
    let files = data.train_file.is_some() || data.validation_file.is_some();
    let needs_none = args.merges_only() || args.inference.asked().is_some();
    rule(data.dataset_name.is_some() || files || needs_none, || {
        "Need either a dataset name or a training/validation file: give --dataset_name or --train_file".into()
    })?;
    rule(data.dataset_name.is_none() || !files, || {
        "--dataset_name can't be used in combination with --train_file or --validation_file: give one or the other"
            .into()
    })?;
    let about = [
        ("dataset_config_name", &data.dataset_config_name),
        ("dataset_revision", &beyond.dataset_revision),
        ("train_split", &beyond.train_split),
        ("validation_split", &beyond.validation_split),
    ];
    for (flag, value) in about {
        rule(value.is_none() || data.dataset_name.is_some(), || format!("--{flag} needs a --dataset_name"))?;
        let Some(text) = value.as_deref().filter(|_| flag.ends_with("_split")) else { continue };
        Slice::parse(text).map_err(|error| ArgsError::Rule(format!("--{flag}: {error}")))?;
    }
    Ok(())
}
