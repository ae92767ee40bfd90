//! The table of arguments as a `clap::Command`: what parses, and what help, completions and man pages are written from.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, value_parser};
use serde_json::Value as Json;

use super::flag::flags_of;
use super::value::Arity;
use super::{Arguments, Flag, Group, Status, Task};

/// The id of the argument file.
pub(super) const FILE: &str = "ARGUMENTS.json";

/// What stands between the words of a list in an argument file: no word of a command line can hold it.
pub(super) const DELIMITER: char = '\0';

/// The command line of one program.
pub(super) fn command(task: Task) -> Command {
    let defaults = Arguments::defaults(task);
    with_flags(task, flags_of(task).map(|flag| (flag, argument(flag, &defaults))), &defaults)
}

/// The same as people should write it, for help, completions and man page: only what does something here, and what is off
/// is turned on by its flag alone.
pub(super) fn shown(task: Task) -> Command {
    let defaults = Arguments::defaults(task);
    let shown = flags_of(task).filter(|flag| flag.status == Status::Supported).map(|flag| {
        let argument = argument(flag, &defaults);
        let is_switch = flag.type_name == "bool" && flag.choices().is_empty() && !flag.has_negation(&defaults);
        let argument = match flag.name {
            // An unknown one has an error of its own, with the nearest.
            "model_type" => argument.value_parser(PossibleValuesParser::new(model_types(task))),
            _ if is_switch => {
                let switch = argument.num_args(0).require_equals(false).action(ArgAction::SetTrue);
                switch.value_parser(value_parser!(bool))
            }
            _ => argument,
        };
        (flag, argument)
    });
    with_flags(task, shown, &defaults)
}

fn model_types(task: Task) -> Vec<String> {
    lm_models::models::known_model_types(Some(task)).split(", ").map(String::from).collect()
}

/// Rows of the table, the negations of those that have one, and what is no row: the argument file, and what ends the
/// program by printing something.
fn with_flags<'a>(task: Task, rows: impl Iterator<Item = (&'a Flag, Arg)>, defaults: &Arguments) -> Command {
    let mut command = Command::new(task.binary())
        .version(env!("CARGO_PKG_VERSION"))
        .about(about(task))
        .no_binary_name(true)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .next_line_help(true);
    for (flag, argument) in rows {
        command = match flag.negation(defaults) {
            None => command.arg(argument),
            // The later one counts.
            Some(name) => {
                let negation = Arg::new(name.clone()).long(name.clone()).action(ArgAction::SetFalse).hide(true);
                command.arg(argument.overrides_with(name)).arg(negation.overrides_with(flag.name))
            }
        };
    }
    let other = |name: &'static str, help: &'static str| Arg::new(name).help(help).help_heading("other");
    let file = "File of arguments: one JSON object whose keys are flags; flags override it";
    let help = other("help", "Print this: -h the common arguments, --help all").short('h').long("help");
    let version = other("version", "Print the version").short('V').long("version");
    let completions = other("completions", "Print the completions of a shell").long("completions").value_name("SHELL");
    command
        .arg(other(FILE, file).num_args(1..).action(ArgAction::Append))
        .arg(help.action(ArgAction::Help))
        .arg(version.action(ArgAction::Version))
        .arg(completions.value_parser(value_parser!(clap_complete::Shell)))
}

/// One line on the program.
fn about(task: Task) -> &'static str {
    match task {
        Task::Mlm => "Masked language modelling: BERT, RoBERTa, DistilBERT and their like",
        Task::Clm => "Causal language modelling: GPT and GPT-2",
        Task::Plm => "Permutation language modelling: XLNet",
    }
}

/// One row of the table.
fn argument(flag: &Flag, defaults: &Arguments) -> Arg {
    let argument = Arg::new(flag.name)
        .long(flag.name)
        .help(flag.help_line())
        .help_heading(heading(flag.group))
        .hide_short_help(!flag.is_common())
        .value_name(value_name(flag))
        .value_parser((flag.parser)())
        .action(ArgAction::Set);
    let argument = match flag.arity {
        Arity::One => argument.num_args(1),
        Arity::ZeroOrOne => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Arity::Many => argument.num_args(1..).value_delimiter(DELIMITER).allow_negative_numbers(true),
    };
    match flag.value(defaults) {
        Json::Null | Json::Bool(false) | Json::Array(_) | Json::Object(_) => argument,
        Json::String(text) if text.is_empty() => argument,
        Json::String(text) => argument.default_value(text),
        value => argument.default_value(value.to_string()),
    }
}

fn heading(group: Group) -> &'static str {
    match group {
        Group::Beyond => "beyond (what the Python scripts do not have)",
        _ => group.name(),
    }
}

/// What stands for the value: `N`, `FILE`.
fn value_name(flag: &Flag) -> &'static str {
    match flag.type_name {
        "bool" => "BOOL",
        _ if !flag.choices().is_empty() => "NAME",
        _ if flag.json_files => "FILE",
        "int" => "N",
        "float" => "X",
        "dict" => "JSON",
        _ => "TEXT",
    }
}
