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
    if let Some(ids) = expected["all_special_ids"].as_array() {
        let ours = special.all_special_ids.iter().map(|id| Value::from(*id));
        assert_eq!(&ours.collect::<Vec<_>>(), ids, "{name}");
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
        let old = if expected["old"].is_null() { expected } else { &expected["old"] };
        check(legacy_copy(&folder).path(), old, &shared().join("data"));
    }
}

/// Variations of the small tokenizers, made by `scripts/tokenizer_variants.py`: old and new layouts under other options.
#[test]
fn varied_tokenizers_equal_python() {
    let variants = read_json(&fixtures().join("variants.json"));
    for (name, variant) in variants.as_object().unwrap() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(name);
        fs::create_dir(&folder).unwrap();
        let left_out = variant["left_out"].as_array().unwrap();
        for (file, bytes) in contents(&fixtures().join(variant["base"].as_str().unwrap())) {
            if !left_out.contains(&Value::from(file.as_str())) {
                fs::write(folder.join(file), bytes).unwrap();
            }
        }
        for (file, content) in variant["files"].as_object().unwrap() {
            fs::write(folder.join(file), content.to_string()).unwrap();
        }
        check(&folder, variant, &shared().join("data"));
        if variant["survives_saving"] == false {
            continue;
        }
        let saved = root.path().join(format!("{name} saved"));
        LmTokenizer::from_folder(&folder).unwrap().save(&saved).unwrap();
        check(&saved, variant, &shared().join("data"));
    }
}

#[test]
fn small_tokenizers_equal_python() {
    check_all(&fixtures());
}

/// The classes that come with the families, made by `fixtures/family_tokenizers/make.py`: as Python saved them, from the
/// old files alone, and as we save them again.
#[test]
fn tokenizers_of_the_families_equal_python() {
    let root = fixtures().join("../family_tokenizers");
    check_all(&root);
    for (name, expected) in read_json(&root.join("expected.json")).as_object().unwrap() {
        let (folder, saved) = (root.join(name), tempfile::tempdir().unwrap());
        LmTokenizer::from_folder(&folder).unwrap().save(saved.path()).unwrap();
        check(saved.path(), expected, &shared().join("data"));
        let names = |folder: &Path| contents(folder).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(saved.path()), names(&folder), "{name}");
        for file in names(&folder) {
            let [ours, theirs] = [saved.path(), &folder].map(|folder| fs::read(folder.join(&file)).unwrap());
            match file.as_str() {
                // What Python keeps of the slow class there, or a tokenizer's parts written in another order.
                "tokenizer.json" => {}
                _ if file.ends_with(".json") => {
                    let [ours, theirs] = [ours, theirs].map(|text| serde_json::from_slice::<Value>(&text).unwrap());
                    assert_eq!(ours, theirs, "{name}/{file}");
                }
                _ => assert!(ours == theirs, "{name}/{file}"),
            }
        }
    }
}

#[test]
fn chinese_for_jieba_is_refused() {
    let tokenizer = LmTokenizer::from_folder(&fixtures().join("../family_tokenizers/roformer")).unwrap();
    let error = tokenizer.encode_batch(&["fine", "今天"], None).unwrap_err().to_string();
    assert!(error.contains("今天") && error.contains("Jieba") && error.contains("--tokenizer_name"), "{error}");
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

/// The error of loading a copy of a fixture that `damage` has changed; one line that names what the tests expect.
fn damaged(name: &str, damage: impl FnOnce(&Path)) -> String {
    let copy = tempfile::tempdir().unwrap();
    for (file, bytes) in contents(&fixtures().join(name)) {
        fs::write(copy.path().join(file), bytes).unwrap();
    }
    damage(copy.path());
    let error = LmTokenizer::from_folder(copy.path()).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

fn remove(folder: &Path, names: &[&str]) {
    for name in names {
        fs::remove_file(folder.join(name)).unwrap();
    }
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    fs::write(path, change(fs::read_to_string(path).unwrap())).unwrap();
}

#[test]
fn damaged_folders_are_refused_with_a_reason() {
    let vocab_files = ["tokenizer.json", "vocab.txt"];
    let error = damaged("bert-cased-small", |dir| remove(dir, &vocab_files));
    assert!(error.contains("no tokenizer found; looked for tokenizer.json, vocab.txt, vocab.json with merges.txt"));

    let error = damaged("bert-cased-small", |dir| edit(&dir.join("tokenizer.json"), |text| text[..5000].to_owned()));
    assert!(error.contains("tokenizer.json: not a tokenizer: EOF"), "{error}");
    let error = damaged("bert-cased-small", |dir| fs::write(dir.join("tokenizer.json"), "{}").unwrap());
    assert!(error.contains("tokenizer.json: not a tokenizer: "), "{error}");
    let error = damaged("bert-cased-small", |dir| fs::write(dir.join("tokenizer_config.json"), "[1]").unwrap());
    assert!(error.contains("tokenizer_config.json: not a JSON object"), "{error}");
    let error = damaged("bert-cased-small", |dir| {
        edit(&dir.join("tokenizer_config.json"), |text| text.replace("\"[MASK]\"", "7"));
    });
    assert!(error.contains("tokenizer_config.json: "), "{error}");
    let error = damaged("bert-cased-small", |dir| {
        edit(&dir.join("tokenizer.json"), |text| text.replacen("\"the\": ", "\"the\": 9999", 1));
    });
    assert!(error.contains("the vocabulary is damaged"), "{error}");
    let error = damaged("bert-cased-small", |dir| {
        remove(dir, &["tokenizer.json"]);
        fs::write(dir.join("vocab.txt"), b"[PAD]\n[UNK]\nb\xff\n").unwrap();
    });
    assert!(error.contains("vocab.txt: line 3 is not valid UTF-8"), "{error}");
    let error = damaged("bert-cased-small", |dir| {
        remove(dir, &["tokenizer.json"]);
        fs::write(dir.join("vocab.txt"), "").unwrap();
    });
    assert!(error.contains("vocab.txt: the vocabulary is empty"), "{error}");

    let error = damaged("roberta-small", |dir| remove(dir, &["tokenizer.json", "merges.txt"]));
    assert!(error.contains("merges.txt: the file is missing"), "{error}");
    let error = damaged("roberta-small", |dir| {
        remove(dir, &["tokenizer.json"]);
        edit(&dir.join("merges.txt"), |text| text.replacen("\n", "\nabc\n", 1));
    });
    assert!(error.contains("merges.txt: line 2 is not two tokens"), "{error}");
    let error = damaged("roberta-small", |dir| {
        remove(dir, &["tokenizer.json"]);
        edit(&dir.join("merges.txt"), |text| text.replacen("\n", "\nx ☃\n", 1));
    });
    assert!(error.contains("do vocab.json and merges.txt belong together?"), "{error}");
    let error = damaged("roberta-small", |dir| {
        remove(dir, &["tokenizer.json"]);
        edit(&dir.join("vocab.json"), |text| text.replacen(":0", ":-1", 1));
    });
    assert!(error.contains("vocab.json: not a vocabulary"), "{error}");

    let error = damaged("xlnet-small", |dir| {
        remove(dir, &["tokenizer.json"]);
        fs::write(dir.join("spiece.model"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    });
    assert!(error.contains("spiece.model: not a sentencepiece model"), "{error}");
    let error = damaged("xlnet-small", |dir| {
        remove(dir, &["tokenizer.json", "tokenizer_config.json"]);
    });
    assert!(error.contains("known classes: BertTokenizer"), "{error}");
    let error = damaged("xlnet-small", |dir| {
        remove(dir, &["tokenizer.json"]);
        edit(&dir.join("tokenizer_config.json"), |text| text.replace("XLNetTokenizer", "T5Tokenizer"));
    });
    assert!(error.contains("the old files of tokenizer_class \"T5Tokenizer\" are not supported"), "{error}");
}

#[test]
fn truncation_leaves_room_or_is_refused() {
    let tokenizer = LmTokenizer::from_folder(&fixtures().join("xlnet-small")).unwrap();
    let error = tokenizer.encode_batch(&["a text"], Some(2)).unwrap_err().to_string();
    assert_eq!(error, "sequences of 2 tokens have no room for text beside 2 special tokens; use a longer sequence");
    let whole = &tokenizer.encode_batch(&["one two three four"], None).unwrap()[0];
    let cut = &tokenizer.encode_batch(&["one two three four"], Some(3)).unwrap()[0];
    assert_eq!(cut.ids, [whole.ids[0], 4, 3]);
    assert_eq!(cut.special_tokens_mask, [0, 1, 1]);
}

#[test]
fn an_unknown_word_without_an_unknown_token_is_an_error_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("vocab.txt"), "[PAD]\n[CLS]\n[SEP]\n[MASK]\nword\n").unwrap();
    fs::write(folder.path().join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
    let tokenizer = LmTokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(tokenizer.encode_batch(&["word"], None).unwrap()[0].ids, [1, 4, 2]);
    let error = tokenizer.encode_batch(&["other"], None).unwrap_err().to_string();
    assert!(error.starts_with("cannot tokenize \"other\": "), "{error}");
}

/// A folder as transformers 5 writes it becomes one that 4.57 reads, with the same ids.
#[test]
fn folders_of_transformers_5_are_read_and_written_for_4_57() {
    let bert = r#"{"backend": "tokenizers", "cls_token": "[CLS]", "is_local": false, "mask_token": "[MASK]",
                   "model_max_length": 512, "pad_token": "[PAD]", "sep_token": "[SEP]",
                   "tokenizer_class": "TokenizersBackend", "unk_token": "[UNK]"}"#;
    let xlnet = r#"{"backend": "tokenizers", "bos_token": "<s>", "cls_token": "<cls>",
                    "do_lower_case": false, "eos_token": "</s>", "extra_special_tokens": ["<eop>", "<eod>"],
                    "is_local": true, "keep_accents": false, "mask_token": "<mask>", "model_max_length": 512,
                    "pad_token": "<pad>", "padding_side": "left", "remove_space": true, "sep_token": "<sep>",
                    "tokenizer_class": "XLNetTokenizer", "unk_token": "<unk>"}"#;
    let text = "The ferry crosses the lake, 3 times a day.";
    for (name, config, class, additional) in [
        ("bert-cased-small", bert, "PreTrainedTokenizerFast", Value::Null),
        ("xlnet-small", xlnet, "XLNetTokenizerFast", serde_json::json!(["<eop>", "<eod>"])),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = "tokenizer.json";
        fs::copy(fixtures().join(name).join(file), folder.path().join(file)).unwrap();
        fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        let (old, new) = (LmTokenizer::from_folder(&fixtures().join(name)), LmTokenizer::from_folder(folder.path()));
        let (old, new) = (old.unwrap(), new.unwrap());
        assert_eq!(new.encode_batch(&[text], None).unwrap(), old.encode_batch(&[text], None).unwrap(), "{name}");
        assert_eq!(new.special(), old.special(), "{name}");
        let saved = folder.path().join("saved");
        new.save(&saved).unwrap();
        let config = read_json(&saved.join("tokenizer_config.json"));
        assert_eq!(config["tokenizer_class"], class);
        assert_eq!(config["extra_special_tokens"], serde_json::json!({}), "a list of them stops 4.57");
        assert_eq!(config["additional_special_tokens"], additional);
        assert!(config.get("backend").is_none() && config.get("is_local").is_none(), "{config}");
        assert_eq!(LmTokenizer::from_folder(&saved).unwrap().special(), old.special(), "{name}");
    }
}
