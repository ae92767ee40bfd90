//! The fields of Python's arguments, of both versions, and what Python writes of them.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::*;

fn reference() -> Json {
    serde_json::from_str(include_str!("../../../tests/fixtures/arguments.json")).unwrap()
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
        let wanted: &[&str] = if *task == Task::Plm { &["model_type", "dtype", "streaming"] } else { &[] };
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
    let fields: Json = serde_json::from_str(include_str!("../../../tests/fixtures/arguments5.json")).unwrap();
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
            "output_dir" | "report_to" | "trackio_space_id" => assert!(python == "none" || python == "None"),
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
