//! What the tests of the program share: a folder to work in, a tiny model with its tokenizer, and a run of the binary.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::PROGRAM;

/// A folder that goes when the test ends; the program runs in it and keeps its cache there.
pub struct Scratch {
    folder: tempfile::TempDir,
    /// Whether the program is run as the user `nobody`.
    as_nobody: bool,
}

/// How a run ended and what it said.
pub struct Run {
    /// Exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A model folder of lm-models' fixtures, such as `models/bert`.
pub fn fixture(name: &str) -> PathBuf {
    workspace().join("crates/lm-models/tests/fixtures").join(name)
}

/// The path of a sample text.
pub fn sample(name: &str) -> String {
    workspace().join("samples").join(name).display().to_string()
}

/// The tokens of the tiny tokenizer: special ones, characters, and made-up ones up to `size`.
pub fn vocabulary(size: usize) -> Vec<String> {
    let mut tokens: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(String::from).into();
    for character in ('a'..='z').chain('0'..='9') {
        tokens.extend([character.to_string(), format!("##{character}")]);
    }
    tokens.extend(".,;:!?'-()".chars().map(String::from));
    tokens.extend((tokens.len()..size).map(|index| format!("unseen{index}")));
    tokens
}

impl Scratch {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder for the test"), as_nobody: false }
    }

    /// The path of `name` in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and the folders it lies in.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, content).expect("a file");
        path
    }

    /// Text of a file in the folder.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A JSON file in the folder.
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Lines of a JSON lines file in the folder.
    pub fn json_lines(&self, name: &str) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
        self.read(name).lines().map(parse).collect()
    }

    /// Names of what lies in a folder of the folder, sorted.
    pub fn list(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A tokenizer folder with `size` entries: vocab.txt and the class that reads it.
    pub fn tokenizer(&self, name: &str, size: usize) {
        self.write(&format!("{name}/vocab.txt"), vocabulary(size).join("\n") + "\n");
        let config = json!({"tokenizer_class": "BertTokenizer", "do_lower_case": true, "model_max_length": 512});
        self.write(&format!("{name}/tokenizer_config.json"), config.to_string());
    }

    /// A model folder: the tiny BERT (200 tokens, 66 positions, 2 layers of 8) and its tokenizer.
    pub fn bert(&self, name: &str) {
        self.tokenizer(name, 200);
        for file in ["config.json", "model.safetensors"] {
            let bytes = fs::read(fixture("models/bert").join(file)).expect("the fixture");
            self.write(&format!("{name}/{file}"), bytes);
        }
    }

    /// A text of `lines` lines.
    pub fn text(&self, name: &str, lines: usize) {
        let text: String =
            (0..lines).map(|line| format!("line {line} tells of ships, storms and a lighthouse.\n")).collect();
        self.write(name, text);
    }

    /// The model `bert`, `train.txt` and `valid.txt`.
    pub fn prepared() -> Self {
        let scratch = Self::new();
        scratch.bert("bert");
        scratch.text("train.txt", 12);
        scratch.text("valid.txt", 4);
        scratch
    }

    /// From now on the program runs as the user `nobody`; false if it can't be started so.
    #[cfg(unix)]
    pub fn become_nobody(&mut self) -> bool {
        self.as_nobody = true;
        self.command().arg("--version").output().is_ok_and(|output| output.status.success())
    }

    /// The program, to be run in the folder.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        // A panic that is caught tells of itself where this is set.
        command.current_dir(self.folder.path()).env("HF_HUB_OFFLINE", "1").env_remove("RUST_BACKTRACE");
        command.env("XDG_CACHE_HOME", self.path("cache")).env("HF_HOME", self.path("hub"));
        #[cfg(unix)]
        if self.as_nobody {
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
        }
        command
    }

    /// Runs the program with these words, separated by spaces.
    pub fn run(&self, words: &str) -> Run {
        self.run_with(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs the program with these words.
    pub fn run_with(&self, words: &[&str]) -> Run {
        self.command().args(words).output().expect("the program starts").into()
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Run {
    /// Insists that the run did all it was asked to.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("error:"), "{}", self.stderr);
        self
    }

    /// Insists that the run failed with this code and one line of explanation, which has all of `parts`.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) -> Self {
        let said = format!("exit code {:?}\n{}{}", self.code, self.stdout, self.stderr);
        assert_eq!(self.code, Some(code), "{said}");
        assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
        let name = Path::new(PROGRAM).file_stem().and_then(|name| name.to_str()).expect("a name");
        let lines: Vec<&str> = self.stderr.lines().filter(|line| !line.starts_with("warning: ")).collect();
        let Some((line, before)) = lines.split_last() else { panic!("no line:\n{said}") };
        assert!(line.starts_with(&format!("{name}: error: ")), "{said}");
        assert!(!before.iter().any(|line| line.contains("error: ")), "more than one error:\n{said}");
        // Of arguments that cannot be followed nothing else is said.
        assert!(code != 2 || before.is_empty(), "{said}");
        for part in parts {
            assert!(line.contains(part), "`{part}` is missing in: {line}");
        }
        self
    }
}

/// Trains and evaluates a model that these flags describe, with one of lm-data's tokenizers, on a data set of Parquet files as
/// the Hub has them, and on what `save_to_disk` leaves.
pub fn data_sets_of_parquet_and_arrow(tokenizer: &str, model: &str) {
    let scratch = Scratch::new();
    let fixtures = workspace().join("bins/run_mlm/tests/fixtures");
    for split in ["train", "validation"] {
        let bytes = fs::read(fixtures.join(format!("wikitext/{split}.parquet"))).expect("the fixture");
        scratch.write(&format!("set/data/{split}-00000-of-00001.parquet"), bytes);
    }
    let tokenizer = workspace().join("crates/lm-data/tests/fixtures/tokenizers").join(tokenizer).display().to_string();
    let saved = fixtures.join("saved").display().to_string();
    for (set, folder) in [("set", "parquet"), (saved.as_str(), "arrow")] {
        let words = format!(
            "{model} --tokenizer_name {tokenizer} --dataset_name {set} --do_train --do_eval --max_steps 2 --output_dir {folder}"
        );
        scratch.run(&words).done();
        let results = scratch.json(&format!("{folder}/all_results.json"));
        assert!(results["eval_loss"].is_number() && results["train_loss"].is_number(), "{results}");
    }
}

/// The tensors of a safetensors file: name → type, shape, bytes.
pub type Tensors = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

/// Reads a safetensors file.
pub fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let owned = |view: safetensors::tensor::TensorView| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    file.iter().map(|(name, view)| (name.to_owned(), owned(view))).collect()
}

/// Writes a safetensors file.
pub fn write_tensors(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data);
        (name.clone(), view.expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, path).expect("a file");
}
