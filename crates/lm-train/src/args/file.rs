//! A file of arguments as the words that say the same.

use std::path::Path;

use serde_json::Value as Json;

use super::command::DELIMITER;
use super::value::Arity;
use super::words::other_program;
use super::{ArgsError, Arguments, Flag, Origin, Status, Task, flags, suggest, training};

/// The keys of an argument file as words in front of the command line's own.
///
/// What Python writes for a flag that is refused here and asks for nothing, such as the empty list of `fsdp`, is left out.
pub(super) fn words(task: Task, file: &str) -> Result<Vec<String>, ArgsError> {
    let fail = |reason: String| ArgsError::File { file: file.into(), reason };
    let text = lm_files::read_to_string(Path::new(file), lm_files::SMALL)
        .map_err(|error| fail(format!("cannot be read: {error}")))?;
    let json: Json = lm_files::json::from_str(&text).map_err(|error| fail(format!("is not JSON: {error}")))?;
    let Json::Object(map) = json else {
        return Err(fail("must hold one object, such as {\"do_train\": true}".into()));
    };
    let defaults = Arguments::defaults(task);
    let mut words = Vec::new();
    for (key, value) in &map {
        let origin = Origin::File { file: file.into(), key: key.clone() };
        let Some(flag) = flags().find(|flag| flag.name == key) else {
            return Err(unknown_key(task, file, key));
        };
        if !flag.tasks.contains(&task) {
            return Err(other_program(task, flag, origin));
        }
        let asks_nothing = match flag.status {
            Status::Refused(_) => training::is_off(value),
            Status::SameByNature(_) => training::is_off(value) && training::is_off(&flag.value(&defaults)),
            // Python writes a token as `<HUB_TOKEN>`.
            Status::Supported => {
                (value.is_null() && flag.value(&defaults).is_null()) || training::is_filled_in(flag.name, value)
            }
        };
        if !asks_nothing {
            let word = word(flag, value).map_err(|reason| ArgsError::of_value(flag, origin, reason))?;
            words.push(format!("--{key}={word}"));
        }
    }
    Ok(words)
}

fn unknown_key(task: Task, file: &str, key: &str) -> ArgsError {
    let nearest = suggest::nearest(task, &key.replace('-', "_"));
    let names: Vec<_> = nearest.iter().map(|name| format!("\"{name}\"")).collect();
    let hint = if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) };
    ArgsError::UnknownKey { file: file.into(), key: key.into(), hint }
}

/// The word that says what a key's value says, if its kind is one that the flag can have.
fn word(flag: &Flag, value: &Json) -> Result<String, String> {
    let no_text = matches!(flag.type_name, "bool" | "int" | "float") && flag.choices().is_empty();
    let of_kind = match value {
        Json::Null => flag.nullable,
        Json::Bool(_) => flag.arity == Arity::ZeroOrOne,
        Json::Number(number) => flag.type_name == "float" || (flag.type_name == "int" && !number.is_f64()),
        Json::String(_) => !no_text,
        Json::Array(items) => flag.arity == Arity::Many && items.iter().all(Json::is_string),
        Json::Object(_) => flag.type_name == "dict",
    };
    if !of_kind {
        return Err(format!("expected {}, found {}", (flag.expected)(), kind(value)));
    }
    Ok(match value {
        // Where null may be a text, the empty one says that there is none.
        Json::Null if flag.type_name == "str" => String::new(),
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(&DELIMITER.to_string()),
        other => other.to_string(),
    })
}

/// How an error names a value of JSON.
fn kind(value: &Json) -> String {
    match value {
        Json::Null => "null".into(),
        Json::Bool(value) => format!("{value}"),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) => format!("the text \"{text}\""),
        Json::Array(_) => "a list".into(),
        Json::Object(_) => "an object".into(),
    }
}
