//! The table of arguments as a `clap::Command`: what parses, and what help, completions and man pages are written from.

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
    let mut command = command_without_flags(task);
    for flag in flags_of(task) {
        command = with_flag(command, flag, argument(flag, task, &defaults), &defaults);
    }
    with_others(command)
}

/// The same as people should write it, for help, completions and man page: only what does something here, and what is off
/// is turned on by its flag alone.
pub(super) fn shown(task: Task) -> Command {
    let defaults = Arguments::defaults(task);
    let mut shown = command_without_flags(task);
    for flag in flags_of(task).filter(|flag| flag.status == Status::Supported) {
        let mut argument = argument(flag, task, &defaults);
        if flag.type_name == "bool" && flag.choices().is_empty() && !flag.has_negation(&defaults) {
            argument = argument.num_args(0).require_equals(false).action(ArgAction::SetTrue);
            argument = argument.value_parser(value_parser!(bool));
        }
        shown = with_flag(shown, flag, argument, &defaults);
    }
    with_others(shown)
}

fn command_without_flags(task: Task) -> Command {
    Command::new(task.binary())
        .version(env!("CARGO_PKG_VERSION"))
        .about(about(task))
        .no_binary_name(true)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .next_line_help(true)
}

/// One line on the program.
fn about(task: Task) -> &'static str {
    match task {
        Task::Mlm => "Masked language modelling: BERT, RoBERTa, DistilBERT and their like",
        Task::Clm => "Causal language modelling: GPT and GPT-2",
        Task::Plm => "Permutation language modelling: XLNet",
    }
}

/// Adds a flag and its negation, of which the later one counts.
fn with_flag(command: Command, flag: &Flag, argument: Arg, defaults: &Arguments) -> Command {
    match flag.negation(defaults) {
        None => command.arg(argument),
        Some(name) => {
            let negation = Arg::new(name.clone()).long(name.clone()).action(ArgAction::SetFalse).hide(true);
            command.arg(argument.overrides_with(name)).arg(negation.overrides_with(flag.name))
        }
    }
}

/// Adds what is no row of the table: the argument file, and what ends the program by printing something.
fn with_others(command: Command) -> Command {
    let other = |name: &'static str, help: &'static str| Arg::new(name).help(help).help_heading("other");
    let shells = value_parser!(clap_complete::Shell);
    let file = "File of arguments: one JSON object whose keys are flags; flags override it";
    let help = other("help", "Print this: -h the common arguments, --help all").short('h').long("help");
    let version = other("version", "Print the version").short('V').long("version");
    let completions = other("completions", "Print the completions of a shell").long("completions");
    command
        .arg(other(FILE, file).num_args(1..).action(ArgAction::Append))
        .arg(help.action(ArgAction::Help))
        .arg(version.action(ArgAction::Version))
        .arg(completions.value_name("SHELL").value_parser(shells))
}

/// One row of the table.
fn argument(flag: &Flag, task: Task, defaults: &Arguments) -> Arg {
    let mut argument = Arg::new(flag.name)
        .long(flag.name)
        .help(flag.help_line())
        .help_heading(heading(flag.group))
        .hide_short_help(!flag.is_common())
        .value_name(value_name(flag))
        .value_parser((flag.parser)())
        .action(ArgAction::Set);
    argument = match flag.arity {
        Arity::One => argument.num_args(1),
        Arity::ZeroOrOne => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Arity::Many => argument.num_args(1..).value_delimiter(DELIMITER).allow_negative_numbers(true),
    };
    if flag.name == "model_type" {
        let known = lm_models::models::known_model_types(Some(task));
        argument = argument.help(format!("{} Known: {known}.", flag.help_line()));
    }
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
