//! Which text, and how it becomes examples: `DataTrainingArguments` of the Python scripts.

use super::Status::Supported;
use super::Task::{self, Clm, Mlm, Plm};
use super::flag::arguments;
use super::value::Files;

arguments! {
    /// Which text, and how it becomes examples.
    pub struct DataTrainingArguments, data, Data, |task| {
        /// A data set: its name on the Hub, such as Salesforce/wikitext, or a folder.
        dataset_name: Option<String> = None, Supported;
        /// Configuration of the data set; without it, its default.
        dataset_config_name: Option<String> = None, Supported;
        /// Text to train on: txt, csv, json, parquet or arrow files, a quoted pattern such as 'data/*.txt', or a folder. Several
        /// are mixed by weights after colons: a.txt:0.7,b.txt:0.3.
        train_file: Option<Files> = None, Supported;
        /// Text to evaluate on, in the same formats. Without it, a share of the training text.
        validation_file: Option<Files> = None, Supported;
        /// Tokenize again, even if the cache holds the result.
        overwrite_cache: bool = false, Supported;
        /// Percentage of the training text that a run which evaluates keeps for that when there is no validation file.
        validation_split_percentage: Option<usize> = Some(5), Supported;
        /// Longest example in tokens, special tokens included. Default of run_mlm: the model's maximum, at most 1024.
        max_seq_length: Option<usize> = if task == Plm { Some(512) } else { None }, Supported, only [Mlm, Plm];
        /// Length of a block in tokens; without it, the model's maximum, at most 1024.
        block_size: Option<usize> = None, Supported, only [Clm];
        /// Threads that read and tokenize; without it, all cores.
        preprocessing_num_workers: Option<usize> = None, Supported;
        /// Share of tokens that the model has to predict.
        mlm_probability: f64 = 0.15, Supported, only [Mlm];
        /// Span of predicted tokens as a share of the context around it.
        plm_probability: f64 = 1.0 / 6.0, Supported, only [Plm];
        /// Longest span of predicted tokens.
        max_span_length: usize = 5, Supported, only [Plm];
        /// One line of text is one example; otherwise lines are joined and cut into full blocks.
        line_by_line: bool = false, Supported, only [Mlm, Plm];
        /// Pad every example to the maximum length; otherwise to the longest of its batch.
        pad_to_max_length: bool = false, Supported, only [Mlm, Plm];
        /// Keep line ends of txt files.
        keep_linebreaks: bool = true, Supported, only [Clm];
        /// Train on the first N examples only.
        max_train_samples: Option<usize> = None, Supported;
        /// Evaluate on the first N examples only.
        max_eval_samples: Option<usize> = None, Supported;
        /// Read and tokenize while training, in constant memory.
        streaming: bool = false, Supported;
    }
}

impl DataTrainingArguments {
    /// The flag that says how many tokens an example has at most.
    pub fn length_flag(task: super::Task) -> &'static str {
        match task {
            Mlm | Plm => "--max_seq_length",
            Clm => "--block_size",
        }
    }

    /// The length of an example that the command line asks for, whichever name `task` has for it.
    pub fn sequence_length(&self, task: Task) -> Option<usize> {
        match task {
            Mlm | Plm => self.max_seq_length,
            Clm => self.block_size,
        }
    }
}
