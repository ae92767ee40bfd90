//! adapter_config.json, peft's description of an adapter.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::error::AdapterError;
use super::targets::{Targets, names};
use crate::config::ModelConfig;
use crate::low_rank::Rank;
use crate::model::Task;

/// The file's name.
pub const CONFIG_NAME: &str = "adapter_config.json";

/// Which biases are trained beside the pairs, by peft's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoraBias {
    /// None.
    #[default]
    None,
    /// Every one of the model.
    All,
    /// Those of the layers that have a pair.
    LoraOnly,
}

impl LoraBias {
    /// All, with their names.
    pub const NAMES: &[(&str, Self)] = &[("none", Self::None), ("all", Self::All), ("lora_only", Self::LoraOnly)];

    /// As peft writes it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, bias)| *bias == self).map_or("none", |(name, _)| *name)
    }
}

/// What a LoRA adapter is like: peft's `LoraConfig`, as far as it is computed here.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Rank of the pairs.
    pub r: usize,
    /// Their scale, times the rank.
    pub lora_alpha: f64,
    /// Dropout of what they are given.
    pub lora_dropout: f64,
    /// Which layers have one.
    pub target_modules: Targets,
    /// Which biases are trained too.
    pub bias: LoraBias,
    /// Ends of the paths of modules that are trained and saved whole.
    pub modules_to_save: Vec<String>,
    /// Whether the scale is `alpha / √r`.
    pub use_rslora: bool,
    /// Whether A starts normal with standard deviation `1 / r` (`init_lora_weights`).
    pub gaussian: bool,
    /// The model that the adapter belongs to, a folder or a name on the Hub.
    pub base_model_name_or_path: Option<String>,
    /// Its revision.
    pub revision: Option<String>,
}

/// Fields that change nothing of what is computed from an adapter that is saved.
const WITHOUT_EFFECT: &[&str] = &[
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out", // the layer says it
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "runtime_config",
    "task_type",
];

impl LoraConfig {
    /// Reads `folder/adapter_config.json`.
    ///
    /// # Errors
    /// If there is none, or it asks for something that is not computed, which is named.
    pub fn from_folder(folder: &Path) -> Result<Self, AdapterError> {
        let path = folder.join(CONFIG_NAME);
        let text = lm_files::read_to_string(&path, lm_files::SMALL)
            .map_err(|error| AdapterError::config(&path, error.to_string()))?;
        let value = lm_files::json::from_str(&text)
            .map_err(|error| AdapterError::config(&path, format!("no valid JSON: {error}")))?;
        let Value::Object(fields) = value else {
            return Err(AdapterError::config(&path, "a JSON object was expected"));
        };
        Self::from_fields(&fields).map_err(|reason| AdapterError::config(&path, reason))
    }

    fn from_fields(fields: &Map<String, Value>) -> Result<Self, String> {
        let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
        match given("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            Some(other) => return Err(format!("`peft_type` = {other} is not supported; only LORA is")),
            None => return Err("`peft_type` is missing".into()),
        }
        let wrong = |name: &str, value: &Value, wanted: &str| format!("`{name}` = {value}: expected {wanted}");
        let number = |name: &str, default: f64| match given(name) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| wrong(name, value, "a number")),
        };
        let flag = |name: &str| match given(name) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| wrong(name, value, "true or false")),
        };
        let text = |name: &str| match given(name) {
            None => Ok::<_, String>(None),
            Some(value) => Ok(Some(value.as_str().ok_or_else(|| wrong(name, value, "a text"))?.to_owned())),
        };
        let r = match given("r") {
            None => 8,
            Some(value) => value
                .as_u64()
                .and_then(|r| usize::try_from(r).ok())
                .filter(|r| (1..1 << 24).contains(r))
                .ok_or_else(|| wrong("r", value, "a rank of at least 1"))?,
        };
        let lora_dropout = number("lora_dropout", 0.0)?;
        if !(0.0..=1.0).contains(&lora_dropout) {
            return Err(format!("`lora_dropout` = {lora_dropout}: expected a number from 0 to 1"));
        }
        let bias = text("bias")?.unwrap_or_else(|| "none".into());
        let bias = LoraBias::NAMES
            .iter()
            .find(|(name, _)| *name == bias)
            .ok_or_else(|| format!("`bias` = {bias}: expected none, all or lora_only"))?
            .1;
        let config = Self {
            r,
            lora_alpha: number("lora_alpha", 8.0)?,
            lora_dropout,
            target_modules: match given("target_modules") {
                None => return Err("`target_modules` is missing: which layers have a pair is not known".into()),
                Some(value) => Targets::from_json(value)?,
            },
            bias,
            modules_to_save: match given("modules_to_save") {
                None => Vec::new(),
                Some(value) => names(value).ok_or_else(|| wrong("modules_to_save", value, "a list of names"))?,
            },
            use_rslora: flag("use_rslora")?,
            gaussian: match given("init_lora_weights") {
                None | Some(Value::Bool(_)) => false,
                Some(Value::String(name)) if name == "gaussian" => true,
                Some(value) => {
                    return Err(format!(
                        "`init_lora_weights` = {value} is not supported: it changes the base as well; convert the \
                         adapter with peft's save_pretrained(…, path_initial_model_for_weight_conversion=…)"
                    ));
                }
            },
            base_model_name_or_path: text("base_model_name_or_path")?,
            revision: text("revision")?,
        };
        let known = config.to_json("", None);
        for (name, value) in fields {
            let unset = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(list) => list.is_empty(),
                Value::Object(fields) => fields.is_empty(),
                _ => false,
            };
            let read = known.get(name).is_some() && !UNSET.contains(&name.as_str());
            if !unset && !read && !WITHOUT_EFFECT.contains(&name.as_str()) {
                return Err(format!("`{name}` = {value} is not supported"));
            }
        }
        Ok(config)
    }

    /// Factor on the product of a pair.
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    pub(super) fn rank(&self) -> Rank {
        Rank { r: self.r, scale: self.scale(), dropout: self.lora_dropout, gaussian: self.gaussian }
    }

    /// adapter_config.json's fields; `fan_in_fan_out` says whether the layers are `Conv1D`.
    pub(super) fn to_json(&self, task_type: &str, auto_mapping: Option<Value>) -> Value {
        let alpha = if self.lora_alpha.fract() == 0.0 && self.lora_alpha.abs() < 1e15 {
            json!(self.lora_alpha as i64)
        } else {
            json!(self.lora_alpha)
        };
        json!({
            "alpha_pattern": {},
            "auto_mapping": auto_mapping,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": self.bias.name(),
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": if self.gaussian { json!("gaussian") } else { json!(true) },
            "layer_replication": null,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": alpha,
            "lora_bias": false,
            "lora_dropout": self.lora_dropout,
            "modules_to_save": if self.modules_to_save.is_empty() { Value::Null } else { json!(self.modules_to_save) },
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": {},
            "revision": self.revision,
            "target_modules": self.target_modules.to_json(),
            "task_type": if task_type.is_empty() { Value::Null } else { json!(task_type) },
            "use_dora": false,
            "use_rslora": self.use_rslora,
        })
    }

    /// The text of adapter_config.json for an adapter of a model of this configuration.
    pub fn to_file(&self, model: &ModelConfig, fan_in_fan_out: bool) -> String {
        let family = model.family();
        // As peft: a masked language model is no task of its, so the classes are said instead.
        let (task_type, auto_mapping) = match family.task {
            Task::Clm => ("CAUSAL_LM", None),
            Task::Mlm | Task::Plm => ("", Some(classes(family.model_type, family.class))),
        };
        let mut fields = self.to_json(task_type, auto_mapping);
        fields["fan_in_fan_out"] = fan_in_fan_out.into();
        format!("{fields:#}\n")
    }
}

/// Fields that are written, and must be unset where they are read.
const UNSET: &[&str] = &[
    "alpha_pattern",
    "layer_replication",
    "layers_pattern",
    "layers_to_transform",
    "lora_bias",
    "rank_pattern",
    "use_dora",
];

fn classes(model_type: &str, class: &str) -> Value {
    let module = model_type.replace('-', "_");
    let folder = if model_type == "data2vec-text" { "data2vec" } else { &module };
    json!({"base_model_class": class, "parent_library": format!("transformers.models.{folder}.modeling_{module}")})
}

/// Whether a folder holds an adapter.
pub fn is_adapter(folder: &Path) -> bool {
    folder.join(CONFIG_NAME).is_file()
}

/// Where an adapter's base lies: a relative path that is no folder from here is looked for from the adapter's.
pub fn base_of(adapter: &Path, base: &str) -> PathBuf {
    let beside = adapter.join(base);
    if !Path::new(base).exists() && beside.is_dir() { beside } else { PathBuf::from(base) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LoraConfig, String> {
        let Value::Object(fields) = serde_json::from_str(text).expect("JSON") else { panic!("no object") };
        LoraConfig::from_fields(&fields)
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        for (field, value) in [
            ("use_dora", "true"),
            ("rank_pattern", r#"{"query": 4}"#),
            ("alpha_pattern", r#"{"query": 4}"#),
            ("layer_replication", "[[0, 4]]"),
            ("layers_to_transform", "[1]"),
            ("lora_bias", "true"),
            ("trainable_token_indices", "[3]"),
            ("target_parameters", r#"["weight"]"#),
            ("exclude_modules", r#"["query"]"#),
            ("init_lora_weights", r#""pissa""#),
            ("something_new", "1"),
        ] {
            let text = format!(r#"{{"peft_type": "LORA", "target_modules": ["query"], "{field}": {value}}}"#);
            let error = read(&text).expect_err(field);
            assert!(error.contains(&format!("`{field}`")) && error.contains("not supported"), "{error}");
        }
        let error = read(r#"{"peft_type": "IA3"}"#).expect_err("another type");
        assert!(error.contains("IA3"), "{error}");
        for wrong in [r#""r": 0"#, r#""r": "8""#, r#""lora_dropout": 2"#, r#""bias": "some""#, r#""use_rslora": 1"#] {
            read(&format!(r#"{{"peft_type": "LORA", "target_modules": ["query"], {wrong}}}"#)).expect_err(wrong);
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let config = LoraConfig {
            r: 4,
            lora_alpha: 12.0,
            lora_dropout: 0.05,
            target_modules: Targets::Names(vec!["query".into(), "value".into()]),
            bias: LoraBias::LoraOnly,
            modules_to_save: vec!["norm".into()],
            use_rslora: true,
            gaussian: true,
            base_model_name_or_path: Some("base".into()),
            revision: None,
        };
        let bert = ModelConfig::from_model_type("bert").expect("known");
        let text = config.to_file(&bert, false);
        assert_eq!(read(&text), Ok(config));
        assert!(text.contains("transformers.models.bert.modeling_bert"), "{text}");
    }
}
