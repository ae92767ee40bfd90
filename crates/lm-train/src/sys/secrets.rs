//! Tokens and passwords that the program was given: no file, no message and no list of processes shows them.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// A shorter one is no secret, and would be found in half of all words.
const SHORTEST: usize = 6;

/// Those known so far.
static KNOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Learns one, which is shown nowhere from here on.
pub fn add(secret: &str) {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if secret.len() >= SHORTEST && !known.iter().any(|other| other == secret) {
        known.push(secret.to_owned());
    }
}

/// The text without any secret.
pub fn hide(text: &str) -> Cow<'_, str> {
    let mut text = hide_credentials(text);
    for secret in KNOWN.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), "…").into();
        }
    }
    text
}

/// The text without what shows by its form that it is a secret: `https://NAME:PASSWORD@HOST`, `hf_…`.
pub fn hide_credentials(text: &str) -> Cow<'_, str> {
    let places = credentials(text);
    if places.is_empty() {
        return text.into();
    }
    let mut hidden = text.to_owned();
    for place in places.into_iter().rev() {
        hidden.replace_range(place, "…");
    }
    hidden.into()
}

/// Where in a text there are secrets that one knows by their form.
pub fn credentials(text: &str) -> Vec<Range<usize>> {
    let mut places: Vec<Range<usize>> = Vec::new();
    for (at, _) in text.match_indices("://") {
        let begin = at + 3;
        let ends = |character: char| character.is_whitespace() || "/?#\"'<>`".contains(character);
        let host = &text[begin..];
        let host = &host[..host.find(ends).unwrap_or(host.len())];
        places.extend(host.rfind('@').filter(|at| *at > 0).map(|at| begin..begin + at));
    }
    for (at, _) in text.match_indices("hf_") {
        let begin = at + 3;
        let rest = &text[begin..];
        let length = rest.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(rest.len());
        if length >= 20 && places.iter().all(|place| !place.contains(&begin)) {
            places.push(begin..begin + length);
        }
    }
    places.sort_by_key(|place| place.start);
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::secrets::learn;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        learn(&["--tokn", "a", "--hub_token=unusual-word", "x"].map(Into::into));
        assert_eq!(hide("'unusual-word' belongs to no flag"), "'…' belongs to no flag");
        assert_eq!(hide("nothing to hide"), "nothing to hide");
        let token = format!("hf_{}", "aB3".repeat(10));
        assert_eq!(hide(&format!("found '{token}'")), "found 'hf_…'");
        assert_eq!(
            hide_credentials(&format!("https://me:{token}@a/b@c and http://x@y")),
            "https://…@a/b@c and http://…@y"
        );
        assert_eq!(
            hide_credentials("hf_home https://host/a@b mailto:me@host"),
            "hf_home https://host/a@b mailto:me@host"
        );
    }
}
