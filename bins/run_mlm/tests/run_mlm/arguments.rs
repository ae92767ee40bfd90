//! Reads the tables of `docs/arguments.md` and tries every argument on the program: what the page calls refused ends it
//! with exit code 2 and the reason, everything else is accepted (the run then fails for want of its files: exit code 1).

use std::path::Path;
use std::process::{Command, Output};

/// One row of the page.
struct Row {
    flag: String,
    type_name: String,
    default: String,
    status: String,
    text: String,
}

fn rows() -> Vec<Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/arguments.md");
    let page = std::fs::read_to_string(page).expect("docs/arguments.md");
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| `--")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let is_status = |cell: &&str| ["supported", "same by nature", "refused"].contains(cell);
        let Some(at) = cells.iter().position(is_status) else { panic!("{line}") };
        // Between the default and the status there may be the defaults of Python's versions.
        let ([argument, type_name, default, ..], status, text) = (&cells[..at], cells[at], cells[at + 1..].join("|"))
        else {
            panic!("{line}")
        };
        let (flag, programs) = argument.trim_start_matches('`').split_once('`').expect("a flag in code quotes");
        if programs.is_empty() || programs.contains("run_mlm") {
            rows.push(Row {
                flag: flag.into(),
                type_name: (*type_name).into(),
                default: default.trim_matches(['`', '"']).into(),
                status: status.into(),
                text,
            });
        }
    }
    rows
}

/// A value that differs from the default.
fn value(row: &Row) -> String {
    let first_choice = row.text.split_once("One of ").and_then(|(_, choices)| choices.split([',', '.']).next());
    match (row.flag.as_str(), row.type_name.as_str()) {
        ("--metric_for_best_model", _) => "loss".into(),
        ("--report_to", _) => "none".into(),
        ("--lr_scheduler_type", _) => "cosine".into(),
        ("--train_sampling_strategy", _) => "sequential".into(),
        ("--lr_scheduler_kwargs", _) => "{}".into(),
        ("--train_file" | "--validation_file", _) => "absent.txt".into(),
        ("--max_steps", _) => "1".into(),
        ("--device" | "--devices", _) => "cpu".into(),
        ("--model_type", _) => "bert".into(),
        ("--config_overrides", _) => "hidden_size=48".into(),
        (_, "bool") => (if row.default == "true" { "false" } else { "true" }).into(),
        (_, "int") => "3".into(),
        (_, "float") => "0.5".into(),
        (_, "dict") => "{\"key\": 1}".into(),
        _ => first_choice.unwrap_or("word").into(),
    }
}

/// The arguments that make sense only beside others, which stand here.
fn companions(flag: &str) -> &'static [&'static str] {
    match flag {
        "--streaming" => &["--max_steps", "1"],
        "--load_best_model_at_end" | "--early_stopping_patience" => &["--eval_strategy", "steps"],
        "--dataloader_prefetch_factor" => &["--dataloader_num_workers", "1"],
        _ => &[],
    }
}

fn run(folder: &Path, words: &[&str]) -> Output {
    let scratch: &[&str] = &["--tokenizer_name", "./absent", "--model_type", "bert"];
    let trained: &[&str] = &["--model_name_or_path", "./absent"];
    let model = match words {
        ["--config_overrides" | "--model_type", ..] => scratch,
        ["--train_tokenizer", ..] => &scratch[2..],
        _ => trained,
    };
    Command::new(env!("CARGO_BIN_EXE_run_mlm"))
        .current_dir(folder)
        .env("HF_HUB_OFFLINE", "1")
        .args(model)
        .args(["--train_file", "absent.txt", "--do_train", "--output_dir", "out"])
        .args(words)
        .output()
        .expect("the program starts")
}

#[test]
fn no_arguments_are_answered_with_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_run_mlm")).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    assert_eq!(said.matches("  run_mlm --").count(), 2, "{said}");
    assert!(!said.contains("error") && said.contains("--do_train"), "{said}");
}

#[test]
fn every_argument_does_what_the_page_says() {
    let folder = std::env::temp_dir().join(format!("run_mlm_arguments_{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let rows = rows();
    assert!(rows.len() > 160, "only {} rows", rows.len());
    for row in &rows {
        let value = value(row);
        let words = [&[row.flag.as_str(), value.as_str()], companions(&row.flag)].concat();
        let output = run(&folder, &words);
        let message = String::from_utf8_lossy(&output.stderr);
        if row.status == "refused" {
            let (_, why) = row.text.rsplit_once(" — ").expect("a refused argument has a reason");
            assert_eq!(output.status.code(), Some(2), "{words:?}: {message}");
            assert!(message.contains(&row.flag) && message.contains(why), "{words:?}: {message}");
            assert_eq!(message.trim_end().lines().count(), 1, "{words:?}: {message}");
        } else if row.flag == "--tf32" {
            // Supported, but not by the processor.
            assert_eq!(output.status.code(), Some(2), "{words:?}: {message}");
            assert!(message.contains("name --device libtorch:cuda"), "{words:?}: {message}");
        } else {
            assert_eq!(output.status.code(), Some(1), "{words:?}: {message}");
        }
    }
    std::fs::remove_dir_all(&folder).expect("the test's folder can go");
}
