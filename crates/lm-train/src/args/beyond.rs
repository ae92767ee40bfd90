//! What the Python scripts do not have.

use std::path::PathBuf;

use super::Status::Supported;
use super::Task::{Clm, Mlm};
use lm_data::source::SampleBy;

use super::choice::Autotune;
use super::flag::arguments;

arguments! {
    /// What the Python scripts do not have.
    pub struct BeyondArguments, beyond, Beyond, |task| {
        /// Branch, tag or commit of the data set on the Hub; without it, main.
        dataset_revision: Option<String> = None, Supported;
        /// Split of the data set to train on, or a slice such as train[:10%]; several joined by +. Without it, train.
        train_split: Option<String> = None, Supported;
        /// Split of the data set to evaluate on, likewise. Without it, validation, else a share of the training text.
        validation_split: Option<String> = None, Supported;
        /// Column of a csv, parquet or arrow file, or key of a json file, that holds the text; without it 'text', else the first.
        text_column: Option<String> = None, Supported;
        /// Names of the columns of csv files that have no header; without it, what a data set's README.md says.
        column_names: Option<Vec<String>> = None, Supported;
        /// What of a text file is a row: a line, a paragraph (what stands between empty lines) or the whole document, as
        /// datasets' sample_by. Without it, what a data set's README.md says, else a line.
        sample_by: Option<SampleBy> = None, Supported;
        /// Rows that are joined before they are cut into blocks; the rest of each group is dropped. 0 joins all rows.
        group_batch_size: usize = 1000, Supported;
        /// Shuffle blocks of this many examples of a stream, and the files in every epoch; 0 keeps the order of the text.
        shuffle_buffer_size: usize = 0, Supported;
        /// Mask whole words, not single word pieces.
        whole_word_mask: bool = false, Supported, only [Mlm];
        /// Train a tokenizer with this many entries on the training text, and save it with the model.
        train_tokenizer: Option<usize> = None, Supported;
        /// Folder for tokenized text, which later runs reuse.
        data_cache_dir: Option<PathBuf> = None, Supported;
        /// Gigabytes of tokenized text that are kept; beyond that, what was not used for longest is removed, never what is in use.
        data_cache_limit: f64 = 100.0, Supported;
        /// Read all text and all tokenized text again to check it, not only what is new or changed.
        verify_data: bool = false, Supported;
        /// Write what the model will see to this file, one JSON object per example. The run continues only if --do_train or
        /// --do_eval is given.
        dump_examples: Option<PathBuf> = None, Supported;
        /// Print this many examples decoded, predicted tokens marked. The run continues only if --do_train or
        /// --do_eval is given.
        preview: Option<usize> = None, Supported;
        /// Print parameters, memory, steps, tokens, checkpoints, disk and time of the run, without training.
        plan: bool = false, Supported;
        /// Write one page that compares the runs in these output folders, compare.html in --output_dir, by default here:
        /// curves, arguments that differ, final figures. Nothing is trained or evaluated.
        compare: Option<Vec<String>> = None, Supported;
        /// Where to compute: auto, cpu, or what --device list names.
        device: String = "auto".into(), Supported;
        /// Several devices of this machine, separated by commas, that train together: a step takes
        /// gradient_accumulation_steps batches on each.
        devices: Option<String> = None, Supported;
        /// Share the optimizer's state out over the processes that mpirun starts: each keeps and moves its part of the parameters
        /// (ZeRO stage 1). The result is the same.
        sharded_optimizer: bool = false, Supported;
        /// How much a GPU backend other than libtorch measures to choose its kernels: full or minimal. Default: full; minimal
        /// where a program stands in for the GPU.
        autotune: Option<Autotune> = None, Supported;
        /// Compute with the plain form of every operation, without the fast ones: to compare, and to find faults.
        plain_ops: bool = false, Supported;
        /// Start even if the disk cannot hold the tokenized text or the checkpoints that the run will write.
        ignore_disk_check: bool = false, Supported;
        /// Resume even if the data or the batch size differ from those of the checkpoint, or it holds weights alone.
        allow_changes_on_resume: bool = false, Supported;
        /// Stop after this many evaluations in a row without a better metric_for_best_model.
        early_stopping_patience: Option<u64> = None, Supported;
        /// Smallest change of the metric that counts as better.
        early_stopping_threshold: f64 = 0.0, Supported;
        /// File of prompts, one per line, that are continued at every evaluation.
        sample_prompts: Option<PathBuf> = None, Supported, only [Clm];
    }
}

impl BeyondArguments {
    /// `--devices`, or the one of `--device`.
    pub fn device_list(&self) -> &str {
        self.devices.as_deref().unwrap_or(&self.device)
    }

    /// How many devices train together.
    pub fn num_devices(&self) -> usize {
        self.device_list().split(',').count()
    }
}
