//! JSON as Python's `json` writes and reads it: with `NaN`, `Infinity` and `-Infinity`, for which JSON itself, and so
//! serde_json, has no name.
//!
//! On their way through serde_json the three are strings that begin with a NUL, as no text of a run does.

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;
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

/// Reads what [`to_string`] or Python wrote.
///
/// # Errors
/// When the text is no JSON, or not of this type.
pub fn from_str<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    let stand_in = |word: &[u8]| NAMES.iter().find(|(name, _)| name.as_bytes() == word).map(|(name, _)| quoted(name));
    serde_json::from_slice(&lm_files::json::replace_words(text.as_bytes(), stand_in))
}

/// How serde_json writes a stand-in.
fn quoted(name: &str) -> String {
    format!("\"\\u0000{name}\"")
}

/// A field that is a number or null, for `#[serde(with = "json::optional")]`.
pub mod optional {
    use super::*;

    /// Writes it.
    pub fn serialize<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match number.and_then(stand_in) {
            Some(text) => serializer.serialize_str(&text),
            None => number.serialize(serializer),
        }
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let found = match &value {
            Value::Null => return Ok(None),
            Value::String(text) => number(text),
            value => value.as_f64(),
        };
        found.map(Some).ok_or_else(|| serde::de::Error::custom(format!("expected a number, found {value}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_a_name_in_json_have_pythons() {
        let stand_in = |number| Value::String(stand_in(number).expect("not finite"));
        let list = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(stand_in);
        let text = to_string(&list, "").expect("JSON");
        assert_eq!(text, "[NaN,Infinity,-Infinity]");
        assert_eq!(from_str::<Vec<Value>>(&text).expect("read"), list);
        assert_eq!(to_string(&list, "  ").expect("JSON"), "[\n  NaN,\n  Infinity,\n  -Infinity\n]");
        let numbers: Vec<f64> = list.iter().filter_map(|value| number(value.as_str()?)).collect();
        assert!(numbers[0].is_nan() && numbers[1..] == [f64::INFINITY, f64::NEG_INFINITY]);
    }

    #[test]
    fn text_stays_text() {
        let text = r#"{"a Infinity":"NaN \" Infinity \\","b":-Infinity,"ü":"\\","c":NaN}"#;
        let value: Value = from_str(text).expect("read");
        assert_eq!(value["a Infinity"], "NaN \" Infinity \\");
        assert_eq!(to_string(&value, "").expect("JSON"), text);
        for broken in ["{\"a\": Infinit", "NaNNaN", "[-]", "\u{fffd}Infinity", "\"\\"] {
            assert!(from_str::<Value>(broken).is_err(), "{broken}");
        }
    }
}
