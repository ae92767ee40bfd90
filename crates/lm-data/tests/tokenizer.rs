//! Tokenizers against what Python's `transformers` makes of the same folders and texts.

use std::fs;
use std::path::{Path, PathBuf};

use lm_data::tokenizer::{LmTokenizer, Side, TokenizerError, TrainKind};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers")
}

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The folder without its tokenizer.json, as old repositories are.
fn legacy_copy(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "tokenizer.json" {
            fs::copy(&path, copy.path().join(name)).unwrap();
        }
    }
    copy
}

fn numbers<T: TryFrom<u64>>(value: &Value) -> Vec<T> {
    let list = value.as_array().unwrap().iter();
    list.map(|n| T::try_from(n.as_u64().unwrap()).ok().unwrap()).collect()
}

/// SHA-256 over each line's number of ids and ids, as little-endian int32.
fn hash_lines(tokenizer: &LmTokenizer, file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.split('\n').collect();
    let mut digest = Sha256::new();
    for encoded in tokenizer.encode_batch(&lines, None).unwrap() {
        digest.update(i32::try_from(encoded.ids.len()).unwrap().to_le_bytes());
        for id in encoded.ids {
            digest.update(i32::try_from(id).unwrap().to_le_bytes());
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(folder: &Path, expected: &Value, data: &Path) {
    let tokenizer = LmTokenizer::from_folder(folder).unwrap();
    let name = folder.display();
    assert_eq!(tokenizer.len() as u64, expected["vocab_size"].as_u64().unwrap(), "{name}");
    let limit = tokenizer.model_max_length().min(i32::MAX as usize);
    assert_eq!(limit as u64, expected["model_max_length"].as_u64().unwrap(), "{name}");
    let side = match expected["padding_side"].as_str().unwrap() {
        "left" => Side::Left,
        _ => Side::Right,
    };
    assert_eq!(tokenizer.padding_side(), side, "{name}");
    let special = tokenizer.special();
    for (role, id) in [
        ("mask", special.mask),
        ("pad", special.pad),
        ("cls", special.cls),
        ("sep", special.sep),
        ("bos", special.bos),
        ("eos", special.eos),
        ("unk", special.unk),
    ] {
        assert_eq!(id.map(u64::from), expected["special"][role].as_u64(), "{name}: {role}");
    }
    for case in expected["awkward"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let encoded = &tokenizer.encode_batch(&[text], None).unwrap()[0];
        assert_eq!(encoded.ids, numbers::<u32>(&case["ids"]), "{name}: {text:?}");
        assert_eq!(encoded.special_tokens_mask, numbers::<u8>(&case["special_tokens_mask"]), "{name}: {text:?}");
    }
    let file = expected["file"]["file"].as_str().map(|file| data.join(file));
    if let Some(file) = file.filter(|file| file.exists()) {
        assert_eq!(
            hash_lines(&tokenizer, &file),
            expected["file"]["sha256"].as_str().unwrap(),
            "{name}: {}",
            file.display()
        );
    }
}

fn check_all(root: &Path) {
    let expected = read_json(&root.join("expected.json"));
    for (name, expected) in expected.as_object().unwrap() {
        let folder = root.join(name);
        check(&folder, expected, &shared().join("data"));
        check(legacy_copy(&folder).path(), expected, &shared().join("data"));
    }
}

/// Folders in which only this one layout is to be read, with what Python makes of it.
fn check_folders(root: &Path) {
    let expected = read_json(&root.join("expected.json"));
    let mut failed = Vec::new();
    for (name, expected) in expected.as_object().unwrap() {
        let folder = root.join(name);
        let outcome = std::panic::catch_unwind(|| check(&folder, expected, &shared().join("data")));
        if outcome.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "unlike Python: {failed:?}");
}

/// For comparing with Python at length: folders made by `scripts/tokenizer_cases.py`, which then checks what is saved here.
#[test]
fn tokenizers_named_by_the_environment_equal_python() {
    if let Some(root) = std::env::var_os("LM_TOKENIZER_CASES") {
        let root = Path::new(&root);
        check_folders(root);
        for name in read_json(&root.join("expected.json")).as_object().unwrap().keys() {
            let tokenizer = LmTokenizer::from_folder(&root.join(name)).unwrap();
            tokenizer.save(&root.join("saved-here").join(name)).unwrap();
        }
    }
}

#[test]
fn small_tokenizers_equal_python() {
    check_all(&fixtures());
}

#[test]
fn reference_tokenizers_equal_python() {
    let root = shared().join("reference/tokenizers");
    if root.exists() {
        check_all(&root);
    }
}

const KINDS: [(&str, TrainKind); 6] = [
    ("bert", TrainKind::Bert),
    ("roberta", TrainKind::Roberta),
    ("gpt2", TrainKind::Gpt2),
    ("openai-gpt", TrainKind::OpenAiGpt),
    ("albert", TrainKind::Albert),
    ("xlnet", TrainKind::XlNet),
];

fn sample_text() -> String {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/valid.txt");
    fs::read_to_string(sample).unwrap()
}

fn train(kind: TrainKind, size: usize, text: &str) -> Result<LmTokenizer, TokenizerError> {
    LmTokenizer::train(kind, size, Some(128), text.lines().map(|line| Ok(line.to_owned())))
}

/// File names and contents of a folder, in order.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn training_is_repeatable_and_survives_saving() {
    let text = sample_text();
    for (name, kind) in KINDS {
        let tokenizer = train(kind, 700, &text).unwrap();
        assert!((300..=700).contains(&tokenizer.len()), "{name}: {} tokens", tokenizer.len());
        assert_eq!(tokenizer.model_max_length(), 128);
        let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        tokenizer.save(first.path()).unwrap();
        train(kind, 700, &text).unwrap().save(second.path()).unwrap();
        assert!(contents(first.path()) == contents(second.path()), "{name} differs from run to run");

        let loaded = LmTokenizer::from_folder(first.path()).unwrap();
        let lines: Vec<&str> = text.lines().take(200).collect();
        assert_eq!(loaded.encode_batch(&lines, None).unwrap(), tokenizer.encode_batch(&lines, None).unwrap(), "{name}");
        assert_eq!(loaded.special(), tokenizer.special(), "{name}");
        assert_eq!(loaded.fingerprint(), tokenizer.fingerprint(), "{name}");
        assert_eq!(loaded.model_max_length(), 128, "{name}");
        let words = lines.iter().flat_map(|line| line.split_whitespace()).count();
        let ids: usize = loaded.encode_batch(&lines, None).unwrap().iter().map(|e| e.ids.len()).sum();
        assert!(ids < words * 4, "{name}: {ids} tokens for {words} words");
        if let Some(folder) = std::env::var_os("LM_TRAINED_TOKENIZERS") {
            tokenizer.save(&Path::new(&folder).join(name)).unwrap();
        }
    }
}

#[test]
fn training_places_special_tokens_as_the_published_tokenizers_do() {
    let text = sample_text();
    let bert = train(TrainKind::Bert, 700, &text).unwrap();
    let special = bert.special();
    assert_eq!([special.pad, special.unk, special.cls, special.sep, special.mask], [0, 1, 2, 3, 4].map(Some));
    assert_eq!(bert.encode_batch(&[""], None).unwrap()[0].ids, [2, 3]);
    let roberta = train(TrainKind::Roberta, 700, &text).unwrap();
    let special = roberta.special();
    assert_eq!([special.cls, special.pad, special.sep, special.unk, special.mask], [0, 1, 2, 3, 4].map(Some));
    let xlnet = train(TrainKind::XlNet, 700, &text).unwrap();
    assert_eq!(xlnet.padding_side(), Side::Left);
    assert_eq!(xlnet.encode_batch(&[""], None).unwrap()[0].ids, [4, 3]);
    let gpt2 = train(TrainKind::Gpt2, 700, &text).unwrap();
    assert_eq!(gpt2.num_special_tokens_to_add(), 0);
    assert_eq!(gpt2.special().eos, Some(0));
}

#[test]
fn training_refuses_what_cannot_work() {
    for (name, kind) in KINDS {
        for (size, text) in [(700, ""), (700, " \n\t\n"), (3, "some text"), (0, "some text")] {
            let error = train(kind, size, text).unwrap_err().to_string();
            assert!(error.starts_with("cannot train a tokenizer: "), "{name}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
