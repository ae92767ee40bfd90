//! From a folder to a tokenizer, step by step as Python's AutoTokenizer does it with its fast classes.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokenizers::processors::template::SpecialToken as TemplateToken;
use tokenizers::{PostProcessorWrapper, Tokenizer};

use super::check::{check_added_tokens, check_json};
use super::class::{CLASSES, Kind};
use super::error::TokenizerError;
use super::legacy::{self, Legacy};
use super::rules::Rules;
use super::settings::{self, Settings, TOKENIZER_FILE};
use super::special::{AddedToken, SpecialToken};

/// A tokenizer as Python would hold it: the backend and the settings that are saved beside it.
pub(super) struct Loaded {
    pub backend: Tokenizer,
    pub settings: Settings,
    /// The sentencepiece file that lay in the folder, which is saved again as it is.
    pub sentencepiece: Option<Vec<u8>>,
    /// What encodes texts where it is not the backend.
    pub rules: Option<Arc<Rules>>,
}

pub(super) fn from_folder(dir: &Path, model_type: Option<&str>) -> Result<Loaded, TokenizerError> {
    let path = dir.join(TOKENIZER_FILE);
    let slow = settings::is_of_slow_class(dir, model_type)?;
    if let Some(text) = settings::read_text(&path)?.filter(|_| !slow) {
        let damaged = |error: &dyn std::fmt::Display| {
            TokenizerError::invalid(
                &path,
                format!("not a tokenizer: {error}; the file is damaged or from a newer version"),
            )
        };
        let value: Value = serde_json::from_str(&text).map_err(|error| damaged(&error))?;
        check_json(&value).map_err(|message| damaged(&message))?;
        let mut settings = settings::read(dir, Some(&value), model_type)?;
        let mut backend: Tokenizer = text.parse().map_err(|error| damaged(&error))?;
        // Stored truncation and padding must not act on training texts. Removing truncation cannot fail: only setting it can.
        let _ = backend.with_truncation(None);
        backend.with_padding(None);
        let sentencepiece = match settings.class.sentencepiece_file() {
            Some(name) => settings::read_bytes(&dir.join(name))?,
            None => None,
        };
        // A prefix that is asked for has Python build the tokenizer from its old file.
        let prefix = settings.options.get("add_prefix_space").is_some_and(Value::is_boolean);
        if !(settings.class.kind == Kind::Llama && prefix && sentencepiece.is_some()) {
            settings.class.fast_dress().apply(&mut settings.special);
            add_special_tokens(&mut backend, &mut settings);
            return finish(backend, settings, sentencepiece, None, &path);
        }
    }

    let any_file = CLASSES.iter().flat_map(|class| class.legacy_files()).any(|name| dir.join(name).is_file());
    if !any_file {
        return Err(no_files(dir));
    }
    let mut settings = settings::read(dir, None, model_type)?;
    if let Some(path) = legacy::missing_files(dir, &settings).first() {
        return Err(TokenizerError::invalid(
            path,
            format!("the file is missing, and a {} without tokenizer.json needs it", settings.class_name),
        ));
    }
    // Python first builds the slow class, whose options and special tokens the fast one then takes over.
    for (name, value) in settings.class.slow_options() {
        settings.options.entry(name).or_insert(value);
    }
    settings.class.slow_dress().apply(&mut settings.special);
    settings.special.fix();
    let Legacy { mut backend, sentencepiece, rules } = legacy::read(dir, &settings)?;
    add_special_tokens(&mut backend, &mut settings);
    let processor = legacy::post_processor(&backend, &settings, dir)?;
    backend.with_post_processor(processor);
    finish(backend, settings, sentencepiece, rules, dir)
}

/// Gives a backend that has a vocabulary only its special tokens and the post-processor of its class.
pub(super) fn complete(mut backend: Tokenizer, mut settings: Settings, dir: &Path) -> Result<Loaded, TokenizerError> {
    add_special_tokens(&mut backend, &mut settings);
    let processor = legacy::post_processor(&backend, &settings, dir)?;
    backend.with_post_processor(processor);
    finish(backend, settings, None, None, dir)
}

fn no_files(dir: &Path) -> TokenizerError {
    let mut names = vec![TOKENIZER_FILE.to_owned()];
    for class in CLASSES {
        let name = class.legacy_files().join(" with ");
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    TokenizerError::NoFiles { dir: dir.to_owned(), looked_for: names.join(", ") }
}

/// What Python's fast classes do last: let the configuration's options override the backend's parts.
fn finish(
    mut backend: Tokenizer,
    settings: Settings,
    sentencepiece: Option<Vec<u8>>,
    rules: Option<Rules>,
    path: &Path,
) -> Result<Loaded, TokenizerError> {
    apply_prefix_space(&mut backend, &settings, path)?;
    backend.set_encode_special_tokens(settings.flag("split_special_tokens", false));
    match settings.class.kind {
        Kind::Bert | Kind::MpNet | Kind::RoFormer => apply_bert_normalizer(&mut backend, &settings, path)?,
        Kind::Roberta => apply_roberta_processor(&mut backend, &settings, path)?,
        _ => {}
    }
    if let Some(bos) = settings.class.adds_bos() {
        apply_bos_eos(&mut backend, &settings, bos, path)?;
    }
    check_added_tokens(&backend).map_err(|message| TokenizerError::invalid(path, message))?;
    // Jieba's words go into pieces by the model of any tokenizer.json.
    let of_jieba = || Rules::new(&settings, backend.get_model(), std::iter::empty());
    let rules = rules.or_else(|| of_jieba().filter(|_| settings.class.kind == Kind::RoFormer));
    Ok(Loaded { rules: rules.map(Arc::new), backend, settings, sentencepiece })
}

/// Adds every configured token to the backend; one that it holds already gets the configured matching rules
/// (`PreTrainedTokenizerFast.__init__`).
fn add_special_tokens(backend: &mut Tokenizer, settings: &mut Settings) {
    let mut to_add: Vec<AddedToken> = settings.added_tokens.values().map(|token| token.clone().fixed()).collect();
    let mut known: Vec<String> = backend.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
    known.extend(to_add.iter().map(|token| token.content.clone()));
    for token in settings.special.all_mut() {
        match token {
            SpecialToken::Text(text) if !known.contains(text) => to_add.push(AddedToken::new(text.clone())),
            SpecialToken::Text(_) => {}
            // A token with rules is added even if its text is known: its rules count.
            SpecialToken::Added(token) => {
                let same = |other: &AddedToken| other.clone().fixed() == token.clone().fixed();
                if !to_add.iter().any(same) {
                    to_add.push(token.clone());
                }
                // Python shares the object, so the role's token becomes special with the added one.
                token.special = true;
            }
        }
    }
    let special: HashSet<&str> = settings.special.all().iter().map(|token| token.content()).collect();
    for token in &mut to_add {
        token.special |= special.contains(token.content.as_str());
    }
    let tokens: Vec<tokenizers::AddedToken> = to_add.iter().map(AddedToken::to_backend).collect();
    backend.add_tokens(&tokens);
}

/// `add_prefix_space` of the configuration (off if absent) overrides a byte-level pre-tokenizer's own.
fn apply_prefix_space(backend: &mut Tokenizer, settings: &Settings, path: &Path) -> Result<(), TokenizerError> {
    let wanted = settings.flag("add_prefix_space", false);
    let Some(pre_tokenizer) = backend.get_pre_tokenizer() else {
        return Ok(());
    };
    let changed = with_json(pre_tokenizer, path, |state| {
        if state.get("add_prefix_space").is_some_and(|now| *now != json!(wanted)) {
            state["add_prefix_space"] = json!(wanted);
            return true;
        }
        false
    })?;
    if let Some(pre_tokenizer) = changed {
        backend.with_pre_tokenizer(Some::<tokenizers::PreTokenizerWrapper>(pre_tokenizer));
    }
    Ok(())
}

/// `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` override a BERT normaliser's own.
fn apply_bert_normalizer(backend: &mut Tokenizer, settings: &Settings, path: &Path) -> Result<(), TokenizerError> {
    let Some(normalizer) = backend.get_normalizer() else {
        return Ok(());
    };
    let mut wanted = vec![
        ("lowercase", json!(settings.flag("do_lower_case", true))),
        ("strip_accents", settings.options.get("strip_accents").cloned().unwrap_or(Value::Null)),
    ];
    if settings.class.kind == Kind::Bert {
        let chinese = settings.flag("tokenize_chinese_chars", true);
        wanted.push(("handle_chinese_chars", json!(chinese)));
    }
    let changed = with_json(normalizer, path, |state| {
        let mut changed = false;
        for (name, value) in wanted {
            if state.get(name).is_some_and(|now| *now != value) {
                state[name] = value;
                changed = true;
            }
        }
        changed
    })?;
    if let Some(normalizer) = changed {
        backend.with_normalizer(Some::<tokenizers::NormalizerWrapper>(normalizer));
    }
    Ok(())
}

/// `add_prefix_space` and `trim_offsets` override a RoBERTa post-processor's own.
fn apply_roberta_processor(backend: &mut Tokenizer, settings: &Settings, path: &Path) -> Result<(), TokenizerError> {
    let Some(processor) = backend.get_post_processor() else {
        return Ok(());
    };
    let wanted = [
        ("add_prefix_space", settings.flag("add_prefix_space", false)),
        ("trim_offsets", settings.flag("trim_offsets", true)),
    ];
    let changed = with_json(processor, path, |state| {
        let mut changed = false;
        for (name, value) in wanted {
            if state.get(name).is_some_and(|now| *now != json!(value)) {
                state[name] = json!(value);
                changed = true;
            }
        }
        changed
    })?;
    if let Some(processor) = changed {
        backend.with_post_processor(Some::<PostProcessorWrapper>(processor));
    }
    Ok(())
}

/// Replaces the post-processor by `bos A eos` as `add_bos_token` and `add_eos_token` say (Python's `update_post_processor`).
fn apply_bos_eos(
    backend: &mut Tokenizer,
    settings: &Settings,
    bos_by_default: bool,
    path: &Path,
) -> Result<(), TokenizerError> {
    let bos = settings.flag("add_bos_token", bos_by_default);
    let eos = settings.flag("add_eos_token", false);
    let mut single = vec!["$A:0".to_owned()];
    let mut tokens = Vec::new();
    let mut use_role = |role: &str| -> Result<String, TokenizerError> {
        let token = settings
            .special
            .role(role)
            .ok_or_else(|| TokenizerError::invalid(path, format!("add_{role} is true but there is no {role}")))?;
        let content = token.content().to_owned();
        let id = backend.token_to_id(&content).unwrap_or_default();
        tokens.push(TemplateToken::from((content.clone(), id)));
        Ok(content)
    };
    let mut pair = Vec::new();
    if bos {
        let token = use_role("bos_token")?;
        single.insert(0, format!("{token}:0"));
        pair.push(format!("{token}:1"));
    }
    pair.push("$B:1".to_owned());
    if eos {
        let token = use_role("eos_token")?;
        single.push(format!("{token}:0"));
        pair.push(format!("{token}:1"));
    }
    let pair: Vec<String> = single.iter().cloned().chain(pair).collect();
    backend.with_post_processor(Some(legacy::template(single, pair, tokens, path)?));
    Ok(())
}

/// Edits a part of the backend through its JSON form; `None` if `edit` changed nothing.
fn with_json<T: serde::Serialize + serde::de::DeserializeOwned>(
    part: &T,
    path: &Path,
    edit: impl FnOnce(&mut Value) -> bool,
) -> Result<Option<T>, TokenizerError> {
    let invalid = |error: serde_json::Error| TokenizerError::invalid(path, error.to_string());
    let mut state = serde_json::to_value(part).map_err(invalid)?;
    if !edit(&mut state) {
        return Ok(None);
    }
    serde_json::from_value(state).map(Some).map_err(invalid)
}
