//! Words that are read, and words that are not.

mod pages;
mod printed;
mod python;
mod rules;

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::value::Arity;
use super::*;
use crate::optim::OptimizerNames;

/// The least that a run needs, so that a test adds only what it is about.
const LEAST: &[&str] = &["--model_name_or_path", "m", "--train_file", "t.txt", "--do_train", "--output_dir", "o"];

fn parse_words(task: Task, words: &[&str]) -> Result<Parsed, ArgsError> {
    parse(task, words.iter().map(Into::into))
}

fn run(task: Task, words: &[&str]) -> Arguments {
    match parse_words(task, &[LEAST, words].concat()) {
        Ok(Parsed::Run(args)) => *args,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// The line that the user reads.
fn error(task: Task, words: &[&str]) -> String {
    let line = match parse_words(task, &[LEAST, words].concat()) {
        Err(error) => error.to_string(),
        other => panic!("{words:?}: {other:?}"),
    };
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn what_changes_nothing_is_noted() {
    let args = run(Task::Mlm, &["--torch_compile", "--dataloader_pin_memory", "true"]);
    assert!(args.notes.iter().any(|note| note.starts_with("--torch_compile changes nothing here")));
    assert!(!args.notes.iter().any(|note| note.contains("pin_memory")), "its default needs no note");
}

#[test]
fn bools_are_read_as_python_reads_them() {
    let streaming = |words: &[&str]| run(Task::Mlm, words).data.line_by_line;
    assert!(streaming(&["--line_by_line"]) && streaming(&["--line-by-line"]));
    for (words, value) in [("true", true), ("False", false), ("YES", true), ("n", false), ("1", true), ("f", false)] {
        assert_eq!(streaming(&["--line_by_line", words]), value);
        assert_eq!(streaming(&[&format!("--line_by_line={words}")]), value);
    }
    let args = run(Task::Mlm, &["--no_use_fast_tokenizer", "--no-dataloader-pin-memory"]);
    assert!(!args.model.use_fast_tokenizer && !args.training.dataloader_pin_memory);
    assert!(error(Task::Mlm, &["--line_by_line", "maybe"]).contains("expected true or false, found 'maybe'"));
    assert!(error(Task::Mlm, &["--no_use_fast_tokenizer=yes"]).contains("takes no value"));
    // Only bools that are on by default have a negation.
    assert!(error(Task::Mlm, &["--no_line_by_line"]).contains("unknown flag --no_line_by_line"));
}

#[test]
fn numbers_lists_and_objects() {
    let args = run(
        Task::Mlm,
        &[
            "--max_steps",
            "-1",
            "--learning_rate=1e-3",
            "--warmup-ratio",
            ".1",
            "--train_file",
            "a.txt",
            "b.txt",
            "--seed",
            "7",
            "--gradient_checkpointing_kwargs",
            r#"{"num_cycles": "2", "x": {"y": "True"}, "z": "0.5"}"#,
            "--label_names",
            "labels",
            "other",
        ],
    );
    assert_eq!(args.training.max_steps, -1);
    assert_eq!(args.training.learning_rate, 1e-3);
    assert_eq!(args.training.warmup_ratio, 0.1);
    assert_eq!(args.data.train_file, Some(Files(vec!["a.txt".into(), "b.txt".into()])));
    assert_eq!(
        args.training.gradient_checkpointing_kwargs.map(|kwargs| Json::Object(kwargs.0)),
        Some(json!({"num_cycles": 2, "x": {"y": true}, "z": 0.5}))
    );
    assert_eq!(args.training.label_names, Some(vec!["labels".into(), "other".into()]));
    for (words, part) in [
        (["--max_steps", "ten"], "expected an integer, found 'ten'"),
        (["--learning_rate", "nan"], "expected a finite number"),
        (["--per_device_train_batch_size", "-4"], "expected an integer that is not negative"),
        (["--logging_steps", "-5"], "expected a number of steps"),
        (["--eval_strategy", "often"], "expected one of no, steps, epoch, found 'often'"),
        (["--optim", "lomo"], "'lomo' is not supported by this program; expected one of adamw_torch"),
        (["--lr_scheduler_kwargs", "{num_cycles: 2}"], "is not JSON"),
        (["--lr_scheduler_kwargs", "absent.json"], "reading 'absent.json' as a file"),
        (["--seed", "--do_eval"], "--seed: expected an integer that is not negative, found nothing"),
    ] {
        let line = error(Task::Mlm, &words);
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn later_flags_win_and_beginnings_are_enough() {
    let args = run(Task::Clm, &["--max_steps", "5", "--max_step=9", "--block", "64"]);
    assert_eq!((args.training.max_steps, args.data.block_size), (9, Some(64)));
    let line = error(Task::Mlm, &["--lr_sch", "1"]);
    assert!(line.contains("--lr_sch could mean --lr_scheduler_type, --lr_scheduler_kwargs"), "{line}");
    // A flag beyond Python does not make a beginning ambiguous that is clear in Python.
    assert_eq!(run(Task::Mlm, &["--data_s", "3"]).training.data_seed, Some(3));
}

/// What clap is given is spelled out before: `words`.
#[test]
fn what_people_write_is_spelled_out_for_clap() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, r#"{"max_steps": 5, "label_names": ["x"], "train_file": ["-a.txt", "b.txt"]}"#);
    let args = run(Task::Mlm, &["--max-train_samples", "3", "--learning-rate=-0", &path]);
    assert_eq!((args.data.max_train_samples, args.training.learning_rate), (Some(3), 0.0));
    // A list ends where the argument file stands; a flag that may stand alone leaves it alone.
    let args = run(Task::Mlm, &["--label_names", "a", "b", &path, "--group-by-length", "False"]);
    assert_eq!(args.training.label_names, Some(vec!["a".into(), "b".into()]));
    assert_eq!((args.training.max_steps, args.training.group_by_length), (5, false));
    assert!(run(Task::Mlm, &["--do_eval", &path]).training.do_eval);
    // What begins with a dash is a value where it is a number, a text with blanks, attached, or in a file.
    let args = run(Task::Mlm, &["--run_name", "-a run", "--model_revision=-b", "--save_total_limit", "-1"]);
    assert_eq!(args.training.run_name.as_deref(), Some("-a run"));
    assert_eq!((args.model.model_revision.as_str(), args.training.save_total_limit), ("-b", Some(-1)));
    let words = ["--model_name_or_path", "m", "--do_train", &path];
    let Ok(Parsed::Run(args)) = parse_words(Task::Mlm, &words) else { panic!() };
    assert_eq!(args.data.train_file, Some(Files(vec!["-a.txt".into(), "b.txt".into()])));
    // The later one of a flag and its negation counts.
    assert!(!run(Task::Mlm, &["--remove_unused_columns", "--no_remove_unused_columns"]).training.remove_unused_columns);
    assert!(run(Task::Mlm, &["--no_remove_unused_columns", "--remove_unused_columns"]).training.remove_unused_columns);
}

#[test]
fn unknown_flags_suggest_the_nearest() {
    for (words, part) in [
        ("--learning_rte", "did you mean --learning_rate?"),
        ("--evaluation_strategy", "did you mean --eval_strategy?"),
        ("--torch_dtype", "did you mean --dtype?"),
        ("--batch_size", "did you mean --per_device_train_batch_size or"),
        ("--bathc_size", "did you mean --per_device_train_batch_size or --per_device_eval_batch_size?"),
        ("--bs", "did you mean --per_device_train_batch_size or"),
        ("--train_batch_sizes", "did you mean --per_device_train_batch_size?"),
        ("--per_device_batch_size", "did you mean --per_device_train_batch_size or --per_device_eval_batch_size?"),
        ("--eval_data", "did you mean --validation_file?"),
        ("--checkpoints_dir", "did you mean --output_dir or --resume_from_checkpoint?"),
        ("--lr", "did you mean --learning_rate?"),
        ("--epochs", "did you mean --num_train_epochs?"),
        ("--epcohs", "did you mean --num_train_epochs?"),
        ("--max_length", "did you mean --max_seq_length?"),
        ("--seq-len", "did you mean --max_seq_length?"),
        ("--modle_name_or_path", "did you mean --model_name_or_path?"),
        ("--trian_file", "did you mean --train_file?"),
        ("--eval_step_size", "did you mean --eval_steps?"),
        ("--zzz", "run_mlm --help lists them all"),
        ("-b", "flags begin with two dashes"),
        ("--block_size", "--block_size belongs to run_clm: run_mlm does not have it; its own is --max_seq_length"),
        ("stray", "'stray' belongs to no flag"),
    ] {
        let line = error(Task::Mlm, &[words, "1"]);
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn words_that_are_not_unicode() {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let word = std::ffi::OsString::from_vec(vec![b'-', b'-', 0xff]);
        assert!(matches!(parse(Task::Mlm, [word]), Err(ArgsError::NotUnicode(_))));
    }
}

fn file(dir: &tempfile::TempDir, text: &str) -> String {
    let path = dir.path().join("args.json");
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn flags_override_the_argument_file_wherever_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(
        &dir,
        r#"{"model_type": "bert", "tokenizer_name": "t", "train_file": ["a.txt", "b.txt"], "do_train": true, "max_steps": 5,
            "learning_rate": 1, "eval_steps": 0.5, "report_to": "none", "lr_scheduler_kwargs": {"num_cycles": 1}, "lr_scheduler_type": "cosine", "tf32": null,
            "include_num_input_tokens_seen": "non_padding", "resume_from_checkpoint": true, "output_dir": "o"}"#,
    );
    let path = path.as_str();
    for words in [
        vec![path, "--max_steps", "9", "--do_eval"],
        vec!["--max_steps", "9", path, "--do_eval"],
        vec!["--max_steps", "9", "--do_eval", path],
        vec!["--do_eval", "--max_steps", "9", "--", path],
    ] {
        let Ok(Parsed::Run(args)) = parse_words(Task::Mlm, &words) else { panic!("{words:?}") };
        assert_eq!(args.training.max_steps, 9);
        assert!(args.training.do_eval && args.training.do_train);
        assert_eq!(args.data.train_file, Some(Files(vec!["a.txt".into(), "b.txt".into()])));
        assert_eq!(args.training.resume_from_checkpoint, Some(Resume::Newest));
        assert_eq!(args.training.include_num_input_tokens_seen, TokenCount::NonPadding);
        assert_eq!(args.training.learning_rate, 1.0);
        assert!(!args.training.reports_to("tensorboard"));
    }
    assert!(error(Task::Mlm, &[path, path]).contains("second argument file"));
}

#[test]
fn a_wrong_argument_file_is_named_with_the_key() {
    let dir = tempfile::tempdir().unwrap();
    for (text, part) in [
        (r#"{"max_step": 5}"#, r#"unknown key "max_step"; did you mean "max_steps"?"#),
        (r#"{"max_steps": "5"}"#, r#"args.json: key "max_steps": expected an integer, found the text "5""#),
        (r#"{"max_steps": 5.5}"#, "expected an integer, found the number 5.5"),
        (r#"{"do_train": 1}"#, r#"key "do_train": expected true or false, found the number 1"#),
        (r#"{"learning_rate": null}"#, "expected a finite number, found null"),
        (r#"{"eval_strategy": "often"}"#, "expected one of no, steps, epoch, found 'often'"),
        (r#"{"train_file": 3}"#, "expected one file or several, found the number 3"),
        (r#"{"block_size": 3}"#, r#"key "block_size" belongs to run_clm"#),
        (r#"{"tpu_metrics_debug": true}"#, r#"args.json: key "tpu_metrics_debug" is not supported here"#),
        (r#"[1]"#, "must hold one object"),
        (r#"{"a": "#, "is not JSON"),
        ("", "is not JSON"),
    ] {
        let line = error(Task::Mlm, &[&file(&dir, text)]);
        assert!(line.contains("args.json") && line.contains(part), "{line}");
    }
    assert!(error(Task::Mlm, &["absent.json"]).contains("argument file absent.json: cannot be read"));
}

#[test]
fn the_list_of_devices_needs_nothing_else() {
    assert_eq!(parse_words(Task::Clm, &["--device", "list"]), Ok(Parsed::DeviceList));
}

#[test]
fn no_arguments_at_all_are_answered_with_what_to_do() {
    for task in Task::ALL {
        let Ok(Parsed::Usage(text)) = parse_words(*task, &[]) else { panic!() };
        let commands = text.matches(&format!("  {} --", task.binary())).count();
        assert!(commands == 3 && text.contains("--help all"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        // All are understood as they stand.
        for command in text.split("\n\n").filter(|part| part.contains(&format!("  {} --", task.binary()))) {
            let words = command.split('"').enumerate().flat_map(|(index, part)| match index % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            });
            let words = words.skip_while(|word| !word.starts_with("--")).filter(|word| *word != "\\");
            let words: Vec<&str> = words.collect();
            assert!(matches!(parse_words(*task, &words), Ok(Parsed::Run(_))), "{words:?}");
        }
    }
}

#[test]
fn neither_training_nor_evaluation_is_said_and_allowed() {
    let words = ["--model_name_or_path", "m", "--train_file", "t.txt"];
    let Ok(Parsed::Run(args)) = parse_words(Task::Mlm, &words) else { panic!() };
    assert!(args.notes.iter().any(|note| note.starts_with("neither --do_train nor --do_eval is given")));
    let Ok(Parsed::Run(args)) = parse_words(Task::Mlm, &[&words[..], &["--preview", "3"]].concat()) else { panic!() };
    assert!(args.shows_only() && args.notes.is_empty(), "{:?}", args.notes);
}

#[test]
fn examples_alone_need_no_model() {
    let words = ["--tokenizer_name", "t", "--train_file", "a.txt", "--dump_examples", "x.jsonl"];
    assert!(matches!(parse_words(Task::Mlm, &words), Ok(Parsed::Run(_))));
}

#[test]
fn tokens_are_never_written() {
    let args = run(Task::Mlm, &["--token", "hf_secret", "--hub_token", "hf_secret"]);
    assert!(!args.to_json().to_string().contains("hf_secret"));
    assert!(!args.to_string().contains("hf_secret"));
}

/// `training_args.json` is an argument file of the same run.
fn round_trip(task: Task, args: &Arguments) {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &args.to_json().to_string());
    match parse_words(task, &[&path]) {
        Ok(Parsed::Run(again)) => assert_eq!(again.to_json(), args.to_json()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_can_be_read() {
    for task in Task::ALL {
        round_trip(*task, &run(*task, &[]));
    }
    round_trip(
        Task::Mlm,
        &run(
            Task::Mlm,
            &[
                "--resume_from_checkpoint",
                "--lr_scheduler_type=cosine",
                "--lr_scheduler_kwargs",
                "{\"num_cycles\": 1}",
                "--no_cuda",
            ],
        ),
    );
}

proptest! {
    #[test]
    fn any_words_are_answered(words in prop::collection::vec("(--)?[a-z_=0-9.\\- ]{0,12}", 0..6)) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Err(error) = parse_words(Task::Clm, &words) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn numbers_survive(rate in 0.0f64..1.0, steps in 1i64..1_000_000, share in 0.001f64..0.999) {
        let args = run(Task::Mlm, &[
            &format!("--learning_rate={rate}"), &format!("--max_steps={steps}"), &format!("--save_steps={share}"),
        ]);
        prop_assert_eq!(args.training.learning_rate, rate);
        prop_assert_eq!(args.training.fixed_steps(), Some(steps as u64));
        round_trip(Task::Mlm, &args);
    }
}

#[test]
fn arity_and_names_are_sound() {
    let mut names = BTreeSet::new();
    for flag in flags() {
        assert!(names.insert(flag.name), "{} stands in two tables", flag.name);
        assert!(!flag.help_line().is_empty() && !flag.tasks.is_empty());
        assert_eq!(flag.arity == Arity::ZeroOrOne, flag.type_name == "bool" || flag.name == "resume_from_checkpoint");
    }
}

/// Every file in `configs/` is a command line of at least one program.
#[test]
fn every_recipe_is_understood() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut recipes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let outcomes: Vec<_> = Task::ALL.iter().map(|task| parse(*task, [path.clone().into_os_string()])).collect();
        assert!(outcomes.iter().any(Result::is_ok), "{}: {outcomes:?}", path.display());
        recipes += 1;
    }
    assert!(recipes > 0);
}
