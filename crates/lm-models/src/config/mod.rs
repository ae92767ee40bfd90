//! config.json over the defaults of its architecture, and what else an architecture fixes.

mod error;
mod generation;
mod overrides;
mod rope_parameters;
pub(crate) mod special_floats;
mod special_tokens;
mod types;

use burn::tensor::Device;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::model::{AutoModel, Task};
use crate::weights::Variables;

pub use error::ConfigError;
pub(crate) use error::nearest;
pub use generation::GenerationConfig;
pub use special_tokens::{SpecialIds, Updated, align};
pub use types::{Count, Probability, Size};

/// Name and values of what is kept with the weights, and never trained.
pub type Buffer = (String, Vec<f32>);

/// One `model_type`: Python's classes of its configuration and its model.
#[derive(Debug)]
pub struct Family {
    /// As in config.json.
    pub model_type: &'static str,
    /// What it is trained for.
    pub task: Task,
    /// Python's class with the language-model head, for `architectures` in config.json.
    pub class: &'static str,
    /// Python's `base_model_prefix`: what names in a checkpoint of the bare model lack.
    pub base_model_prefix: &'static str,
    /// Further names of tied parameters (`_tied_weights_keys`), `(alias, parameter)`, as old checkpoints hold them.
    pub ties: &'static [(&'static str, &'static str)],
    /// Buffers that old checkpoints hold although they are computed; `*` stands for one part between dots.
    pub buffers: &'static [&'static str],
    /// Buffers that Python writes beside the parameters, and would miss, with their values.
    pub saved_buffers: fn(&ModelConfig) -> Vec<Buffer>,
    /// How names begin in checkpoints of other programs, `(old, new)`, where the new name is not there as well.
    pub old_names: &'static [(&'static str, &'static str)],
    /// What variables of its TensorFlow 1 program are called here, if such checkpoints are read
    /// (`load_tf_weights_in_...`).
    pub tensorflow1: Option<Variables>,
    /// Parts of names that a checkpoint may have beyond the model's without a word
    /// (`_keys_to_ignore_on_load_unexpected`).
    pub ignore_unexpected: &'static [&'static str],
    /// The fields of Python's default configuration.
    pub defaults: fn() -> Value,
    /// Fields that Python computes from others and writes into config.json. One that `defaults` lacks is computed from what
    /// a model's first configuration says, as by Python's constructor.
    pub derived: fn(&ModelConfig) -> Vec<(&'static str, Value)>,
    /// Python's `attribute_map`: other names for fields.
    pub aliases: &'static [(&'static str, &'static str)],
    /// The most tokens a sequence may have; none for no limit.
    pub max_positions: fn(&ModelConfig) -> Option<usize>,
    /// Whether positions are computed, not looked up in a table (rotary embeddings, ALiBi): a sequence may be longer than
    /// `max_positions` then, if that is asked for.
    pub computes_positions: bool,
    /// A field whose value is supported for short sequences only, with the most tokens of these.
    pub short_only: fn(&ModelConfig) -> Option<(&'static str, usize)>,
    /// Whether positions count from the padding token's id on, so that config.json can't take just any.
    pub positions_from_padding: bool,
    /// Whether Python's class can generate, and has a generation_config.json for that.
    pub generates: bool,
    /// Builds the model with empty parameters.
    pub build: fn(&ModelConfig, &Device) -> Result<AutoModel, ConfigError>,
}

impl Family {
    /// A family without peculiarities and names: an entry of the list has those, and `..` this.
    pub const fn new(
        task: Task,
        defaults: fn() -> Value,
        build: fn(&ModelConfig, &Device) -> Result<AutoModel, ConfigError>,
    ) -> Self {
        Self {
            model_type: "",
            task,
            class: "",
            base_model_prefix: "",
            ties: &[],
            buffers: &[],
            saved_buffers: |_| Vec::new(),
            old_names: &[],
            tensorflow1: None,
            ignore_unexpected: &[],
            defaults,
            derived: |_| Vec::new(),
            aliases: &[],
            max_positions: |config| config.size("max_position_embeddings"),
            computes_positions: false,
            short_only: |_| None,
            positions_from_padding: false,
            generates: !matches!(task, Task::Mlm),
            build,
        }
    }

    /// The name of a field for which `key` may be an alias.
    fn real_name<'a>(&self, key: &'a str) -> &'a str
    where
        Self: 'a,
    {
        self.aliases.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| *name)
    }
}

/// A model's configuration: all fields of config.json over the architecture's defaults.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    family: &'static Family,
    fields: Map<String, Value>,
}

impl ModelConfig {
    /// The fields of a config.json over the family's defaults, as Python's `CONFIG_MAPPING[model_type](**given)`.
    pub fn new(family: &'static Family, mut given: Map<String, Value>) -> Self {
        let mut fields = match (family.defaults)() {
            Value::Object(defaults) => defaults,
            _ => Map::new(),
        };
        rope_parameters::into_fields(&mut given, &fields);
        for (key, value) in given {
            fields.insert(family.real_name(&key).to_owned(), value);
        }
        fields.insert("model_type".into(), family.model_type.into());
        // Both names of the type of the weights are in use; 4.57 writes the new one.
        if let Some(dtype) = fields.remove("torch_dtype") {
            fields.entry("dtype").or_insert(dtype);
        }
        let mut config = Self { family, fields };
        // Python's constructor computes them: what is changed afterwards changes them no more.
        for (name, value) in (family.derived)(&config) {
            config.fields.entry(name).or_insert(value);
        }
        config
    }

    /// The architecture.
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// `model_type` as in config.json.
    pub fn model_type(&self) -> &'static str {
        self.family.model_type
    }

    /// The typed configuration of an architecture.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let read = |fields: Map<String, Value>| serde_json::from_value::<T>(special_floats::numbers(fields.into()));
        read(self.fields.clone()).map_err(|error| {
            // serde does not say where: at fault is the first field that can't be read among the defaults either.
            let defaults = self.defaults();
            let fault = self.fields.iter().find_map(|(key, value)| {
                let mut fields = defaults.clone();
                fields.insert(key.clone(), value.clone());
                Some(self.invalid(key, read(fields).err()?))
            });
            fault.unwrap_or_else(|| ConfigError::Value {
                model_type: self.model_type().into(),
                reason: error.to_string(),
            })
        })
    }

    /// One field, by its name or an alias; none if it is missing or null.
    ///
    /// # Errors
    /// When it has another type.
    pub fn field<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        let value = self.get(key).cloned().unwrap_or_default();
        serde_json::from_value(special_floats::numbers(value))
            .map_err(|error| self.invalid(self.family.real_name(key), error))
    }

    fn invalid(&self, field: &str, error: serde_json::Error) -> ConfigError {
        let value = self.fields.get(field).unwrap_or(&Value::Null);
        let reason = match special_floats::has_nan(value) {
            true => "nothing can be computed with that".to_owned(),
            false => error.to_string(),
        };
        let reason = format!("`{field}` = {}: {reason}", special_floats::shown(value));
        ConfigError::Value { model_type: self.model_type().into(), reason }
    }

    fn defaults(&self) -> Map<String, Value> {
        match (self.family.defaults)() {
            Value::Object(defaults) => defaults,
            _ => Map::new(),
        }
    }

    /// Fails with [`ConfigError::Unsupported`] unless the field is missing, null or one of `supported`.
    pub fn require(&self, field: &'static str, supported: &[Value], hint: &'static str) -> Result<(), ConfigError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if supported.contains(value) => Ok(()),
            Some(value) => Err(ConfigError::Unsupported {
                model_type: self.model_type().into(),
                field,
                value: special_floats::shown(value),
                hint,
            }),
        }
    }

    /// Fails unless the second size divides the first.
    pub fn expect_divisible(&self, name: &str, size: Size, by: &str, parts: Size) -> Result<(), ConfigError> {
        let (size, parts) = (size.get(), parts.get());
        if size.is_multiple_of(parts) {
            return Ok(());
        }
        let reason = format!("`{name}` ({size}) must be a multiple of `{by}` ({parts})");
        Err(ConfigError::Value { model_type: self.model_type().into(), reason })
    }

    /// A field by its name or any alias Python has for it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(self.family.real_name(key))
    }

    /// A field that is a number of things.
    pub fn size(&self, key: &str) -> Option<usize> {
        self.get(key)?.as_u64().map(|n| n as usize)
    }

    /// Sets a field by its name or any alias.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.fields.insert(self.family.real_name(key).to_owned(), value.into());
    }

    /// Sets the id of a special token. One that is lacking is null in config.json if the architecture has it by default,
    /// and else not mentioned, as in Python.
    pub fn set_token(&mut self, key: &str, id: Option<u32>) {
        let default = self.defaults().get(key).is_some_and(|default| !default.is_null());
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

    /// The row of the table of words that is the padding token's, if there is one: torch's `padding_idx`, which counts
    /// negative ids from the end.
    ///
    /// # Errors
    /// When `pad_token_id` is no whole number.
    pub fn padding_row(&self) -> Result<Option<usize>, ConfigError> {
        let vocab = self.vocab_size() as i64;
        let row = self.field::<i64>("pad_token_id")?.map(|id| if id < 0 { vocab + id } else { id });
        Ok(row.filter(|row| (0..vocab).contains(row)).map(|row| row as usize))
    }

    /// The most positions a sequence may have; none when the architecture has no limit.
    pub fn max_positions(&self) -> Option<usize> {
        (self.family.max_positions)(self)
    }

    /// Fails unless sequences of so many tokens can be computed.
    pub fn expect_length(&self, length: usize) -> Result<(), ConfigError> {
        match (self.family.short_only)(self) {
            Some((field, longest)) if length > longest => Err(ConfigError::ShortOnly {
                model_type: self.model_type().into(),
                field,
                value: self.get(field).unwrap_or(&Value::Null).to_string(),
                longest,
                length,
            }),
            _ => Ok(()),
        }
    }

    /// The text of config.json as Python's `save_pretrained` lays it out: sorted keys, two spaces.
    pub fn to_json(&self) -> String {
        let mut fields = self.fields.clone();
        fields.insert("architectures".into(), vec![self.family.class].into());
        fields.extend((self.family.derived)(self).into_iter().map(|(name, value)| (name.to_owned(), value)));
        // Where it was loaded from is no part of a model, and no version of transformers wrote this file.
        fields.remove("_name_or_path");
        fields.remove("transformers_version");
        fields.sort_keys();
        let mut text = lm_files::json::to_string(&fields, "  ").unwrap_or_default();
        text.push('\n');
        text
    }
}

/// Where Python's default is true and config.json need not say so.
pub(crate) fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)] // Only read.
    struct Typed {
        n_embd: Size,
        n_layer: Count,
        n_inner: Option<Size>,
        resid_pdrop: Probability,
        #[serde(default = "yes")]
        tie_word_embeddings: bool,
    }

    #[test]
    fn a_value_that_cannot_be_is_told_by_its_field() {
        let read = |fields: &[(&str, Value)]| {
            let mut config = ModelConfig::from_model_type("gpt2").expect("a known type");
            fields.iter().for_each(|(name, value)| config.set(name, value.clone()));
            config.parse::<Typed>().map_err(|error| error.to_string())
        };
        let typed = read(&[("n_layer", 0.into()), ("resid_pdrop", 1.into()), ("n_inner", i32::MAX.into())]);
        assert_eq!(typed.map(|typed| typed.n_inner.map(Size::get)), Ok(Some(i32::MAX as usize)));
        for (fields, message) in [
            (vec![("n_embd", 0.into())], "`n_embd` = 0: must be at least 1"),
            // By the name that the architecture has for it.
            (vec![("hidden_size", 0.into())], "`n_embd` = 0: must be at least 1"),
            (
                vec![("n_embd", (1u64 << 31).into())],
                "`n_embd` = 2147483648: is more than the 2147483647 that can be had",
            ),
            (vec![("n_layer", u64::MAX.into())], "`n_layer` = 18446744073709551615: is more than"),
            (vec![("n_layer", (-1).into())], "`n_layer` = -1: invalid value"),
            (vec![("n_inner", 0.into())], "`n_inner` = 0: must be at least 1"),
            (vec![("n_embd", 7.5.into())], "`n_embd` = 7.5: invalid type"),
            (vec![("n_embd", "wide".into())], "`n_embd` = \"wide\": invalid type"),
            (vec![("resid_pdrop", 1.5.into())], "`resid_pdrop` = 1.5: must lie in 0 to 1"),
            (vec![("resid_pdrop", (-0.1).into())], "`resid_pdrop` = -0.1: must lie in 0 to 1"),
            (vec![("tie_word_embeddings", "no".into())], "`tie_word_embeddings` = \"no\": invalid type"),
            // The first of several.
            (vec![("resid_pdrop", 2.into()), ("n_embd", 0.into())], "`n_embd` = 0: must be at least 1"),
        ] {
            let error = read(&fields).expect_err(message);
            assert!(error.starts_with(&format!("config of `gpt2`: {message}")), "{error}");
        }
    }
}
