//! One function for every parser of bytes that others made. Each ends in a value or in an error, whatever the bytes are: a
//! panic, an abort or a hang is a finding. A test of lm-train runs them on everything in `fuzz/corpus`.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;

use lm_data::dataset::{Repository, splits};
use lm_data::source::{RowOptions, TextFiles};
use lm_data::tokenizer::LmTokenizer;
use lm_models::sizes::Sizes;
use lm_models::weights::Checkpoint;
use lm_models::{ModelConfig, Task};
use lm_train::{Saved, TrainerState, args};

/// A parser, under the name of its folder in the corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("safetensors", safetensors),
    ("pickle", pickle),
    ("keras", keras),
    ("flax", flax),
    ("tensorflow1", tensorflow1),
    ("weights_index", weights_index),
    ("config", config),
    ("tokenizer", tokenizer),
    ("tokenizer_config", tokenizer_config),
    ("merges", merges),
    ("sentencepiece", sentencepiece),
    ("csv", csv),
    ("json", json),
    ("jsonl", jsonl),
    ("txt", txt),
    ("parquet", parquet),
    ("arrow", arrow),
    ("card", card),
    ("dataset_infos", dataset_infos),
    ("run_state", run_state),
    ("trainer_state", trainer_state),
    ("arguments", arguments),
];

/// model.safetensors: header and values.
pub fn safetensors(bytes: &[u8]) {
    with_file("model.safetensors", bytes, read_weights);
}

/// pytorch_model.bin: a zip archive or the older layout, read and never executed.
pub fn pickle(bytes: &[u8]) {
    with_file("pytorch_model.bin", bytes, read_weights);
}

/// tf_model.h5.
pub fn keras(bytes: &[u8]) {
    with_file("tf_model.h5", bytes, read_weights);
}

/// flax_model.msgpack.
pub fn flax(bytes: &[u8]) {
    with_file("flax_model.msgpack", bytes, read_weights);
}

/// model.ckpt.index; its data file lies beside it and holds zeros.
pub fn tensorflow1(bytes: &[u8]) {
    with_file("model.ckpt.index", bytes, |folder| {
        if fs::write(folder.join("model.ckpt.data-00000-of-00001"), [0; 1 << 12]).is_ok() {
            read_weights(folder);
        }
    });
}

/// model.safetensors.index.json.
pub fn weights_index(bytes: &[u8]) {
    with_file("model.safetensors.index.json", bytes, read_weights);
}

fn read_weights(folder: &Path) {
    // Of a tensor that a small file makes gigabytes of, a model asks for the shape first.
    const MOST: usize = 1 << 20;
    let Ok(checkpoint) = said(Checkpoint::open(folder)) else { return };
    for name in checkpoint.names() {
        let Some(info) = checkpoint.info(name) else { continue };
        if info.shape.iter().try_fold(1, |len: usize, &size| len.checked_mul(size)).is_some_and(|len| len <= MOST) {
            let _ = said(checkpoint.read_f32(name));
        }
    }
}

/// config.json, up to the sizes of the model that it asks for.
pub fn config(bytes: &[u8]) {
    with_file("config.json", bytes, |folder| {
        let Ok(config) = said(ModelConfig::from_path(folder)) else { return };
        let device = burn_device();
        if let Ok(sizes) = said(Sizes::of(&config, &device)) {
            let _ = (sizes.values(), Sizes::cause(&config, &device), config.max_positions());
        }
        let _ = config.to_json();
    });
}

fn burn_device() -> burn::tensor::Device {
    burn::tensor::Device::flex()
}

/// tokenizer.json, and what it makes of a text.
pub fn tokenizer(bytes: &[u8]) {
    with_file("tokenizer.json", bytes, read_tokenizer);
}

/// tokenizer_config.json beside a small vocabulary.
pub fn tokenizer_config(bytes: &[u8]) {
    with_file("tokenizer_config.json", bytes, |folder| {
        let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##a\n##b\n";
        fs::write(folder.join("vocab.txt"), vocabulary).expect("a file");
        read_tokenizer(folder);
    });
}

/// The sentencepiece model of each kind of class that has one.
pub fn sentencepiece(bytes: &[u8]) {
    for (class, file) in [
        ("XLNetTokenizer", "spiece.model"),
        ("LlamaTokenizer", "tokenizer.model"),
        ("GemmaTokenizer", "tokenizer.model"),
        ("RemBertTokenizer", "sentencepiece.model"),
    ] {
        with_file(file, bytes, |folder| {
            let config = format!("{{\"tokenizer_class\": \"{class}\"}}");
            fs::write(folder.join("tokenizer_config.json"), config).expect("a file");
            read_tokenizer(folder);
        });
    }
}

/// merges.txt beside a small vocabulary, of the classes that join pieces by rules of their own.
pub fn merges(bytes: &[u8]) {
    for class in ["XLMTokenizer", "FlaubertTokenizer", "BioGptTokenizer", "CTRLTokenizer"] {
        with_file("merges.txt", bytes, |folder| {
            let config = format!("{{\"tokenizer_class\": \"{class}\"}}");
            fs::write(folder.join("tokenizer_config.json"), config).expect("a file");
            let vocabulary =
                r#"{"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "a</w>": 4, "te@@": 5, "xt": 6, "text</w>": 7}"#;
            fs::write(folder.join("vocab.json"), vocabulary).expect("a file");
            read_tokenizer(folder);
        });
    }
}

fn read_tokenizer(folder: &Path) {
    if let Ok(tokenizer) = said(LmTokenizer::from_folder(folder)) {
        let _ = said(tokenizer.encode_batch(&["", "a text, and more\nof it: 漢 \u{301}"], None));
        let _ = tokenizer.decode(&[0, 1, 2, u32::MAX]);
    }
}

/// Rows of a table.
pub fn csv(bytes: &[u8]) {
    with_file("rows.csv", bytes, |folder| read_rows(&folder.join("rows.csv")));
}

/// Rows of a JSON file.
pub fn json(bytes: &[u8]) {
    with_file("rows.json", bytes, |folder| read_rows(&folder.join("rows.json")));
}

/// Rows of JSON lines.
pub fn jsonl(bytes: &[u8]) {
    with_file("rows.jsonl", bytes, |folder| read_rows(&folder.join("rows.jsonl")));
}

/// Lines of a text file.
pub fn txt(bytes: &[u8]) {
    with_file("rows.txt", bytes, |folder| read_rows(&folder.join("rows.txt")));
}

/// A column of a Parquet file.
pub fn parquet(bytes: &[u8]) {
    with_file("rows.parquet", bytes, |folder| read_rows(&folder.join("rows.parquet")));
}

/// A column of an Arrow file or stream.
pub fn arrow(bytes: &[u8]) {
    with_file("rows.arrow", bytes, |folder| read_rows(&folder.join("rows.arrow")));
}

/// README.md of a data set, whose YAML names configurations.
pub fn card(bytes: &[u8]) {
    find_splits(bytes, |text| [Some(text), None, None]);
}

/// dataset_infos.json of an old data set.
pub fn dataset_infos(bytes: &[u8]) {
    find_splits(bytes, |text| [None, None, Some(text)]);
}

fn find_splits(bytes: &[u8], cards: impl Fn(&str) -> [Option<&str>; 3]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let files = ["README.md", "train.txt", "a/b-test.csv", "c.jsonl.gz", "d.zip"].map(String::from);
    let repository = Repository { name: "data", files: &files, cards: cards(text) };
    for config in [None, Some("default"), Some("a")] {
        let _ = said(splits(&repository, config));
    }
}

fn read_rows(path: &Path) {
    for column in [None, Some("text")] {
        let names = [path.display().to_string()];
        let Ok([files]) = said(TextFiles::resolve([&names], column, &RowOptions::default())) else { continue };
        let (mut rows, mut text) = (files.rows(), String::new());
        while let Ok(true) = said(rows.read(&mut text)) {}
    }
}

/// run_state.json of a checkpoint.
pub fn run_state(bytes: &[u8]) {
    with_file("run_state.json", bytes, |folder| {
        let _ = said(Saved::read(folder, true));
    });
}

/// trainer_state.json of a checkpoint.
pub fn trainer_state(bytes: &[u8]) {
    with_file("trainer_state.json", bytes, |folder| {
        let _ = said(TrainerState::load(&folder.join("trainer_state.json")));
    });
}

/// A file of arguments.
pub fn arguments(bytes: &[u8]) {
    with_file("arguments.json", bytes, |folder| {
        for task in [Task::Mlm, Task::Clm, Task::Plm] {
            let _ = said(args::parse(task, [folder.join("arguments.json").into()]));
        }
    });
}

/// An error must be able to say what it is.
fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| {
        let text = error.to_string();
        assert!(!text.is_empty(), "an error without a word");
        text
    })
}

/// Calls `read` with a folder that holds only this file.
fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    thread_local! { static FOLDER: OnceCell<tempfile::TempDir> = const { OnceCell::new() } }
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(|| tempfile::tempdir().expect("a folder")).path().join("input");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join(name), bytes).expect("a file");
        read(&folder);
    });
}
