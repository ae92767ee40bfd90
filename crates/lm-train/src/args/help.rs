//! `-h`, `--help` and `docs/arguments.md`, written from the tables.

use serde_json::Value as Json;

use super::value::Arity;
use super::{Arguments, Flag, Group, Status, Task, flags};

const WIDTH: usize = 80;

/// What `-h` lists: the arguments of most command lines.
pub(super) const COMMON: &[&str] = &[
    "model_name_or_path",
    "model_type",
    "config_overrides",
    "tokenizer_name",
    "train_file",
    "validation_file",
    "max_seq_length",
    "block_size",
    "line_by_line",
    "output_dir",
    "do_train",
    "do_eval",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "warmup_steps",
    "eval_strategy",
    "eval_steps",
    "save_steps",
    "resume_from_checkpoint",
    "seed",
    "train_tokenizer",
    "device",
    "preview",
    "plan",
];

/// What a command line without arguments gets: the two things that people come for.
pub(super) fn usage(task: Task) -> String {
    let program = task.binary();
    let (what, example, model, model_type) = match task {
        Task::Mlm => ("masked", "fill in words", "bert-base-uncased", "--model_type bert"),
        Task::Clm => ("causal", "continue texts", "gpt2", "--model_type gpt2"),
        Task::Plm => ("permutation", "predict words in any order", "xlnet-base-cased", "--model_type xlnet"),
    };
    format!(
        "{program} trains {what} language models, which {example}.\n\n\
         Go on training a model, from the Hugging Face Hub or a folder, on your text:\n\
         \x20 {program} --model_name_or_path {model} --train_file YOUR.txt \\\n\
         \x20     --do_train --do_eval --output_dir results/\n\n\
         Train a new one, and its tokenizer, on nothing but your text:\n\
         \x20 {program} {model_type} --train_tokenizer 8000 --train_file YOUR.txt \\\n\
         \x20     --do_train --do_eval --output_dir results/\n\n\
         {program} -h lists the common arguments, --help all.\n"
    )
}

/// The text of `-h`.
pub(super) fn short(task: Task) -> String {
    let mut text = heading(task);
    let defaults = Arguments::defaults(task);
    for group in Group::ALL {
        text.push_str(&format!("\n{}:\n", group.name()));
        for flag in of(task, *group).filter(|flag| COMMON.contains(&flag.name)) {
            entry(&mut text, flag, &defaults);
        }
    }
    text.push_str(&format!("\n{} --help lists all arguments.\n", task.binary()));
    text
}

/// The text of `--help`.
pub(super) fn long(task: Task) -> String {
    let mut text = heading(task);
    let defaults = Arguments::defaults(task);
    for group in Group::ALL {
        let title = match group {
            Group::Beyond => "beyond (what the Python scripts do not have)",
            _ => group.name(),
        };
        text.push_str(&format!("\n{title}:\n"));
        for flag in of(task, *group).filter(|flag| flag.status == Status::Supported) {
            entry(&mut text, flag, &defaults);
        }
        let list = |text: &mut String, title: &str, wanted: fn(&Status) -> bool| {
            let names: Vec<_> =
                of(task, *group).filter(|flag| wanted(&flag.status)).map(|flag| format!("--{}", flag.name)).collect();
            if !names.is_empty() {
                text.push_str(&format!("\n  {title}:\n"));
                wrap(text, &names.join(", "), 4);
            }
        };
        list(&mut text, "accepted, and without effect here", |status| matches!(status, Status::SameByNature(_)));
        list(&mut text, "recognised, and not supported", |status| matches!(status, Status::Refused(_)));
    }
    text.push_str(
        "\nGive a flag of the last two kinds to read why, or see docs/arguments.md.\n\
         true/false flags: alone means true; --flag false, or --no_flag where the\n\
         default is true. Unambiguous beginnings of a flag are enough.\n",
    );
    text
}

fn heading(task: Task) -> String {
    let program = task.binary();
    let (what, model, length) = match task {
        Task::Mlm => (
            "masked language modelling: BERT, RoBERTa, DistilBERT and their like",
            "bert-folder",
            "--max_seq_length 128 --line_by_line",
        ),
        Task::Clm => ("causal language modelling: GPT and GPT-2", "gpt2-folder", "--block_size 512"),
        Task::Plm => ("permutation language modelling: XLNet", "xlnet-folder", "--max_seq_length 128 --line_by_line"),
    };
    format!(
        "{program}: {what}\n\n\
         usage: {program} [--flag value]... [ARGUMENTS.json]\n\
         \x20      flags override the file; dashes and underscores are the same\n\n\
         example:\n\
         \x20 {program} --model_name_or_path {model} \\\n\
         \x20     {length} \\\n\
         \x20     --train_file train.txt --validation_file valid.txt \\\n\
         \x20     --do_train --do_eval --output_dir results/\n"
    )
}

fn of(task: Task, group: Group) -> impl Iterator<Item = &'static Flag> {
    flags().filter(move |flag| flag.group == group && flag.tasks.contains(&task))
}

/// What stands for the value: `N`, `{no,steps,epoch}`.
fn placeholder(flag: &Flag) -> String {
    let choices = flag.choices();
    let name = match flag.type_name {
        "bool" => return String::new(),
        _ if choices.len() > 4 => "NAME".into(),
        _ if !choices.is_empty() => format!("{{{}}}", choices.join(",")),
        _ if flag.json_files => "FILE".into(),
        "int" => "N".into(),
        "float" => "X".into(),
        "dict" => "JSON".into(),
        _ => "TEXT".to_string(),
    };
    match flag.arity {
        Arity::One => format!(" {name}"),
        Arity::ZeroOrOne => format!(" [{name}]"),
        Arity::Many => format!(" {name}..."),
    }
}

fn entry(text: &mut String, flag: &Flag, defaults: &Arguments) {
    let default = match flag.value(defaults) {
        Json::Null | Json::Bool(false) => String::new(),
        value => format!("(default: {})", plain(&value)),
    };
    let negation = if flag.has_negation(defaults) { format!(", --no_{}", flag.name) } else { String::new() };
    let names = format!("  --{}{}{negation}", flag.name, placeholder(flag));
    let (names_length, default_length) = (names.chars().count(), default.chars().count());
    let gap = match default_length {
        0 => "",
        _ if names_length + 2 + default_length <= WIDTH => "  ",
        _ => "\n      ",
    };
    text.push_str(&format!("{names}{gap}{default}\n"));
    wrap(text, &flag.help_line(), 6);
    if flag.choices().len() > 4 {
        wrap(text, &format!("One of {}.", flag.choices().join(", ")), 6);
    }
}

/// A value without the quotes of JSON.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Adds `prose` in lines of at most [`WIDTH`] characters.
fn wrap(text: &mut String, prose: &str, indent: usize) {
    let mut column = WIDTH;
    for word in prose.split(' ') {
        let length = word.chars().count();
        if column + 1 + length > WIDTH {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

/// `docs/arguments.md`: every argument, its type, its default, and what this program does with it.
#[cfg(test)]
pub(super) fn markdown() -> String {
    let mut text = String::from(
        "# Arguments\n\n\
         Every argument of the Python scripts `run_mlm`, `run_clm` and `run_plm` of transformers 4.57, all 132 fields of\n\
         `TrainingArguments`, and what goes beyond them. This page is written from the tables in\n\
         `crates/lm-train/src/args/`: change a row there, then run\n\
         `UPDATE_DOCS=1 cargo test -p lm-train arguments_page`.\n\n\
         - **supported**: does what Python does.\n\
         - **same by nature**: accepted; nothing that is computed depends on it here, and the program says so and why.\n\
         - **refused**: recognised; asking for it ends the program with exit code 2 and the reason. Its default value, and\n\
         \x20 false, are always accepted.\n\n\
         ## How they are written\n\n\
         `--flag value` or `--flag=value`; dashes and underscores are the same; an unambiguous beginning of a flag is enough.\n\
         A true/false flag given alone is true; it also takes true/false, yes/no, t/f, y/n, 1/0. Where true is the default\n\
         there is a `--no_flag`. One argument without a flag may be given, anywhere: a JSON file with one object, whose keys\n\
         are the flags' names. Flags override the file, later flags earlier ones. The `training_args.json` that a run\n\
         leaves in its output folder is such a file.\n",
    );
    for group in Group::ALL {
        let title = match group {
            Group::Model => "Model",
            Group::Data => "Data",
            Group::Training => "Training",
            Group::Beyond => "Beyond Python",
        };
        text.push_str(&format!(
            "\n## {title}\n\n| argument | type | default | status | what it does |\n|---|---|---|---|---|\n"
        ));
        for flag in flags().filter(|flag| flag.group == *group) {
            let (status, why) = match flag.status {
                Status::Supported => ("supported", String::new()),
                Status::SameByNature(why) => ("same by nature", format!(" — {why}")),
                Status::Refused(why) => ("refused", format!(" — {why}")),
            };
            let programs = if flag.tasks.len() == Task::ALL.len() {
                String::new()
            } else {
                let names: Vec<_> = flag.tasks.iter().map(|task| task.binary()).collect();
                format!(" ({})", names.join(", "))
            };
            let choices = match flag.choices() {
                choices if choices.is_empty() => String::new(),
                choices => format!(" One of {}.", choices.join(", ")),
            };
            text.push_str(&format!(
                "| `--{}`{programs} | {} | {} | {status} | {}{choices}{why} |\n",
                flag.name,
                flag.type_name,
                defaults_of(flag),
                flag.help_line(),
            ));
        }
    }
    text
}

/// The default, or the defaults where the programs differ.
#[cfg(test)]
fn defaults_of(flag: &Flag) -> String {
    let of = |task: &Task| match flag.value(&Arguments::defaults(*task)) {
        Json::Null => "none".to_string(),
        value => format!("`{value}`"),
    };
    let values: Vec<_> = flag.tasks.iter().map(|task| (task, of(task))).collect();
    match values.as_slice() {
        [(_, first), rest @ ..] if rest.iter().all(|(_, value)| value == first) => first.clone(),
        differing => {
            differing.iter().map(|(task, value)| format!("{}: {value}", task.binary())).collect::<Vec<_>>().join(", ")
        }
    }
}
