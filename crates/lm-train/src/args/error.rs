//! What is said of a command line that cannot be followed.

use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Flag, Status, flags, is_secret};

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
    #[error("{origin} belongs to {programs}: {program} does not have it{instead}")]
    OtherProgram {
        /// Where it was given.
        origin: Origin,
        /// The programs that have it.
        programs: String,
        /// The program that runs.
        program: &'static str,
        /// What it has in its place, if it has something.
        instead: String,
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

impl ArgsError {
    /// The error of a value that cannot be read. What is refused is refused whatever its value looks like.
    pub(super) fn of_value(flag: &Flag, origin: Origin, reason: String) -> Self {
        match flag.status {
            Status::Refused(why) => Self::Refused { origin, why: why.into() },
            // The reason repeats the value.
            _ if is_secret(flag.name) => Self::Value { origin, reason: "expected one text".into() },
            _ => Self::Value { origin, reason },
        }
    }

    /// What clap found, in this program's words. `file` is the argument file, where its keys are being read.
    pub(super) fn of_clap(error: &clap::Error, file: Option<&str>) -> Self {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.as_str(),
            _ => "",
        };
        let shown = context(ContextKind::InvalidArg);
        let name = shown.trim_start_matches('-').split([' ', '=', '[', '<']).next().unwrap_or_default();
        let origin = || match file {
            Some(file) => Origin::File { file: file.into(), key: name.into() },
            None => Origin::Flag(name.into()),
        };
        match (flags().find(|flag| flag.name == name), error.kind()) {
            (Some(flag), ErrorKind::ValueValidation) => {
                Self::of_value(flag, origin(), context(ContextKind::Custom).into())
            }
            (Some(flag), _) => Self::of_value(flag, origin(), format!("expected {}, found nothing", (flag.expected)())),
            (None, ErrorKind::TooManyValues) => {
                let reason = format!("takes no value, found '{}'", context(ContextKind::InvalidValue));
                Self::Value { origin: origin(), reason }
            }
            (None, ErrorKind::ValueValidation) => Self::Stray(context(ContextKind::InvalidValue).into()),
            (None, _) => Self::Stray(shown.into()),
        }
    }
}

/// The error of a line, unless what it asks for holds.
pub(super) fn rule(holds: bool, line: impl FnOnce() -> String) -> Result<(), ArgsError> {
    if holds { Ok(()) } else { Err(ArgsError::Rule(line())) }
}
