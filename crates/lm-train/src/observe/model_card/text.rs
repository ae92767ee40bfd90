//! Numbers and names as Python, Markdown and YAML write them.

use std::fmt::Write;

use crate::observe::LogValue;
use crate::observe::format::python_float;

/// Python's `_maybe_round`: four decimals when there are more.
pub(super) fn rounded(value: &LogValue) -> String {
    match value {
        LogValue::Text(text) => text.clone(),
        LogValue::Integer(count) => count.to_string(),
        LogValue::Number(number) => {
            let text = python_float(*number);
            let is_long = text.split_once('.').is_some_and(|(_, decimals)| decimals.len() > 4);
            if is_long { format!("{number:.4}") } else { text }
        }
    }
}

/// A name as Markdown's text, where nothing in it has a meaning: no link, no HTML, no new line.
pub(super) fn markdown(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut before = ' ';
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        // Within a word, an underscore is only that.
        let in_word = before.is_alphanumeric() && letters.peek().is_some_and(|next| next.is_alphanumeric());
        match letter {
            '_' if in_word => text.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '#' | '!' => text.extend(['\\', letter]),
            _ if letter.is_control() => text.push(' '),
            _ => text.push(letter),
        }
        before = letter;
    }
    text
}

/// A value that may have several lines, each without a meaning in Markdown.
pub(super) fn markdown_lines(value: &str) -> String {
    value.split('\n').map(markdown).collect::<Vec<_>>().join("\n")
}

/// A name as the path of a web address.
pub(super) fn url_path(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => path.push(byte.into()),
            _ => {
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    path
}

/// A string as Python's code writes it: on one line, without a control character.
pub(super) fn python_string(text: &str) -> String {
    let hide = |letter: char| match letter {
        '"' | '\\' => format!("\\{letter}"),
        _ if letter.is_control() => format!("\\x{:02x}", u32::from(letter)),
        _ => letter.to_string(),
    };
    format!("\"{}\"", text.chars().map(hide).collect::<String>())
}

/// A number as PyYAML writes it.
pub(super) fn yaml_number(value: &LogValue) -> String {
    match value {
        LogValue::Number(number) if number.is_nan() => ".nan".to_owned(),
        LogValue::Number(number) if number.is_infinite() => if *number > 0.0 { ".inf" } else { "-.inf" }.to_owned(),
        LogValue::Number(number) => {
            let text = python_float(*number);
            if text.contains('.') { text } else { text.replace('e', ".0e") }
        }
        LogValue::Integer(count) => count.to_string(),
        LogValue::Text(text) => yaml_string(text),
    }
}

/// A string for YAML: plain where nothing in it has a meaning there, else quoted.
pub(super) fn yaml_string(text: &str) -> String {
    if text.chars().any(char::is_control) {
        // A JSON string is a YAML string, but JSON lets DEL and what follows it stand.
        let json = serde_json::Value::from(text).to_string();
        let hide = |letter: char| match letter.is_control() {
            true => format!("\\u{:04x}", u32::from(letter)),
            false => letter.to_string(),
        };
        return json.chars().map(hide).collect();
    }
    let starts_plainly = text.starts_with(|first: char| first.is_alphanumeric() || "_/.\\".contains(first));
    let has_syntax = text.contains(": ") || text.contains(" #") || text.ends_with([':', ' ']);
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_word = words.contains(&text.to_lowercase().as_str());
    let is_number_or_date = text.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && text.chars().all(|letter| letter.is_ascii_hexdigit() || "_.:+-xoTtZz ".contains(letter));
    if starts_plainly && !has_syntax && !is_word && !is_number_or_date && text.parse::<f64>().is_err() {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_as_python_writes_them() {
        let shown = [5e-5, 1e-4, 0.1, 3.0, 1e15, 1e16, 1.5e-7, -2.0, f64::NAN].map(python_float);
        assert_eq!(shown, ["5e-05", "0.0001", "0.1", "3.0", "1000000000000000.0", "1e+16", "1.5e-07", "-2.0", "nan"]);
        assert_eq!([5e-5, 0.25].map(|number| yaml_number(&number.into())), ["5.0e-05", "0.25"]);
    }

    #[test]
    fn strings_with_a_meaning_in_yaml_are_quoted() {
        let strings = [
            "bert-base-uncased",
            "/models/my bert",
            "a: b",
            "true",
            "1e5",
            "2024-01-01",
            "it's: so",
            "- x",
            "",
            "a\nb",
            "#1",
            "C:\\m",
        ];
        let expected = [
            "bert-base-uncased",
            "/models/my bert",
            "'a: b'",
            "'true'",
            "'1e5'",
            "'2024-01-01'",
            "'it''s: so'",
            "'- x'",
            "''",
            r#""a\nb""#,
            "'#1'",
            "C:\\m",
        ];
        assert_eq!(strings.map(yaml_string), expected);
    }
}
