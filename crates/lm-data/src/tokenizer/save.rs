//! Writing a tokenizer folder as Python's `save_pretrained` does.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokenizers::{Model, Tokenizer};

use super::class::Class;
use super::error::TokenizerError;
use super::rules::{self, Rules};
use super::settings::{
    ADDED_TOKENS_FILE, CHAT_TEMPLATE_FILE, CONFIG_FILE, SPECIAL_TOKENS_FILE, Settings, TOKENIZER_FILE,
};
use super::special::{AddedToken, ROLES};

/// Python's `int(1e30)`, which stands for no limit.
const NO_LIMIT: u128 = 1_000_000_000_000_000_019_884_624_838_656;

/// A value of tokenizer_config.json; Python's "no limit" is an integer that [`Value`] cannot hold.
#[derive(Serialize)]
#[serde(untagged)]
enum Field {
    Value(Value),
    NoLimit(u128),
}

pub(super) fn to_folder(
    backend: &Tokenizer,
    settings: &Settings,
    rules: Option<&Rules>,
    sentencepiece: Option<&[u8]>,
    dir: &Path,
) -> Result<(), TokenizerError> {
    std::fs::create_dir_all(dir).map_err(|source| TokenizerError::Io {
        action: "create",
        path: dir.to_owned(),
        source,
    })?;
    let failed = |source| TokenizerError::Io { action: "write the vocabulary to", path: dir.to_owned(), source };
    let rules = rules.filter(|_| settings.class.is_slow());
    if let Some(rules) = rules {
        rules::save(rules, backend, dir).map_err(failed)?;
    } else {
        let text = backend.to_string(true).map_err(|error| TokenizerError::invalid(dir, error.to_string()))?;
        write(&dir.join(TOKENIZER_FILE), text.as_bytes())?;
    }
    // A class of sentencepiece models can be read by Python's slow class only with that file beside it.
    let class = settings.class;
    let kept_file = class.sentencepiece_file().zip(sentencepiece);
    if let Some((name, bytes)) = kept_file {
        write(&dir.join(name), bytes)?;
    }
    let has_vocab_files = class.sentencepiece_file().is_none() && !class.legacy_files().is_empty();
    if has_vocab_files && rules.is_none() {
        let saved = backend.get_model().save(dir, None);
        let saved = saved.map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        // The library leaves it to the system when its files reach the disk.
        saved.iter().try_for_each(|path| lm_files::sync_file(path)).map_err(failed)?;
    }
    if kept_file.is_some() || has_vocab_files {
        let added = tokens_beyond_vocabulary(backend);
        if !added.is_empty() {
            write_json(&dir.join(ADDED_TOKENS_FILE), &added)?;
        }
    }
    if let Some(template) = settings.options.get("chat_template").and_then(Value::as_str) {
        write(&dir.join(CHAT_TEMPLATE_FILE), template.as_bytes())?;
    }
    let slow_class =
        class.name != "PreTrainedTokenizer" && (class.sentencepiece_file().is_none() || kept_file.is_some());
    write_json(&dir.join(CONFIG_FILE), &config(backend, settings, slow_class))?;
    write_json(&dir.join(SPECIAL_TOKENS_FILE), &special_tokens(settings))
}

/// Tokens with ids after the model's own vocabulary.
fn tokens_beyond_vocabulary(backend: &Tokenizer) -> BTreeMap<String, u32> {
    let size = backend.get_vocab_size(false);
    backend
        .get_added_tokens_decoder()
        .into_iter()
        .filter(|(id, _)| *id as usize >= size)
        .map(|(id, token)| (token.content, id))
        .collect()
}

fn config(backend: &Tokenizer, settings: &Settings, slow_class: bool) -> BTreeMap<String, Field> {
    let mut fields: Map<String, Value> = settings.class.fast_options();
    for (name, value) in &settings.options {
        let is_path = matches!(
            name.as_str(),
            "name_or_path" | "tokenizer_file" | "vocab_file" | "merges_file" | "special_tokens_map_file" | "device_map"
        );
        let is_template_file = name == "chat_template" && value.is_string();
        if !is_path && !is_template_file {
            fields.insert(name.clone(), value.clone());
        }
    }
    for (role, token) in ROLES.iter().zip(&settings.special.roles) {
        if let Some(token) = token {
            fields.insert((*role).to_owned(), json!(token.content()));
        }
    }
    let additional = &settings.special.additional;
    if !additional.is_empty() || !settings.class.additional.is_empty() {
        let additional: Vec<&str> = additional.iter().map(|token| token.content()).collect();
        fields.insert("additional_special_tokens".to_owned(), json!(additional));
    }
    for (name, default) in [("extra_special_tokens", json!({})), ("clean_up_tokenization_spaces", json!(false))] {
        fields.entry(name).or_insert(default);
    }
    let mut added: Vec<(u32, tokenizers::AddedToken)> = backend.get_added_tokens_decoder().into_iter().collect();
    added.sort_by_key(|(id, _)| *id);
    let added: Map<String, Value> = added
        .into_iter()
        .map(|(id, token)| {
            let mut value = AddedToken::from_backend(&token).to_json();
            value["special"] = json!(token.special);
            (id.to_string(), value)
        })
        .collect();
    let class_name = written_name(&settings.class_name, slow_class);
    fields.insert("tokenizer_class".to_owned(), json!(class_name));

    for (name, token) in &settings.special.extra {
        fields.insert(name.clone(), json!(token.content()));
    }
    let limit = fields.remove("model_max_length").or_else(|| fields.get("max_len").cloned());
    let mut fields: BTreeMap<String, Field> = fields
        .into_iter()
        .map(|(name, mut value)| {
            value.sort_all_objects();
            (name, Field::Value(value))
        })
        .collect();
    // Sorted by number, not by name.
    fields.insert("added_tokens_decoder".to_owned(), Field::Value(Value::Object(added)));
    let limit = match limit.filter(|limit| limit.as_u64().is_some()) {
        Some(limit) => Field::Value(limit),
        None => Field::NoLimit(NO_LIMIT),
    };
    fields.insert("model_max_length".to_owned(), limit);
    fields
}

/// Python drops "Fast" from the name where a slow class could read the folder too.
fn written_name(class_name: &str, slow_class: bool) -> String {
    let known = Class::by_name(class_name).is_some();
    let suffix = if known && !slow_class && !class_name.ends_with("Fast") { "Fast" } else { "" };
    format!("{class_name}{suffix}")
}

fn special_tokens(settings: &Settings) -> BTreeMap<String, Value> {
    let special = &settings.special;
    let mut map: BTreeMap<String, Value> = ROLES
        .iter()
        .zip(&special.roles)
        .filter_map(|(role, token)| Some(((*role).to_owned(), token.as_ref()?.to_json())))
        .collect();
    if !special.additional.is_empty() {
        let additional = special.additional.iter().map(|token| token.to_json());
        map.insert("additional_special_tokens".to_owned(), additional.collect());
    }
    map.extend(special.extra.iter().map(|(name, token)| (name.clone(), token.to_json())));
    map
}

/// Writes JSON as Python's `json.dumps(…, indent=2, ensure_ascii=False)` with a final line end.
fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TokenizerError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| TokenizerError::invalid(path, error.to_string()))?;
    write(path, format!("{text}\n").as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), TokenizerError> {
    lm_files::write(path, bytes).map_err(|source| TokenizerError::Io { action: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::super::class::CLASSES;
    use super::super::settings::is_only_in_5;
    use super::*;

    /// A folder is of no use to a version that does not know the class it names.
    #[test]
    fn classes_are_written_that_both_versions_know() {
        let known: BTreeMap<String, Vec<String>> =
            serde_json::from_str(include_str!("../../tests/fixtures/tokenizer_classes/known.json")).unwrap();
        let versions: Vec<&String> = known.keys().collect();
        assert!(versions[0].starts_with("4.57") && versions[1].starts_with("5."), "{versions:?}");
        let in_4 = |name: &str| known[versions[0]].iter().any(|known| known == name);
        let in_5 = |name: &str| known[versions[1]].iter().any(|known| known == name);
        for class in CLASSES {
            // Without its sentencepiece model no slow class reads a folder.
            let slow = |slow: &bool| match class.name {
                "PreTrainedTokenizer" => !slow,
                _ => *slow || class.sentencepiece_file().is_some(),
            };
            for slow in [true, false].into_iter().filter(slow) {
                let name = written_name(class.name, slow);
                // 4.57 looks for the fast class first.
                assert!(in_4(&name) || in_4(&format!("{name}Fast")), "{name} in 4.57");
                assert!(in_5(&name), "{name} in 5");
            }
        }
        for name in &known[versions[1]] {
            let in_4 = in_4(name) || in_4(&format!("{name}Fast")) || in_4(name.strip_suffix("Fast").unwrap_or(name));
            assert_eq!(is_only_in_5(name), !in_4, "{name}");
        }
    }
}
