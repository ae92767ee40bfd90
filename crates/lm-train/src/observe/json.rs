//! Records and states as Python's `json` writes and reads them, NaN included.

pub use lm_files::json::{number, stand_in, to_string, with_stand_ins as from_str};

/// A field that is a number or null, for `#[serde(with = "json::optional")]`.
pub mod optional {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Serialize, Serializer};
    use serde_json::Value;

    use super::{number, stand_in};

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
