//! What can be wrong with a data set before any of its rows is read.

use std::io;
use std::path::PathBuf;

use crate::source::SourceError;

/// What is wrong with the name of a split.
pub(super) const NO_SPLIT_NAME: &str =
    "is no name of a split, which has letters, digits and _, with single dots between";

/// Why a data set's files cannot be told; every message names the data set.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A folder that cannot be listed.
    #[error(transparent)]
    Folder(#[from] SourceError),
    /// A card that cannot be read.
    #[error("{path}: cannot read: {source}")]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// One of [`CARD_FILES`](super::CARD_FILES) is not understood.
    #[error("{name}: {file}: {reason}")]
    Card {
        /// The data set.
        name: String,
        /// The file.
        file: &'static str,
        /// What is wrong in it.
        reason: String,
    },
    /// Several configurations, and none is the default.
    #[error("{name}: has several configurations and no default: give --dataset_config_name, one of {known}")]
    WhichConfiguration {
        /// The data set.
        name: String,
        /// The configurations there are.
        known: String,
    },
    /// No configuration of that name.
    #[error("{name}: has no configuration `{config}`: give --dataset_config_name, one of {known}")]
    Configuration {
        /// The data set.
        name: String,
        /// The configuration asked for.
        config: String,
        /// The configurations there are.
        known: String,
    },
    /// No split of that name.
    #[error("{name}: has no split `{split}`; the splits are: {known}")]
    Split {
        /// The data set.
        name: String,
        /// The split asked for.
        split: String,
        /// The splits there are.
        known: String,
    },
    /// A split whose name can be none.
    #[error(
        "{name}: `{split}` {no_name}: rename its files, or list them by split under data_files in README.md",
        no_name = NO_SPLIT_NAME
    )]
    SplitName {
        /// The data set.
        name: String,
        /// What would be the name.
        split: String,
    },
    /// A slice that is none, or one that is not supported.
    #[error("`{0}`: {1}; a slice is a split's name, or such as train[:10%] or train[-100:]")]
    Slice(String, String),
    /// A pattern that cannot be understood.
    #[error("{name}: not a valid file pattern: {pattern}: {reason}")]
    Pattern {
        /// The data set.
        name: String,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The card names a file that is not there.
    #[error("{name}: {pattern}: the configuration names a file that is not there, or none of a known kind")]
    NoFile {
        /// The data set.
        name: String,
        /// The name.
        pattern: String,
    },
    /// The card names what lies elsewhere.
    #[error("{name}: {path}: the configuration leads out of the data set, or over a folder that is not there")]
    Outside {
        /// The data set.
        name: String,
        /// The path.
        path: String,
    },
    /// The card says that files are read in a way that is not known here.
    #[error(
        "{name}: its configuration {config} has its files read with `{option}`, which is not supported ({reason}): download them, and give them with --train_file when they can be read without"
    )]
    Option {
        /// The data set.
        name: String,
        /// The configuration.
        config: String,
        /// The option and its value.
        option: String,
        /// What would be supported.
        reason: &'static str,
    },
    /// Nothing that can be read.
    #[error("{name}: no data files that can be read here; supported are parquet, arrow, txt, csv, tsv, json and jsonl")]
    NoData {
        /// The data set.
        name: String,
    },
    /// Files of a kind that holds no text.
    #[error("{name}: its files are {suffix} files, which hold no text that can be read here")]
    Kind {
        /// The data set.
        name: String,
        /// The commonest suffix.
        suffix: String,
    },
    /// Splits in different formats.
    #[error("{name}: its splits are in different formats ({kinds}), as if they were no splits of one data set")]
    Kinds {
        /// The data set.
        name: String,
        /// Each split with its format.
        kinds: String,
    },
}
