//! What the configuration files beside a tokenizer say, combined as Python's `from_pretrained` does it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::class::Class;
use super::error::TokenizerError;
use super::special::{AddedToken, ROLES, SpecialMap, SpecialToken};

/// Files of which one makes a folder a tokenizer's, in all layouts.
pub const VOCABULARY_FILES: &[&str] = &[
    TOKENIZER_FILE,
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tokenizer.model",
];
/// Files that may lie beside a vocabulary; besides them config.json may say whose tokenizer it is.
pub const OTHER_FILES: &[&str] =
    &["merges.txt", CONFIG_FILE, SPECIAL_TOKENS_FILE, ADDED_TOKENS_FILE, CHAT_TEMPLATE_FILE];
pub(super) const TOKENIZER_FILE: &str = "tokenizer.json";
pub(super) const CONFIG_FILE: &str = "tokenizer_config.json";
pub(super) const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";
pub(super) const ADDED_TOKENS_FILE: &str = "added_tokens.json";
pub(super) const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";

/// The arguments with which Python would construct the tokenizer class.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Python's name of the class, without `Fast` if this crate knows it.
    pub class_name: String,
    /// What is known of that class; the plain class if it is unknown.
    pub class: &'static Class,
    /// Everything in tokenizer_config.json that is neither a token nor the class.
    pub options: Map<String, Value>,
    pub special: SpecialMap,
    /// `added_tokens_decoder`, or what replaces it in older folders.
    pub added_tokens: BTreeMap<u32, AddedToken>,
}

impl Settings {
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.options.get(name).and_then(Value::as_bool).unwrap_or(default)
    }
}

/// Reads a JSON object from a file; `None` if there is no such file.
pub(super) fn read_object(path: &Path) -> Result<Option<Map<String, Value>>, TokenizerError> {
    let Some(text) = read_text(path)? else {
        return Ok(None);
    };
    match lm_files::json::from_str(&text) {
        Ok(Value::Object(map)) => Ok(Some(map)),
        Ok(_) => Err(TokenizerError::invalid(path, "not a JSON object")),
        Err(error) => Err(TokenizerError::invalid(
            path,
            format!("not valid JSON: {error}; the file is damaged, copy or download it again"),
        )),
    }
}

/// Reads a UTF-8 file; `None` if there is no such file.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, TokenizerError> {
    match read_bytes(path)? {
        None => Ok(None),
        Some(bytes) => String::from_utf8(bytes).map(Some).map_err(|error| {
            let line =
                error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            TokenizerError::invalid(path, format!("line {line} is not valid UTF-8"))
        }),
    }
}

/// Reads a file; `None` if there is no such file.
pub(super) fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    match lm_files::read(path, lm_files::SMALL) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TokenizerError::Io { action: "read", path: path.to_owned(), source }),
    }
}

/// Reads the configuration files of `dir`; `backend` is its tokenizer.json, if there is one, `model_type` what it is of
/// where the files do not say so.
pub(super) fn read(dir: &Path, backend: Option<&Value>, model_type: Option<&str>) -> Result<Settings, TokenizerError> {
    let config_path = dir.join(CONFIG_FILE);
    let mut options = read_object(&config_path)?.unwrap_or_default();
    let (class_name, class) = find_class(dir, &mut options, backend.is_some(), model_type)?;
    from_transformers_5(&mut options);
    untag_tokens(&mut options);
    if let Some(template) = read_text(&dir.join(CHAT_TEMPLATE_FILE))? {
        options.insert("chat_template".to_owned(), Value::String(template));
    }

    if let Some(backend) = backend {
        take_sides(&mut options, backend, class);
    }

    let invalid_token = |path: &PathBuf, name: &str| {
        TokenizerError::invalid(path, format!("\"{name}\" is neither a string nor a token object"))
    };

    // Python reads the older files only where tokenizer_config.json does not list the added tokens itself.
    let mut added_tokens = BTreeMap::new();
    let mut by_content = HashMap::new();
    if let Some(listed) = options.remove("added_tokens_decoder") {
        let listed = listed.as_object().cloned().unwrap_or_default();
        for (id, token) in &listed {
            let token: Option<AddedToken> = token.as_object().and_then(AddedToken::from_json);
            let (Ok(id), Some(token)) = (id.parse::<u32>(), token) else {
                return Err(TokenizerError::invalid(
                    &config_path,
                    format!("\"added_tokens_decoder\" entry \"{id}\" is not an id with a token object"),
                ));
            };
            by_content.insert(token.content.clone(), token.clone());
            added_tokens.insert(id, token);
        }
    } else {
        let map_path = dir.join(SPECIAL_TOKENS_FILE);
        for (name, value) in read_object(&map_path)?.unwrap_or_default() {
            let value = mark_special(value);
            let value = match (name.as_str(), value) {
                ("additional_special_tokens", Value::Array(listed)) => {
                    let mut all = match options.remove(&name) {
                        Some(Value::Array(earlier)) => earlier,
                        _ => Vec::new(),
                    };
                    for token in listed {
                        if !all.contains(&token) {
                            all.push(token);
                        }
                    }
                    Value::Array(all)
                }
                (_, value) => value,
            };
            options.insert(name, value);
        }
        let added_path = dir.join(ADDED_TOKENS_FILE);
        if let Some(listed) = read_object(&added_path)? {
            let special = special_contents(&options);
            for (content, id) in listed {
                let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
                    return Err(TokenizerError::invalid(
                        &added_path,
                        format!("the id of {content:?} is not a whole number"),
                    ));
                };
                let mut token = AddedToken::new(content);
                token.special = special.contains(&token.content);
                added_tokens.insert(id, token.fixed());
            }
        }
        let backend_tokens = backend.and_then(|backend| backend.get("added_tokens")?.as_array());
        for token in backend_tokens.into_iter().flatten() {
            let id = token.get("id").and_then(Value::as_u64);
            let token = token.as_object().and_then(AddedToken::from_json);
            if let (Some(id), Some(token)) = (id.and_then(|id| u32::try_from(id).ok()), token) {
                by_content.insert(token.content.clone(), token.clone());
                added_tokens.insert(id, token);
            }
        }
    }

    let defaults = if backend.is_some() { class.roles } else { class.slow_roles() };
    // A role given by its text is the added token of that text, with that token's matching rules.
    let mut special = SpecialMap::default();
    for (index, role) in ROLES.iter().enumerate() {
        special.roles[index] = match options.remove(*role) {
            None => defaults[index].map(|text| SpecialToken::Text(text.to_owned())),
            Some(Value::Null) => {
                // Kept, so that saving writes it again: without it the class's default would come back.
                options.insert((*role).to_owned(), Value::Null);
                None
            }
            Some(value) => {
                let token = SpecialToken::from_json(&value).ok_or_else(|| invalid_token(&config_path, role))?;
                Some(match by_content.get(token.content()) {
                    Some(added) => SpecialToken::Added(added.clone()),
                    None => token,
                })
            }
        };
    }
    special.additional = match options.remove("additional_special_tokens") {
        None => class.additional.iter().map(|text| SpecialToken::Text((*text).to_owned())).collect(),
        Some(Value::Null) => Vec::new(),
        Some(Value::Array(listed)) => listed
            .iter()
            .map(SpecialToken::from_json)
            .collect::<Option<_>>()
            .ok_or_else(|| invalid_token(&config_path, "additional_special_tokens"))?,
        Some(_) => {
            return Err(TokenizerError::invalid(&config_path, "\"additional_special_tokens\" is not a list"));
        }
    };
    if let Some(Value::Object(extra)) = options.get("extra_special_tokens") {
        for (name, value) in extra {
            let token = SpecialToken::from_json(value).ok_or_else(|| invalid_token(&config_path, name))?;
            special.extra.push((name.clone(), token));
        }
    }
    Ok(Settings { class_name, class, options, special, added_tokens })
}

/// Whether Python reads this folder by a class that has no use for its tokenizer.json.
pub(super) fn is_of_slow_class(dir: &Path, model_type: Option<&str>) -> Result<bool, TokenizerError> {
    let mut options = read_object(&dir.join(CONFIG_FILE))?.unwrap_or_default();
    let (_, class) = find_class(dir, &mut options, true, model_type)?;
    Ok(class.is_slow() && class.legacy_files().iter().all(|name| dir.join(name).is_file()))
}

/// The class named by tokenizer_config.json, else by config.json, else the one of config.json's model type, or of the
/// given one. A folder without any configuration is read by its tokenizer.json alone.
fn find_class(
    dir: &Path,
    options: &mut Map<String, Value>,
    has_tokenizer_file: bool,
    model_type: Option<&str>,
) -> Result<(String, &'static Class), TokenizerError> {
    let mut found = "neither tokenizer_config.json names a tokenizer_class nor config.json a model_type";
    let mut unknown = None;
    if let Some(Value::String(name)) = options.remove("tokenizer_class") {
        unknown = Some(name);
    } else {
        let config = read_object(&dir.join("config.json"))?;
        let text = |name: &str| config.as_ref().and_then(|config| config.get(name)).and_then(Value::as_str);
        let given = model_type.filter(|_| config.is_some() || !has_tokenizer_file);
        if let Some(name) = text("tokenizer_class") {
            unknown = Some(name.to_owned());
        } else if let Some(model_type) = text("model_type").or(given) {
            if let Some(class) = Class::by_model_type(model_type) {
                return Ok((class.name.to_owned(), class));
            }
            found = "the model_type in config.json has no tokenizer class here";
        }
    }
    // transformers 5 has classes that 4.57 does not know; what they do is all in tokenizer.json.
    if unknown.as_deref().is_some_and(is_only_in_5) {
        unknown = None;
    }
    let known = |class: &&Class| has_tokenizer_file || !class.legacy_files().is_empty();
    if let Some(class) = unknown.as_deref().and_then(Class::by_name).filter(known) {
        return Ok((class.name.to_owned(), class));
    }
    if has_tokenizer_file {
        // tokenizer.json describes the whole tokenizer; an unknown class only lacks defaults that its files rarely leave out.
        let name = unknown.unwrap_or_else(|| "PreTrainedTokenizerFast".to_owned());
        return Ok((name, Class::plain()));
    }
    Err(TokenizerError::UnknownClass {
        dir: dir.to_owned(),
        found: match unknown {
            Some(name) => format!("the old files of tokenizer_class \"{name}\" are not supported"),
            None => found.to_owned(),
        },
        known: Class::known_legacy().join(", "),
    })
}

/// Classes of transformers 5 without a namesake in 4.57, besides `TokenizersBackend` and the other backends.
const ONLY_IN_5: &[&str] = &[
    "EsmcTokenizer",
    "LasrTokenizer",
    "Qwen3_5Tokenizer",
    "Siglip2Tokenizer",
    "Tipsv2Tokenizer",
    "VideoPrismTokenizer",
];

/// Whether a folder of this class is one that 4.57 would not read.
pub(super) fn is_only_in_5(class_name: &str) -> bool {
    let name = class_name.strip_suffix("Fast").unwrap_or(class_name);
    name.ends_with("Backend") || ONLY_IN_5.contains(&name)
}

/// What transformers 5 writes otherwise than 4.57, whose files ours are.
fn from_transformers_5(options: &mut Map<String, Value>) {
    // Which library reads the folder, and where it lay.
    options.shift_remove("backend");
    options.shift_remove("is_local");
    options.shift_remove("local_files_only");
    // A list, which is called otherwise in 4.57; there the name belongs to named roles.
    if let Some(Value::Array(tokens)) = options.get("extra_special_tokens").cloned() {
        options.shift_remove("extra_special_tokens");
        options.entry("additional_special_tokens").or_insert(Value::Array(tokens));
    }
    if let Some(roles @ Value::Object(_)) = options.shift_remove("model_specific_special_tokens") {
        options.entry("extra_special_tokens").or_insert(roles);
    }
}

/// Truncation and padding stored in tokenizer.json say which sides to use and which token pads, where the configuration
/// does not. Nothing else of them counts.
fn take_sides(options: &mut Map<String, Value>, backend: &Value, class: &Class) {
    let text = |pointer: &str| backend.pointer(pointer).and_then(Value::as_str);
    for (name, side) in
        [("truncation_side", text("/truncation/direction")), ("padding_side", text("/padding/direction"))]
    {
        if let Some(side) = side {
            options.entry(name).or_insert_with(|| Value::String(side.to_lowercase()));
        }
    }
    if let Some(token) = text("/padding/pad_token")
        && class.default_role("pad_token").is_none()
    {
        options.entry("pad_token").or_insert_with(|| Value::String(token.to_owned()));
    }
}

/// Drops Python's type tag from every token object; the fields that remain say the same.
fn untag_tokens(options: &mut Map<String, Value>) {
    fn untag(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.shift_remove("__type");
                map.values_mut().for_each(untag);
            }
            Value::Array(list) => list.iter_mut().for_each(untag),
            _ => {}
        }
    }
    options.values_mut().for_each(untag);
}

/// Token objects in special_tokens_map.json are special although they do not say so.
fn mark_special(value: Value) -> Value {
    match value {
        Value::Object(mut map) => {
            map.insert("special".to_owned(), Value::Bool(true));
            Value::Object(map)
        }
        Value::Array(list) => Value::Array(list.into_iter().map(mark_special).collect()),
        other => other,
    }
}

/// The texts of all special tokens that the configuration names.
fn special_contents(options: &Map<String, Value>) -> Vec<String> {
    let mut contents = Vec::new();
    let mut push = |value: &Value| {
        if let Some(token) = SpecialToken::from_json(value) {
            contents.push(token.content().to_owned());
        }
    };
    for role in ROLES {
        options.get(role).map(&mut push);
    }
    if let Some(Value::Array(list)) = options.get("additional_special_tokens") {
        list.iter().for_each(push);
    }
    contents
}
