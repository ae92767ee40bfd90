//! The special tokens of a model's configurations, made those of its tokenizer: what Python's Trainer does before it
//! trains (`Trainer._align_special_tokens` of transformers 4.57).

use serde_json::{Value, json};

use super::ModelConfig;
use super::generation::GenerationConfig;

/// Ids of a tokenizer; none where it has no such token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    /// `eos_token_id`
    pub eos: Option<u32>,
    /// `bos_token_id`
    pub bos: Option<u32>,
    /// `pad_token_id`
    pub pad: Option<u32>,
}

/// A field that changed in config.json or generation_config.json.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// Such as `eos_token_id`.
    pub field: &'static str,
    /// What config.json had; none for null.
    pub old: Option<Value>,
    /// What it has now.
    pub new: Option<u32>,
}

impl std::fmt::Display for Updated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        let (new, old) = (shown(self.new.map(|id| id.to_string())), shown(self.old.as_ref().map(Value::to_string)));
        write!(f, "{} {new} (config.json had {old})", self.field)
    }
}

/// Gives both configurations the tokenizer's special tokens, and says what changed. A token that the tokenizer lacks is
/// lacking in the model, too, as in 4.57 (5 leaves it as it is). generation_config.json may list several tokens that end a
/// text: those that it had stay behind the tokenizer's.
///
/// One exception: where positions count from the padding token (RoBERTa), one that is lacking, or beyond the positions,
/// leaves config.json as it is. Python 4.57 writes it there and can't use the model again.
pub fn align(config: &mut ModelConfig, generation: Option<&mut GenerationConfig>, ids: SpecialIds) -> Vec<Updated> {
    let mut generation = generation;
    let mut updated = Vec::new();
    for (field, id) in [("eos_token_id", ids.eos), ("bos_token_id", ids.bos), ("pad_token_id", ids.pad)] {
        if field == "pad_token_id" && !may_pad_with(config, id) {
            continue;
        }
        let wanted = id.map(Value::from);
        let old = config.get(field).filter(|value| !value.is_null()).cloned();
        let mut differs = old != wanted;
        match generation.as_deref_mut() {
            None => {}
            Some(generation) if field == "eos_token_id" => {
                let listed = match generation.get(field) {
                    Some(Value::Array(listed)) => Some(listed.clone()),
                    Some(one) => Some(vec![one.clone()]),
                    None => None,
                };
                differs |= match &listed {
                    Some(listed) => wanted.as_ref().is_none_or(|id| !listed.contains(id)),
                    None => id.is_some(),
                };
                let listed = match differs {
                    true => Some(wanted.clone().into_iter().chain(listed.unwrap_or_default()).collect()),
                    false => listed,
                };
                generation.set(field, json!(listed));
            }
            Some(generation) => {
                differs |= generation.get(field) != wanted.as_ref();
                if differs {
                    generation.set(field, id);
                }
            }
        }
        if differs {
            config.set_token(field, id);
            updated.push(Updated { field, old, new: id });
        }
    }
    updated
}

/// Whether the model still works with this padding token.
fn may_pad_with(config: &ModelConfig, id: Option<u32>) -> bool {
    let room = config.size("max_position_embeddings").unwrap_or(0);
    !config.family().positions_from_padding || id.is_some_and(|id| (id as usize) + 1 < room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigError;

    const ROBERTA: SpecialIds = SpecialIds { eos: Some(2), bos: Some(0), pad: Some(1) };
    const BERT: SpecialIds = SpecialIds { eos: None, bos: None, pad: Some(0) };

    /// What both files have afterwards, as (bos, eos, pad) each, and the fields that changed.
    type Aligned = ([Value; 3], [Value; 3], Vec<&'static str>);

    fn aligned(config: &mut ModelConfig, loaded: Option<&str>, ids: SpecialIds) -> Aligned {
        let mut generation = GenerationConfig::new(config, loaded);
        let updated = align(config, generation.as_mut(), ids).into_iter().map(|updated| updated.field).collect();
        let read = |text: &str| {
            let object: Value = serde_json::from_str(text).unwrap_or_default();
            ["bos_token_id", "eos_token_id", "pad_token_id"].map(|field| object[field].clone())
        };
        (read(&config.to_json()), read(&generation.map(|generation| generation.to_json()).unwrap_or_default()), updated)
    }

    /// Expected: what a Trainer of transformers 4.57.6 saved.
    #[test]
    fn as_pythons_trainer() -> Result<(), ConfigError> {
        let numbers = |ids: [i64; 3]| ids.map(Value::from);
        let mut gpt2 = ModelConfig::from_model_type("gpt2")?;
        let (config, generation, updated) = aligned(&mut gpt2, None, ROBERTA);
        assert_eq!(config, numbers([0, 2, 1]));
        assert_eq!(generation, [json!(0), json!([2, 50256]), json!(1)]);
        assert_eq!(updated, ["eos_token_id", "bos_token_id", "pad_token_id"]);

        // The same once more: nothing is new, and a single end becomes a list all the same.
        let loaded = r#"{"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}"#;
        let (config, generation, updated) = aligned(&mut gpt2, Some(loaded), ROBERTA);
        assert_eq!((config, updated.len()), (numbers([0, 2, 1]), 0));
        assert_eq!(generation, [json!(0), json!([2]), json!(1)]);

        // A tokenizer without begin and end: null where the default is another, no word otherwise.
        let mut gpt2 = ModelConfig::from_model_type("gpt2")?;
        let (config, generation, _) = aligned(&mut gpt2, None, BERT);
        assert_eq!(config, [Value::Null, Value::Null, json!(0)]);
        assert_eq!(generation, [Value::Null, json!([50256]), json!(0)]);
        assert!(gpt2.to_json().contains("\"eos_token_id\": null"));

        let mut bert = ModelConfig::from_model_type("bert")?;
        let (config, _, updated) = aligned(&mut bert, None, BERT);
        assert_eq!((config, updated.len()), ([Value::Null, Value::Null, json!(0)], 0));
        assert!(!bert.to_json().contains("bos_token_id"));
        let (config, _, updated) = aligned(&mut bert, None, ROBERTA);
        assert_eq!((config, updated.len()), (numbers([0, 2, 1]), 3));
        Ok(())
    }

    #[test]
    fn roberta_keeps_a_padding_token_that_its_positions_can_count_from() -> Result<(), ConfigError> {
        for pad in [None, Some(511), Some(50265)] {
            let mut roberta = ModelConfig::from_model_type("roberta")?;
            assert_eq!(aligned(&mut roberta, None, SpecialIds { pad, ..ROBERTA }).2, [""; 0]);
        }
        let mut roberta = ModelConfig::from_model_type("roberta")?;
        assert_eq!(aligned(&mut roberta, None, SpecialIds { pad: Some(7), ..ROBERTA }).0[2], 7);
        Ok(())
    }
}
