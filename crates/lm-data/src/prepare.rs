//! From the user's options to the examples of both splits: the one entry point of the crate.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::example::{Build, Check, Cut, ExampleStore, Statistics, StoreError, build};
use crate::memo::remembered;
use crate::source::{RowPosition, TextFiles};
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
    /// `--validation_split_percentage`: how much is held out, in percent of the rows. 0 holds nothing out: there is no
    /// validation split then unless it has files.
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
    /// The validation split, if there is one. Empty only if so few rows were held out that they make no example.
    pub validation: Option<ExampleStore>,
}

/// The files of a run, looked at once: of what kind they are, which column is the text, which rows are held out.
pub struct Corpus {
    train: TextFiles,
    validation: TextFiles,
    held_out: Option<HeldOut>,
}

/// The first rows of the training files, kept for validation.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct HeldOut {
    rows: u64,
    /// Where the first row after them starts.
    end: RowPosition,
}

/// The rows of one split.
struct SplitRows<'a> {
    name: &'static str,
    files: &'a TextFiles,
    start: RowPosition,
    most: u64,
    /// Held out of the training files; may be empty, since not every run evaluates.
    held_out: bool,
}

/// Tokenizes both splits, or finds them tokenized.
///
/// # Errors
/// If an input, an option or the cache folder is unusable, or a split has no example.
pub fn prepare(config: &DataConfig, tokenizer: &LmTokenizer) -> Result<Datasets, DataError> {
    let corpus = Corpus::open(config)?;
    Ok(Datasets {
        train: corpus.train(config, tokenizer)?,
        validation: corpus.validation(config, tokenizer, Reading::Whole)?,
    })
}

/// What is read of the training files to tell whether the rows held out of them were tokenized before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All of it, once until it changes.
    Whole,
    /// Nothing: names, sizes and times tell.
    Nothing,
}

impl Corpus {
    /// Finds and looks at the files. Where rows are held out, the training files are read once to count their rows, which
    /// is remembered until one of them changes; otherwise only their beginnings are.
    ///
    /// # Errors
    /// If a file or an option is unusable.
    pub fn open(config: &DataConfig) -> Result<Self, DataError> {
        if config.length == 0 {
            return Err(DataError::Option { name: "max_seq_length", reason: "must be at least 1".into() });
        }
        for (name, most) in
            [("max_train_samples", config.max_train_samples), ("max_eval_samples", config.max_eval_samples)]
        {
            if most == Some(0) {
                return Err(DataError::Option { name, reason: "must be at least 1".into() });
            }
        }
        let names = [&config.train_files[..], &config.validation_files];
        let [train, validation] = TextFiles::resolve(names, config.text_column.as_deref(), config.keep_linebreaks)?;
        if train.is_empty() && validation.is_empty() {
            return Err(DataError::NoFile);
        }
        let percent = config.validation_split_percentage;
        let held_out = if train.is_empty() || !validation.is_empty() || percent == 0 {
            None
        } else if percent < 100 {
            let identity = train.identity(&format!("{percent} % of the rows"))?;
            Some(remembered(&config.cache_dir, &identity, config.overwrite_cache, || -> Result<_, DataError> {
                let (rows, end) = train.count_rows(|rows| percent_of(percent, rows))?;
                Ok(HeldOut { rows: percent_of(percent, rows), end })
            })?)
        } else {
            let reason = format!("{percent} leaves nothing to train on; name a file with --validation_file instead");
            return Err(DataError::Option { name: "validation_split_percentage", reason });
        };
        Ok(Self { train, validation, held_out })
    }

    /// The texts of the training split, for training a tokenizer on them.
    ///
    /// # Errors
    /// If there are no training files; each row may fail by itself too.
    pub fn train_rows(&self) -> Result<impl Iterator<Item = Result<String, DataError>>, DataError> {
        let train = self.train_split().ok_or(DataError::NoTrainFile)?;
        Ok(train.files.rows_from(train.start).map(|row| Ok(row?)))
    }

    /// The examples of the training split, tokenized now or before; None without training files.
    ///
    /// # Errors
    /// If the text or the cache folder is unusable, or there is no example.
    pub fn train(&self, config: &DataConfig, tokenizer: &LmTokenizer) -> Result<Option<ExampleStore>, DataError> {
        let Some(split) = self.train_split() else { return Ok(None) };
        let store = tokenized(config, tokenizer, &split, Reading::Whole)?;
        Ok(Some(limited(store, config.max_train_samples)))
    }

    /// The examples of the validation split, likewise; None if there is no such split.
    ///
    /// # Errors
    /// As [`Self::train`].
    pub fn validation(
        &self,
        config: &DataConfig,
        tokenizer: &LmTokenizer,
        reading: Reading,
    ) -> Result<Option<ExampleStore>, DataError> {
        let store = match self.held_out {
            Some(HeldOut { rows, .. }) => {
                let whole = whole("validation", &self.train);
                tokenized(config, tokenizer, &SplitRows { most: rows, held_out: true, ..whole }, reading)?
            }
            None if self.validation.is_empty() => return Ok(None),
            None => tokenized(config, tokenizer, &whole("validation", &self.validation), Reading::Whole)?,
        };
        Ok(Some(limited(store, config.max_eval_samples)))
    }

    /// The training split as a stream that goes on at `position`. Reads nothing.
    ///
    /// # Errors
    /// If there are no training files, or the tokenizing threads cannot be started.
    pub fn stream(
        &self,
        config: &DataConfig,
        tokenizer: &Arc<LmTokenizer>,
        position: StreamPosition,
    ) -> Result<ExampleStream, DataError> {
        let train = self.train_split().ok_or(DataError::NoTrainFile)?;
        let (pool, most) = (Arc::new(config.pool()?), config.max_train_samples.map_or(u64::MAX, |most| most as u64));
        let (files, tokenizer) = (train.files.clone(), Arc::clone(tokenizer));
        Ok(ExampleStream::new(files, tokenizer, pool, config.cut(), train.start, most, position))
    }

    fn train_split(&self) -> Option<SplitRows<'_>> {
        let start = self.held_out.map_or(RowPosition::default(), |held_out| held_out.end);
        (!self.train.is_empty()).then(|| SplitRows { start, ..whole("train", &self.train) })
    }
}

fn whole<'a>(name: &'static str, files: &'a TextFiles) -> SplitRows<'a> {
    SplitRows { name, files, start: RowPosition::default(), most: u64::MAX, held_out: false }
}

impl DataConfig {
    fn cut(&self) -> Cut {
        Cut { length: self.length, line_by_line: self.line_by_line, group_batch_size: self.group_batch_size }
    }

    fn pool(&self) -> Result<rayon::ThreadPool, DataError> {
        // Beyond this, more threads only take longer to start.
        let workers = self.workers.unwrap_or(0).min(256);
        let builder = rayon::ThreadPoolBuilder::new().num_threads(workers).thread_name(|i| format!("tokenize-{i}"));
        builder.build().map_err(|error| DataError::Threads { workers, reason: error.to_string() })
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
    split: &SplitRows,
    reading: Reading,
) -> Result<ExampleStore, DataError> {
    let cut = config.cut();
    let identity = split.files.identity("content")?;
    let content: [u8; 32] = match reading {
        Reading::Whole => remembered(&config.cache_dir, &identity, config.overwrite_cache, || split.files.digest())?,
        Reading::Nothing => identity.key(),
    };
    let key: [u8; 32] = {
        let mut key = Sha256::new();
        key.update(content);
        key.update(tokenizer.fingerprint());
        key.update(format!("{:?} {} {cut:?}", split.start, split.most));
        key.finalize().into()
    };
    let name: String = key.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let path = config.cache_dir.join(format!("tokens-{name}.bin"));
    if !config.overwrite_cache && path.exists() {
        match ExampleStore::open(&path, &key, Check::Once) {
            Ok(store) => {
                tracing::info!("{}: {} examples from {}", split.name, store.len(), path.display());
                return checked(store, split, &cut);
            }
            Err(damage @ StoreError::Damaged { .. }) => tracing::warn!("{damage}; it is built again"),
            Err(other) => return Err(other.into()),
        }
    }
    let started = std::time::Instant::now();
    let pool = config.pool()?;
    let SplitRows { name: split_name, files, start, most, .. } = *split;
    build(&Build { files, start, most, cut, tokenizer, pool: &pool, split: split_name }, &path, key)?;
    let store = ExampleStore::open(&path, &key, Check::Header)?;
    let Statistics { rows, tokens, .. } = *store.statistics();
    let (examples, seconds) = (store.len(), started.elapsed().as_secs_f64());
    tracing::info!("{}: {rows} rows, {tokens} tokens, {examples} examples in {seconds:.1} s", split.name);
    checked(store, split, &cut)
}

fn checked(store: ExampleStore, split: &SplitRows, cut: &Cut) -> Result<ExampleStore, DataError> {
    if store.is_empty() && !split.held_out {
        return Err(DataError::no_example(split.files, cut, store.statistics().dropped));
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
        (0..store.len()).map(|index| store.get(index).unwrap().unwrap()).collect()
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
                (all(&datasets.train.unwrap()), all(&datasets.validation.unwrap()))
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
            let files = files.filter(|file| file.file_name().to_string_lossy().starts_with("tokens-"));
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
        assert_eq!((fewer.train.unwrap().len(), fewer.validation.unwrap().len()), (3, 2));
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
        assert_eq!(statistics.tokens, train.total_tokens().unwrap());
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
        assert!(!datasets.train.unwrap().is_empty() && datasets.validation.unwrap().is_empty());
    }

    /// More rows and more bytes than travel together: no row is lost, doubled or out of order.
    #[test]
    fn rows_of_many_chunks_are_the_rows_of_the_stream() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("many.txt");
        let short: String = (0..40_000).map(|i| format!("{i} is a row\n")).collect();
        let long: String = (0..200).map(|i| format!("{i} {}\n", "is a long row ".repeat(4000))).collect();
        std::fs::write(&path, short + &long).unwrap();
        let roberta = Arc::new(tokenizer("roberta-small"));
        let config = DataConfig {
            train_files: vec![path.display().to_string()],
            validation_split_percentage: 1,
            line_by_line: true,
            length: 9,
            ..config(folder.path())
        };
        let datasets = prepare(&config, &roberta).unwrap();
        let (train, validation) = (datasets.train.unwrap(), datasets.validation.unwrap());
        assert_eq!((validation.len(), train.len()), (402, 39_798));
        let corpus = Corpus::open(&config).unwrap();
        let mut stream = corpus.stream(&config, &roberta, StreamPosition::default()).unwrap();
        let (_, examples) = stream.next_examples(usize::MAX).unwrap();
        assert_eq!(examples.len(), train.len());
        for (index, example) in examples {
            assert_eq!(train.get(index as usize).unwrap().unwrap(), example, "example {index}");
        }
        let first = roberta.encode_batch(&["402 is a row"], Some(9)).unwrap().remove(0).ids;
        assert_eq!(train.get(0).unwrap().unwrap().ids, first);
    }

    /// Without a need for validation every row is trained on, the first as well.
    #[test]
    fn nothing_is_held_out_of_what_is_only_trained_on() {
        let folder = tempfile::tempdir().unwrap();
        let roberta = Arc::new(tokenizer("roberta-small"));
        let config = DataConfig { validation_split_percentage: 0, line_by_line: true, ..config(folder.path()) };
        let datasets = prepare(&config, &roberta).unwrap();
        assert!(datasets.validation.is_none());
        let all = all(&datasets.train.unwrap());
        let held_out = DataConfig { validation_split_percentage: 20, ..config.clone() };
        let datasets = prepare(&held_out, &roberta).unwrap();
        let (train, validation) = (datasets.train.unwrap(), datasets.validation.unwrap());
        assert_eq!(all.len(), train.len() + validation.len());
        assert_eq!(all[0], validation.get(0).unwrap().unwrap());
        assert_eq!(all[validation.len()], train.get(0).unwrap().unwrap());

        // A stream then reads nothing before its first rows, and writes nothing.
        let cache_dir = folder.path().join("untouched");
        let config = DataConfig { cache_dir: cache_dir.clone(), ..config };
        let corpus = Corpus::open(&config).unwrap();
        assert!(corpus.validation(&config, &roberta, Reading::Nothing).unwrap().is_none());
        let mut stream = corpus.stream(&config, &roberta, StreamPosition::default()).unwrap();
        assert_eq!(stream.next_examples(1).unwrap().1[0].1, all[0]);
        assert!(!cache_dir.exists());
    }

    /// The text is read once: afterwards what is remembered of it decides, until the file changes.
    #[test]
    fn later_starts_do_not_read_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let write = |lines: usize| {
            std::fs::write(&path, "one two three four\n".repeat(lines)).unwrap();
            let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        };
        let names = vec![path.display().to_string()];
        let config = DataConfig { train_files: names, line_by_line: true, ..config(folder.path()) };
        let roberta = tokenizer("roberta-small");
        let lengths = |config: &DataConfig| {
            let datasets = prepare(config, &roberta).unwrap();
            (datasets.train.unwrap().len(), datasets.validation.unwrap().len())
        };
        write(40);
        assert_eq!(lengths(&config), (38, 2));
        let memos: Vec<_> = std::fs::read_dir(&config.cache_dir)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("known-"))
            .collect();
        assert_eq!(memos.len(), 2, "the digest of the text, and the rows held out");
        for memo in memos {
            let text = std::fs::read_to_string(&memo).unwrap();
            let more = text.replace("\"rows\":2", "\"rows\":4").replace("\"byte\":38", "\"byte\":76");
            std::fs::write(memo, more).unwrap();
        }
        assert_eq!(lengths(&config), (36, 4), "taken from the memo");
        assert_eq!(lengths(&DataConfig { overwrite_cache: true, ..config.clone() }), (38, 2), "looked up anew");
        write(60);
        assert_eq!(lengths(&config), (57, 3), "another file");
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
        assert!(fails(&|c| c.validation_split_percentage = 100).contains("nothing to train on"));
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
