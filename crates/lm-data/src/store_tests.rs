//! Stores of a corpus that is damaged, changed or spread over many files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::build::{Build, Next, Target, build};
use crate::example::{Cut, Example, ExampleStore};
use crate::source::RowPosition;
use crate::source::opened;
use crate::testing::{parquet, prepare, resolved, tokenizer};
use crate::{DataConfig, DataError};

fn config(folder: &Path, names: &[String]) -> DataConfig {
    DataConfig {
        train_files: names.to_vec(),
        validation_split_percentage: 0,
        length: 24,
        cache_dir: folder.join("cache"),
        ..DataConfig::default()
    }
}

/// Writes a file that is old enough for its stamp to be relied on.
fn write(path: &Path, content: impl AsRef<[u8]>) -> String {
    fs::write(path, content).unwrap();
    age(path);
    path.display().to_string()
}

fn age(path: &Path) {
    let then = SystemTime::now() - Duration::from_secs(60);
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

fn all(store: &ExampleStore) -> Vec<Example> {
    (0..store.len()).map(|index| store.get(index).unwrap().unwrap()).collect()
}

fn parts(cache: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    parts.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("tokens-"));
    parts.sort();
    parts
}

/// Ten thousand files are no more work, file by file, than ten: each is opened as often, by a start and by the next.
#[test]
fn each_file_is_opened_a_few_times_however_many_there_are() {
    let roberta = tokenizer("roberta-small");
    let opens = |count: usize, ending: &str| {
        let folder = tempfile::tempdir().unwrap();
        let texts = folder.path().join("texts");
        fs::create_dir(&texts).unwrap();
        for i in 0..count {
            let path = texts.join(format!("{i:05}.{ending}"));
            match ending {
                "parquet" => drop(parquet(&path, &[9], "some words of a row")),
                "csv" => drop(write(&path, "text,n\nsome words of a row,1\nand of another,2\n")),
                "jsonl" => drop(write(&path, "{\"text\": \"some words of a row\"}\n")),
                _ => drop(write(&path, "some words of a row\nand of another\n")),
            }
            age(&path);
        }
        let config = DataConfig {
            line_by_line: true,
            validation_split_percentage: 5,
            ..config(folder.path(), &[texts.display().to_string()])
        };
        let first = prepare(&config, &roberta).unwrap().train.unwrap().len();
        let (cold, most) = opened::in_folder(&texts);
        assert_eq!(prepare(&config, &roberta).unwrap().train.unwrap().len(), first);
        (cold, most, opened::in_folder(&texts).0 - cold)
    };
    for (ending, of_each, again) in [("txt", 5, 2), ("jsonl", 7, 4), ("csv", 10, 6), ("parquet", 9, 4)] {
        let (cold, most, warm) = opens(400, ending);
        assert!(cold <= 400 * of_each + 20 && most <= of_each + 4, "{ending}: {cold} opens, {most} of one file");
        assert!(warm <= 400 * again + 20, "{ending}: {warm} opens of the next start");
    }
}

/// Of a store in which a byte has changed, what comes before that part stays; the rest is made again, with the same result.
#[test]
fn a_store_that_was_changed_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let roberta = tokenizer("roberta-small");
    let text: String = (0..4000).map(|i| format!("row {i} of some words\n")).collect();
    let names = [write(&folder.path().join("a.txt"), text)];
    let config = config(folder.path(), &names);
    let first = all(&prepare(&config, &roberta).unwrap().train.unwrap());
    let built = parts(&config.cache_dir);
    assert!(built.len() > 3);
    let mut bytes = fs::read(&built[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&built[1], &bytes).unwrap();
    let untouched = fs::metadata(&built[0]).unwrap().modified().unwrap();
    let verified = DataConfig { verify_data: true, ..config.clone() };
    assert!(all(&prepare(&verified, &roberta).unwrap().train.unwrap()) == first);
    assert_ne!(fs::read(&built[1]).unwrap(), bytes, "made again");
    assert_eq!(fs::metadata(&built[0]).unwrap().modified().unwrap(), untouched);
}

/// A text that changes without a sign, as when its disk loses a bit, is found by `--verify_data`, and has a store of its own.
#[test]
fn a_text_that_was_changed_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let roberta = tokenizer("roberta-small");
    let names = [write(&folder.path().join("a.txt"), "one two three\n".repeat(300))];
    let config = config(folder.path(), &names);
    let first = prepare(&config, &roberta).unwrap().train.unwrap();
    // What is remembered of the text is that of another one.
    let memo = fs::read_dir(&config.cache_dir).unwrap().map(|entry| entry.unwrap().path());
    let memo = memo.into_iter().find(|path| path.to_string_lossy().contains("known-files-")).unwrap();
    let said = fs::read_to_string(&memo).unwrap();
    let digest = said.find("\"digest\":[").unwrap() + 10;
    let number = said[digest..].split(',').next().unwrap();
    let other = (number.parse::<u8>().unwrap() ^ 1).to_string();
    fs::write(&memo, format!("{}{other}{}", &said[..digest], &said[digest + number.len()..])).unwrap();
    let believed = prepare(&config, &roberta).unwrap().train.unwrap();
    assert_ne!(believed.key(), first.key(), "a start believes what is remembered");
    let verified = DataConfig { verify_data: true, ..config.clone() };
    assert_eq!(prepare(&verified, &roberta).unwrap().train.unwrap().key(), first.key());
    assert_eq!(prepare(&config, &roberta).unwrap().train.unwrap().key(), first.key(), "and that is kept");
}

/// A file that is not what it was when the store got its name makes no part of it.
#[test]
fn a_text_that_changes_while_it_is_tokenized_makes_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    let files = resolved(&[write(&path, "one two three\n".repeat(3000))]);
    let stamps = files.stamps().unwrap();
    fs::write(&path, "four five\n".repeat(3000)).unwrap();
    let (tokenizer, pool) = (tokenizer("roberta-small"), rayon::ThreadPoolBuilder::new().build().unwrap());
    let job = Build {
        files: &files,
        start: RowPosition::default(),
        most: u64::MAX,
        cut: Cut { length: 24, line_by_line: false, group_batch_size: 1000 },
        tokenizer: &tokenizer,
        pool: &pool,
        split: "train",
        stamps: &stamps,
    };
    let target = Target { folder: folder.path(), key: [7; 32] };
    let error = build(&job, &target, &mut Vec::new(), Next::start(job.start)).unwrap_err();
    assert!(matches!(error, DataError::Source(_)) && error.to_string().contains("a.txt: was changed while"), "{error}");
    assert!(parts(folder.path()).is_empty());
}

/// Groups of rows are read side by side by any number of workers: the store is the same, and that of the same rows as text.
#[test]
fn a_store_of_parquet_is_that_of_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let roberta = tokenizer("roberta-small");
    let rows = folder.path().join("a.txt");
    let text: String = (0..3000).map(|i| format!("of some words {i}\n")).collect();
    let expected = config(folder.path(), &[write(&rows, text)]);
    let expected = prepare(&expected, &roberta).unwrap().train.unwrap();
    let path = folder.path().join("a.parquet");
    let names = [parquet(&path, &[700, 1, 299, 1200, 800], "of some words")];
    age(&path);
    for workers in [1, 2, 7] {
        let config = DataConfig {
            workers: Some(workers),
            cache_dir: folder.path().join(format!("cache-{workers}")),
            ..config(folder.path(), &names)
        };
        let store = prepare(&config, &roberta).unwrap().train.unwrap();
        assert!(all(&store) == all(&expected), "{workers} workers");
    }
}
