//! What can go wrong between a file of text and a batch.

use std::path::PathBuf;

use crate::collate::CollateError;
use crate::example::{Cut, StoreError};
use crate::source::{RowPosition, SourceError, TextFiles};
use crate::tokenizer::TokenizerError;

/// Any error of this crate; the message is one line that says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// An input file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A row that the tokenizer cannot encode.
    #[error("{place}: {fault}")]
    Row {
        /// The file and the line at which the row begins.
        place: String,
        /// Why.
        fault: TokenizerError,
    },
    /// The cache of tokenized examples.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk of the cache is too small.
    #[error(
        "{folder}: the tokenized {split} split needs about {needed} MiB, and {free} MiB are free there: free some, name a \
         folder on another disk with --data_cache_dir, or give --ignore_disk_check"
    )]
    Room {
        /// The split.
        split: &'static str,
        /// The folder of the cache.
        folder: PathBuf,
        /// Mebibytes that the store will take, about.
        needed: u64,
        /// Mebibytes there are.
        free: u64,
    },
    /// Building a batch.
    #[error(transparent)]
    Collate(#[from] CollateError),
    /// Examples cannot be written out.
    #[error("cannot write the examples: {0}")]
    Dump(std::io::Error),
    /// Neither split has files.
    #[error("no data: give --train_file, --validation_file or both")]
    NoFile,
    /// Training wants training files.
    #[error("no training data: give --train_file")]
    NoTrainFile,
    /// A split without any text.
    #[error("{files}: no usable line: there is no text in it")]
    AllBlank {
        /// The files.
        files: String,
    },
    /// A split too small for a single block.
    #[error("{files}: {tokens} tokens make no block of {length}: use a smaller --max_seq_length or --block_size{hint}")]
    NoBlock {
        /// The files.
        files: String,
        /// Tokens there are.
        tokens: u64,
        /// Tokens of a block.
        length: usize,
        /// A further way out, or nothing.
        hint: &'static str,
    },
    /// Evaluation without a single example.
    #[error(
        "the rows held out for validation make no example: give --validation_file, or a larger --validation_split_percentage"
    )]
    NothingHeldOut,
    /// Too few examples for a single batch.
    #[error(
        "{examples} examples make no batch of {batch_size}: lower the batch size or leave out --dataloader_drop_last"
    )]
    NoBatch {
        /// Examples there are.
        examples: usize,
        /// Examples a batch needs.
        batch_size: usize,
    },
    /// An option outside its range.
    #[error("--{name}: {reason}")]
    Option {
        /// The option.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The tokenizing threads cannot be started.
    #[error("--preprocessing_num_workers {workers}: cannot start the threads: {reason}")]
    Threads {
        /// Threads asked for.
        workers: usize,
        /// The reason.
        reason: String,
    },
}

impl DataError {
    /// A fault of the row that begins at `position`.
    pub(crate) fn row(files: &TextFiles, position: RowPosition, fault: TokenizerError) -> Self {
        Self::Row { place: files.place(position), fault }
    }

    /// Why files gave no example although `tokens` tokens were read.
    pub(crate) fn no_example(files: &TextFiles, cut: &Cut, tokens: u64) -> Self {
        let (files, length) = (files.names(), cut.length);
        if tokens == 0 {
            return Self::AllBlank { files };
        }
        let enough = cut.group_batch_size > 0 && tokens >= length as u64;
        Self::NoBlock { files, tokens, length, hint: if enough { ", or --group_batch_size 0" } else { "" } }
    }
}
