//! Every family of a program, small: from scratch, saved, resumed, and continued prompts where there are some.

use std::fs;

use lm_models::models::FAMILIES;
use lm_models::{Task, config::Family};
use serde_json::{Value, json};

use crate::common::{Scratch, fixture};

/// Small sizes of each family, with which Python made the models that new ones are compared with.
fn configs() -> Vec<Value> {
    let text = fs::read(fixture("initial/initial.json")).expect("the fixture");
    let mut expected: Value = serde_json::from_slice(&text).expect("JSON");
    let Value::Array(models) = expected["models"].take() else { panic!("no models") };
    models
}

/// Trains each family of `task` for four steps, with these words besides.
pub fn every_family(task: Task, words: &str) {
    let scratch = Scratch::new();
    scratch.text("train.txt", 12);
    scratch.text("valid.txt", 4);
    scratch.write("prompts.txt", "line 3 tells\n");
    scratch.write("lines.txt", "line 3\n\nline 3 tells of ships\n");
    let configs = configs();
    for family in FAMILIES.iter().filter(|family| family.task == task) {
        let config = configs.iter().find(|config| config["model_type"] == family.model_type);
        let config = config.unwrap_or_else(|| panic!("no small sizes of `{}`", family.model_type));
        one_family(&scratch, family, config["config"].clone(), words);
    }
}

fn one_family(scratch: &Scratch, family: &Family, mut config: Value, words: &str) {
    let name = family.model_type;
    config["model_type"] = json!(name);
    config["vocab_size"] = json!(290);
    scratch.write(&format!("{name}.json"), config.to_string());
    let run = |folder: &str, more: &str| {
        let ran = scratch.run(&format!(
            "--config_name {name}.json --train_tokenizer 290 --train_file train.txt --validation_file valid.txt --do_train \
             --do_eval --max_steps 4 --save_steps 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 2 \
             --logging_steps 1 --output_dir {folder} {words} {more}"
        ));
        ran.done()
    };
    let whole = format!("{name}-whole");
    run(&whole, "");
    let saved = scratch.json(&format!("{whole}/config.json"));
    assert_eq!([&saved["model_type"], &saved["architectures"][0]], [name, family.class], "{saved}");
    let results = scratch.json(&format!("{whole}/all_results.json"));
    for figure in ["train_loss", "eval_loss", "total_flos"] {
        assert!(results[figure].as_f64().is_some_and(|value| value > 0.0), "{name}: {figure} in {results}");
    }
    let parts = format!("{name}-parts");
    let ran = run(&parts, &format!("--resume_from_checkpoint {whole}/checkpoint-2"));
    assert!(ran.stderr.contains("checkpoint-2"), "{name}: {}", ran.stderr);
    let weights = |folder: &str| fs::read(scratch.path(&format!("{folder}/model.safetensors"))).expect("weights");
    assert!(weights(&whole) == weights(&parts), "{name}: the resumed run ends with other weights");
    // The saved folder is a model with its tokenizer, and goes on with texts if it can.
    let sampled = match family.task {
        Task::Clm => "--sample_prompts prompts.txt --max_new_tokens 6",
        _ => "",
    };
    let ran = scratch.run(&format!(
        "--model_name_or_path {whole} --validation_file valid.txt --do_eval --output_dir {name}-evaluated {words} {sampled}"
    ));
    let ran = ran.done();
    assert!(!ran.stderr.contains("newly initialized") && !ran.stderr.contains("not used"), "{name}: {}", ran.stderr);
    let again = scratch.json(&format!("{name}-evaluated/eval_results.json"));
    let difference = |loss: &Value| (loss.as_f64().unwrap_or(f64::NAN) - results["eval_loss"].as_f64().unwrap()).abs();
    assert!(difference(&again["eval_loss"]) < 1e-6, "{name}: {again} {results}");
    if family.task == Task::Clm {
        let sample = ran.stdout.lines().find(|line| line.starts_with("  1  ")).unwrap_or_default();
        assert!(sample.contains("line 3 tells"), "{name}: {}", ran.stdout);
    }
    let [alone, together] = [1, 8].map(|size| scores(scratch, &format!("{whole} {words}"), size));
    assert!(alone.len() == 3 && alone[1].is_none_or(|score| score == 0.0), "{name}: {alone:?}");
    let close = |(one, other): (&Option<f64>, &Option<f64>)| match (one, other) {
        (Some(one), Some(other)) => *one < 1.0 && (one - other).abs() <= 1e-5 * one.abs(),
        _ => false,
    };
    assert!(alone.iter().zip(&together).all(close), "{name}: {alone:?} {together:?}");
}

/// The log-likelihoods of lines.txt, so many sequences at once.
fn scores(scratch: &Scratch, words: &str, batch_size: usize) -> Vec<Option<f64>> {
    let words = format!("--score lines.txt --per_device_eval_batch_size {batch_size} --model_name_or_path {words}");
    let ran = scratch.run(&words.replace("--line_by_line", "")).done();
    let row = |line: &str| -> Value { serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")) };
    let score = |row: Value| row["log_likelihood"].as_f64().or(row["pseudo_log_likelihood"].as_f64());
    ran.stdout.lines().map(row).map(score).collect()
}
