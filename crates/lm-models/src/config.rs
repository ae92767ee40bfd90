//! config.json: reading, defaults, overrides.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::models::{self, Family, Task};
use crate::sizes;

/// The version of Python's `transformers` whose files these are.
pub const TRANSFORMERS_VERSION: &str = "4.57.6";

/// The most bytes of a config.json; real ones have some thousand, and a few hundred thousand where they name labels.
const LONGEST: u64 = 64 << 20;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// config.json can't be read.
    #[error("{}: {source}; a model folder has a config.json, made by Python's save_pretrained or by this program", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// config.json is no JSON object, or not of a model known here.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no `model_type`.
    #[error("{}: `model_type` is missing, and the folder's name has none of the known ones; say it with --model_type: {}", path.display(), models::known_model_types(None))]
    NoModelType {
        /// The file.
        path: PathBuf,
    },
    /// The model type is not one of ours.
    #[error("unknown model_type `{model_type}`{}; known types: {}", nearest.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default(), models::known_model_types(None))]
    UnknownModelType {
        /// As given.
        model_type: String,
        /// The most similar known one.
        nearest: Option<String>,
    },
    /// The architecture belongs to another program.
    #[error("`{model_type}` is a {} model: use {}; this program trains {}", found.noun(), found.binary(), models::known_model_types(Some(*wanted)))]
    WrongTask {
        /// As given.
        model_type: String,
        /// What it is for.
        found: Task,
        /// What this program does.
        wanted: Task,
    },
    /// A value has the wrong type or is missing.
    #[error("config of `{model_type}`: {reason}")]
    Value {
        /// The architecture.
        model_type: String,
        /// Names the field and what is wrong.
        reason: String,
    },
    /// A value that this program can't compute with.
    #[error("config of `{model_type}`: `{field}` = {value} is not supported{hint}")]
    Unsupported {
        /// The architecture.
        model_type: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is, as a continuation of the sentence.
        hint: &'static str,
    },
    /// `--config_overrides` names a field that the architecture does not have.
    #[error("--config_overrides: `{model_type}` has no field `{key}`{}", nearest.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
    UnknownOverride {
        /// The architecture.
        model_type: String,
        /// As given.
        key: String,
        /// The most similar known one.
        nearest: Option<String>,
    },
    /// `--config_overrides` is not `key=value,key=value`, or a value has the wrong type.
    #[error("--config_overrides: `{item}` {reason}")]
    Override {
        /// The part at fault.
        item: String,
        /// What was expected.
        reason: String,
    },
}

/// A model's configuration: all fields of config.json over the architecture's defaults.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    family: &'static Family,
    fields: Map<String, Value>,
}

impl ModelConfig {
    /// Reads `folder/config.json`, or the file itself when `path` is one.
    pub fn from_path(path: &Path) -> Result<Self, ConfigError> {
        Self::from_named_path(path, &path.display().to_string(), None)
    }

    /// The same. For a config.json of before there was a `model_type` it is `model_type`, else the one that `name`, by which
    /// the user calls the folder, speaks of.
    pub fn from_named_path(path: &Path, name: &str, model_type: Option<&str>) -> Result<Self, ConfigError> {
        let file = if path.is_dir() || !path.exists() { path.join("config.json") } else { path.to_owned() };
        let text = lm_files::read_to_string(&file, LONGEST)
            .map_err(|source| ConfigError::Read { path: file.clone(), source })?;
        let value: Value = lm_files::json::from_str(&text)
            .map_err(|e| ConfigError::Invalid { path: file.clone(), reason: format!("no valid JSON: {e}") })?;
        let Value::Object(fields) = value else {
            return Err(ConfigError::Invalid { path: file, reason: "a JSON object was expected".into() });
        };
        let (model_type, source) = match (fields.get("model_type"), model_type) {
            (Some(Value::String(model_type)), _) => (model_type.clone(), None),
            (_, Some(given)) => (given.to_owned(), Some("by --model_type")),
            (_, None) => match models::model_type_in(name) {
                Some(named) => (named.to_owned(), Some("by its name; --model_type can say another")),
                None => return Err(ConfigError::NoModelType { path: file }),
            },
        };
        if let Some(source) = source {
            tracing::info!("{} has no model_type: it is taken for `{model_type}` {source}", file.display());
        }
        Self::new(&model_type, fields).map_err(|e| ConfigError::Invalid { path: file, reason: e.to_string() })
    }

    /// The defaults of an architecture, as Python's `CONFIG_MAPPING[model_type]()`.
    pub fn from_model_type(model_type: &str) -> Result<Self, ConfigError> {
        Self::new(model_type, Map::new())
    }

    fn new(model_type: &str, given: Map<String, Value>) -> Result<Self, ConfigError> {
        let family = models::family(model_type)?;
        let mut fields = match (family.defaults)() {
            Value::Object(defaults) => defaults,
            _ => Map::new(),
        };
        for (key, value) in given {
            fields.insert(Self::real_name(family, &key).to_owned(), value);
        }
        fields.insert("model_type".into(), family.model_type.into());
        // Both names of the type of the weights are in use; 4.57 writes the new one.
        if let Some(dtype) = fields.remove("torch_dtype") {
            fields.entry("dtype").or_insert(dtype);
        }
        Ok(Self { family, fields })
    }

    fn real_name<'a>(family: &'static Family, key: &'a str) -> &'a str {
        family.aliases.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| *name)
    }

    /// The architecture.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// `model_type` as in config.json.
    pub fn model_type(&self) -> &'static str {
        self.family.model_type
    }

    /// Fails unless the architecture is for this task, naming the program it is for.
    pub fn expect_task(&self, wanted: Task) -> Result<(), ConfigError> {
        if self.family.task == wanted {
            return Ok(());
        }
        Err(ConfigError::WrongTask { model_type: self.model_type().into(), found: self.family.task, wanted })
    }

    /// Fails if a probability is none, or if a size, which is positive by default, is not or is larger than any can be.
    pub(crate) fn expect_sane_numbers(&self) -> Result<(), ConfigError> {
        let defaults = (self.family.defaults)();
        let default = |name: &str| defaults.get(name).filter(|_| !name.ends_with("_id"));
        let is_size = |name: &str| default(name).and_then(Value::as_i64) > Some(0);
        let may_be_size = |name: &str| is_size(name) || default(name).is_some_and(Value::is_null);
        for (name, value) in &self.fields {
            let fault = match value.as_f64() {
                Some(number) if name.contains("drop") && !(0.0..=1.0).contains(&number) => "must lie in 0 to 1",
                Some(number) if is_size(name) && !name.contains("layer") && number < 1.0 => "must be at least 1",
                Some(number) if may_be_size(name) && number > sizes::MOST as f64 => {
                    "is more than the 2147483647 that can be had"
                }
                _ => continue,
            };
            let reason = format!("`{name}` = {value} {fault}");
            return Err(ConfigError::Value { model_type: self.model_type().into(), reason });
        }
        Ok(())
    }

    /// The typed configuration of an architecture.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.expect_sane_numbers()?;
        let read = |fields| serde_json::from_value::<T>(Value::Object(fields));
        read(self.fields.clone()).map_err(|error| {
            // serde does not say where: at fault is the field whose default can be read instead.
            let defaults = (self.family.defaults)();
            let at_fault = self.fields.iter().find(|(key, _)| {
                let mut fields = self.fields.clone();
                defaults.get(key).is_some_and(|default| {
                    fields.insert((*key).clone(), default.clone());
                    read(fields).is_ok()
                })
            });
            let place = at_fault.map(|(key, value)| format!("`{key}` = {value}: ")).unwrap_or_default();
            ConfigError::Value { model_type: self.model_type().into(), reason: format!("{place}{error}") }
        })
    }

    /// Fails with [`ConfigError::Unsupported`] unless the field is missing, null or one of `supported`.
    pub fn require(&self, field: &'static str, supported: &[Value], hint: &'static str) -> Result<(), ConfigError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if supported.contains(value) => Ok(()),
            Some(value) => Err(ConfigError::Unsupported {
                model_type: self.model_type().into(),
                field,
                value: value.to_string(),
                hint,
            }),
        }
    }

    /// Fails unless the second size divides the first.
    pub fn expect_divisible(&self, name: &str, size: usize, by: &str, parts: usize) -> Result<(), ConfigError> {
        if parts > 0 && size > 0 && size.is_multiple_of(parts) {
            return Ok(());
        }
        let reason = format!("`{name}` ({size}) must be a multiple of `{by}` ({parts})");
        Err(ConfigError::Value { model_type: self.model_type().into(), reason })
    }

    /// A field by its name or any alias Python has for it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(Self::real_name(self.family, key))
    }

    /// A field that is a number of things.
    pub fn size(&self, key: &str) -> Option<usize> {
        self.get(key)?.as_u64().map(|n| n as usize)
    }

    /// Sets a field by its name or any alias.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.fields.insert(Self::real_name(self.family, key).to_owned(), value.into());
    }

    /// Sets the id of a special token. One that is lacking is null in config.json if the architecture has it by default,
    /// and else not mentioned, as in Python.
    pub fn set_token(&mut self, key: &str, id: Option<u32>) {
        let default = (self.family.defaults)().get(key).is_some_and(|default| !default.is_null());
        if id.is_some() || default {
            self.set(key, id);
        } else {
            self.fields.remove(key);
        }
    }

    /// Number of tokens that the embeddings hold.
    pub fn vocab_size(&self) -> usize {
        self.size("vocab_size").unwrap_or(0)
    }

    /// The most positions a sequence may have; none when the architecture has no limit.
    pub fn max_positions(&self) -> Option<usize> {
        (self.family.max_positions)(self)
    }

    /// Applies `"hidden_size=128,num_hidden_layers=2"`: only fields that exist, each value read as the type that the
    /// field has (Python's `PretrainedConfig.update_from_string`).
    pub fn apply_overrides(&mut self, overrides: &str) -> Result<(), ConfigError> {
        for item in overrides.split(',') {
            let fail = |reason: String| ConfigError::Override { item: item.to_owned(), reason };
            let (key, text) = item.split_once('=').ok_or_else(|| fail("is not of the form key=value".into()))?;
            let (key, text) = (key.trim(), text.trim());
            let name = Self::real_name(self.family, key).to_owned();
            let Some(old) = self.fields.get(&name) else {
                let names = self.fields.keys().map(String::as_str).chain(self.family.aliases.iter().map(|(a, _)| *a));
                let nearest = models::nearest(key, names);
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

    /// The text of config.json as Python's `save_pretrained` lays it out: sorted keys, two spaces.
    pub fn to_json(&self) -> String {
        let mut fields = self.fields.clone();
        fields.insert("architectures".into(), vec![self.family.class].into());
        fields.insert("transformers_version".into(), TRANSFORMERS_VERSION.into());
        if let Some((name, value)) = (self.family.derived)(self) {
            fields.insert(name.into(), value);
        }
        // Where it was loaded from is no part of a model.
        fields.remove("_name_or_path");
        fields.sort_keys();
        let mut text = serde_json::to_string_pretty(&fields).unwrap_or_default();
        text.push('\n');
        text
    }
}
