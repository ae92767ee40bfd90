//! The examples that Python's scripts build, recorded in preprocessing.json, must come out equal, id for id.

use std::path::Path;

use lm_data::collate::{PadTo, Padding};
use lm_data::example::ExampleStore;
use lm_data::source::RowOptions;
use lm_data::tokenizer::LmTokenizer;
use lm_data::{Corpus, DataConfig, Reading, dump_examples};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Case {
    task: String,
    tokenizer: String,
    files: Files,
    options: Options,
    train: Expected,
    validation: Expected,
}

#[derive(Deserialize)]
struct Files {
    train: String,
    validation: Option<String>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct Options {
    length: usize,
    line_by_line: bool,
    pad_to_max_length: bool,
    keep_linebreaks: bool,
    validation_split_percentage: Option<u32>,
}

#[derive(Deserialize)]
struct Expected {
    examples: usize,
    tokens: usize,
    sha256: String,
    first: Option<Vec<u32>>,
    last: Option<Vec<u32>>,
}

/// The ids of all examples as `--dump_examples` writes them.
fn dumped(store: &ExampleStore, padding: &Padding) -> Vec<Vec<u32>> {
    let mut lines = Vec::new();
    dump_examples(&mut lines, "train", store, padding).unwrap();
    let ids = |line: &str| serde_json::from_value(serde_json::from_str::<Value>(line).unwrap()["input_ids"].clone());
    std::str::from_utf8(&lines).unwrap().lines().map(|line| ids(line).unwrap()).collect()
}

fn check(name: &str, rows: &[Vec<u32>], expected: &Expected) {
    assert_eq!(rows.len(), expected.examples, "{name}: examples");
    assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), expected.tokens, "{name}: tokens");
    assert_eq!(rows.first(), expected.first.as_ref(), "{name}: first");
    assert_eq!(rows.last(), expected.last.as_ref(), "{name}: last");
    let mut digest = Sha256::new();
    for row in rows {
        digest.update((row.len() as i32).to_le_bytes());
        row.iter().for_each(|&id| digest.update((id as i32).to_le_bytes()));
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, expected.sha256, "{name}: sha256");
}

/// Runs all cases of a record.
fn run_cases(record: &Path, tokenizers: &Path, data: &Path) {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let cache = tempfile::tempdir().unwrap();
    for (number, case) in cases.into_iter().enumerate() {
        let Case { task, tokenizer, files, options, train, validation } = case;
        let name = format!("{task} {tokenizer} {} {options:?}", files.train);
        let file = |name: &String| data.join(name).display().to_string();
        let config = DataConfig {
            train_files: vec![file(&files.train)],
            validation_files: files.validation.iter().map(file).collect(),
            validation_split_percentage: options.validation_split_percentage.unwrap_or(5),
            length: options.length,
            line_by_line: options.line_by_line,
            rows: RowOptions { keep_linebreaks: options.keep_linebreaks, ..RowOptions::default() },
            workers: Some(1 + number % 3),
            cache_dir: cache.path().into(),
            ..DataConfig::default()
        };
        let tokenizer = LmTokenizer::from_folder(&tokenizers.join(&tokenizer)).unwrap();
        let to = if options.pad_to_max_length { PadTo::Length(options.length) } else { PadTo::Longest };
        let padding = Padding::new(&tokenizer, to);
        let corpus = Corpus::open(&config).unwrap();
        let stored = corpus.train(&config, &tokenizer).unwrap().unwrap();
        let held_out = corpus.validation(&config, &tokenizer, Reading::Whole).unwrap().unwrap();
        check(&format!("{name} train"), &dumped(&stored, &padding), &train);
        check(&format!("{name} validation"), &dumped(&held_out, &padding), &validation);
    }
}

/// Awkward lines, csv and json, made by the script beside them.
#[test]
fn small_cases_are_equal() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let data = fixtures.join("preprocessing");
    run_cases(&data.join("record.json"), &fixtures.join("tokenizers"), &data);
}

/// Real text and real tokenizers, where they are at hand.
#[test]
fn reference_cases_are_equal() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference");
    if reference.exists() {
        run_cases(&reference.join("preprocessing.json"), &reference.join("tokenizers"), &reference.join("../data"));
    }
}
