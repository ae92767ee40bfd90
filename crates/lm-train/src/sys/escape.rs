//! Text that comes from files, on its way to a terminal. A name, a key or a line of text may hold what a terminal obeys:
//! colours, a new title, a cursor that moves over what was printed. All that is printed passes here.

use std::borrow::Cow;
use std::fmt::Write;

use crate::sys::secrets;

/// Longer values are cut where a message quotes them.
const MOST_OF_A_VALUE: usize = 200;
/// Longer messages lose their middle: what is wrong stands at the beginning, what to do at the end.
const MOST_OF_A_LINE: usize = 1400;

/// The text with its control characters spelled out (`\u{1b}`), line breaks and tabs excepted.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_obeyed(character) {
            // Writing to a string does not fail.
            let _ = write!(shown, "{}", character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// A word as a shell reads it, as Python's `shlex.quote` writes it.
pub fn shell_word(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_@%+=:,./-".contains(character);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\"'\"'")),
    }
}

/// JSON on one line with the same characters as `\\uXXXX`, so that it stays JSON.
pub fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) {
            // Writing to a string does not fail.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Whether a terminal does something else for this character than to show it: control characters, and those that turn the
/// direction of the text after them.
fn is_obeyed(character: char) -> bool {
    let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
    turns || (character.is_control() && character != '\n' && character != '\t')
}

/// A message for people: visible, without secrets, and every long value in it cut.
pub fn message(text: &str) -> String {
    // A secret that is cut is none that would be known.
    let text = &*secrets::hide(text);
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    // A value is what stands between two quotation marks of a kind, or has no blank in it; a path stays whole.
    while let Some(first) = rest.chars().next() {
        let (value, after) = match first {
            '`' | '"' => split_quoted(rest, first),
            _ if first.is_whitespace() => rest.split_at(first.len_utf8()),
            _ => rest.split_at(rest.find([' ', '\n', '\t', '`', '"']).unwrap_or(rest.len())),
        };
        match value.char_indices().nth(MOST_OF_A_VALUE) {
            Some((end, _)) if !value.contains('/') || "`\"".contains(first) => {
                let _ = write!(shown, "{}…", &value[..end]);
                if "`\"".contains(first) {
                    shown.push(first);
                }
            }
            _ => shown += value,
        }
        rest = after;
    }
    visible(&shown).into_owned()
}

/// Cuts after the quotation mark that closes a value; what never closes is no quotation, and ends at its mark.
fn split_quoted(text: &str, mark: char) -> (&str, &str) {
    let mut escaped = false;
    let end = text[1..].char_indices().find(|(_, character)| {
        let closes = *character == mark && !escaped;
        escaped = *character == '\\' && !escaped;
        closes
    });
    text.split_at(end.map_or(1, |(at, _)| at + 2))
}

/// A message of one line, which an error is: a long one loses its middle.
pub fn line(text: &str) -> String {
    let text = message(text).replace('\n', " ");
    let length = text.chars().count();
    if length <= MOST_OF_A_LINE {
        return text;
    }
    let half = MOST_OF_A_LINE / 2;
    let place = |number: usize| text.char_indices().nth(number).map_or(text.len(), |(at, _)| at);
    format!("{} … {}", &text[..place(half)], &text[place(length - half)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_spelled_out() {
        assert!(matches!(visible("plain é 漢\tand\nmore"), Cow::Borrowed(_)));
        assert_eq!(visible("a\u{1b}[31mred\u{7}\r\u{9b}x\u{202e}y"), r"a\u{1b}[31mred\u{7}\u{d}\u{9b}x\u{202e}y");
    }

    #[test]
    fn json_stays_json() {
        let text = "a\u{7f}\u{9b}b\u{202e}é\u{2028}";
        let shown = json(&serde_json::Value::from(text).to_string());
        assert_eq!(shown, r#""a\u007f\u009bb\u202eé\u2028""#);
        assert_eq!(serde_json::from_str::<String>(&shown).expect("JSON"), text);
    }

    #[test]
    fn long_values_are_cut_and_long_lines_lose_their_middle() {
        let long = "x".repeat(5000);
        let cut = format!("{}…", "x".repeat(200));
        assert_eq!(message(&format!("no column {long}; known: a")), format!("no column {cut} known: a"));
        assert_eq!(message(&format!("`{long} y` is no flag")), format!("`{}…` is no flag", "x".repeat(199)));
        assert_eq!(
            message(&format!("{:?} fails", format!("a\"{long}"))),
            format!("\"a\\\"{}…\" fails", "x".repeat(196))
        );
        let path = format!("/models/{long}");
        assert_eq!(message(&path), path);
        assert_eq!(message("a ` alone, and \" too"), "a ` alone, and \" too");
        let many = format!("first {} last", "word ".repeat(1000));
        let short = line(&many);
        assert!(short.starts_with("first word") && short.ends_with("word  last") && short.contains(" … "), "{short}");
        assert_eq!(short.chars().count(), MOST_OF_A_LINE + 3);
        assert_eq!(line("a\nb"), "a b");
    }
}
