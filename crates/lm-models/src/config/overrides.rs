//! `--config_overrides`.

use serde_json::Value;

use super::ModelConfig;
use super::error::{ConfigError, nearest};

impl ModelConfig {
    /// Applies `"hidden_size=128,num_hidden_layers=2"`: only fields that exist, each value read as the type that the
    /// field has (Python's `PretrainedConfig.update_from_string`).
    pub fn apply_overrides(&mut self, overrides: &str) -> Result<(), ConfigError> {
        for item in overrides.split(',') {
            let fail = |reason: String| ConfigError::Override { item: item.to_owned(), reason };
            let (key, text) = item.split_once('=').ok_or_else(|| fail("is not of the form key=value".into()))?;
            let (key, text) = (key.trim(), text.trim());
            let name = self.family.real_name(key).to_owned();
            let Some(old) = self.fields.get(&name) else {
                let names = self.fields.keys().map(String::as_str).chain(self.family.aliases.iter().map(|(a, _)| *a));
                let nearest = nearest(key, names);
                return Err(ConfigError::UnknownOverride {
                    model_type: self.model_type().into(),
                    key: key.into(),
                    nearest,
                });
            };
            let value = match old {
                Value::Bool(_) => match text.to_lowercase().as_str() {
                    "true" | "1" | "y" | "yes" => Value::Bool(true),
                    "false" | "0" | "n" | "no" => Value::Bool(false),
                    _ => return Err(fail("needs true or false".into())),
                },
                Value::Number(n) if n.is_f64() => {
                    text.parse::<f64>().ok().map(Value::from).ok_or_else(|| fail("needs a number".into()))?
                }
                Value::Number(_) => {
                    text.parse::<i64>().ok().map(Value::from).ok_or_else(|| fail("needs a whole number".into()))?
                }
                Value::String(_) => Value::String(text.to_owned()),
                Value::Null => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
                Value::Array(_) | Value::Object(_) => {
                    return Err(fail(
                        "can't be set here: only numbers, words and true/false can; use --config_name".into(),
                    ));
                }
            };
            self.fields.insert(name, value);
        }
        Ok(())
    }
}
