//! What is printed and ends the program: help, version, completions, the man page.

use clap_complete::Shell;

use super::command::shown;
use super::flag::flags_of;
use super::{ArgsError, Origin, Status, Task};

/// What a command line without arguments gets: the three things that people come for.
pub(super) fn usage(task: Task) -> String {
    let program = task.binary();
    let (what, example, model, model_type, inference) = match task {
        Task::Mlm => {
            ("masked", "fill in words", "bert-base-uncased", "--model_type bert", "--fill \"The [MASK] sat.\"")
        }
        Task::Clm => ("causal", "continue texts", "gpt2", "--model_type gpt2", "--generate \"Once upon a time\""),
        Task::Plm => {
            ("permutation", "predict words in any order", "xlnet-base-cased", "--model_type xlnet", "--score LINES.txt")
        }
    };
    format!(
        "{program} trains {what} language models, which {example}.\n\n\
         Go on training a model, from the Hugging Face Hub or a folder, on your text:\n\
         \x20 {program} --model_name_or_path {model} --train_file YOUR.txt \\\n\
         \x20     --do_train --do_eval --output_dir results/\n\n\
         Train a new one, and its tokenizer, on nothing but your text:\n\
         \x20 {program} {model_type} --train_tokenizer 8000 --train_file YOUR.txt \\\n\
         \x20     --do_train --do_eval --output_dir results/\n\n\
         Use a trained one:\n\
         \x20 {program} --model_name_or_path results/ {inference}\n\n\
         {program} -h lists the common arguments, --help all.\n"
    )
}

/// The text of `-h`, and with `long` that of `--help`, in lines of `width` characters; without it, in lines of the terminal.
pub fn help(task: Task, long: bool, width: Option<usize>) -> String {
    let mut command = shown(task)
        .help_template(template(task))
        .after_help(format!("{} --help lists all arguments.", task.binary()))
        .after_long_help(without_effect(task))
        .max_term_width(WIDEST);
    if let Some(width) = width {
        command = command.term_width(width);
    }
    let text = if long { command.render_long_help() } else { command.render_help() };
    // An empty line of clap's is an indent.
    text.to_string().lines().map(|line| line.trim_end().to_string() + "\n").collect()
}

/// Longer lines are hard to read.
const WIDEST: usize = 100;

fn template(task: Task) -> String {
    let (model, length) = match task {
        Task::Mlm => ("bert-folder", "--max_seq_length 128 --line_by_line"),
        Task::Clm => ("gpt2-folder", "--block_size 512"),
        Task::Plm => ("xlnet-folder", "--max_seq_length 128 --line_by_line"),
    };
    format!(
        "{{about-with-newline}}\n\
         usage: {{name}} [--flag value]... [ARGUMENTS.json]\n\n\
         example:\n\
         \x20 {{name}} --model_name_or_path {model} \\\n\
         \x20     {length} \\\n\
         \x20     --train_file train.txt --validation_file valid.txt \\\n\
         \x20     --do_train --do_eval --output_dir results/\n\n\
         {{all-args}}{{after-help}}\n"
    )
}

/// The arguments of Python that do nothing here, and how arguments are written.
fn without_effect(task: Task) -> String {
    let list = |wanted: fn(&Status) -> bool| {
        let names = flags_of(task).filter(|flag| wanted(&flag.status)).map(|flag| format!("--{}", flag.name));
        names.collect::<Vec<_>>().join(", ")
    };
    format!(
        "accepted, and without effect here:\n{}\n\nrecognised, and not supported:\n{}\n\n\
         Give a flag of the last two kinds to read why, or see docs/arguments.md. \
         true/false flags: alone means true; --flag false, or --no_flag where the default is true. \
         Unambiguous beginnings of a flag are enough; dashes and underscores are the same.",
        list(|status| matches!(status, Status::SameByNature(_))),
        list(|status| matches!(status, Status::Refused(_))),
    )
}

/// The completions of a shell.
pub(super) fn completions(task: Task, shell: Option<&str>) -> Result<String, ArgsError> {
    let parsed = shell.and_then(|shell| shell.parse::<Shell>().ok());
    let Some(parsed) = parsed else {
        let found = shell.map_or("nothing".into(), |shell| format!("'{shell}'"));
        let reason = format!("expected one of bash, elvish, fish, powershell, zsh, found {found}");
        return Err(ArgsError::Value { origin: Origin::Flag("completions".into()), reason });
    };
    let mut text = Vec::new();
    clap_complete::generate(parsed, &mut shown(task), task.binary(), &mut text);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The man page, in roff.
pub(super) fn man_page(task: Task) -> String {
    // What -h leaves out has no help in a man page either.
    let command = shown(task).mut_args(|argument| argument.hide_short_help(false));
    let man = clap_mangen::Man::new(command.after_help(without_effect(task)));
    let mut text = Vec::new();
    let synopsis = format!(".SH SYNOPSIS\n{} [\\-\\-flag value]... [ARGUMENTS.json]\n", task.binary());
    // Writing to memory does not fail.
    let _ = man.render_title(&mut text);
    let _ = man.render_name_section(&mut text);
    text.extend_from_slice(synopsis.as_bytes());
    let _ = man.render_options_section(&mut text);
    let _ = man.render_extra_section(&mut text);
    let _ = man.render_version_section(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
