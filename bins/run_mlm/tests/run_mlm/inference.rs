//! A model in use, without training. What all three programs do with `--score` is here; inference.json has Python's figures.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{Run, Scratch, fixture, workspace};

/// What Python computed.
pub fn expected() -> Value {
    let path = workspace().join("crates/lm-train/tests/fixtures/inference.json");
    serde_json::from_slice(&std::fs::read(path).expect("the fixture")).expect("JSON")
}

/// The fixture of this name with the tiny tokenizer, as a folder of its own.
pub fn model(name: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.tokenizer("model", 200);
    for file in ["config.json", "model.safetensors"] {
        let bytes = std::fs::read(fixture(&format!("models/{name}")).join(file)).expect("the fixture");
        scratch.write(&format!("model/{file}"), bytes);
    }
    scratch
}

/// Runs the program with these words and with `input` as its standard input.
pub fn run_on(scratch: &Scratch, words: &[&str], input: &str) -> Run {
    let mut command: Command = scratch.command();
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that fails early does not read all.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("the program ends").into()
}

/// `--score` of the fixture's lines: as Python computes them, in a file or on standard output, from a file or standard input,
/// in batches of any size; nothing else is written.
#[track_caller]
pub fn scores_are_pythons(name: &str, names: [&str; 2], summary: &str) {
    let (scratch, expected) = (model(name), expected());
    let lines: Vec<&str> = expected["lines"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    scratch.write("lines.txt", lines.join("\n") + "\n");
    let before = scratch.list(".");
    let words = "--model_name_or_path model --per_device_eval_batch_size";
    let ran = scratch.run(&format!("{words} 8 --score lines.txt")).done();
    assert_eq!(scratch.list("."), before, "nothing is written");
    assert!(ran.stderr.contains(&format!("scored {} lines, ", lines.len())), "{}", ran.stderr);
    assert!(ran.stderr.contains(summary), "{}", ran.stderr);
    let rows: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), lines.len(), "{}", ran.stdout);
    for ((line, row), expected) in lines.iter().zip(&rows).zip(expected["scores"][name].as_array().expect("a list")) {
        assert_eq!(row["text"], *line);
        assert_eq!(row["tokens"], expected[0], "{row}");
        let (tokens, log_likelihood) =
            (expected[0].as_f64().expect("a number"), expected[1].as_f64().expect("a number"));
        let found = row[names[0]].as_f64().expect("a log-likelihood");
        assert!((found - log_likelihood).abs() <= 2e-6 * log_likelihood.abs(), "{row} {expected}");
        if tokens == 0.0 {
            assert!(row[names[1]].is_null(), "{row}");
            continue;
        }
        let perplexity = (-log_likelihood / tokens).exp();
        assert!((row[names[1]].as_f64().expect("a perplexity") - perplexity).abs() < 1e-4 * perplexity, "{row}");
    }

    let in_threes = scratch.run(&format!("{words} 3 --score lines.txt --score_output scores.jsonl")).done();
    assert_eq!(in_threes.stdout, "");
    let close = |one: &Value, other: &Value| {
        let [one, other] = [one, other].map(|row| row[names[0]].as_f64().expect("a log-likelihood"));
        (one - other).abs() <= 1e-6 * one.abs()
    };
    let written = scratch.json_lines("scores.jsonl");
    assert!(written.len() == rows.len() && written.iter().zip(&rows).all(|(a, b)| close(a, b)), "{written:?}");
    let piped = run_on(&scratch, &["--model_name_or_path", "model", "--score", "-"], &lines.join("\n")).done();
    assert_eq!(piped.stdout, ran.stdout, "a last line needs no line break");
}

/// What can be wrong with a file to score, and with what is asked for beside it.
#[track_caller]
pub fn what_can_be_wrong_with_a_score(name: &str) {
    let scratch = model(name);
    let words = "--model_name_or_path model --score";
    scratch.run(&format!("{words} absent.txt")).fails(1, &["--score absent.txt"]);
    scratch.run(&format!("{words} model")).fails(1, &["--score model", "a folder"]);
    scratch.write("bytes.txt", [&b"fine\n".repeat(70)[..], b"\xff\n"].concat());
    let ran = scratch.run(&format!("{words} bytes.txt --score_output scores.jsonl"));
    ran.fails(1, &["bytes.txt:71: ", "UTF-8"]);
    assert!(!scratch.path("scores.jsonl").exists(), "a file is whole or absent");
    scratch.write("lines.txt", "one\n");
    for (more, part) in [("lines.txt", "this run reads that file"), ("model/config.json", "this run reads that file")] {
        scratch.run(&format!("{words} lines.txt --score_output {more}")).fails(2, &["--score_output", part]);
    }
    scratch
        .run(&format!("{words} lines.txt --score_output absent/scores.jsonl"))
        .fails(1, &["there is no folder absent"]);
    for flag in ["--do_train --train_file lines.txt", "--do_eval", "--plan", "--preview 1", "--merge_lora"] {
        let name = flag.split(' ').next().expect("a word");
        scratch.run(&format!("{words} lines.txt {flag}")).fails(2, &["--score", name, "give one of them"]);
    }
    scratch.run("--model_type bert --score lines.txt").fails(2, &["--score", "--model_name_or_path"]);
    scratch.run("--model_name_or_path model --score_output lines.txt").fails(2, &["--score_output needs --score"]);
    // What has no effect is noted, and the run goes on.
    let ran = scratch.run(&format!("{words} lines.txt --learning_rate 1 --output_dir out --seed 3")).done();
    assert!(
        ran.stderr.contains("without effect beside --score: --output_dir, --learning_rate, --seed"),
        "{}",
        ran.stderr
    );
    assert!(!scratch.path("out").exists());
}
