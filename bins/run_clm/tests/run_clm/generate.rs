//! `run_clm --generate`, and `--score` of a causal model.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use crate::common::Scratch;
use crate::inference::{expected, model, run_on, scores_are_pythons, what_can_be_wrong_with_a_score};

#[test]
fn a_causal_model_scores_as_in_python() {
    scores_are_pythons("gpt2", ["log_likelihood", "perplexity"], "tokens: perplexity ");
    what_can_be_wrong_with_a_score("gpt2");
}

const GENERATE: [&str; 5] = ["--model_name_or_path", "model", "--max_new_tokens", "12", "--generate"];

fn generate(scratch: &Scratch, text: &str, words: &[&str]) -> String {
    scratch.run_with(&[&GENERATE, &[text][..], words].concat()).done().stdout
}

#[test]
fn texts_are_continued_as_in_python() {
    let (scratch, expected) = (model("gpt2"), expected());
    let mut all = Vec::new();
    for pair in expected["generate"].as_array().expect("a list") {
        let [prompt, continuation] = [&pair[0], &pair[1]].map(|text| text.as_str().expect("a text"));
        let whole = format!("{prompt}{continuation}\n");
        assert_eq!(generate(&scratch, prompt, &["--temperature", "0"]), whole);
        all.push((prompt, whole));
    }
    assert_eq!(scratch.list("."), ["model"], "nothing is written");
    let input: String = all.iter().map(|(prompt, _)| format!("{prompt}\n\n")).collect();
    let piped = run_on(&scratch, &[&GENERATE, &["-", "--temperature", "0"][..]].concat(), &input).done();
    assert_eq!(piped.stdout, all.iter().map(|(_, whole)| whole.as_str()).collect::<Vec<_>>().join("\n"));
}

#[test]
fn sampling_follows_its_flags() {
    let scratch = model("gpt2");
    let drawn = generate(&scratch, "Once", &[]);
    assert!(drawn.starts_with("Once") && drawn.ends_with('\n'), "{drawn}");
    assert_eq!(generate(&scratch, "Once", &[]), drawn, "the same seed gives the same text");
    assert_ne!(generate(&scratch, "Once", &["--seed", "1"]), drawn);
    let greedy = generate(&scratch, "Once", &["--temperature", "0"]);
    assert_ne!(drawn, greedy);
    for words in [["--top_k", "1"], ["--top_p", "0.000001"]] {
        assert_eq!(generate(&scratch, "Once", &words), greedy);
    }
    // Equal lines are continued in different ways, the first as if it were alone.
    let piped = run_on(&scratch, &[&GENERATE, &["-"][..]].concat(), "Once\nOnce\n").done();
    let (first, second) = piped.stdout.split_once("\n\n").expect("two texts");
    assert_eq!(format!("{first}\n"), drawn);
    assert_ne!(second, drawn);
    assert!(second.starts_with("Once"));
}

#[test]
fn an_adapter_continues_texts_as_the_model_merged_from_it() {
    let scratch = model("gpt2");
    scratch.write("train.txt", "Once upon a time there was a clock that told of ships.\n".repeat(40));
    scratch.write("prompts.txt", "Once\n");
    let words = "--model_name_or_path model --use_lora --train_file train.txt --validation_file train.txt --block_size 16 \
                 --do_train --max_steps 4 --learning_rate 0.1 --eval_strategy steps --eval_steps 2 --max_eval_samples 4 \
                 --sample_prompts prompts.txt --max_new_tokens 6 --base_dtype bfloat16 --output_dir adapter";
    scratch.run(words).done();
    let log = scratch.json_lines("adapter/log.jsonl");
    let samples: Vec<&str> = log.iter().filter_map(|record| record["sample_1"].as_str()).collect();
    assert!(samples.len() == 2 && samples.iter().all(|sample| sample.to_lowercase().contains("once")), "{samples:?}");
    scratch.run("--model_name_or_path adapter --merge_lora --output_dir merged").done();
    let continued = |folder: &str| {
        let words =
            ["--model_name_or_path", folder, "--max_new_tokens", "12", "--temperature", "0", "--generate", "Once"];
        scratch.run_with(&words).done().stdout
    };
    assert_eq!(continued("adapter"), continued("merged"));
    assert_ne!(continued("adapter"), continued("model"), "the adapter changes nothing");
}

/// A text is printed while it grows, and a line is answered before the next one is asked for.
#[test]
fn lines_are_answered_as_they_come() {
    let scratch = model("gpt2");
    let mut command = scratch.command();
    command.args(GENERATE).args(["-", "--temperature", "0"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
    let (mut stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut answers = BufReader::new(stdout);
    let mut answer = String::new();
    stdin.write_all(b"Once\n").expect("written");
    answers.read_line(&mut answer).expect("read");
    assert!(answer.starts_with("Once"), "{answer}");
    stdin.write_all(b"upon\n").expect("written");
    drop(stdin);
    answer.clear();
    answers.read_to_string(&mut answer).expect("read");
    assert!(answer.starts_with("\nupon"), "{answer}");
    assert!(child.wait().expect("ended").success());
}

/// Nobody reads on: the end of the program, and no failure.
#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_it() {
    let scratch = model("gpt2");
    scratch.write("lines.txt", "a line\n".repeat(100_000));
    for words in [&[&GENERATE, &["-"][..]].concat()[..], &["--model_name_or_path", "model", "--score", "lines.txt"]] {
        let mut command = scratch.command();
        let input = std::fs::File::open(scratch.path("lines.txt")).expect("the file");
        let mut child = command.args(words).stdin(input).stdout(Stdio::piped()).spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("read");
        assert!(line.contains("a line"), "{line}");
        assert!(child.wait().expect("ended").success());
    }
}

#[test]
fn what_can_be_wrong() {
    let scratch = model("gpt2");
    let generate = |text: &str, words: &[&str]| scratch.run_with(&[&GENERATE, &[text][..], words].concat());
    generate("", &[]).fails(1, &["--generate", "empty prompt"]);
    generate(&"a ".repeat(70), &[]).fails(1, &["--generate", "at most 66", "shorten the prompt"]);
    generate("a", &["--temperature", "-1"]).fails(2, &["--temperature"]);
    generate("a", &["--do_eval"]).fails(2, &["--generate and --do_eval"]);
    let ran = run_on(&scratch, &[&GENERATE, &["-"][..]].concat(), &format!("a\n{}\n", "a ".repeat(70)));
    ran.fails(1, &["standard input:2: ", "at most 66"]);
    scratch.run("--generate a").fails(2, &["--generate", "--model_name_or_path"]);
}
