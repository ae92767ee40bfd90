//! The types that an argument can have: how each is read from a word, and written as JSON. Names to choose from are in
//! `choice`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

/// How many words may follow a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// None or one: the flag given alone means true.
    ZeroOrOne,
    /// One or more.
    Many,
}

/// The type of an argument.
pub(super) trait Value: Clone + Send + Sync + 'static {
    /// Python's name of the type, as `--help` and `docs/arguments.md` show it.
    const TYPE: &'static str;
    /// How many words the flag takes.
    const ARITY: Arity = Arity::One;
    /// Whether a further word that ends in `.json` is a value: elsewhere it is the file of arguments.
    const JSON_FILES: bool = false;
    /// Whether an argument file may say null.
    const NULLABLE: bool = false;

    /// What a value must look like, for an error: "an integer".
    fn expected() -> String;
    /// The names to choose from, where the type is a choice.
    fn choices() -> Vec<&'static str> {
        Vec::new()
    }
    /// Reads one word.
    fn from_word(word: &str) -> Result<Self, String>;
    /// What a word and the next one of the same flag mean together: only lists take several.
    fn and(self, next: Self) -> Self {
        next
    }
    /// The value as JSON: what Python's `to_dict` gives, and what an argument file may hold.
    fn to_json(&self) -> Json;
}

/// The error of a word that is no `T`.
pub(super) fn not_a<T: Value>(word: &str) -> String {
    format!("expected {}, found '{word}'", T::expected())
}

/// Truth words, as Python's `HfArgumentParser` reads them.
fn truth(word: &str) -> Option<bool> {
    match word.to_lowercase().as_str() {
        "yes" | "true" | "t" | "y" | "1" => Some(true),
        "no" | "false" | "f" | "n" | "0" => Some(false),
        _ => None,
    }
}

impl Value for bool {
    const TYPE: &'static str = "bool";
    const ARITY: Arity = Arity::ZeroOrOne;

    fn expected() -> String {
        "true or false".into()
    }

    fn from_word(word: &str) -> Result<Self, String> {
        truth(word).ok_or_else(|| not_a::<Self>(word))
    }

    fn to_json(&self) -> Json {
        Json::Bool(*self)
    }
}

macro_rules! integer {
    ($type:ty, $expected:literal) => {
        impl Value for $type {
            const TYPE: &'static str = "int";

            fn expected() -> String {
                $expected.into()
            }

            fn from_word(word: &str) -> Result<Self, String> {
                word.parse().map_err(|_| not_a::<Self>(word))
            }

            fn to_json(&self) -> Json {
                Json::from(*self)
            }
        }
    };
}

integer!(i64, "an integer");
integer!(u64, "an integer that is not negative");
integer!(usize, "an integer that is not negative");

impl Value for f64 {
    const TYPE: &'static str = "float";

    fn expected() -> String {
        "a finite number".into()
    }

    fn from_word(word: &str) -> Result<Self, String> {
        match word.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(not_a::<Self>(word)),
        }
    }

    fn to_json(&self) -> Json {
        Json::from(*self)
    }
}

impl Value for String {
    const TYPE: &'static str = "str";

    fn expected() -> String {
        "a text".into()
    }

    fn from_word(word: &str) -> Result<Self, String> {
        Ok(word.into())
    }

    fn to_json(&self) -> Json {
        Json::from(self.as_str())
    }
}

impl Value for PathBuf {
    const TYPE: &'static str = "str";

    fn expected() -> String {
        "a path".into()
    }

    fn from_word(word: &str) -> Result<Self, String> {
        if word.is_empty() { Err(not_a::<Self>(word)) } else { Ok(expand_home(word)) }
    }

    fn to_json(&self) -> Json {
        Json::from(self.to_string_lossy())
    }
}

/// A leading `~` means the home folder, as Python's `os.path.expanduser` reads it.
fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix('~'), std::env::home_dir()) {
        (Some(""), Some(home)) => home,
        (Some(rest), Some(home)) if rest.starts_with('/') => home.join(&rest[1..]),
        _ => PathBuf::from(path),
    }
}

impl<T: Value> Value for Option<T> {
    const TYPE: &'static str = T::TYPE;
    const ARITY: Arity = T::ARITY;
    const JSON_FILES: bool = T::JSON_FILES;
    const NULLABLE: bool = true;

    fn expected() -> String {
        T::expected()
    }

    fn choices() -> Vec<&'static str> {
        T::choices()
    }

    /// `null`, as an argument file spells nothing, is a word too, but where it may be a text.
    fn from_word(word: &str) -> Result<Self, String> {
        if word == "null" && T::TYPE != "str" { Ok(None) } else { T::from_word(word).map(Some) }
    }

    fn and(self, next: Self) -> Self {
        match (self, next) {
            (Some(one), Some(next)) => Some(one.and(next)),
            (_, next) => next,
        }
    }

    fn to_json(&self) -> Json {
        self.as_ref().map_or(Json::Null, Value::to_json)
    }
}

impl Value for Vec<String> {
    const TYPE: &'static str = "list";
    const ARITY: Arity = Arity::Many;

    fn expected() -> String {
        "one text or several".into()
    }

    fn from_word(word: &str) -> Result<Self, String> {
        Ok(if word.is_empty() { Vec::new() } else { vec![word.into()] })
    }

    fn and(mut self, next: Self) -> Self {
        self.extend(next);
        self
    }

    fn to_json(&self) -> Json {
        Json::from(self.as_slice())
    }
}

/// Text files of one split, or patterns such as `data/*.txt`: several words, or a list in an argument file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files(pub Vec<String>);

impl Value for Files {
    const TYPE: &'static str = "str";
    const ARITY: Arity = Arity::Many;
    const JSON_FILES: bool = true;

    fn expected() -> String {
        "one file or several".into()
    }

    fn from_word(word: &str) -> Result<Self, String> {
        if word.is_empty() { Err(not_a::<Self>(word)) } else { Ok(Self(vec![word.into()])) }
    }

    fn and(self, next: Self) -> Self {
        Self(Value::and(self.0, next.0))
    }

    fn to_json(&self) -> Json {
        match self.0.as_slice() {
            [one] => Json::from(one.as_str()),
            several => Json::from(several),
        }
    }
}

/// "Every N steps", where a value below 1 is a share of all steps of the run: `observe::steps_of` counts them.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Steps(pub f64);

impl Value for Steps {
    const TYPE: &'static str = "float";

    fn expected() -> String {
        "a number of steps, or a share of all steps below 1".into()
    }

    fn from_word(word: &str) -> Result<Self, String> {
        match f64::from_word(word) {
            Ok(steps) if steps >= 0.0 => Ok(Self(steps)),
            _ => Err(not_a::<Self>(word)),
        }
    }

    fn to_json(&self) -> Json {
        if self.0.fract() == 0.0 && self.0 < 1e15 { Json::from(self.0 as u64) } else { Json::from(self.0) }
    }
}

/// Keyword arguments: a JSON object, or the path of a file that holds one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kwargs(pub Map<String, Json>);

impl Value for Kwargs {
    const TYPE: &'static str = "dict";

    fn expected() -> String {
        "a JSON object such as {\"num_cycles\": 2}, or a JSON file that holds one".into()
    }

    fn from_word(word: &str) -> Result<Self, String> {
        let text = if word.trim_start().starts_with('{') {
            word.to_string()
        } else {
            lm_files::read_to_string(Path::new(word), lm_files::SMALL)
                .map_err(|error| format!("expected {}; reading '{word}' as a file: {error}", Self::expected()))?
        };
        match serde_json::from_str(&text) {
            Ok(Json::Object(mut map)) => {
                map.values_mut().for_each(guess_type);
                Ok(Self(map))
            }
            Ok(_) => Err(format!("expected {}; '{word}' holds something else", Self::expected())),
            Err(error) => Err(format!("'{word}' is not JSON: {error}")),
        }
    }

    fn to_json(&self) -> Json {
        Json::Object(self.0.clone())
    }
}

/// Texts inside an object become the booleans and numbers that they spell, as in Python's `_convert_str_dict`.
fn guess_type(json: &mut Json) {
    match json {
        Json::Object(map) => map.values_mut().for_each(guess_type),
        Json::String(text) => {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            if let Some(value) = ["true", "false"].iter().position(|word| text.eq_ignore_ascii_case(word)) {
                *json = Json::Bool(value == 0);
            } else if let (true, Ok(integer)) = (digits, text.parse::<u64>()) {
                *json = Json::from(integer);
            } else if let (true, Ok(number)) = (digits, text.parse::<f64>()) {
                *json = Json::from(number);
            }
        }
        _ => {}
    }
}

/// What `--resume_from_checkpoint` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// The newest complete checkpoint of the output folder: the flag given alone.
    Newest,
    /// The checkpoint in this folder.
    Folder(PathBuf),
}

impl Value for Option<Resume> {
    const TYPE: &'static str = "str";
    const ARITY: Arity = Arity::ZeroOrOne;
    const NULLABLE: bool = true;

    fn expected() -> String {
        "a checkpoint folder, or nothing for the newest".into()
    }

    fn from_word(word: &str) -> Result<Self, String> {
        match truth(word) {
            Some(true) => Ok(Some(Resume::Newest)),
            Some(false) => Ok(None),
            None => PathBuf::from_word(word).map(|folder| Some(Resume::Folder(folder))),
        }
    }

    fn to_json(&self) -> Json {
        match self {
            None => Json::Null,
            Some(Resume::Newest) => Json::Bool(true),
            Some(Resume::Folder(folder)) => folder.to_json(),
        }
    }
}

/// Which input tokens `--include_num_input_tokens_seen` counts; as a bool, true means all and false none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenCount {
    /// None.
    No,
    /// All, padding included.
    All,
    /// All but the padding.
    NonPadding,
}

impl Value for TokenCount {
    const TYPE: &'static str = "bool";
    const ARITY: Arity = Arity::ZeroOrOne;

    fn expected() -> String {
        "true, false, all, non_padding or no".into()
    }

    fn choices() -> Vec<&'static str> {
        vec!["no", "all", "non_padding"]
    }

    fn from_word(word: &str) -> Result<Self, String> {
        match word {
            "all" => Ok(Self::All),
            "non_padding" => Ok(Self::NonPadding),
            _ => truth(word).map(|all| if all { Self::All } else { Self::No }).ok_or_else(|| not_a::<Self>(word)),
        }
    }

    fn to_json(&self) -> Json {
        Json::from(match self {
            Self::No => "no",
            Self::All => "all",
            Self::NonPadding => "non_padding",
        })
    }
}
