//! From the user's options to the examples of both splits: the one entry point of the crate.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::DataError;
use crate::example::{Build, Cut, ExampleStore, Statistics, StoreError, build};
use crate::source::TextFiles;
use crate::stream::{ExampleStream, StreamPosition};
use crate::tokenizer::LmTokenizer;

/// Everything that decides which examples there are, and how they are made.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// `--train_file`: names or patterns of files.
    pub train_files: Vec<String>,
    /// `--validation_file`. If empty, the first rows of the training files are held out.
    pub validation_files: Vec<String>,
    /// `--text_column`: column of csv and json files; `text`, else the first, if None.
    pub text_column: Option<String>,
    /// `--validation_split_percentage`: how much is held out, in percent of the rows.
    pub validation_split_percentage: u32,
    /// Tokens of a block, or the most tokens of a line: `--max_seq_length` or `--block_size`, resolved.
    pub length: usize,
    /// `--line_by_line`: each row is an example.
    pub line_by_line: bool,
    /// `--keep_linebreaks` of run_clm: lines of text files keep their `\n`. False for the other tasks.
    pub keep_linebreaks: bool,
    /// `--group_batch_size`: rows joined before cutting into blocks; Python's is 1,000. 0 joins all.
    pub group_batch_size: usize,
    /// `--max_train_samples`: only the first examples.
    pub max_train_samples: Option<usize>,
    /// `--max_eval_samples`.
    pub max_eval_samples: Option<usize>,
    /// `--preprocessing_num_workers`: tokenizing threads, one per core if None. Changes no result.
    pub workers: Option<usize>,
    /// Folder of the tokenized stores.
    pub cache_dir: PathBuf,
    /// `--overwrite_cache`: build again even if a store is there.
    pub overwrite_cache: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train_files: Vec::new(),
            validation_files: Vec::new(),
            text_column: None,
            validation_split_percentage: 5,
            length: 512,
            line_by_line: false,
            keep_linebreaks: false,
            group_batch_size: 1000,
            max_train_samples: None,
            max_eval_samples: None,
            workers: None,
            cache_dir: PathBuf::from(".cache"),
            overwrite_cache: false,
        }
    }
}

/// The tokenized splits.
#[derive(Clone)]
pub struct Datasets {
    /// The training split, if there are training files.
    pub train: Option<ExampleStore>,
    /// The validation split.
    pub validation: ExampleStore,
}

/// The rows of one split.
struct SplitRows {
    name: &'static str,
    files: TextFiles,
    rows: Range<u64>,
}

/// Tokenizes both splits, or finds them tokenized.
///
/// # Errors
/// If an input, an option or the cache folder is unusable, or a split has no example.
pub fn prepare(config: &DataConfig, tokenizer: &LmTokenizer) -> Result<Datasets, DataError> {
    let (train, validation) = config.splits()?;
    let pool = config.pool()?;
    let train = train.map(|split| tokenized(config, tokenizer, &pool, &split)).transpose()?;
    let validation = tokenized(config, tokenizer, &pool, &validation)?;
    Ok(Datasets {
        train: train.map(|store| limited(store, config.max_train_samples)),
        validation: limited(validation, config.max_eval_samples),
    })
}

/// For `--streaming`: the training split as a stream that goes on at `position`, and the validation split tokenized.
/// Where rows are held out for validation, the training files are read once to count their rows.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_stream(
    config: &DataConfig,
    tokenizer: &Arc<LmTokenizer>,
    position: StreamPosition,
) -> Result<(ExampleStream, ExampleStore), DataError> {
    let (train, validation) = config.splits()?;
    let train = train.ok_or(DataError::NoTrainFile)?;
    let pool = Arc::new(config.pool()?);
    let validation = limited(tokenized(config, tokenizer, &pool, &validation)?, config.max_eval_samples);
    let first_row = train.files.position_of(train.rows.start)?;
    let most = config.max_train_samples.map_or(u64::MAX, |most| most as u64);
    let tokenizer = Arc::clone(tokenizer);
    let stream = ExampleStream::new(train.files, tokenizer, pool, config.cut(), first_row, most, position);
    Ok((stream, validation))
}

impl DataConfig {
    /// The texts of the training split, for training a tokenizer on them.
    ///
    /// # Errors
    /// If the files are unusable; each row may fail by itself too.
    pub fn train_rows(&self) -> Result<impl Iterator<Item = Result<String, DataError>>, DataError> {
        let train = self.splits()?.0.ok_or(DataError::NoTrainFile)?;
        let rows = train.files.rows_from(train.files.position_of(train.rows.start)?);
        Ok(rows.map(|row| Ok(row?)))
    }

    fn cut(&self) -> Cut {
        Cut { length: self.length, line_by_line: self.line_by_line, group_batch_size: self.group_batch_size }
    }

    fn pool(&self) -> Result<rayon::ThreadPool, DataError> {
        let workers = self.workers.unwrap_or(0);
        let builder = rayon::ThreadPoolBuilder::new().num_threads(workers).thread_name(|i| format!("tokenize-{i}"));
        builder.build().map_err(|error| DataError::Threads { workers, reason: error.to_string() })
    }

    /// The rows of the training split, if there is one, and of the validation split.
    fn splits(&self) -> Result<(Option<SplitRows>, SplitRows), DataError> {
        if self.length == 0 {
            return Err(DataError::Option { name: "max_seq_length", reason: "must be at least 1".into() });
        }
        let resolve = |names: &[String]| TextFiles::resolve(names, self.text_column.clone(), self.keep_linebreaks);
        let whole = |name, files| SplitRows { name, files, rows: 0..u64::MAX };
        let train = if self.train_files.is_empty() { None } else { Some(resolve(&self.train_files)?) };
        if !self.validation_files.is_empty() {
            let validation = whole("validation", resolve(&self.validation_files)?);
            return Ok((train.map(|files| whole("train", files)), validation));
        }
        let files = train.ok_or(DataError::NoFile)?;
        let percent = self.validation_split_percentage;
        if !(1..=99).contains(&percent) {
            let reason = format!("{percent} does not lie between 1 and 99; name a file with --validation_file instead");
            return Err(DataError::Option { name: "validation_split_percentage", reason });
        }
        let boundary = percent_of(percent, files.count_rows()?);
        let validation = SplitRows { name: "validation", files: files.clone(), rows: 0..boundary };
        Ok((Some(SplitRows { name: "train", files, rows: boundary..u64::MAX }), validation))
    }
}

/// `int(round(percent * rows / 100.0))` of Python's `datasets`, halves to the even number.
fn percent_of(percent: u32, rows: u64) -> u64 {
    ((u128::from(percent) * u128::from(rows)) as f64 / 100.0).round_ties_even() as u64
}

fn limited(store: ExampleStore, most: Option<usize>) -> ExampleStore {
    most.map_or(store.clone(), |most| store.take(most))
}

/// Opens the store of a split, building it first if it is not there or not whole.
fn tokenized(
    config: &DataConfig,
    tokenizer: &LmTokenizer,
    pool: &rayon::ThreadPool,
    split: &SplitRows,
) -> Result<ExampleStore, DataError> {
    let cut = config.cut();
    let key: [u8; 32] = {
        let mut key = Sha256::new();
        key.update(split.files.digest()?);
        key.update(tokenizer.fingerprint());
        key.update(format!("{:?} {cut:?}", split.rows));
        key.finalize().into()
    };
    let name: String = key.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let path = config.cache_dir.join(format!("tokens-{name}.bin"));
    if !config.overwrite_cache && path.exists() {
        match ExampleStore::open(&path, &key) {
            Ok(store) => {
                tracing::info!("{}: {} examples from {}", split.name, store.len(), path.display());
                return checked(store, split, &cut);
            }
            Err(damage @ StoreError::Damaged { .. }) => tracing::warn!("{damage}; it is built again"),
            Err(other) => return Err(other.into()),
        }
    }
    let started = std::time::Instant::now();
    let job = Build { files: &split.files, rows: split.rows.clone(), cut, tokenizer, pool, split: split.name };
    build(&job, &path, key)?;
    let store = ExampleStore::open(&path, &key)?;
    let Statistics { rows, tokens, .. } = *store.statistics();
    let (examples, seconds) = (store.len(), started.elapsed().as_secs_f64());
    tracing::info!("{}: {rows} rows, {tokens} tokens, {examples} examples in {seconds:.1} s", split.name);
    checked(store, split, &cut)
}

fn checked(store: ExampleStore, split: &SplitRows, cut: &Cut) -> Result<ExampleStore, DataError> {
    if store.is_empty() {
        return Err(DataError::no_example(&split.files, cut, store.statistics().dropped));
    }
    Ok(store)
}
