//! The options of data.

use std::path::PathBuf;

use crate::DataError;
use crate::dataset::SplitPart;
use crate::example::Cut;
use crate::source::{RemoteFiles, RowOptions};

/// Everything that decides which examples there are, and how they are made.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// `--train_file`: names or patterns of files.
    pub train_files: Vec<String>,
    /// Weights of the names, if they are corpora to be mixed; then nothing is held out.
    pub train_weights: Vec<f64>,
    /// `--validation_file`. If empty, the first rows of the training files are held out.
    pub validation_files: Vec<String>,
    /// Files that lie on other machines, by the names that they have among the others.
    pub remote_files: RemoteFiles,
    /// `--train_split`: only these rows of the training files, one part after another; all if there is none.
    pub train_parts: Vec<SplitPart>,
    /// `--validation_split`, likewise.
    pub validation_parts: Vec<SplitPart>,
    /// `--text_column`: column of csv and json files; `text`, else the first, if None.
    pub text_column: Option<String>,
    /// `--validation_split_percentage`: how much is held out, in percent of the rows. 0 holds nothing out: there is no
    /// validation split then unless it has files.
    pub validation_split_percentage: u32,
    /// Tokens of a block, or the most tokens of a line: `--max_seq_length` or `--block_size`, resolved.
    pub length: usize,
    /// `--line_by_line`: each row is an example.
    pub line_by_line: bool,
    /// How rows are made of files.
    pub rows: RowOptions,
    /// `--group_batch_size`: rows joined before cutting into blocks; Python's is 1,000. 0 joins all.
    pub group_batch_size: usize,
    /// `--max_train_samples`: only the first examples.
    pub max_train_samples: Option<usize>,
    /// `--max_eval_samples`.
    pub max_eval_samples: Option<usize>,
    /// `--preprocessing_num_workers`: tokenizing threads, one per core if None. Changes no result.
    pub workers: Option<usize>,
    /// `--shuffle_buffer_size`: examples of a stream that are mixed with one another; 0 keeps their order.
    pub shuffle_buffer_size: usize,
    /// Seed of the order of the examples.
    pub order_seed: u64,
    /// Folder of the tokenized stores.
    pub cache_dir: PathBuf,
    /// `--data_cache_limit`, in bytes: beyond it, stores that were not used for longest are removed.
    pub cache_limit: u64,
    /// `--overwrite_cache`: build again even if a store is there.
    pub overwrite_cache: bool,
    /// `--verify_data`: read all files again, and check stores as a whole.
    pub verify_data: bool,
    /// `--ignore_disk_check`: tokenize even if the store seems to have no room on its disk.
    pub ignore_disk_check: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train_files: Vec::new(),
            train_weights: Vec::new(),
            validation_files: Vec::new(),
            remote_files: RemoteFiles::default(),
            train_parts: Vec::new(),
            validation_parts: Vec::new(),
            text_column: None,
            validation_split_percentage: 5,
            length: 512,
            line_by_line: false,
            rows: RowOptions::default(),
            group_batch_size: 1000,
            max_train_samples: None,
            max_eval_samples: None,
            workers: None,
            shuffle_buffer_size: 0,
            order_seed: 0,
            cache_dir: PathBuf::from(".cache"),
            cache_limit: u64::MAX,
            overwrite_cache: false,
            verify_data: false,
            ignore_disk_check: false,
        }
    }
}

impl DataConfig {
    pub(crate) fn cut(&self) -> Cut {
        Cut { length: self.length, line_by_line: self.line_by_line, group_batch_size: self.group_batch_size }
    }

    pub(crate) fn pool(&self) -> Result<rayon::ThreadPool, DataError> {
        // Beyond this, more threads only take longer to start.
        let workers = self.workers.unwrap_or(0).min(256);
        let builder = rayon::ThreadPoolBuilder::new().num_threads(workers).thread_name(|i| format!("tokenize-{i}"));
        builder.build().map_err(|error| DataError::Threads { workers, reason: error.to_string() })
    }
}
