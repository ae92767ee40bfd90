//! A [`Value`] as clap reads it, and what clap read.

use std::ffi::OsStr;
use std::marker::PhantomData;

use clap::builder::{PossibleValue, TypedValueParser, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::value::Value;

/// What clap reads a `T` with: its errors are in this program's words.
pub(super) fn parser<T: Value>() -> ValueParser {
    ValueParser::new(Word::<T>(PhantomData))
}

/// What was parsed as a `T` under `id`: the words of a list together.
pub(super) fn parsed<T: Value>(matches: &ArgMatches, id: &str) -> Option<T> {
    matches.get_many::<T>(id)?.cloned().reduce(T::and)
}

/// Whether something was given under `id`: a default was not.
pub(super) fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

#[derive(Clone)]
struct Word<T>(PhantomData<fn() -> T>);

impl<T: Value> TypedValueParser for Word<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, word: &OsStr) -> Result<T, clap::Error> {
        T::from_word(&word.to_string_lossy()).map_err(|reason| {
            let mut error = clap::Error::new(ErrorKind::ValueValidation).with_cmd(command);
            if let Some(arg) = arg {
                error.insert(ContextKind::InvalidArg, ContextValue::String(arg.to_string()));
            }
            error.insert(ContextKind::Custom, ContextValue::String(reason));
            error
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let choices = T::choices();
        if choices.is_empty() { None } else { Some(Box::new(choices.into_iter().map(PossibleValue::new))) }
    }
}
