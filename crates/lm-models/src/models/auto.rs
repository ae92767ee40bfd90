//! From a `model_type`, a config.json or the name of a folder to an architecture (Python's `AutoConfig` and `AutoModel`).

use std::path::Path;

use burn::tensor::Device;
use serde_json::{Map, Value, json};

use super::FAMILIES;
use crate::config::{ConfigError, Family, ModelConfig, nearest, special_floats};
use crate::model::{AutoModel, Task};

/// The most bytes of a config.json; real ones have some thousand, and a few hundred thousand where they name labels.
const LONGEST: u64 = 64 << 20;

/// All model types of Python's `CONFIG_MAPPING_NAMES` (transformers 4.57).
const OF_PYTHON: &str = include_str!("python_model_types.txt");

/// The family of a `model_type`.
pub fn family(model_type: &str) -> Result<&'static Family, ConfigError> {
    let known = FAMILIES.iter().find(|family| family.model_type == model_type).copied();
    known.ok_or_else(|| ConfigError::UnknownModelType {
        model_type: model_type.to_owned(),
        nearest: nearest(model_type, FAMILIES.iter().map(|family| family.model_type)),
        known: known_model_types(None),
    })
}

/// The architecture that the name of a folder or of a model on the Hub speaks of, for checkpoints of before there was a
/// `model_type`: the longest name in it, as in Python; an architecture of Python that is not ours is not taken for one of
/// ours whose name it contains. The last part of a path counts before the whole of it.
pub fn model_type_in(name: &str) -> Option<&'static str> {
    let ours = || FAMILIES.iter().map(|family| family.model_type);
    let namesakes = OF_PYTHON.split_whitespace().filter(|theirs| ours().any(|ours| theirs.contains(ours)));
    let known: Vec<&str> = ours().chain(namesakes).collect();
    let longest =
        |text: &str| known.iter().copied().filter(|known| text.contains(known)).max_by_key(|known| known.len());
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    longest(last).or_else(|| longest(name))
}

/// The architecture of a Python class, such as `BertForMaskedLM` or, since heads differ by task alone, `TFBertModel`.
fn model_type_of_class(class: &str) -> Option<&'static str> {
    let exact = FAMILIES.iter().find(|family| family.class == class);
    let stem = class_stem(class);
    exact.or_else(|| FAMILIES.iter().find(|family| class_stem(family.class) == stem)).map(|family| family.model_type)
}

/// The architecture that the `architectures` of a config.json name.
fn named_by_class(fields: &Map<String, Value>) -> Option<&'static str> {
    let classes = fields.get("architectures")?.as_array()?;
    classes.iter().filter_map(Value::as_str).find_map(model_type_of_class)
}

/// A class's name without its framework and what its head is for.
fn class_stem(class: &str) -> &str {
    let class = class.strip_prefix("TF").or_else(|| class.strip_prefix("Flax")).unwrap_or(class);
    let end = ["For", "WithLMHead", "LMHead", "DoubleHeads", "Model"].iter().filter_map(|part| class.find(part)).min();
    &class[..end.unwrap_or(class.len())]
}

/// The known types, of one task or all, as a list for messages.
pub fn known_model_types(task: Option<Task>) -> String {
    let names = FAMILIES.iter().filter(|family| task.is_none_or(|task| family.task == task)).map(|f| f.model_type);
    names.collect::<Vec<_>>().join(", ")
}

impl ModelConfig {
    /// Reads `folder/config.json`, or the file itself when `path` is one.
    pub fn from_path(path: &Path) -> Result<Self, ConfigError> {
        Self::from_named_path(path, &path.display().to_string(), None)
    }

    /// The same. For a config.json of before there was a `model_type` it is `model_type`, else the one of its
    /// `architectures`, else the one that `name`, by which the user calls the folder, speaks of.
    pub fn from_named_path(path: &Path, name: &str, model_type: Option<&str>) -> Result<Self, ConfigError> {
        let file = if path.is_dir() || !path.exists() { path.join("config.json") } else { path.to_owned() };
        let text = lm_files::read_to_string(&file, LONGEST)
            .map_err(|source| ConfigError::Read { path: file.clone(), source })?;
        let value: Value = lm_files::json::with_stand_ins(&text)
            .map_err(|e| ConfigError::Invalid { path: file.clone(), reason: format!("no valid JSON: {e}") })?;
        let Value::Object(fields) = special_floats::decoded(value) else {
            return Err(ConfigError::Invalid { path: file, reason: "a JSON object was expected".into() });
        };
        let (model_type, source) = match (fields.get("model_type"), model_type) {
            (Some(Value::String(model_type)), _) => (model_type.clone(), None),
            (_, Some(given)) => (given.to_owned(), Some("by --model_type")),
            (_, None) => match (named_by_class(&fields), model_type_in(name)) {
                (Some(named), _) => (named.to_owned(), Some("by its architectures; --model_type can say another")),
                (None, Some(named)) => (named.to_owned(), Some("by its name; --model_type can say another")),
                (None, None) => return Err(ConfigError::NoModelType { path: file, known: known_model_types(None) }),
            },
        };
        if let Some(source) = source {
            tracing::info!("{} has no model_type: it is taken for `{model_type}` {source}", file.display());
        }
        let family = family(&model_type).map_err(|e| ConfigError::Invalid { path: file, reason: e.to_string() })?;
        Ok(Self::new(family, fields))
    }

    /// The defaults of an architecture, as Python's `CONFIG_MAPPING[model_type]()`.
    pub fn from_model_type(model_type: &str) -> Result<Self, ConfigError> {
        Ok(Self::new(family(model_type)?, Map::new()))
    }

    /// Fails unless the architecture is for this task, naming the program it is for.
    pub fn expect_task(&self, wanted: Task) -> Result<(), ConfigError> {
        let found = self.family().task;
        if found == wanted {
            return Ok(());
        }
        let known = known_model_types(Some(wanted));
        Err(ConfigError::WrongTask { model_type: self.model_type().into(), found, known })
    }
}

impl AutoModel {
    /// A model whose parameters are drawn as Python draws them for a new model (other numbers, the same distribution).
    pub fn from_config(config: &ModelConfig, seed: u64, device: &Device) -> Result<Self, ConfigError> {
        Self::empty(config, device)?.fill(|parameter| Ok(parameter.data(parameter.initial_values(seed))))
    }

    /// A model of this configuration, to be filled.
    pub(crate) fn empty(config: &ModelConfig, device: &Device) -> Result<Self, ConfigError> {
        // Any configuration may have it.
        config.require("pruned_heads", &[json!({})], "; no head may be missing")?;
        (config.family().build)(config, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_family_computes_is_refused_by_name() {
        let mut config = ModelConfig::from_model_type("bert").expect("a family");
        config.apply_overrides("hidden_size=12,num_hidden_layers=1,intermediate_size=8,vocab_size=20").expect("sizes");
        let device = Device::flex();
        config.set("pruned_heads", json!({}));
        AutoModel::from_config(&config, 1, &device).expect("a model");
        config.set("pruned_heads", json!({"0": [1]}));
        let error = AutoModel::from_config(&config, 1, &device).expect_err("a refusal").to_string();
        assert!(error.contains("`pruned_heads`"), "{error}");
    }

    #[test]
    fn classes_speak_of_their_architecture() {
        for family in FAMILIES {
            assert_eq!(model_type_of_class(family.class), Some(family.model_type));
        }
        for (class, expected) in [
            ("BertForPreTraining", Some("bert")),
            ("TFBertModel", Some("bert")),
            ("FlaxRobertaForSequenceClassification", Some("roberta")),
            ("RobertaPreLayerNormModel", Some("roberta-prelayernorm")),
            ("GPT2DoubleHeadsModel", Some("gpt2")),
            ("OpenAIGPTModel", Some("openai-gpt")),
            ("XLMModel", Some("xlm")),
            ("XLNetForQuestionAnswering", Some("xlnet")),
            ("T5ForConditionalGeneration", None),
            ("", None),
        ] {
            assert_eq!(model_type_of_class(class), expected, "{class}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.json");
        let read = |text: &str, name: &str, given: Option<&str>| {
            std::fs::write(&file, text).expect("a file");
            ModelConfig::from_named_path(folder.path(), name, given).map(|config| config.model_type().to_owned()).ok()
        };
        let named =
            r#"{"architectures": ["ElectraForPreTraining"], "layer_norm_eps": 1e-12, "limit": [-Infinity, NaN]}"#;
        assert_eq!(read(named, "my-bert", None).as_deref(), Some("electra"));
        assert_eq!(read(named, "my-bert", Some("albert")).as_deref(), Some("albert"));
        assert_eq!(read(r#"{"architectures": ["Other"]}"#, "my-bert", None).as_deref(), Some("bert"));
        assert_eq!(read(r#"{"architectures": 3}"#, "out", None), None);
        assert_eq!(
            read(r#"{"architectures": ["BertModel"], "model_type": "gpt2"}"#, "out", None).as_deref(),
            Some("gpt2")
        );
    }

    #[test]
    fn names_speak_of_their_architecture() {
        for (name, expected) in [
            ("my-bert-2019", Some("bert")),
            ("bert-base-uncased", Some("bert")),
            ("distilbert-base-cased", Some("distilbert")),
            ("FacebookAI/xlm-roberta-base", Some("xlm-roberta")),
            ("/data/roberta-experiments/my-bert-2019/", Some("bert")),
            ("/data/gpt2/checkpoint-500", Some("gpt2")),
            ("openai-gpt", Some("openai-gpt")),
            ("google/mobilebert-uncased", Some("mobilebert")),
            ("/home/albert/bert", Some("bert")),
            ("out", None),
        ] {
            assert_eq!(model_type_in(name), expected, "{name}");
        }
    }
}
