use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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

fn reference() -> Json {
    serde_json::from_str(include_str!("../../tests/fixtures/arguments.json")).unwrap()
}

fn program(task: Task) -> &'static str {
    task.binary()
}

/// What Python's name of a type is called here.
fn normal_type(python: &str) -> &str {
    match python.trim_end_matches(" | None") {
        "Optional" => "bool",
        other => other,
    }
}

/// Whether `flag` has the type and the default that the reference records, but for what is decided otherwise.
fn check_field(task: Task, field: &Json) -> &'static Flag {
    let name = field["name"].as_str().unwrap();
    let flag = flags().find(|flag| flag.name == name).unwrap_or_else(|| panic!("{name} is missing"));
    assert!(flag.tasks.contains(&task), "{name} is missing in {}", program(task));
    let wanted = normal_type(field["type"].as_str().unwrap());
    match name {
        // Choices, of which Python says str; objects, which Python's command line takes as str; lists, likewise.
        "dtype" | "log_level" | "log_level_replica" => assert!(!flag.choices().is_empty()),
        "lr_scheduler_kwargs"
        | "fsdp_config"
        | "accelerator_config"
        | "deepspeed"
        | "gradient_checkpointing_kwargs"
        | "parallelism_config" => assert_eq!(flag.type_name, "dict"),
        "report_to" | "optim_target_modules" => assert_eq!(flag.type_name, "list"),
        // A share of the steps in transformers 5.
        "warmup_steps" => assert_eq!((flag.type_name, wanted), ("float", "int")),
        _ => assert_eq!(flag.type_name, wanted, "{name}"),
    }
    let default = flag.value(&Arguments::defaults(task));
    match name {
        // Python's own fallback for null; the limit that keeps disks from filling; other spellings of nothing.
        "output_dir" => assert_eq!(default, json!("trainer_output")),
        "save_total_limit" => assert_eq!(default, json!(3)),
        "debug" => assert_eq!(default, json!([])),
        "include_num_input_tokens_seen" => assert_eq!(default, json!("no")),
        _ => assert!(same(&default, &field["default"]), "{name}: {default} is not {}", field["default"]),
    }
    flag
}

/// Equal, where 0 and 0.0 are the same number.
fn same(one: &Json, other: &Json) -> bool {
    one == other || (one.is_number() && one.as_f64() == other.as_f64())
}

#[test]
fn every_python_field_exists_with_its_type_and_default() {
    let reference = reference();
    assert_eq!(TrainingArguments::FLAGS.len(), 132 + 10);
    for task in Task::ALL {
        let script = &reference[program(*task)];
        let mut python = BTreeSet::new();
        for field in ["model", "data"].iter().flat_map(|group| script[group].as_array().unwrap()) {
            check_field(*task, field);
            python.insert(field["name"].as_str().unwrap());
        }
        for field in reference["training"].as_array().unwrap() {
            assert_eq!(check_field(*task, field).group, Group::Training);
        }
        let extra: Vec<_> = flags()
            .filter(|flag| matches!(flag.group, Group::Model | Group::Data) && flag.tasks.contains(task))
            .map(|flag| flag.name)
            .filter(|name| !python.contains(name))
            .collect();
        let wanted: &[&str] = if *task == Task::Plm { &["model_type", "dtype"] } else { &[] };
        assert_eq!(extra, wanted, "{}", program(*task));
    }
}

/// Words that set a flag to its default, or to some value where the default cannot be written.
fn sample_words(flag: &Flag, task: Task) -> Vec<String> {
    match flag.value(&Arguments::defaults(task)) {
        Json::Null => match flag.type_name {
            "bool" => vec!["true".into()],
            "int" => vec!["7".into()],
            "float" => vec!["0.5".into()],
            "dict" => vec!["{\"num_cycles\": 2}".into()],
            _ => vec![flag.choices().first().map_or("word", |first| *first).into()],
        },
        Json::Array(_) => vec!["word".into()],
        Json::String(text) => vec![text],
        value => vec![value.to_string()],
    }
}

#[test]
fn every_flag_of_python_is_read_in_every_spelling() {
    for field in reference()["training"].as_array().unwrap() {
        let flag = flags().find(|flag| flag.name == field["name"]).unwrap();
        for spelling in field["flags"].as_array().unwrap().iter().map(|spelling| spelling.as_str().unwrap()) {
            let negated = spelling.starts_with("--no_") || spelling.starts_with("--no-");
            let negated = negated && flag.name != "no_cuda";
            let words = if negated { Vec::new() } else { sample_words(flag, Task::Mlm) };
            let separate: Vec<String> = std::iter::once(spelling.to_string()).chain(words.clone()).collect();
            let mut ways = vec![separate];
            if let [word] = words.as_slice() {
                ways.push(vec![format!("{spelling}={word}")]);
            }
            if flag.type_name == "bool" {
                ways.push(vec![spelling.to_string()]);
            }
            for way in ways {
                let way: Vec<&str> = way.iter().map(String::as_str).collect();
                let outcome = parse_words(Task::Mlm, &[LEAST, &way].concat());
                // A value may be refused or contradict the rest; it may not be unknown or of the wrong kind.
                assert!(
                    matches!(outcome, Ok(Parsed::Run(_)) | Err(ArgsError::Refused { .. } | ArgsError::Rule(_))),
                    "{way:?}: {outcome:?}"
                );
            }
        }
    }
}

#[test]
fn a_refused_flag_says_why_and_accepts_its_default() {
    for flag in flags() {
        let task = flag.tasks[0];
        let Status::Refused(why) = flag.status else { continue };
        let flag_name = format!("--{}", flag.name);
        let default = flag.value(&Arguments::defaults(task));
        let wrong = match &default {
            Json::Bool(true) => "false",
            Json::Bool(false) => "true",
            Json::Number(_) => "3",
            _ if flag.type_name == "bool" => "true",
            _ if flag.type_name == "int" => "3",
            _ => "word",
        };
        let line = error(task, &[&flag_name, wrong]);
        assert!(line.contains(&flag_name) && line.contains(why), "{line}");
        if !default.is_null() && !default.is_array() {
            let words = sample_words(flag, task);
            run(task, &[&flag_name, &words[0]]);
        }
    }
    assert!(!run(Task::Mlm, &["--bf16", "false", "--tf32=no"]).training.bf16);
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
        assert!(!args.training.writes_tensorboard());
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
        (r#"{"push_to_hub": true}"#, r#"args.json: key "push_to_hub" is not supported here"#),
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
fn rules_of_the_scripts() {
    let fails = |task, words: &[&str], part: &str| match parse_words(task, words) {
        Err(error) => assert!(error.to_string().contains(part), "{error}"),
        other => panic!("{words:?}: {other:?}"),
    };
    let model = ["--model_name_or_path", "m"];
    fails(
        Task::Mlm,
        &[&model[..], &["--do_train"]].concat(),
        "Need either a dataset name or a training/validation file",
    );
    fails(Task::Mlm, &["--train_file", "a.txt", "--do_train", "--model_type", "bert"], "no tokenizer");
    fails(Task::Mlm, &["--train_file", "a.txt", "--do_train", "--tokenizer_name", "t"], "no model");
    fails(
        Task::Mlm,
        &[&model[..], &["--validation_file", "a.txt", "--do_train"]].concat(),
        "--do_train requires a train dataset",
    );
    for (words, part) in [
        (vec!["--config_overrides", "hidden_size=4"], "--config_overrides can't be used in combination"),
        (vec!["--train_tokenizer", "100"], "--train_tokenizer can't be used in combination with --model_name_or_path"),
        (vec!["--train_file", "a.xml"], "should be a csv, a json, a jsonl or a txt file"),
        (vec!["--train_file", "a.txt", "b.csv"], "mixes .txt and .csv files"),
        (vec!["--validation_file", "."], "--validation_file .: is a folder"),
        (vec!["--do_eval", "--validation_split_percentage", "0"], "leaves nothing to evaluate"),
        (vec!["--max_seq_length", "0"], "--max_seq_length 0"),
        (vec!["--mlm_probability", "1.5"], "--mlm_probability must lie in 0 to 1"),
        (vec!["--streaming"], "give --max_steps"),
        (vec!["--dataset_name", "wikitext"], "pass them with --train_file"),
        (vec!["--max_steps", "0"], "--max_steps 0: must be at least 1"),
        (vec!["--num_train_epochs", "0"], "--num_train_epochs 0: must be above 0"),
        (vec!["--per_device_train_batch_size", "0"], "--per_device_train_batch_size 0: must be at least 1"),
        (vec!["--warmup_ratio", "2"], "--warmup_ratio must lie in range [0,1]"),
        (vec!["--logging_steps", "0"], "--logging_strategy steps requires non-zero --logging_steps"),
        (vec!["--logging_steps", "1.5"], "--logging_steps must be an integer if bigger than 1: 1.5"),
        (vec!["--load_best_model_at_end"], "requires the save and eval strategy to match"),
        (
            vec!["--load_best_model_at_end", "--eval_strategy", "steps", "--eval_steps", "200"],
            "--save_steps 500, which is not a round multiple of --eval_steps 200",
        ),
        (vec!["--load_best_model_at_end", "--eval_strategy", "steps", "--eval_steps", "0.2"], "cannot join a share"),
        (vec!["--lr_scheduler_type", "reduce_lr_on_plateau"], "requires an eval strategy"),
        (vec!["--lr_scheduler_kwargs", "{\"cycles\": 2}"], "--lr_scheduler_kwargs: linear has no argument 'cycles'"),
        (vec!["--early_stopping_patience", "2"], "--early_stopping_patience needs evaluations during training"),
        (vec!["--metric_for_best_model", "bleu"], "an evaluation computes loss, accuracy, perplexity"),
        (vec!["--report_to", "wandb"], "--report_to wandb is not supported here"),
        (vec!["--use_cpu", "--device", "wgpu"], "contradict each other"),
        (vec!["--dataloader_prefetch_factor", "2"], "needs --dataloader_num_workers"),
    ] {
        let line = error(Task::Mlm, &words);
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn what_follows_from_other_arguments() {
    let args = run(Task::Mlm, &["--eval_strategy", "steps", "--logging_steps", "100"]);
    assert!(args.training.do_eval);
    assert_eq!(args.training.eval_steps, Some(Steps(100.0)));
    assert_eq!(args.training.metric_for_best_model, None);

    let args = run(
        Task::Mlm,
        &["--eval_strategy", "steps", "--eval_steps", "0.1", "--save_steps", "0.3", "--load_best_model_at_end"],
    );
    assert_eq!(args.training.metric_for_best_model.as_deref(), Some("loss"));
    assert_eq!(args.training.greater_is_better, Some(false));
    let args = run(Task::Mlm, &["--metric_for_best_model", "eval_accuracy"]);
    assert_eq!(args.training.greater_is_better, Some(true));

    let args = run(Task::Mlm, &["--no_cuda", "--adafactor", "--per_gpu_train_batch_size", "3"]);
    assert_eq!(args.beyond.device, "cpu");
    assert_eq!(args.training.optim, OptimizerNames::Adafactor);
    assert_eq!(args.training.per_device_train_batch_size, 3);
    assert!(args.notes.iter().any(|note| note == "--no_cuda is an old name: write --use_cpu"));

    assert!(run(Task::Mlm, &[]).training.writes_tensorboard());
    assert_eq!(run(Task::Mlm, &[]).training.checkpoint_limit(), Some(3));
    for all in ["0", "-1"] {
        assert_eq!(run(Task::Mlm, &["--save_total_limit", all]).training.checkpoint_limit(), None);
    }
    assert_eq!(run(Task::Plm, &[]).data.sequence_length(Task::Plm), Some(512));
    assert_eq!(run(Task::Mlm, &["--resume_from_checkpoint"]).training.resume_from_checkpoint, Some(Resume::Newest));
    let folder = run(Task::Mlm, &["--resume_from_checkpoint", "o/checkpoint-5"]).training.resume_from_checkpoint;
    assert_eq!(folder, Some(Resume::Folder(PathBuf::from("o/checkpoint-5"))));
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
        assert!(commands == 2 && text.contains("--help all"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        // Both are understood as they stand.
        for command in text.split("\n\n").filter(|part| part.contains("--do_train")) {
            let words: Vec<&str> = command.split_whitespace().skip_while(|word| !word.starts_with("--")).collect();
            let words: Vec<&str> = words.into_iter().filter(|word| *word != "\\").collect();
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

/// What Python says of its own arguments is an argument file: `TrainingArguments(output_dir="out").to_json_string()` of
/// transformers 4.57.6 and of 5.24. All of it is Python's default: nothing is refused, and nothing noted.
#[test]
fn what_python_writes_is_an_argument_file() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for version in ["4.57", "5.24"] {
        let path = fixtures.join(format!("training_arguments_{version}.json")).display().to_string();
        let args = run(Task::Mlm, &[&path]);
        assert_eq!(args.notes, Vec::<String>::new(), "{version}");
        let mut expected = run(Task::Mlm, &[]);
        expected.training.save_total_limit = None;
        expected.training.report_to = Some(Vec::new());
        expected.training.disable_tqdm = Some(false);
        let training = |args: &Arguments| {
            let values = TrainingArguments::FLAGS.iter().filter(|flag| flag.status == Status::Supported);
            let values = values.filter(|flag| !["logging_dir", "activation_checkpointing"].contains(&flag.name));
            values.map(|flag| (flag.name, flag.value(args))).collect::<Vec<_>>()
        };
        assert_eq!(training(&args), training(&expected), "{version}");
        // Flags override the file, under their old names, too.
        let args = run(Task::Mlm, &[&path, "--gradient_checkpointing", "--group_by_length", "--warmup_ratio", "0.1"]);
        assert!(args.training.gradient_checkpointing && args.training.group_by_length);
        assert_eq!(args.training.train_sampling_strategy, SamplingStrategy::GroupByLength);
    }
}

#[test]
fn what_python_fills_in_is_no_request() {
    run(Task::Mlm, &["--debug", "", "--fsdp", "", "--local_rank", "0"]);
    for words in [
        ["--local_rank", "1"],
        ["--accelerator_config", r#"{"split_batches": true}"#],
        ["--fsdp_config", r#"{"xla": true}"#],
    ] {
        assert!(error(Task::Mlm, &words).contains("is not supported here"));
    }
}

/// Fields of `TrainingArguments` of transformers 5.24, with their types and defaults; what is otherwise here is named.
#[test]
fn every_field_of_transformers_5_exists() {
    let fields: Json = serde_json::from_str(include_str!("../../tests/fixtures/arguments5.json")).unwrap();
    let defaults = Arguments::defaults(Task::Mlm);
    for field in fields["training"].as_array().unwrap() {
        let name = field["name"].as_str().unwrap();
        let flag = flags().find(|flag| flag.name == name).unwrap_or_else(|| panic!("{name} is missing"));
        let python = field["default"].as_str().unwrap().trim_matches('\'');
        let default = match flag.value(&defaults) {
            Json::Null => "None".into(),
            Json::String(text) => text,
            Json::Bool(value) => (if value { "True" } else { "False" }).into(),
            other => other.to_string(),
        };
        match name {
            // As in 4.57; one of the two names of a switch; a limit of our own; other spellings of nothing.
            "output_dir" | "report_to" | "trackio_space_id" => assert_eq!(python == "none" || python == "None", true),
            "gradient_checkpointing" => assert_eq!((default.as_str(), python), ("False", "None")),
            "save_total_limit" => assert_eq!((default.as_str(), python), ("3", "None")),
            "optim" => assert_eq!((default.as_str(), python), ("adamw_torch_fused", "default_optim")),
            "debug" | "include_for_metrics" => assert_eq!(default, "[]"),
            _ => match (default.parse::<f64>(), python.parse::<f64>()) {
                (Ok(default), Ok(python)) => assert_eq!(default, python, "{name}"),
                _ => assert_eq!(default, python, "{name}"),
            },
        }
    }
}

#[test]
fn what_transformers_5_brought_is_answered() {
    let args = run(Task::Mlm, &["--warmup_steps", "0.06", "--train_sampling_strategy", "sequential"]);
    assert_eq!(args.training.warmup_steps, Steps(0.06));
    assert_eq!(args.training.train_sampling_strategy, SamplingStrategy::Sequential);
    assert!(!args.training.group_by_length);
    assert!(run(Task::Mlm, &["--train_sampling_strategy", "group_by_length"]).training.group_by_length);
    for words in [vec!["--activation_checkpointing"], vec!["--gradient_checkpointing", "--activation_checkpointing"]] {
        assert!(run(Task::Mlm, &words).training.gradient_checkpointing);
    }
    let words = ["--gradient_checkpointing", "--activation_checkpointing", "false"];
    assert!(!run(Task::Mlm, &words).training.gradient_checkpointing, "the new name counts, as in Python");
    for (word, count) in [("no", TokenCount::No), ("all", TokenCount::All), ("non_padding", TokenCount::NonPadding)] {
        let args = run(Task::Mlm, &["--include_num_input_tokens_seen", word]);
        assert_eq!(args.training.include_num_input_tokens_seen, count);
    }
    let args = run(Task::Mlm, &["--enable_jit_checkpoint"]);
    assert!(args.notes.iter().any(|note| note.contains("a signal always saves a checkpoint")));
    for (words, part) in [
        (vec!["--train_sampling_strategy", "batch_rebalance"], "it makes batches of differing sizes"),
        (vec!["--lr_scheduler_type", "greedy"], "'greedy' is not supported by this program"),
        (vec!["--group_by_length", "--train_sampling_strategy", "sequential"], "contradict each other"),
    ] {
        let line = error(Task::Mlm, &words);
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn examples_alone_need_no_model() {
    let words = ["--tokenizer_name", "t", "--train_file", "a.txt", "--dump_examples", "x.jsonl"];
    assert!(matches!(parse_words(Task::Mlm, &words), Ok(Parsed::Run(_))));
}

#[test]
fn help_is_readable_on_60_80_and_100_columns() {
    for task in Task::ALL {
        for word in ["-h", "--help"] {
            let Ok(Parsed::Help { long }) = parse_words(*task, &["--max_steps", word]) else { panic!("{word}") };
            assert_eq!(long, word == "--help");
            for width in [60, 80, 100] {
                let text = help(*task, long, Some(width));
                assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
                assert!(text.contains("usage: ") && !text.contains('\u{1b}'));
            }
        }
        let text = help(*task, false, Some(80));
        let common =
            ["logging_steps", "overwrite_output_dir", "bf16", "load_best_model_at_end", "gradient_checkpointing"];
        assert!(common.iter().all(|name| text.contains(&format!("--{name}"))), "{text}");
        assert_eq!(text.contains("--sample_prompts"), *task == Task::Clm);
        let known = lm_models::models::known_model_types(Some(*task));
        assert!(known.split(", ").all(|model_type| text.contains(model_type)), "{text}");
        let text = help(*task, true, Some(80));
        for flag in flags().filter(|flag| flag.tasks.contains(task)) {
            assert!(text.contains(&format!("--{}", flag.name)), "{}", flag.name);
        }
        let Ok(Parsed::Text(text)) = parse_words(*task, &["--version"]) else { panic!() };
        assert!(text.starts_with(task.binary()));
    }
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

/// `docs/arguments.md` says what the tables say. `UPDATE_DOCS=1` writes it.
#[test]
fn arguments_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/arguments.md");
    let page = page::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/arguments.md is not what the tables say: UPDATE_DOCS=1 cargo test -p lm-train arguments_page"
    );
}
