//! Runs of a real binary on a tiny model, and what two runs are compared by. The test program says which binary, as
//! `PROGRAM`, and which model and examples, as `MODEL`; TOKENIZERS there is a folder of tokenizers.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A folder that goes when the test ends, with a little text in it.
pub struct Scratch(tempfile::TempDir);

/// How a run ended and what it said.
#[derive(Debug)]
pub struct Run {
    /// Exit code; none if a signal killed it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Run {
    /// The run, if all was well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// The last line that the run said, if it failed with this code and without a panic.
    #[track_caller]
    pub fn fails(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr.lines().last().unwrap_or_default()
    }
}

impl Scratch {
    pub fn new() -> Self {
        let scratch = Self(tempfile::tempdir().expect("a folder for the test"));
        copy(Path::new(&fixtures("lm-models/tests/fixtures/models/bert/config.json")), &scratch.path("config.json"));
        let config = String::from_utf8(scratch.bytes("config.json")).expect("UTF-8");
        fs::write(scratch.path("dropout.json"), config.replace("dropout_prob\": 0.0", "dropout_prob\": 0.1"))
            .expect("a file");
        let lines = |count: usize| -> String {
            let line =
                |i: usize| format!("{}.\n", "the cat sat on a mat while 7 dogs ran by ".repeat(1 + i % 3).trim());
            (0..count).map(|i| line(i).replace('7', &i.to_string())).collect()
        };
        // Six batches of 4 an epoch, the last one smaller.
        fs::write(scratch.path("train.txt"), lines(21)).expect("a file");
        fs::write(scratch.path("valid.txt"), lines(5)).expect("a file");
        scratch
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program, to train for 14 steps into the folder `output_dir` with `flags` besides; it works in this folder.
    pub fn command(&self, output_dir: &str, flags: &str) -> Command {
        let mut command = Command::new(crate::PROGRAM);
        let model = crate::MODEL.replace("TOKENIZERS", &fixtures("lm-data/tests/fixtures/tokenizers"));
        let common = "--train_file train.txt --validation_file valid.txt --do_train --per_device_train_batch_size 4 \
                      --learning_rate 1e-3 --max_steps 14 --save_steps 1 --save_total_limit 0 --logging_steps 2 \
                      --data_cache_dir cache";
        command
            .args(model.split_whitespace())
            .args(common.split_whitespace())
            .args(["--output_dir", output_dir])
            .args(flags.split_whitespace());
        command.current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, output_dir: &str, flags: &str) -> Run {
        self.command(output_dir, flags).output().expect("the program starts").into()
    }

    /// Starts it; what it says can be read from the child.
    pub fn start(&self, output_dir: &str, flags: &str) -> Child {
        let mut command = self.command(output_dir, flags);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    }

    /// Makes `to/checkpoint-STEP` a copy of that of `from`, as if a run into `to` had ended there.
    pub fn copy_checkpoint(&self, from: &str, to: &str, step: u64) {
        let name = format!("checkpoint-{step}");
        copy(&self.path(from).join(&name), &self.path(to).join(&name));
    }

    /// The steps of the checkpoints in a folder.
    pub fn checkpoints(&self, output_dir: &str) -> Vec<u64> {
        let names = self.names(output_dir);
        let mut steps: Vec<u64> =
            names.iter().filter_map(|name| name.strip_prefix("checkpoint-")?.parse().ok()).collect();
        steps.sort_unstable();
        steps
    }

    /// The names in a folder, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The lines of log.jsonl without what depends on the clock and the machine.
    pub fn log(&self, output_dir: &str) -> Vec<Value> {
        let text = String::from_utf8(self.bytes(&format!("{output_dir}/log.jsonl"))).expect("UTF-8");
        text.lines().map(|line| timeless(serde_json::from_str(line).expect("JSON"))).collect()
    }

    /// log_history of trainer_state.json, likewise.
    pub fn history(&self, output_dir: &str) -> Vec<Value> {
        let state = self.json(&format!("{output_dir}/trainer_state.json"));
        state["log_history"].as_array().expect("a list").iter().cloned().map(timeless).collect()
    }

    /// Checks that two runs came to the same, bit for bit: final weights, history, log, and what `all_results.json` says.
    #[track_caller]
    pub fn assert_same(&self, a: &str, b: &str, what: &str) {
        assert_eq!(self.history(a), self.history(b), "history of {what}");
        assert_eq!(self.log(a), self.log(b), "log.jsonl of {what}");
        let weights = |folder| self.bytes(&format!("{folder}/model.safetensors"));
        assert!(weights(a) == weights(b), "weights of {what}");
        let results = |folder| timeless(self.json(&format!("{folder}/all_results.json")));
        assert_eq!(results(a), results(b), "results of {what}");
    }
}

/// Leaves a test whose needs the machine does not meet; where all must be tested (`CI=true`) that is a failure.
#[track_caller]
pub fn not_tested(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "not tested: {why}");
    eprintln!("not tested: {why}");
}

/// A small generator, so that a chain can be told from another by its seed.
pub struct Moments(pub u64);

impl Moments {
    /// At most `most`, evenly.
    pub fn next(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        most.mul_f64((self.0 >> 40) as f64 / (1u64 << 24) as f64)
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.next(Duration::from_secs(2)) >= Duration::from_secs(1)
    }
}

/// Trains without a break, then once more from the checkpoint of each of these steps, with `other_flags`, which must not
/// change anything.
#[track_caller]
pub fn resumes_exactly_with(flags: &str, other_flags: &str, steps: &[u64]) {
    let scratch = Scratch::new();
    scratch.run("unbroken", flags).ok();
    for &step in steps {
        let resumed = format!("resumed-{step}");
        scratch.copy_checkpoint("unbroken", &resumed, step);
        // The best checkpoint so far is still there, too.
        let best = &scratch.json(&format!("unbroken/checkpoint-{step}/trainer_state.json"))["best_global_step"];
        if let Some(best) = best.as_u64() {
            scratch.copy_checkpoint("unbroken", &resumed, best);
        }
        let run = scratch.run(&resumed, &format!("{flags} {other_flags}")).ok();
        assert!(
            run.stderr.contains(&format!("resuming from {resumed}/checkpoint-{step} (step {step})")),
            "{}",
            run.stderr
        );
        scratch.assert_same("unbroken", &resumed, &format!("{flags} {other_flags}, resumed at step {step}"));
        let last = *scratch.checkpoints("unbroken").last().expect("a checkpoint");
        let optimizer = |folder: &str| scratch.bytes(&format!("{folder}/checkpoint-{last}/optimizer.pt"));
        assert!(optimizer("unbroken") == optimizer(&resumed), "moments of {flags}");
        let run_state = |folder: &str| {
            let mut state = scratch.json(&format!("{folder}/checkpoint-{last}/run_state.json"));
            // trainer_state.json among them has seconds in it.
            (state["files"], state["seal"]) = (Value::Null, Value::Null);
            for point in state["history"]["curve"]["points"].as_array_mut().expect("points") {
                assert!(point["loss"].is_f64() && point["seconds"].is_f64(), "{point}");
                (point["seconds"], point["memory"]) = (Value::Null, Value::Null);
            }
            // That it was resumed tells the two apart.
            let events = state["history"]["events"].as_array_mut().expect("events");
            events.retain(|event| event["what"] == "checkpoint");
            state
        };
        assert_eq!(run_state("unbroken"), run_state(&resumed), "run_state.json of {flags}");
    }
}

#[track_caller]
pub fn resumes_exactly(flags: &str, steps: &[u64]) {
    resumes_exactly_with(flags, "", steps);
}

/// Two ranks on `device` equal one that accumulates, to rounding. The model must be without dropout.
#[track_caller]
pub fn two_ranks_equal_one(device: &str) {
    let scratch = Scratch::new();
    let flags = "--max_steps 3 --logging_steps 1";
    scratch.run("one", &format!("{flags} --gradient_accumulation_steps 2 --device {device}")).ok();
    scratch.run("two", &format!("{flags} --devices {device},{device}")).ok();
    let history = |folder: &str, key: &str| -> Vec<f64> {
        scratch.history(folder).iter().filter_map(|record| record[key].as_f64()).collect()
    };
    for (key, tolerance) in [("loss", 1e-4), ("grad_norm", 1e-3)] {
        let (one, two) = (history("one", key), history("two", key));
        let equal = |(one, two): (&f64, &f64)| (one - two).abs() < tolerance * one.abs();
        assert!(one.len() == 3 && two.len() == 3 && one.iter().zip(&two).all(equal), "{key}: {one:?} {two:?}");
    }
}

/// A run whose attention scores, of `length` tokens, need more memory than the device has says in one line what to do.
#[track_caller]
pub fn without_memory(device: &str, length: usize) {
    let scratch = Scratch::new();
    let change = |from: &Path, name: &str, old: &str, new: &str| {
        let text = fs::read_to_string(from).expect("a file");
        fs::write(scratch.path(name), text.replace(old, new)).expect("a file");
    };
    let tokenizer = fixtures("lm-data/tests/fixtures/tokenizers/bert-cased-small");
    copy(Path::new(&tokenizer), &scratch.path("tokenizer"));
    let settings = "tokenizer/tokenizer_config.json";
    change(&scratch.path(settings), settings, ": 512", &format!(": {length}"));
    change(&scratch.path("dropout.json"), "long.json", ": 66", &format!(": {length}"));
    let flags = format!(
        "--config_name long.json --tokenizer_name tokenizer --max_seq_length {length} --pad_to_max_length \
         --per_device_train_batch_size 1 --plain_ops --device {device}"
    );
    let mut command = scratch.command("out", &flags);
    let failed = Run::from(command.env_remove("RUST_BACKTRACE").output().expect("the program starts"));
    let line = failed.fails(1);
    assert!(line.starts_with("run_mlm: error: the device has too little memory: "), "{line}");
    for part in ["--per_device_train_batch_size", "; no checkpoint was saved yet"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

/// Trains on the CPU and on `device`, and goes on from a checkpoint of either on the other: all four come to the same, to
/// rounding. `flags` name a model without dropout, whose masks depend on the backend.
#[track_caller]
pub fn moves_between_the_cpu_and(device: &str, flags: &str) {
    let scratch = Scratch::new();
    let run = |folder: &str, device: &str| {
        scratch.run(folder, &format!("{flags} --max_steps 6 --logging_steps 1 --do_eval --device {device}")).ok();
    };
    run("cpu", "cpu");
    run("other", device);
    scratch.copy_checkpoint("cpu", "cpu-other", 3);
    run("cpu-other", device);
    scratch.copy_checkpoint("other", "other-cpu", 3);
    run("other-cpu", "cpu");
    let losses = |folder: &str| -> Vec<f64> {
        let history = scratch.history(folder);
        history.iter().flat_map(|record| [&record["loss"], &record["eval_loss"]]).filter_map(Value::as_f64).collect()
    };
    let expected = losses("cpu");
    assert_eq!(expected.len(), 7, "{expected:?}");
    for folder in ["other", "cpu-other", "other-cpu"] {
        let found = losses(folder);
        assert_eq!(found.len(), expected.len(), "{folder}: {found:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4 * expected, "{folder}: loss {found}, on the CPU {expected}");
        }
    }
}

/// A path below the folder of crates.
fn fixtures(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates").join(path).display().to_string()
}

fn timeless(mut record: Value) -> Value {
    let fields = record.as_object_mut().expect("an object");
    fields.retain(|name, _| !["second", "runtime", "memory"].iter().any(|part| name.contains(part)));
    record
}

/// Copies a file or a folder.
pub fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).expect("copied");
        return;
    }
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("an entry");
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}
