//! JSON as Python's `json` reads and writes it: with `NaN`, `Infinity` and `-Infinity`, and numbers beyond a float's range,
//! for which JSON itself, and so serde_json, has no name.
//!
//! Where they are to be kept, they are strings that begin with a NUL on their way through serde_json, as no text of a run
//! does.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::PrettyFormatter;

/// Python's names.
const NAMES: [(&str, f64); 3] = [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)];

/// What stands for a number that is not finite in values that [`to_string`] is to write.
pub fn stand_in(number: f64) -> Option<String> {
    let same = |known: f64| known == number || (known.is_nan() && number.is_nan());
    NAMES.iter().find(|(_, known)| same(*known)).map(|(name, _)| format!("\0{name}"))
}

/// The number that a string stands for, if it does.
pub fn number(text: &str) -> Option<f64> {
    let name = text.strip_prefix('\0')?;
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The text of a value, as `json.dumps(value, indent=…)`: on one line without an `indent`.
///
/// # Errors
/// When the value cannot be written as JSON.
pub fn to_string(value: &impl Serialize, indent: &str) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    if indent.is_empty() {
        value.serialize(&mut serde_json::Serializer::new(&mut bytes))?;
    } else {
        let formatter = PrettyFormatter::with_indent(indent.as_bytes());
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(NAMES.iter().fold(text, |text, (name, _)| text.replace(&quoted(name), name)))
}

/// Reads what [`to_string`] or Python wrote, with stand-ins.
///
/// # Errors
/// When the text is no JSON, or not of this type.
pub fn with_stand_ins<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_slice(&replace_words(text.as_bytes(), |word| {
        let number = not_finite(word)?;
        stand_in(number).map(|text| quoted(&text[1..]))
    }))
}

/// How serde_json writes a stand-in.
fn quoted(name: &str) -> String {
    format!("\"\\u0000{name}\"")
}

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
fn replace_words(text: &[u8], value: impl Fn(&[u8]) -> Option<String>) -> Cow<'_, [u8]> {
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
    let number = not_finite(word)?;
    Some(if number.is_nan() { "null".into() } else { format!("{:e}", f64::MAX.copysign(number)) })
}

/// The number that a word is which JSON has no name for.
fn not_finite(word: &[u8]) -> Option<f64> {
    let size = word.strip_prefix(b"-").unwrap_or(word);
    let infinite = match size {
        b"NaN" => return Some(f64::NAN),
        b"Infinity" => true,
        [b'0'..=b'9', ..] => std::str::from_utf8(size).is_ok_and(|size| size.parse() == Ok(f64::INFINITY)),
        _ => false,
    };
    infinite.then(|| f64::INFINITY.copysign(if size == word { 1.0 } else { -1.0 }))
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

    #[test]
    fn numbers_without_a_name_in_json_have_pythons() {
        let stand_in = |number| Value::String(stand_in(number).expect("not finite"));
        let list = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(stand_in);
        let text = to_string(&list, "").expect("JSON");
        assert_eq!(text, "[NaN,Infinity,-Infinity]");
        assert_eq!(with_stand_ins::<Vec<Value>>(&text).expect("read"), list);
        assert_eq!(to_string(&list, "  ").expect("JSON"), "[\n  NaN,\n  Infinity,\n  -Infinity\n]");
        let numbers: Vec<f64> = list.iter().filter_map(|value| number(value.as_str()?)).collect();
        assert!(numbers[0].is_nan() && numbers[1..] == [f64::INFINITY, f64::NEG_INFINITY]);
    }

    #[test]
    fn text_stays_text() {
        let text = r#"{"a Infinity":"NaN \" Infinity \\","b":-Infinity,"ü":"\\","c":NaN}"#;
        let value: Value = with_stand_ins(text).expect("read");
        assert_eq!(value["a Infinity"], "NaN \" Infinity \\");
        assert_eq!(to_string(&value, "").expect("JSON"), text);
        for broken in ["{\"a\": Infinit", "NaNNaN", "[-]", "\u{fffd}Infinity", "\"\\"] {
            assert!(with_stand_ins::<Value>(broken).is_err(), "{broken}");
        }
    }
}
