//! From the rows of a split to its examples: tokenized now or before, or while they are asked for.

use std::path::PathBuf;
use std::sync::Arc;

use indicatif::HumanCount;
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::build::{Build, Next, Target, build, existing};
use crate::cache;
use crate::config::DataConfig;
use crate::dataset::{Corpus, SplitRows};
use crate::example::{Check, Cut, ExampleStore};
use crate::memo::Stamp;
use crate::room;
use crate::stream::{ExampleStream, Mixing, Source, StreamPosition};
use crate::survey::Survey;
use crate::tokenizer::LmTokenizer;

/// What is read of the training files to tell whether the rows held out of them were tokenized before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Each file once until it changes.
    Whole,
    /// Nothing: names, sizes and times tell.
    Nothing,
}

impl Corpus {
    /// The examples of the training split, tokenized now or before; None without training files.
    ///
    /// # Errors
    /// If the text or the cache folder is unusable, or there is no example.
    pub fn train(&self, config: &DataConfig, tokenizer: &LmTokenizer) -> Result<Option<ExampleStore>, DataError> {
        let Some(split) = self.train_split() else { return Ok(None) };
        let tokenized = |split: &SplitRows| tokenized(config, tokenizer, split, Reading::Whole);
        let mixed = self.mixed().map(|(split, weight)| Ok((tokenized(&split)?, weight)));
        let mixed = mixed.collect::<Result<Vec<_>, DataError>>()?;
        let store = if mixed.is_empty() { tokenized(&split)? } else { ExampleStore::mixed(&mixed) };
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
        let Some(split) = self.validation_split() else { return Ok(None) };
        let reading = if split.held_out { reading } else { Reading::Whole };
        let store = tokenized(config, tokenizer, &split, reading)?;
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
        let pool = Arc::new(config.pool()?);
        let source = |rows: &SplitRows| Source {
            files: rows.files.clone(),
            first_row: rows.start,
            most: config.max_train_samples.map_or(u64::MAX, |most| most as u64),
            cut: config.cut(),
            tokenizer: Arc::clone(tokenizer),
            pool: Arc::clone(&pool),
        };
        let mut corpora: Vec<_> = self.mixed().map(|(rows, weight)| (source(&rows), weight)).collect();
        if corpora.is_empty() {
            corpora.push((source(&train), 1.0));
        }
        let (block, seed) = (config.shuffle_buffer_size, config.order_seed);
        let mixing = (block > 0).then_some(Mixing { block, seed });
        Ok(ExampleStream::new(corpora, mixing, seed, position))
    }
}

fn limited(store: ExampleStore, most: Option<usize>) -> ExampleStore {
    most.map_or(store.clone(), |most| store.take(most))
}

/// The examples of a split, tokenized now or before.
fn tokenized(
    config: &DataConfig,
    tokenizer: &LmTokenizer,
    split: &SplitRows,
    reading: Reading,
) -> Result<ExampleStore, DataError> {
    let cut = config.cut();
    let stamps = split.files.stamps()?;
    let content = match reading {
        Reading::Whole => Survey::of(split.files, config)?.digest(split.files),
        Reading::Nothing => split.files.identity("content")?.key(),
    };
    let key: [u8; 32] = {
        let mut key = Sha256::new();
        key.update(content);
        key.update(tokenizer.fingerprint());
        key.update(format!("{:?} {} {cut:?}", split.start, split.most));
        key.finalize().into()
    };
    let target = Target { folder: &config.cache_dir, key };
    let in_use = cache::in_use(target.folder, &target.name());
    let store = opened_or_built(config, tokenizer, split, &target, &stamps)?.in_use(in_use);
    cache::trim(target.folder, config.cache_limit);
    checked(store, split, &cut)
}

/// The store of a split; what is missing of it is built.
fn opened_or_built(
    config: &DataConfig,
    tokenizer: &LmTokenizer,
    split: &SplitRows,
    target: &Target,
    stamps: &[(PathBuf, Stamp)],
) -> Result<ExampleStore, DataError> {
    let (cut, key) = (config.cut(), target.key);
    let check = if config.verify_data { Check::Whole } else { Check::Once };
    let (mut parts, next) = match config.overwrite_cache {
        true => (Vec::new(), Some(Next::start(split.start))),
        false => existing(target, split.start, check)?,
    };
    let Some(next) = next else {
        let store = ExampleStore::new(key, parts);
        tracing::info!("{}: {} (cached)", split.name, sizes(&store));
        return Ok(store);
    };
    let started = std::time::Instant::now();
    let pool = config.pool()?;
    let SplitRows { name, files, start, most, .. } = *split;
    let job = Build { files, start, most, cut, tokenizer, pool: &pool, split: name, stamps };
    if parts.is_empty() {
        // Where the disk cannot be asked, writing tells.
        let free = lm_files::free_space(&config.cache_dir).ok().filter(|_| !config.ignore_disk_check);
        free.map_or(Ok(()), |free| room::expect(&job, &config.cache_dir, free))?;
    } else {
        tracing::info!("{name}: tokenizing goes on after {} parts that are there", parts.len());
    }
    build(&job, target, &mut parts, next)?;
    let store = ExampleStore::new(key, parts);
    let rows = HumanCount(store.statistics().rows);
    tracing::info!("{name}: {} of {rows} rows, in {:.1} s", sizes(&store), started.elapsed().as_secs_f64());
    Ok(store)
}

/// `1,732 examples, 109,491 tokens`
fn sizes(store: &ExampleStore) -> String {
    let (examples, tokens) = (HumanCount(store.len() as u64), HumanCount(store.statistics().tokens));
    format!("{examples} examples, {tokens} tokens")
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
    use crate::loader::{Loader, LoaderOptions, Order};
    use crate::testing::{fixture, prepare, tokenizer};

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
        let names = |files: &[(PathBuf, SystemTime)]| -> std::collections::BTreeSet<String> {
            files.iter().map(|(path, _)| path.display().to_string().rsplit_once('-').unwrap().0.to_owned()).collect()
        };
        let first = all(&prepare(&config, &roberta).unwrap().train.unwrap());
        let built = stores();
        let each = built.len();
        assert!(names(&built).len() == 2 && each > 2, "two stores of several parts: {each}");
        prepare(&config, &roberta).unwrap();
        let fewer = DataConfig { max_train_samples: Some(3), max_eval_samples: Some(2), ..config.clone() };
        let fewer = prepare(&fewer, &roberta).unwrap();
        assert_eq!((fewer.train.unwrap().len(), fewer.validation.unwrap().len()), (3, 2));
        assert_eq!(stores(), built, "the same files, untouched");

        // Each of these makes two stores of its own.
        prepare(&DataConfig { length: 33, ..config.clone() }, &roberta).unwrap();
        prepare(&DataConfig { group_batch_size: 0, ..config.clone() }, &roberta).unwrap();
        prepare(&config, &tokenizer("bert-cased-small")).unwrap();
        assert_eq!(names(&stores()).len(), 8);
        let every = stores().len();

        // From a part that is not there, or damaged, building goes on; what is before it stays as it is.
        for at in 0..each {
            for damage in [false, true] {
                let before = stores();
                for (path, _) in &built[at..] {
                    let content = std::fs::read(path).unwrap();
                    std::fs::remove_file(path).unwrap();
                    if damage {
                        std::fs::write(path, &content[..content.len() / 2]).unwrap();
                    }
                }
                assert_eq!(all(&prepare(&config, &roberta).unwrap().train.unwrap()), first, "from part {at} on");
                let now = stores();
                assert_eq!(now.len(), every);
                for part in before.iter().filter(|(path, _)| !built[at..].iter().any(|(gone, _)| gone == path)) {
                    assert!(now.contains(part), "touched");
                }
            }
        }
        prepare(&DataConfig { overwrite_cache: true, ..config.clone() }, &roberta).unwrap();
        assert_eq!(stores().len(), every, "nothing is left behind");
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

    /// Many small files are read several at a time, and give what one large file gives, in the same parts.
    #[test]
    fn many_files_make_the_store_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let roberta = tokenizer("roberta-small");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name).display().to_string()
        };
        let row = |i: usize| format!("row {i} {}\n", "of some words ".repeat(i % 7));
        let one = write("one.txt", &(0..3000).map(row).collect::<String>());
        let many: Vec<String> = (0..600)
            .map(|file| write(&format!("m{file:03}.txt"), &(5 * file..5 * file + 5).map(row).collect::<String>()))
            .collect();
        let examples = |files: &[String], workers: usize, name: &str| {
            let config = DataConfig {
                train_files: files.to_vec(),
                workers: Some(workers),
                length: 24,
                group_batch_size: 100,
                cache_dir: folder.path().join(name),
                ..DataConfig::default()
            };
            let datasets = prepare(&config, &roberta).unwrap();
            let sizes = |entry: std::io::Result<std::fs::DirEntry>| {
                let entry = entry.unwrap();
                entry.file_name().to_string_lossy().starts_with("tokens-").then(|| entry.metadata().unwrap().len())
            };
            let mut parts: Vec<u64> = std::fs::read_dir(&config.cache_dir).unwrap().filter_map(sizes).collect();
            parts.sort_unstable();
            (all(&datasets.train.unwrap()), all(&datasets.validation.unwrap()), parts.len())
        };
        let expected = examples(std::slice::from_ref(&one), 1, "one");
        assert!(expected.0.len() > 500 && expected.2 > 4);
        for workers in [1, 2, 7] {
            assert!(examples(&many, workers, &format!("many-{workers}")) == expected, "{workers} workers");
        }
    }

    /// An epoch has the places of all examples, and each corpus its share of them.
    #[test]
    fn corpora_are_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let roberta = tokenizer("roberta-small");
        let write = |name: &str, rows: usize| {
            let path = folder.path().join(format!("{name}.txt"));
            std::fs::write(&path, format!("{name}\n").repeat(rows)).unwrap();
            path.display().to_string()
        };
        let config = DataConfig {
            train_files: vec![write("one", 600), write("two", 60), folder.path().join("t*e.txt").display().to_string()],
            train_weights: vec![1.0, 2.0, 1.0],
            validation_files: vec![write("three", 40)],
            line_by_line: true,
            ..config(folder.path())
        };
        let store = prepare(&config, &roberta).unwrap().train.unwrap();
        assert_eq!(store.len(), 700);
        let padding = crate::collate::Padding::new(&roberta, crate::collate::PadTo::Longest);
        let collator: Arc<dyn crate::collate::Collator> = Arc::new(crate::collate::ClmCollator::new(padding));
        let options = LoaderOptions { batch_size: 7, order: Order::Shuffled, drop_last: false, seed: 5 };
        let counts = |store: &ExampleStore| {
            let loader = Loader::new(store.clone(), Arc::clone(&collator), options).unwrap();
            let indices = (0..loader.batches_per_epoch()).flat_map(|batch| loader.indices(1, batch).unwrap());
            let mut counts = [0; 3];
            indices.for_each(|index| counts[usize::from(index >= 600) + usize::from(index >= 660)] += 1);
            counts
        };
        assert_eq!(counts(&store), [175, 350, 175]);
        assert_eq!(counts(&store.take(100)), [25, 50, 25]);
        let other = DataConfig { train_weights: vec![1.0, 2.0, 2.0], ..config.clone() };
        assert_ne!(store.key(), prepare(&other, &roberta).unwrap().train.unwrap().key());
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
        assert_eq!(memos.len(), 4, "the digest of the text, the rows held out, and that two stores are whole");
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
