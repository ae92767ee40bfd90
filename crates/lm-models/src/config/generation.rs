//! generation_config.json, which Python writes beside every model that can generate.

use serde_json::{Map, Value, json};

use super::ModelConfig;

/// The fields of Python's `GenerationConfig` that a config.json may have too, with their defaults; those that are null
/// by default are null here.
fn defaults() -> Value {
    json!({
        "bos_token_id": null, "eos_token_id": null, "pad_token_id": null, "decoder_start_token_id": null,
        "use_cache": true, "max_length": 20, "min_length": 0, "do_sample": false, "early_stopping": false,
        "num_beams": 1, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0,
        "length_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "bad_words_ids": null,
        "num_return_sequences": 1, "output_scores": false, "output_attentions": false, "output_hidden_states": false,
        "return_dict_in_generate": false, "forced_bos_token_id": null, "forced_eos_token_id": null,
        "remove_invalid_values": false, "exponential_decay_length_penalty": null, "suppress_tokens": null,
        "begin_suppress_tokens": null, "num_beam_groups": 1, "diversity_penalty": 0.0,
    })
}

/// How a model generates when nobody says otherwise.
#[derive(Clone, Debug)]
pub struct GenerationConfig {
    fields: Map<String, Value>,
}

impl GenerationConfig {
    /// Of a model; none for models that can't generate. `loaded` is the text of the file that the model came with, which is
    /// kept; without it, or when it is no JSON object, the fields come from the model's configuration
    /// (`GenerationConfig.from_model_config`).
    pub fn new(config: &ModelConfig, loaded: Option<&str>) -> Option<Self> {
        if !config.family().generates {
            return None;
        }
        let loaded: Option<Map<String, Value>> = loaded.and_then(|text| lm_files::json::with_stand_ins(text).ok());
        let fields = loaded.unwrap_or_else(|| {
            let defaults = defaults();
            let known = defaults.as_object().into_iter().flat_map(Map::keys);
            let given = known.filter_map(|key| Some((key.clone(), config.get(key)?.clone())));
            given.chain([("_from_model_config".to_owned(), true.into())]).collect()
        });
        Some(Self { fields })
    }

    /// A field that is not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    /// Sets a field.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.fields.insert(key.to_owned(), value.into());
    }

    /// The text of generation_config.json as Python's `save_pretrained` writes it.
    pub fn to_json(&self) -> String {
        let (mut fields, defaults) = (self.fields.clone(), defaults());
        fields.retain(|key, value| !value.is_null() && defaults.get(key) != Some(value));
        // No version of transformers wrote this file.
        fields.remove("transformers_version");
        fields.sort_keys();
        let mut text = lm_files::json::to_string(&fields, "  ").unwrap_or_default();
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;

    #[test]
    fn what_python_writes() -> Result<(), ConfigError> {
        let written = |config: &ModelConfig, loaded| {
            GenerationConfig::new(config, loaded)
                .and_then(|generation| serde_json::from_str::<Value>(&generation.to_json()).ok())
        };
        let gpt2 = ModelConfig::from_model_type("gpt2")?;
        let expected = json!({"_from_model_config": true, "bos_token_id": 50256, "eos_token_id": 50256});
        assert_eq!(written(&gpt2, None), Some(expected.clone()));
        assert_eq!(written(&gpt2, Some("no json")), Some(expected));
        let mut gpt = ModelConfig::from_model_type("openai-gpt")?;
        gpt.set("use_cache", false);
        let expected = json!({"_from_model_config": true, "use_cache": false});
        assert_eq!(written(&gpt, None), Some(expected));
        let loaded = r#"{"bos_token_id": 1, "do_sample": true, "top_k": 50, "transformers_version": "4.1.0"}"#;
        let expected = json!({"bos_token_id": 1, "do_sample": true});
        assert_eq!(written(&gpt2, Some(loaded)), Some(expected));
        assert!(GenerationConfig::new(&ModelConfig::from_model_type("bert")?, None).is_none());
        Ok(())
    }
}
