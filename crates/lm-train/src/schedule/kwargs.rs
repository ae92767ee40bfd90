//! `--lr_scheduler_kwargs`.

use serde_json::{Map, Value};

/// Why a schedule cannot be built.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ScheduleError {
    /// A keyword that the schedule does not have.
    #[error("--lr_scheduler_kwargs: {kind} has no argument '{name}', it takes {known}", known = names(known))]
    UnknownKwarg {
        /// The schedule.
        kind: &'static str,
        /// The keyword as given.
        name: String,
        /// The keywords of this schedule.
        known: Vec<&'static str>,
    },
    /// A keyword with a value that the schedule cannot use.
    #[error("--lr_scheduler_kwargs: {kind}: {problem}")]
    BadKwarg {
        /// The schedule.
        kind: &'static str,
        /// What is wrong with which keyword, and what to write instead.
        problem: String,
    },
    /// The peak rate is not a finite number ≥ 0.
    #[error("--learning_rate {0}: expected a finite number of at least 0")]
    BadPeak(f64),
    /// State of a plateau schedule given to another kind, or none given to a plateau schedule.
    #[error(
        "the checkpoint's schedule state does not belong to a {0} schedule; resume with the --lr_scheduler_type of the checkpoint"
    )]
    OtherSchedule(&'static str),
}

/// Reads keywords by name and remembers which names the schedule has.
pub struct Kwargs<'a> {
    kind: &'static str,
    given: &'a Map<String, Value>,
    known: Vec<&'static str>,
    takes_none: bool,
}

impl<'a> Kwargs<'a> {
    /// Those given to the schedule of this name.
    pub fn new(kind: &'static str, given: &'a Map<String, Value>) -> Self {
        Self { kind, given, known: Vec::new(), takes_none: false }
    }

    /// Python's `get_scheduler` hands this schedule no keywords at all: what is given changes nothing.
    pub fn take_none(&mut self) {
        self.takes_none = true;
    }

    /// A keyword's fault.
    pub fn bad(&self, problem: String) -> ScheduleError {
        ScheduleError::BadKwarg { kind: self.kind, problem }
    }

    /// A number, or `None` when absent or `null`.
    pub fn optional_number(&mut self, name: &'static str) -> Result<Option<f64>, ScheduleError> {
        self.known.push(name);
        match self.given.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.bad(format!("{name} must be a number, not {value}"))),
            },
        }
    }

    /// A number, or its default.
    pub fn number(&mut self, name: &'static str, default: f64) -> Result<f64, ScheduleError> {
        match self.optional_number(name)? {
            Some(number) => Ok(number),
            None if self.given.contains_key(name) => Err(self.bad(format!("{name} must be a number, not null"))),
            None => Ok(default),
        }
    }

    /// One of several words, each with what it means.
    pub fn choice<T: Copy>(&mut self, name: &'static str, of: &[(&str, T)], default: T) -> Result<T, ScheduleError> {
        self.known.push(name);
        let Some(value) = self.given.get(name) else {
            return Ok(default);
        };
        let chosen = of.iter().find(|(word, _)| value.as_str() == Some(word));
        chosen.map(|&(_, meaning)| meaning).ok_or_else(|| {
            let words: Vec<_> = of.iter().map(|&(word, _)| word).collect();
            self.bad(format!("{name} must be one of {}, not {value}", names(&words)))
        })
    }

    /// Keywords that were given and change nothing.
    ///
    /// # Errors
    /// If the schedule has no keyword of a name that was given.
    pub fn unused(self) -> Result<Vec<String>, ScheduleError> {
        let mut unknown = self.given.keys().filter(|name| !self.known.contains(&name.as_str()));
        match unknown.next() {
            _ if self.takes_none => Ok(self.given.keys().cloned().collect()),
            None => Ok(Vec::new()),
            Some(name) => Err(ScheduleError::UnknownKwarg { kind: self.kind, name: name.clone(), known: self.known }),
        }
    }
}

/// `a, b, c`, or `none` for an empty list.
fn names(list: &[&str]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}
