//! From words to [`Arguments`], by the rules of Python's `HfArgumentParser` and `argparse`.

use std::ffi::OsString;
use std::sync::OnceLock;

use clap::{ArgMatches, Command};
use serde_json::Value as Json;

use super::command::{self, FILE};
use super::flag::flags_of;
use super::given::Given;
use super::parser::is_given;
use super::{ArgsError, Arguments, Flag, Origin, Status, Task, check, file, help, training, words};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// A run.
    Run(Box<Arguments>),
    /// The help: all of it for `--help`, the common arguments for `-h`.
    Help {
        /// Whether all of it.
        long: bool,
    },
    /// This text: `--version`, `--completions`, `--man_page`.
    Text(String),
    /// This text, since nothing was asked for: no arguments at all.
    Usage(String),
    /// What this program can compute on: `--device list`, whatever else is given.
    DeviceList,
}

/// Reads a command line without the program's own name.
///
/// The keys of the argument file come first, wherever it stands; flags override them, later ones earlier ones.
///
/// # Errors
///
/// [`ArgsError`] for anything that cannot be followed; its text is one line for the user.
pub fn parse(task: Task, words: impl IntoIterator<Item = OsString>) -> Result<Parsed, ArgsError> {
    let words = words
        .into_iter()
        .map(|word| word.into_string().map_err(|word| ArgsError::NotUnicode(format!("{word:?}"))))
        .collect::<Result<Vec<_>, _>>()?;
    if words.is_empty() {
        return Ok(Parsed::Usage(help::usage(task)));
    }
    if let Some(asked) = asked(task, &words)? {
        return Ok(asked);
    }
    let words = words::spelled_out(task, &words)?;
    let own = matches(task, &words, None)?;
    let file = argument_file(&own)?;
    let all = match file {
        Some(file) => matches(task, &[file::words(task, file)?, words].concat(), Some(file))?,
        None => own.clone(),
    };

    let mut args = Arguments::defaults(task);
    args.files.extend(file.map(|file| (None, file.into())));
    let given = take(&mut args, &all, &own, file);
    if args.beyond.device == "list" {
        return Ok(Parsed::DeviceList);
    }
    refuse(&mut args, &given)?;
    check::check(&mut args, &given)?;
    Ok(Parsed::Run(Box::new(args)))
}

/// What the words ask to be printed instead of a run, whatever else they say.
fn asked(task: Task, words: &[String]) -> Result<Option<Parsed>, ArgsError> {
    let mut rest = words.iter().take_while(|word| *word != "--");
    while let Some(word) = rest.next() {
        let (flag, attached) = word.split_once('=').map_or((word.as_str(), None), |(flag, value)| (flag, Some(value)));
        let text = match flag {
            "-h" => return Ok(Some(Parsed::Help { long: false })),
            "--help" => return Ok(Some(Parsed::Help { long: true })),
            "-V" | "--version" => format!("{} {}", task.binary(), env!("CARGO_PKG_VERSION")),
            "--completions" => help::completions(task, attached.or_else(|| rest.next().map(String::as_str)))?,
            "--man_page" | "--man-page" => help::man_page(task),
            _ => continue,
        };
        return Ok(Some(Parsed::Text(text)));
    }
    Ok(None)
}

/// What clap makes of the words. `file`: whose keys stand before them, which are known to be sound.
fn matches(task: Task, words: &[String], file: Option<&str>) -> Result<ArgMatches, ArgsError> {
    // Building checks every pair of arguments; a copy is built already.
    static BUILT: [OnceLock<Command>; Task::ALL.len()] = [const { OnceLock::new() }; Task::ALL.len()];
    let built = BUILT[task as usize].get_or_init(|| {
        let mut command = command::command(task);
        command.build();
        command
    });
    built.clone().try_get_matches_from(words).map_err(|error| ArgsError::of_clap(&error, file))
}

fn argument_file(matches: &ArgMatches) -> Result<Option<&str>, ArgsError> {
    let mut files = matches.get_many::<String>(FILE).into_iter().flatten();
    if let Some(stray) = files.clone().find(|file| !file.ends_with(".json")) {
        return Err(ArgsError::Stray(stray.clone()));
    }
    match (files.next(), files.next()) {
        (Some(first), Some(second)) => Err(ArgsError::SecondFile(first.clone(), second.clone())),
        (first, _) => Ok(first.map(String::as_str)),
    }
}

/// Moves what was parsed into `args`. What the command line's `own` words do not give comes from the argument file.
fn take(args: &mut Arguments, all: &ArgMatches, own: &ArgMatches, file: Option<&str>) -> Given {
    let defaults = Arguments::defaults(args.task);
    let mut given = Given(Vec::new());
    for flag in flags_of(args.task) {
        let forms = std::iter::once(flag.name.to_string()).chain(flag.negation(&defaults));
        for form in forms.filter(|form| is_given(all, form)) {
            (flag.set)(args, all, &form);
            let mut words = all.get_raw(&form).into_iter().flatten().filter_map(|word| word.to_str());
            if let Some(path) =
                words.next_back().filter(|word| flag.type_name == "dict" && !word.trim_start().starts_with('{'))
            {
                args.files.push((Some(flag.name), path.into()));
            }
            let origin = match file {
                Some(file) if !is_given(own, &form) => Origin::File { file: file.into(), key: form },
                _ => Origin::Flag(form),
            };
            given.0.push((flag, origin));
        }
    }
    given
}

/// Refuses what was asked for and is not supported, and notes what has no effect.
fn refuse(args: &mut Arguments, given: &Given) -> Result<(), ArgsError> {
    let defaults = Arguments::defaults(args.task);
    for (flag, origin) in &given.0 {
        let (value, default) = (flag.value(args), flag.value(&defaults));
        if is_default(flag, &value, &default) {
            continue;
        }
        match flag.status {
            Status::Supported => {}
            Status::Refused(why) => return Err(ArgsError::Refused { origin: origin.clone(), why: why.into() }),
            Status::SameByNature(why) => args.notes.push(format!("{origin} changes nothing here: {why}")),
        }
    }
    Ok(())
}

/// Whether a value asks for nothing: Python's default in one of its spellings.
fn is_default(flag: &Flag, value: &Json, default: &Json) -> bool {
    value == default
        || (training::is_off(value) && training::is_off(default))
        || training::is_filled_in(flag.name, value)
}
