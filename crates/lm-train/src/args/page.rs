//! `docs/arguments.md`, written from the tables.

use serde_json::Value as Json;

use super::{Arguments, Flag, Group, Status, Task, flags};

/// `docs/arguments.md`: every argument, its type, its default, and what this program does with it.
pub(super) fn markdown() -> String {
    let mut text = String::from(
        "# Arguments\n\n\
         Every argument of the Python scripts `run_mlm`, `run_clm` and `run_plm`, all fields of `TrainingArguments` of\n\
         transformers 4.57 and of 5 (5.24), and what goes beyond them. This page is written from the tables in\n\
         `crates/lm-train/src/args/`: change a row there, then run\n\
         `UPDATE_DOCS=1 cargo test -p lm-train arguments_page`.\n\n\
         - **supported**: does what Python does.\n\
         - **same by nature**: accepted; nothing that is computed depends on it here, and the program says so and why.\n\
         - **refused**: recognised; asking for it ends the program with exit code 2 and the reason. Its default value, and\n\
         \x20 false, are always accepted.\n\n\
         Flags of both versions work. What 5 dropped keeps its meaning of 4.57; what has two names in 5 may be called by\n\
         either. The columns “in 4.57” and “in 5” hold the defaults of these versions, a dash where there is no such flag; the\n\
         scripts' own arguments (Model, Data) are those of 4.57.\n\n\
         ## How they are written\n\n\
         `--flag value` or `--flag=value`; dashes and underscores are the same; an unambiguous beginning of a flag is enough.\n\
         A true/false flag given alone is true; it also takes true/false, yes/no, t/f, y/n, 1/0. Where true is the default\n\
         there is a `--no_flag`. One argument without a flag may be given, anywhere: a JSON file with one object, whose keys\n\
         are the flags' names. Flags override the file, later flags earlier ones. The `training_args.json` that a run\n\
         leaves in its output folder is such a file, and so is what Python's `TrainingArguments.to_json_string()` gives.\n\n\
         Besides these, `-h` and `--help`, `--version`, `--completions bash|elvish|fish|powershell|zsh` and `--man_page` print\n\
         something and end.\n",
    );
    for group in Group::ALL {
        let title = match group {
            Group::Model => "Model",
            Group::Data => "Data",
            Group::Training => "Training",
            Group::Beyond => "Beyond Python",
        };
        let (versions, columns) = match group {
            Group::Training => (" in 4.57 | in 5 |", "---|---|"),
            _ => ("", ""),
        };
        text.push_str(&format!(
            "\n## {title}\n\n| argument | type | default |{versions} status | what it does |\n|---|---|---|{columns}---|---|\n"
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
            let versions = match group {
                Group::Training => format!(" {} | {} |", python_default(OLD, flag), python_default(NEW, flag)),
                _ => String::new(),
            };
            text.push_str(&format!(
                "| `--{}`{programs} | {} | {} |{versions} {status} | {}{choices}{why} |\n",
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

/// The fields of `TrainingArguments` in transformers 4.57, and in 5.
const OLD: &str = include_str!("../../tests/fixtures/arguments.json");
const NEW: &str = include_str!("../../tests/fixtures/arguments5.json");

/// The default that a version of Python has, or a dash if it has no such field.
fn python_default(version: &str, flag: &Flag) -> String {
    let fields: Json = serde_json::from_str(version).expect("a list of Python's fields");
    let field = fields["training"].as_array().into_iter().flatten().find(|field| field["name"] == flag.name);
    match field.map(|field| &field["default"]) {
        None => "—".into(),
        Some(Json::Null) => "none".into(),
        // The second fixture holds defaults as Python prints them, and names where a function makes them.
        Some(Json::String(text)) => match text.as_str() {
            "None" => "none".into(),
            "default_optim" => "`adamw_torch_fused`".into(),
            "list" => "`[]`".into(),
            "True" | "False" => format!("`{}`", text.to_lowercase()),
            text => format!("`{}`", text.trim_matches('\'')),
        },
        Some(value) => format!("`{value}`"),
    }
}
