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
    /// The validation split. Empty only if so few rows were held out that they make no example.
    pub validation: ExampleStore,
}

/// The rows of one split.
struct SplitRows {
    name: &'static str,
    files: TextFiles,
    rows: Range<u64>,
    /// Of the files' contents.
    digest: [u8; 32],
    /// Held out of the training files; may be empty, since not every run evaluates.
    held_out: bool,
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
        // Beyond this, more threads only take longer to start.
        let workers = self.workers.unwrap_or(0).min(256);
        let builder = rayon::ThreadPoolBuilder::new().num_threads(workers).thread_name(|i| format!("tokenize-{i}"));
        builder.build().map_err(|error| DataError::Threads { workers, reason: error.to_string() })
    }

    /// The rows of the training split, if there is one, and of the validation split.
    fn splits(&self) -> Result<(Option<SplitRows>, SplitRows), DataError> {
        if self.length == 0 {
            return Err(DataError::Option { name: "max_seq_length", reason: "must be at least 1".into() });
        }
        for (name, most) in [("max_train_samples", self.max_train_samples), ("max_eval_samples", self.max_eval_samples)]
        {
            if most == Some(0) {
                return Err(DataError::Option { name, reason: "must be at least 1".into() });
            }
        }
        let resolve = |names: &[String]| TextFiles::resolve(names, self.text_column.clone(), self.keep_linebreaks);
        let whole = |name, files: TextFiles| -> Result<SplitRows, DataError> {
            Ok(SplitRows { name, digest: files.digest()?, files, rows: 0..u64::MAX, held_out: false })
        };
        let train = if self.train_files.is_empty() { None } else { Some(resolve(&self.train_files)?) };
        if !self.validation_files.is_empty() {
            let validation = whole("validation", resolve(&self.validation_files)?)?;
            return Ok((train.map(|files| whole("train", files)).transpose()?, validation));
        }
        let files = train.ok_or(DataError::NoFile)?;
        let percent = self.validation_split_percentage;
        if !(1..=99).contains(&percent) {
            let reason = format!("{percent} does not lie between 1 and 99; name a file with --validation_file instead");
            return Err(DataError::Option { name: "validation_split_percentage", reason });
        }
        let boundary = percent_of(percent, files.count_rows()?);
        let train = SplitRows { rows: boundary..u64::MAX, ..whole("train", files)? };
        let validation = SplitRows {
            name: "validation",
            files: train.files.clone(),
            rows: 0..boundary,
            digest: train.digest,
            held_out: true,
        };
        Ok((Some(train), validation))
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
        key.update(split.digest);
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
    if store.is_empty() && !split.held_out {
        return Err(DataError::no_example(&split.files, cut, store.statistics().dropped));
    }
    if store.is_empty() {
        tracing::warn!("the {} rows held out for validation make no example", store.statistics().rows);
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::testing::{fixture, tokenizer};

    fn config(folder: &std::path::Path) -> DataConfig {
        let file = |name: &str| fixture("preprocessing").join(name).display().to_string();
        DataConfig {
            train_files: vec![file("unix.txt"), file("rows.csv")],
            length: 32,
            cache_dir: folder.join("cache"),
            ..DataConfig::default()
        }
    }

    fn all(store: &ExampleStore) -> Vec<crate::example::Example> {
        (0..store.len()).map(|index| store.get(index).unwrap()).collect()
    }

    /// `int(round(p * n / 100.0))` in Python.
    #[test]
    fn percentages_round_as_in_datasets() {
        for (percent, rows, expected) in
            [(5, 10, 0), (5, 30, 2), (5, 50, 2), (5, 70, 4), (1, 150, 2), (1, 250, 2), (33, 100, 33), (99, 1, 1)]
        {
            assert_eq!(percent_of(percent, rows), expected, "{percent} % of {rows}");
        }
    }

    #[test]
    fn the_number_of_workers_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer("roberta-small");
        let built: Vec<_> = [1, 2, 7]
            .map(|workers| {
                let cache_dir = folder.path().join(format!("cache-{workers}"));
                let datasets =
                    prepare(&DataConfig { workers: Some(workers), cache_dir, ..config(folder.path()) }, &tokenizer);
                let datasets = datasets.unwrap();
                (all(&datasets.train.unwrap()), all(&datasets.validation))
            })
            .into();
        assert!(built[0] == built[1] && built[1] == built[2]);
    }

    #[test]
    fn a_store_is_reused_only_if_nothing_changed() {
        let folder = tempfile::tempdir().unwrap();
        let roberta = tokenizer("roberta-small");
        let config = config(folder.path());
        let stores = || {
            let files = std::fs::read_dir(&config.cache_dir).unwrap().map(|entry| entry.unwrap());
            let mut files: Vec<(PathBuf, SystemTime)> =
                files.map(|file| (file.path(), file.metadata().unwrap().modified().unwrap())).collect();
            files.sort();
            files
        };
        let first = all(&prepare(&config, &roberta).unwrap().train.unwrap());
        let built = stores();
        assert_eq!(built.len(), 2);
        prepare(&config, &roberta).unwrap();
        let fewer = DataConfig { max_train_samples: Some(3), max_eval_samples: Some(2), ..config.clone() };
        let fewer = prepare(&fewer, &roberta).unwrap();
        assert_eq!((fewer.train.unwrap().len(), fewer.validation.len()), (3, 2));
        assert_eq!(stores(), built, "the same files, untouched");

        // Each of these makes two stores of its own.
        prepare(&DataConfig { length: 33, ..config.clone() }, &roberta).unwrap();
        prepare(&DataConfig { group_batch_size: 0, ..config.clone() }, &roberta).unwrap();
        prepare(&config, &tokenizer("bert-cased-small")).unwrap();
        assert_eq!(stores().len(), 8);

        // A half-written store and a damaged one are built again.
        for (path, _) in &built {
            let content = std::fs::read(path).unwrap();
            std::fs::write(path, &content[..content.len() / 2]).unwrap();
        }
        assert_eq!(all(&prepare(&config, &roberta).unwrap().train.unwrap()), first);
        prepare(&DataConfig { overwrite_cache: true, ..config.clone() }, &roberta).unwrap();
        assert_eq!(stores().len(), 8, "nothing is left behind");
    }

    #[test]
    fn statistics_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let config = DataConfig { length: 12, line_by_line: true, ..config(folder.path()) };
        let roberta = tokenizer("roberta-small");
        let train = prepare(&config, &roberta).unwrap().train.unwrap();
        let statistics = train.statistics();
        assert_eq!(statistics.tokens, train.total_tokens());
        assert_eq!((statistics.longest, statistics.dropped), (12, 0));
        assert!(statistics.truncated > 0 && statistics.truncated < statistics.examples);
        assert!(statistics.examples < statistics.rows, "blank rows are no examples");
        assert!(statistics.padding_share(12) > 0.0 && statistics.truncated_share() < 1.0);
    }

    /// One long row is enough to train on, as in Python; only evaluation has nothing to work with.
    #[test]
    fn nothing_may_be_held_out() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("one.txt");
        std::fs::write(&text, "a b c ".repeat(100)).unwrap();
        let config = DataConfig { train_files: vec![text.display().to_string()], ..config(folder.path()) };
        let datasets = prepare(&config, &tokenizer("roberta-small")).unwrap();
        assert!(!datasets.train.unwrap().is_empty() && datasets.validation.is_empty());
    }

    #[test]
    fn errors_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let roberta = tokenizer("roberta-small");
        let file = |name: &str, content: &str| {
            std::fs::write(folder.path().join(name), content).unwrap();
            vec![folder.path().join(name).display().to_string()]
        };
        let fails = |change: &dyn Fn(&mut DataConfig)| {
            let mut config = config(folder.path());
            change(&mut config);
            prepare(&config, &roberta).err().unwrap().to_string().replace(&format!("{}/", folder.path().display()), "")
        };
        assert!(fails(&|c| c.train_files.clear()).contains("no data"));
        assert!(fails(&|c| c.length = 0).contains("at least 1"));
        assert!(fails(&|c| c.validation_split_percentage = 0).contains("between 1 and 99"));
        assert!(fails(&|c| c.validation_split_percentage = 100).contains("between 1 and 99"));
        assert_eq!(
            fails(&|c| {
                c.validation_files = file("blank.txt", " \n\t\n");
                c.line_by_line = true;
            }),
            "blank.txt: no usable line: there is no text in it"
        );
        assert_eq!(
            fails(&|c| c.validation_files = file("few.txt", "a b\n")).replace(|c: char| c.is_ascii_digit(), "N"),
            "few.txt: N tokens make no block of NN: use a smaller --max_seq_length or --block_size"
        );
        assert!(fails(&|c| c.validation_files = file("one.txt", "a b\n")).contains("one.txt"));
        assert!(fails(&|c| c.max_eval_samples = Some(0)).contains("--max_eval_samples"));
        let cache = file("not-a-folder", "x").remove(0);
        assert!(fails(&|c| c.cache_dir = PathBuf::from(&cache)).contains("--data_cache_dir"));
        assert!(fails(&|c| c.train_files = file("bad.txt", "ok\n\u{0}\n")).contains("bad.txt"));
    }
}
