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
    // Another than the default.
    if row.flag == "--lora_init" {
        return "gaussian".into();
    }
    let first_choice = row.text.split_once("One of ").and_then(|(_, choices)| choices.split([',', '.']).next());
    match (row.flag.as_str(), row.type_name.as_str()) {
        ("--metric_for_best_model", _) => "loss".into(),
        ("--report_to", _) => "none".into(),
        ("--lr_scheduler_type", _) => "cosine".into(),
        ("--train_sampling_strategy", _) => "sequential".into(),
        ("--lr_scheduler_kwargs", _) => "{}".into(),
        ("--train_file" | "--validation_file", _) => "absent.txt".into(),
        ("--max_steps", _) => "1".into(),
        ("--hub_strategy", _) => "end".into(),
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
        "--shuffle_buffer_size" => &["--streaming", "--max_steps", "1"],
        "--load_best_model_at_end" | "--early_stopping_patience" => &["--eval_strategy", "steps"],
        "--lora_r"
        | "--lora_alpha"
        | "--lora_dropout"
        | "--lora_target_modules"
        | "--lora_bias"
        | "--lora_modules_to_save"
        | "--use_rslora"
        | "--lora_init"
        | "--merge_lora" => &["--use_lora"],
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
    let text: &[&str] = match words {
        ["--dataset_name", ..] => &[],
        ["--dataset_config_name" | "--dataset_revision" | "--train_split" | "--validation_split", ..] => {
            &["--dataset_name", "./absent"]
        }
        _ => &["--train_file", "absent.txt"],
    };
    Command::new(env!("CARGO_BIN_EXE_run_mlm"))
        .current_dir(folder)
        .env("HF_HUB_OFFLINE", "1")
        .args(model)
        .args(text)
        .args(["--do_train", "--output_dir", "out"])
        .args(words)
        .output()
        .expect("the program starts")
}

#[test]
fn no_arguments_are_answered_with_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_run_mlm")).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    assert_eq!(said.matches("  run_mlm --").count(), 3, "{said}");
    assert!(!said.contains("error") && said.contains("--do_train"), "{said}");
}

/// What is said of flags that train nothing, beside `--do_train`.
fn beside_training(flag: &str) -> Option<&'static str> {
    match flag {
        "--compare" => Some("--compare needs two output folders"),
        "--fill" | "--generate" | "--score" => Some("are runs of their own"),
        "--score_output" => Some("--score_output needs --score"),
        _ => None,
    }
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
        } else if let Some(says) = beside_training(&row.flag) {
            assert_eq!(output.status.code(), Some(2), "{words:?}: {message}");
            assert!(message.contains(says), "{words:?}: {message}");
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

fn printed(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_run_mlm")).args(words).output().expect("the program starts");
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn completions_of_every_shell_know_the_flags() {
    for (shell, words) in [
        ("bash", ["--learning_rate", "complete -F _run_mlm"]),
        ("zsh", ["'--learning_rate=[Highest learning rate.]", "#compdef run_mlm"]),
        ("fish", ["-l learning_rate -d 'Highest learning rate.'", "complete -c run_mlm"]),
        ("powershell", ["'--learning_rate'", "Register-ArgumentCompleter -Native -CommandName 'run_mlm'"]),
    ] {
        let script = printed(&["--completions", shell]);
        assert_eq!(script, printed(&[&format!("--completions={shell}")]));
        assert!(words.iter().all(|word| script.contains(word)), "{shell}: {script}");
        assert!(!script.contains("tpu_num_cores"), "{shell}: what is refused is not offered");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_run_mlm")).args(["--completions", "tcsh"]).output().expect("a start");
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(line.contains("--completions: expected one of bash,") && line.contains("found 'tcsh'"), "{line}");
}

/// What bash offers behind `run_mlm WORDS` once it has read the completions.
#[test]
fn bash_completes_flags_and_their_values() {
    if Command::new("bash").arg("--version").output().is_err() {
        return crate::not_tested("there is no bash");
    }
    let completed = |words: &str| {
        let script = format!(
            "source /dev/stdin || exit 3; COMP_WORDS=(run_mlm {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
             _run_mlm run_mlm \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[*]}}\""
        );
        let mut bash = Command::new("bash")
            .args(["--norc", "-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("bash starts");
        let completions = printed(&["--completions", "bash"]);
        std::io::Write::write_all(&mut bash.stdin.take().expect("its input"), completions.as_bytes()).expect("read");
        let output = bash.wait_with_output().expect("bash ends");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    };
    assert_eq!(completed("--learning"), "--learning_rate");
    assert_eq!(completed("--eval_strategy ''"), "no steps epoch");
}

#[test]
fn the_man_page_has_every_supported_flag() {
    let page = printed(&["--man_page"]).replace("\\-", "-");
    assert!(page.contains(".TH run_mlm 1") && page.contains(".SH SYNOPSIS"), "{page}");
    for row in rows().iter().filter(|row| row.status == "supported") {
        assert!(page.contains(&format!("\\fB{}\\fR", row.flag)), "{}", row.flag);
    }
}

/// Piped, help has a fixed width; on a terminal it has the terminal's.
#[cfg(target_os = "linux")]
#[test]
fn help_fits_the_terminal() {
    let widest = |text: &str| text.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or(0);
    assert!((70..=80).contains(&widest(&printed(&["-h"]))));
    let program = env!("CARGO_BIN_EXE_run_mlm");
    for columns in [60, 100] {
        let line = format!("stty cols {columns} rows 24; '{program}' --help");
        let Ok(output) = Command::new("script").args(["-qec", &line, "/dev/null"]).output() else {
            return crate::not_tested("there is no `script` to give the program a terminal");
        };
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        assert!(output.status.success() && text.contains("--learning_rate"), "{text}");
        assert!((columns - 15..=columns).contains(&widest(&text)), "{columns}: {text}");
    }
}
