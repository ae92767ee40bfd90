//! Special tokens as Python's configuration files describe them.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

/// The seven roles, in the order in which Python adds and lists special tokens.
pub(super) const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Python's `AddedToken`. Unlike the Rust type, `normalized` may be left open, and then means "unless special".
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AddedToken {
    pub content: String,
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub normalized: Option<bool>,
    pub special: bool,
}

impl AddedToken {
    pub fn new(content: impl Into<String>) -> Self {
        Self {
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: None,
            special: false,
        }
    }

    /// Reads `{"content": …, "lstrip": …}`; an absent field has Python's default.
    pub fn from_json(map: &Map<String, Value>) -> Option<Self> {
        let flag = |name: &str| map.get(name).and_then(Value::as_bool);
        Some(Self {
            content: map.get("content")?.as_str()?.to_owned(),
            single_word: flag("single_word").unwrap_or(false),
            lstrip: flag("lstrip").unwrap_or(false),
            rstrip: flag("rstrip").unwrap_or(false),
            normalized: flag("normalized"),
            special: flag("special").unwrap_or(false),
        })
    }

    /// The token with `normalized` fixed to the value that it now stands for, which is what Python's copy does.
    pub fn fixed(mut self) -> Self {
        self.normalized = Some(self.is_normalized());
        self
    }

    pub fn is_normalized(&self) -> bool {
        self.normalized.unwrap_or(!self.special)
    }

    pub fn to_backend(&self) -> tokenizers::AddedToken {
        tokenizers::AddedToken::from(self.content.clone(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.is_normalized())
    }

    pub fn from_backend(token: &tokenizers::AddedToken) -> Self {
        Self {
            content: token.content.clone(),
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            normalized: Some(token.normalized),
            special: token.special,
        }
    }

    /// As special_tokens_map.json holds it, without the field `special`.
    pub fn to_json(&self) -> Value {
        json!({
            "content": self.content,
            "lstrip": self.lstrip,
            "normalized": self.is_normalized(),
            "rstrip": self.rstrip,
            "single_word": self.single_word,
        })
    }
}

/// A special token is a plain string, or a string with rules for matching it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SpecialToken {
    Text(String),
    Added(AddedToken),
}

impl SpecialToken {
    pub fn content(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Added(token) => &token.content,
        }
    }

    pub fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Object(map) => AddedToken::from_json(map).map(Self::Added),
            _ => None,
        }
    }

    pub fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::String(text.clone()),
            Self::Added(token) => token.to_json(),
        }
    }
}

/// Which token plays which role.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SpecialMap {
    /// By index in [`ROLES`]; `None` also where the configuration says `null`.
    pub roles: [Option<SpecialToken>; 7],
    /// `additional_special_tokens`.
    pub additional: Vec<SpecialToken>,
    /// `extra_special_tokens`: further named roles, which some multimodal tokenizers have.
    pub extra: Vec<(String, SpecialToken)>,
}

impl SpecialMap {
    pub fn role(&self, name: &str) -> Option<&SpecialToken> {
        let index = ROLES.iter().position(|role| *role == name)?;
        self.roles[index].as_ref()
    }

    /// Settles `normalized` of every token, as Python's copy of the slow class's arguments does.
    pub fn fix(&mut self) {
        for slot in self.roles.iter_mut().flatten().chain(&mut self.additional) {
            if let SpecialToken::Added(token) = slot {
                *token = token.clone().fixed();
            }
        }
    }

    /// [`all`](Self::all), to change.
    pub fn all_mut(&mut self) -> Vec<&mut SpecialToken> {
        let mut seen = HashSet::new();
        self.roles
            .iter_mut()
            .flatten()
            .chain(&mut self.additional)
            .chain(self.extra.iter_mut().map(|(_, token)| token))
            .filter(|token| !token.content().is_empty() && seen.insert(token.content().to_owned()))
            .collect()
    }

    /// Every special token once, in Python's order (`all_special_tokens_extended`).
    pub fn all(&self) -> Vec<&SpecialToken> {
        let mut seen = HashSet::new();
        self.roles
            .iter()
            .flatten()
            .chain(&self.additional)
            .chain(self.extra.iter().map(|(_, token)| token))
            .filter(|token| !token.content().is_empty() && seen.insert(token.content()))
            .collect()
    }
}
