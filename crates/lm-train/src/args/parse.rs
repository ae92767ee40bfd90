//! From words to [`Arguments`], by the rules of Python's `HfArgumentParser` and `argparse`.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde_json::Value as Json;

use super::value::Arity;
use super::{Arguments, Flag, Group, Status, Task, check, flags, help, training};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// A run.
    Run(Box<Arguments>),
    /// This text: `-h` or `--help`.
    Help(String),
    /// This text: `--version`.
    Version(String),
    /// What this program can compute on: `--device list`, whatever else is given.
    DeviceList,
}

/// Why the command line cannot be followed: one line for the user; exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// A word that is not Unicode.
    #[error("the argument {0} is not valid UTF-8")]
    NotUnicode(String),
    /// A flag that no program has.
    #[error("unknown flag --{flag}{hint}")]
    UnknownFlag {
        /// As written.
        flag: String,
        /// What may have been meant.
        hint: String,
    },
    /// A key of an argument file that no program has.
    #[error("{file}: unknown key \"{key}\"{hint}")]
    UnknownKey {
        /// The argument file.
        file: String,
        /// As written.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// An argument of another program.
    #[error("{origin} belongs to {programs}: {program} does not have it")]
    OtherProgram {
        /// Where it was given.
        origin: Origin,
        /// The programs that have it.
        programs: String,
        /// The program that runs.
        program: &'static str,
    },
    /// An abbreviation that fits several flags.
    #[error("--{flag} could mean {candidates}: write more of it")]
    Ambiguous {
        /// As written.
        flag: String,
        /// The flags that begin so.
        candidates: String,
    },
    /// A word that belongs to no flag.
    #[error("'{0}' belongs to no flag: flags begin with --, and one .json file of arguments may stand among them")]
    Stray(String),
    /// More than one argument file.
    #[error("'{1}' is a second argument file after '{0}': give one, and flags to override it")]
    SecondFile(String, String),
    /// An argument file that cannot be read.
    #[error("argument file {file}: {reason}")]
    File {
        /// The argument file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value of the wrong kind.
    #[error("{origin}: {reason}")]
    Value {
        /// Where it was given.
        origin: Origin,
        /// What was expected and what was found.
        reason: String,
    },
    /// An argument that Python has and this program has not.
    #[error("{origin} is not supported here: {why}")]
    Refused {
        /// Where it was given.
        origin: Origin,
        /// The reason.
        why: String,
    },
    /// Arguments that do not fit together, or are missing.
    #[error("{0}")]
    Rule(String),
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// By this flag.
    Flag(String),
    /// By a key of an argument file.
    File {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::File { file, key } => write!(f, "{file}: key \"{key}\""),
        }
    }
}

/// The arguments that were given, in order, each with where.
pub(super) struct Given(Vec<(&'static Flag, Origin)>);

impl Given {
    /// Whether `name` was given at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(flag, _)| flag.name == name)
    }
}

/// Reads a command line without the program's own name.
///
/// The argument file is read first, wherever it stands; flags override it, later ones earlier ones.
///
/// # Errors
///
/// [`ArgsError`] for anything that cannot be followed; its text is one line for the user.
pub fn parse(task: Task, words: impl IntoIterator<Item = OsString>) -> Result<Parsed, ArgsError> {
    let words = words
        .into_iter()
        .map(|word| word.into_string().map_err(|word| ArgsError::NotUnicode(format!("{word:?}"))))
        .collect::<Result<Vec<_>, _>>()?;
    for word in &words {
        match word.as_str() {
            "-h" => return Ok(Parsed::Help(help::short(task))),
            "--help" => return Ok(Parsed::Help(help::long(task))),
            "-V" | "--version" => {
                return Ok(Parsed::Version(format!("{} {}", task.binary(), env!("CARGO_PKG_VERSION"))));
            }
            "--" => break,
            _ => {}
        }
    }
    let line = split(task, &words)?;
    let mut args = Arguments::defaults(task);
    let mut given = Given(Vec::new());
    if let Some(file) = line.file {
        read_file(file, &mut args, &mut given)?;
    }
    for (flag, name, words) in line.flags {
        let origin = Origin::Flag(name);
        set(flag, &origin, (flag.set_words)(&mut args, &words))?;
        given.0.push((flag, origin));
    }
    if args.beyond.device == "list" {
        return Ok(Parsed::DeviceList);
    }
    refuse(&mut args, &given)?;
    check::check(&mut args, &given)?;
    Ok(Parsed::Run(Box::new(args)))
}

/// A command line, cut into its parts.
#[derive(Default)]
struct Line<'a> {
    file: Option<&'a str>,
    /// Each flag, its name as the user should see it, and the words that belong to it.
    flags: Vec<(&'static Flag, String, Vec<&'a str>)>,
}

fn split(task: Task, words: &[String]) -> Result<Line<'_>, ArgsError> {
    let defaults = Arguments::defaults(task);
    let mut line = Line::default();
    let mut rest = words.iter().map(String::as_str).peekable();
    while let Some(word) = rest.next() {
        if word == "--" {
            for word in rest.by_ref() {
                line.positional(word)?;
            }
            break;
        }
        if !is_flag(word) {
            line.positional(word)?;
            continue;
        }
        let (written, attached) = match word.split_once('=') {
            Some((written, value)) => (written, Some(value)),
            None => (word, None),
        };
        let Some(written) = written.strip_prefix("--") else {
            return Err(ArgsError::UnknownFlag {
                flag: written.trim_start_matches('-').into(),
                hint: "; flags begin with two dashes".into(),
            });
        };
        let (flag, negated) = find(task, &defaults, written)?;
        if negated {
            let name = format!("no_{}", flag.name);
            if let Some(value) = attached {
                return Err(ArgsError::Value {
                    origin: Origin::Flag(name),
                    reason: format!("takes no value, found '{value}'"),
                });
            }
            line.flags.push((flag, name, vec!["false"]));
            continue;
        }
        let mut values: Vec<&str> = attached.into_iter().collect();
        if attached.is_none() {
            let most = if flag.arity == Arity::Many { usize::MAX } else { 1 };
            while values.len() < most {
                let optional = flag.arity == Arity::ZeroOrOne || !values.is_empty();
                let wanted = |word: &&str| !is_flag(word) && (!optional || flag.json_files || !word.ends_with(".json"));
                match rest.next_if(wanted) {
                    Some(value) => values.push(value),
                    None => break,
                }
            }
        }
        line.flags.push((flag, flag.name.into(), values));
    }
    Ok(line)
}

impl<'a> Line<'a> {
    fn positional(&mut self, word: &'a str) -> Result<(), ArgsError> {
        if !word.ends_with(".json") {
            return Err(ArgsError::Stray(word.into()));
        }
        match self.file.replace(word) {
            Some(first) => Err(ArgsError::SecondFile(first.into(), word.into())),
            None => Ok(()),
        }
    }
}

/// Whether a word is a flag: it begins with a dash, and is neither a negative number nor a text with spaces.
fn is_flag(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or_default();
    word.len() > 1 && word.starts_with('-') && !name.contains(' ') && word.parse::<f64>().is_err()
}

/// Names of earlier versions of the scripts, and of their ancestors.
const RENAMED: &[(&str, &str)] = &[
    ("evaluation_strategy", "eval_strategy"),
    ("evaluate_during_training", "eval_strategy"),
    ("torch_dtype", "dtype"),
    ("use_auth_token", "token"),
    ("train_data_file", "train_file"),
    ("eval_data_file", "validation_file"),
    ("cpu", "use_cpu"),
];

/// The flag that `written` names, and whether as its `--no_…` form. Unambiguous beginnings count, as in `argparse`.
fn find(task: Task, defaults: &Arguments, written: &str) -> Result<(&'static Flag, bool), ArgsError> {
    let name = written.replace('-', "_");
    let forms = || {
        let mine = flags().filter(|flag| flag.tasks.contains(&task));
        mine.flat_map(|flag| {
            let negation = flag.has_negation(defaults).then(|| (format!("no_{}", flag.name), flag, true));
            std::iter::once((flag.name.to_string(), flag, false)).chain(negation)
        })
    };
    if let Some((_, flag, negated)) = forms().find(|(form, ..)| *form == name) {
        return Ok((flag, negated));
    }
    if let Some(flag) = flags().find(|flag| flag.name == name) {
        return Err(other_program(task, flag, Origin::Flag(name)));
    }
    if !name.is_empty() {
        let mut candidates: Vec<_> = forms().filter(|(form, ..)| form.starts_with(&name)).collect();
        if candidates.iter().any(|(_, flag, _)| flag.group != Group::Beyond) {
            // A beginning that is clear among Python's flags stays clear.
            candidates.retain(|(_, flag, _)| flag.group != Group::Beyond);
        }
        match candidates.as_slice() {
            [] => {}
            [(_, flag, negated)] => return Ok((flag, *negated)),
            several => {
                let names: Vec<_> = several.iter().map(|(form, ..)| format!("--{form}")).collect();
                return Err(ArgsError::Ambiguous { flag: written.into(), candidates: names.join(", ") });
            }
        }
    }
    let nearest = nearest(task, &name);
    let hint = match nearest.as_slice() {
        [] => format!("; {} --help lists them all", task.binary()),
        names => format!("; did you mean --{}?", names.join(" or --")),
    };
    Err(ArgsError::UnknownFlag { flag: written.into(), hint })
}

/// The arguments that a wrong name may have meant, at most three.
fn nearest(task: Task, name: &str) -> Vec<&'static str> {
    let names = || flags().filter(|flag| flag.tasks.contains(&task)).map(|flag| flag.name);
    if let Some((_, renamed)) = RENAMED.iter().find(|(old, _)| *old == name) {
        return vec![renamed];
    }
    let parts: Vec<&str> = name.split('_').filter(|part| part.len() > 1).collect();
    if !parts.is_empty() {
        let containing = names().filter(|candidate| parts.iter().all(|part| candidate.contains(part)));
        let containing: Vec<_> = containing.take(3).collect();
        if !containing.is_empty() {
            return containing;
        }
    }
    closest(name, names()).into_iter().collect()
}

/// The candidate that a wrong word is most like, if it is like one at all.
pub(crate) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(candidate, word), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate)
}

fn other_program(task: Task, flag: &Flag, origin: Origin) -> ArgsError {
    let programs: Vec<_> = flag.tasks.iter().map(|task| task.binary()).collect();
    ArgsError::OtherProgram { origin, programs: programs.join(" and "), program: task.binary() }
}

fn read_file(file: &str, args: &mut Arguments, given: &mut Given) -> Result<(), ArgsError> {
    let fail = |reason: String| ArgsError::File { file: file.into(), reason };
    let text = std::fs::read_to_string(Path::new(file)).map_err(|error| fail(format!("cannot be read: {error}")))?;
    let json: Json = serde_json::from_str(&text).map_err(|error| fail(format!("is not JSON: {error}")))?;
    let Json::Object(map) = json else {
        return Err(fail("must hold one object, such as {\"do_train\": true}".into()));
    };
    for (key, value) in &map {
        let origin = Origin::File { file: file.into(), key: key.clone() };
        let Some(flag) = flags().find(|flag| flag.name == key) else {
            let names: Vec<_> =
                nearest(args.task, &key.replace('-', "_")).iter().map(|name| format!("\"{name}\"")).collect();
            let hint = if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) };
            return Err(ArgsError::UnknownKey { file: file.into(), key: key.clone(), hint });
        };
        if !flag.tasks.contains(&args.task) {
            return Err(other_program(args.task, flag, origin));
        }
        set(flag, &origin, (flag.set_json)(args, value))?;
        given.0.push((flag, origin));
    }
    Ok(())
}

/// The outcome of reading a value. What is refused is refused whatever its value looks like.
fn set(flag: &Flag, origin: &Origin, outcome: Result<(), String>) -> Result<(), ArgsError> {
    outcome.map_err(|reason| match flag.status {
        Status::Refused(why) => ArgsError::Refused { origin: origin.clone(), why: why.into() },
        _ => ArgsError::Value { origin: origin.clone(), reason },
    })
}

/// Refuses what was asked for and is not supported, and notes what has no effect.
fn refuse(args: &mut Arguments, given: &Given) -> Result<(), ArgsError> {
    let defaults = Arguments::defaults(args.task);
    for (index, (flag, origin)) in given.0.iter().enumerate() {
        let overridden = given.0.iter().skip(index + 1).any(|(later, _)| later.name == flag.name);
        let (value, default) = (flag.value(args), flag.value(&defaults));
        let as_default = value == default || (training::is_off(&value) && training::is_off(&default));
        if overridden || as_default {
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
