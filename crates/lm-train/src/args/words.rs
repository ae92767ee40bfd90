//! The small step before clap: what people write, spelled as clap reads it.
//!
//! Dashes mixed with underscores, beginnings that are clear among Python's flags, `--do_train False`, values that begin
//! with a dash, and an argument file behind a list.

use super::flag::flags_of;
use super::value::Arity;
use super::{ArgsError, Arguments, Flag, Group, Origin, Task, flags, suggest};

/// The words with every flag under its full name, and its value attached where clap would not take it for one.
pub(super) fn spelled_out(task: Task, words: &[String]) -> Result<Vec<String>, ArgsError> {
    let defaults = Arguments::defaults(task);
    let mut spelled = Vec::new();
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        if word == "--" {
            spelled.push(word.clone());
            spelled.extend(rest.by_ref().cloned());
            break;
        }
        if !is_flag(word) {
            spelled.push(word.clone());
            continue;
        }
        let (written, attached) = match word.split_once('=') {
            Some((written, value)) => (written, Some(value)),
            None => (word.as_str(), None),
        };
        let Some(written) = written.strip_prefix("--") else {
            return Err(ArgsError::UnknownFlag {
                flag: written.trim_start_matches('-').into(),
                hint: "; flags begin with two dashes".into(),
            });
        };
        let (flag, name) = find(task, &defaults, written)?;
        let is_value = |word: &&String| match flag.arity {
            _ if is_flag(word) || name != flag.name => false,
            Arity::One => word.starts_with('-'),
            Arity::ZeroOrOne => !word.ends_with(".json"),
            Arity::Many => false,
        };
        if let Some(value) = attached.or_else(|| rest.next_if(is_value).map(String::as_str)) {
            spelled.push(format!("--{name}={value}"));
            continue;
        }
        spelled.push(format!("--{name}"));
        if flag.arity == Arity::Many && !flag.json_files {
            // The first word is a value whatever it looks like.
            spelled.extend(rest.next_if(|word| !is_flag(word)).cloned());
            while let Some(word) = rest.next_if(|word| !is_flag(word)) {
                let place = if word.ends_with(".json") { 0 } else { spelled.len() };
                spelled.insert(place, word.clone());
            }
        }
    }
    Ok(spelled)
}

/// Whether a word is a flag: it begins with a dash, and is neither a negative number nor a text with spaces.
fn is_flag(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or_default();
    word.len() > 1 && word.starts_with('-') && !name.contains(' ') && word.parse::<f64>().is_err()
}

/// The flag that `written` names, and its full name, `no_…` if it is negated. Unambiguous beginnings count, as in `argparse`.
fn find(task: Task, defaults: &Arguments, written: &str) -> Result<(&'static Flag, String), ArgsError> {
    let name = written.replace('-', "_");
    let forms = || {
        flags_of(task).flat_map(|flag| {
            let names = std::iter::once(flag.name.to_string()).chain(flag.negation(defaults));
            names.map(move |name| (flag, name))
        })
    };
    if let Some(exact) = forms().find(|(_, form)| *form == name) {
        return Ok(exact);
    }
    if let Some(flag) = flags().find(|flag| flag.name == name) {
        return Err(other_program(task, flag, Origin::Flag(name)));
    }
    if !name.is_empty() {
        let mut candidates: Vec<_> = forms().filter(|(_, form)| form.starts_with(&name)).collect();
        if candidates.iter().any(|(flag, _)| flag.group != Group::Beyond) {
            // A beginning that is clear among Python's flags stays clear.
            candidates.retain(|(flag, _)| flag.group != Group::Beyond);
        }
        match candidates.as_slice() {
            [] => {}
            [only] => return Ok(only.clone()),
            // What is meant is known better than by its beginning.
            _ if suggest::other_name(&name).is_some() => {}
            several => {
                let names: Vec<_> = several.iter().map(|(_, form)| format!("--{form}")).collect();
                return Err(ArgsError::Ambiguous { flag: written.into(), candidates: names.join(", ") });
            }
        }
    }
    let hint = match suggest::nearest(task, &name).as_slice() {
        [] => format!("; {} --help lists them all", task.binary()),
        names => format!("; did you mean --{}?", names.join(" or --")),
    };
    Err(ArgsError::UnknownFlag { flag: written.into(), hint })
}

/// Flags of different programs for the same thing.
const COUNTERPARTS: &[[&str; 2]] = &[["max_seq_length", "block_size"], ["mlm_probability", "plm_probability"]];

/// The error of an argument that only other programs have.
pub(super) fn other_program(task: Task, flag: &Flag, origin: Origin) -> ArgsError {
    let programs: Vec<_> = flag.tasks.iter().map(|task| task.binary()).collect();
    let instead = COUNTERPARTS.iter().find_map(|pair| {
        let at = pair.iter().position(|name| *name == flag.name)?;
        let counterpart = flags_of(task).find(|other| other.name == pair[1 - at])?;
        Some(format!("; its own is --{}", counterpart.name))
    });
    let instead = instead.unwrap_or_default();
    ArgsError::OtherProgram { origin, programs: programs.join(" and "), program: task.binary(), instead }
}
