//! JSON as Python's `json.loads` reads it, to whom NaN, Infinity and numbers beyond a float's range are values.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// Parses JSON that Python may have written. There is no JSON for NaN, which becomes `null`; what is infinite becomes the
/// largest number.
///
/// # Errors
/// If it is JSON for Python neither, or not of this type.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(text).or_else(|error| match standard(text) {
        Cow::Owned(text) => serde_json::from_slice(&text),
        Cow::Borrowed(_) => Err(error),
    })
}

/// As [`from_slice`], of text.
///
/// # Errors
/// As there.
pub fn from_str<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    from_slice(text.as_bytes())
}

/// The text with `null` for NaN and the largest number for what is infinite, on the same lines.
fn standard(text: &[u8]) -> Cow<'_, [u8]> {
    replace_words(text, standard_value)
}

/// The text with what `value` gives in place of a name or number outside of strings, on the same lines.
pub fn replace_words(text: &[u8], value: impl Fn(&[u8]) -> Option<String>) -> Cow<'_, [u8]> {
    let (mut written, mut copied, mut at) = (Vec::new(), 0, 0);
    while let Some(&byte) = text.get(at) {
        let end = at + if byte == b'"' { string(&text[at..]) } else { word(&text[at..]).max(1) };
        if let Some(value) = value(&text[at..end]) {
            written.extend_from_slice(&text[copied..at]);
            written.extend_from_slice(value.as_bytes());
            copied = end;
        }
        at = end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    written.extend_from_slice(&text[copied..]);
    Cow::Owned(written)
}

/// Bytes of the string that begins here, quotes included.
fn string(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Bytes of the name or number that begins here.
fn word(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count()
}

fn standard_value(word: &[u8]) -> Option<String> {
    let (sign, size) = word.strip_prefix(b"-").map_or(("", word), |size| ("-", size));
    let infinite = match size {
        b"NaN" => return Some("null".into()),
        b"Infinity" | b"Inf" => true,
        [b'0'..=b'9', ..] => std::str::from_utf8(size).is_ok_and(|size| size.parse() == Ok(f64::INFINITY)),
        _ => false,
    };
    infinite.then(|| format!("{sign}{:e}", f64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_python_reads() {
        let text =
            r#"{"a": NaN, "b": [Infinity, -Infinity,1e999,-1e999], "c": "NaN, \" Infinity", "d": 1e30, "e": -0.5}"#;
        let expected = json!({"a": null, "b": [f64::MAX, f64::MIN, f64::MAX, f64::MIN], "c": "NaN, \" Infinity", "d": 1e30, "e": -0.5});
        assert_eq!(from_str::<Value>(text).expect("JSON"), expected);
        assert_eq!(from_str::<Value>("NaN").expect("JSON"), Value::Null);
    }

    #[test]
    fn what_python_refuses() {
        for text in ["", "{", "nan", "+Infinity", "NaNa", "{\"a\": NaN", "\"NaN", "{NaN: 1}", "[1,]", "\u{feff}{}"] {
            assert!(from_str::<Value>(text).is_err(), "{text}");
        }
        // The line is that of the file, whatever was replaced before.
        assert_eq!(from_str::<Value>("[NaN,\nInfinity,\n oops]").expect_err("no JSON").line(), 3);
    }
}
