//! The types that an argument can have: how each is read from words and from JSON, and written back.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::optim::OptimizerNames;
use crate::schedule::SchedulerType;

/// How many words may follow a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    One,
    /// None or one: the flag given alone has a meaning of its own.
    ZeroOrOne,
    /// One or more.
    Many,
}

/// The type of an argument.
pub(super) trait Value: Sized {
    /// Python's name of the type, as `--help` and `docs/arguments.md` show it.
    const TYPE: &'static str;
    /// How many words the flag takes.
    const ARITY: Arity = Arity::One;
    /// Whether a further word that ends in `.json` is a value: elsewhere it is the file of arguments.
    const JSON_FILES: bool = false;

    /// What a value must look like, for an error: "an integer".
    fn expected() -> String;
    /// The names to choose from, where the type is a choice.
    fn choices() -> Vec<&'static str> {
        Vec::new()
    }
    /// Reads the words after the flag, as many as [`Value::ARITY`] allows.
    fn from_words(words: &[&str]) -> Result<Self, String>;
    /// Reads the value of a key of an argument file.
    fn from_json(json: &Json) -> Result<Self, String>;
    /// The value as JSON: what Python's `to_dict` gives, and what [`Value::from_json`] reads.
    fn to_json(&self) -> Json;
}

/// The error of a word that is no `T`.
fn not_a<T: Value>(words: &[&str]) -> String {
    match words {
        [] => format!("expected {}, found nothing", T::expected()),
        _ => format!("expected {}, found '{}'", T::expected(), words.join(" ")),
    }
}

/// The error of a JSON value that is no `T`.
fn no_json<T: Value>(json: &Json) -> String {
    let kind = match json {
        Json::Null => "null".into(),
        Json::Bool(value) => format!("{value}"),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) => format!("the text \"{text}\""),
        Json::Array(_) => "a list".into(),
        Json::Object(_) => "an object".into(),
    };
    format!("expected {}, found {kind}", T::expected())
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

    fn from_words(words: &[&str]) -> Result<Self, String> {
        match words {
            [] => Ok(true),
            [word] => truth(word).ok_or_else(|| not_a::<Self>(words)),
            _ => Err(not_a::<Self>(words)),
        }
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        json.as_bool().ok_or_else(|| no_json::<Self>(json))
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

            fn from_words(words: &[&str]) -> Result<Self, String> {
                match words {
                    [word] => word.parse().map_err(|_| not_a::<Self>(words)),
                    _ => Err(not_a::<Self>(words)),
                }
            }

            fn from_json(json: &Json) -> Result<Self, String> {
                serde_json::from_value(json.clone()).map_err(|_| no_json::<Self>(json))
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

    fn from_words(words: &[&str]) -> Result<Self, String> {
        match words {
            [word] => match word.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(value),
                _ => Err(not_a::<Self>(words)),
            },
            _ => Err(not_a::<Self>(words)),
        }
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        json.as_f64().ok_or_else(|| no_json::<Self>(json))
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

    fn from_words(words: &[&str]) -> Result<Self, String> {
        match words {
            [word] => Ok((*word).into()),
            _ => Err(not_a::<Self>(words)),
        }
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        json.as_str().map(Into::into).ok_or_else(|| no_json::<Self>(json))
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

    fn from_words(words: &[&str]) -> Result<Self, String> {
        match words {
            [word] if !word.is_empty() => Ok(expand_home(word)),
            _ => Err(not_a::<Self>(words)),
        }
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        match json.as_str() {
            Some(text) if !text.is_empty() => Ok(expand_home(text)),
            _ => Err(no_json::<Self>(json)),
        }
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

    fn expected() -> String {
        T::expected()
    }

    fn choices() -> Vec<&'static str> {
        T::choices()
    }

    fn from_words(words: &[&str]) -> Result<Self, String> {
        T::from_words(words).map(Some)
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        match json {
            Json::Null => Ok(None),
            _ => T::from_json(json).map(Some),
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

    fn from_words(words: &[&str]) -> Result<Self, String> {
        match words {
            [] => Err(not_a::<Self>(words)),
            _ => Ok(words.iter().map(|word| (*word).into()).collect()),
        }
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        match json {
            Json::String(text) if text.is_empty() => Ok(Vec::new()),
            Json::String(text) => Ok(vec![text.clone()]),
            Json::Array(items) => items
                .iter()
                .map(|item| item.as_str().map(Into::into))
                .collect::<Option<_>>()
                .ok_or_else(|| no_json::<Self>(json)),
            _ => Err(no_json::<Self>(json)),
        }
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

    fn from_words(words: &[&str]) -> Result<Self, String> {
        if words.is_empty() || words.contains(&"") {
            return Err(not_a::<Self>(words));
        }
        Ok(Self(words.iter().map(|word| (*word).into()).collect()))
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        match Vec::from_json(json) {
            Ok(files) if !files.is_empty() && !files.iter().any(String::is_empty) => Ok(Self(files)),
            _ => Err(no_json::<Self>(json)),
        }
    }

    fn to_json(&self) -> Json {
        match self.0.as_slice() {
            [one] => Json::from(one.as_str()),
            several => Json::from(several),
        }
    }
}

/// "Every N steps", where a value below 1 is a share of all steps of the run: [`crate::observe::steps_of`] counts them.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Steps(pub f64);

impl Value for Steps {
    const TYPE: &'static str = "float";

    fn expected() -> String {
        "a number of steps, or a share of all steps below 1".into()
    }

    fn from_words(words: &[&str]) -> Result<Self, String> {
        match f64::from_words(words) {
            Ok(steps) if steps >= 0.0 => Ok(Self(steps)),
            _ => Err(not_a::<Self>(words)),
        }
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        match json.as_f64() {
            Some(steps) if steps >= 0.0 => Ok(Self(steps)),
            _ => Err(no_json::<Self>(json)),
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

    fn from_words(words: &[&str]) -> Result<Self, String> {
        let [word] = words else { return Err(not_a::<Self>(words)) };
        let (text, origin) = if word.trim_start().starts_with('{') {
            ((*word).to_string(), *word)
        } else {
            let text = lm_files::read_to_string(Path::new(word), lm_files::SMALL)
                .map_err(|error| format!("expected {}; reading '{word}' as a file: {error}", Self::expected()))?;
            (text, *word)
        };
        match serde_json::from_str(&text) {
            Ok(Json::Object(mut map)) => {
                map.values_mut().for_each(guess_type);
                Ok(Self(map))
            }
            Ok(other) => Err(no_json::<Self>(&other)),
            Err(error) => Err(format!("'{origin}' is not JSON: {error}")),
        }
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        match json {
            Json::Object(map) => Ok(Self(map.clone())),
            Json::String(text) => Self::from_words(&[text.as_str()]),
            _ => Err(no_json::<Self>(json)),
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

    fn expected() -> String {
        "a checkpoint folder, or nothing for the newest".into()
    }

    fn from_words(words: &[&str]) -> Result<Self, String> {
        match words {
            [] => Ok(Some(Resume::Newest)),
            [word] => match truth(word) {
                Some(true) => Ok(Some(Resume::Newest)),
                Some(false) => Ok(None),
                None => PathBuf::from_words(words).map(|folder| Some(Resume::Folder(folder))),
            },
            _ => Err(not_a::<Self>(words)),
        }
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        match json {
            Json::Null | Json::Bool(false) => Ok(None),
            Json::Bool(true) => Ok(Some(Resume::Newest)),
            Json::String(text) => Self::from_words(&[text.as_str()]),
            _ => Err(no_json::<Self>(json)),
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

    fn from_words(words: &[&str]) -> Result<Self, String> {
        match words {
            [] | ["all"] => Ok(Self::All),
            ["non_padding"] => Ok(Self::NonPadding),
            [word] => match truth(word) {
                Some(true) => Ok(Self::All),
                Some(false) => Ok(Self::No),
                None => Err(not_a::<Self>(words)),
            },
            _ => Err(not_a::<Self>(words)),
        }
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        match json {
            Json::Bool(true) => Ok(Self::All),
            Json::Bool(false) => Ok(Self::No),
            Json::String(text) => Self::from_words(&[text.as_str()]),
            _ => Err(no_json::<Self>(json)),
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

/// Reads and writes a type by the names of its values.
macro_rules! by_name {
    ($name:ident, $all:expr, $as_str:expr, [$($absent:literal),*]) => {
        impl Value for $name {
            const TYPE: &'static str = stringify!($name);

            fn expected() -> String {
                format!("one of {}", Self::choices().join(", "))
            }

            fn choices() -> Vec<&'static str> {
                $all.iter().copied().map($as_str).collect()
            }

            fn from_words(words: &[&str]) -> Result<Self, String> {
                let absent: &[&str] = &[$($absent),*];
                match words {
                    [word] if absent.contains(word) => {
                        Err(format!("'{word}' is not supported by this program; expected {}", Self::expected()))
                    }
                    [word] => {
                        let named = $all.iter().copied().find(|value| $as_str(*value) == *word);
                        named.ok_or_else(|| not_a::<Self>(words))
                    }
                    _ => Err(not_a::<Self>(words)),
                }
            }

            fn from_json(json: &Json) -> Result<Self, String> {
                match json.as_str() {
                    Some(text) => Self::from_words(&[text]),
                    None => Err(no_json::<Self>(json)),
                }
            }

            fn to_json(&self) -> Json {
                Json::from($as_str(*self))
            }
        }
    };
}

by_name!(SchedulerType, SchedulerType::ALL, SchedulerType::name, []);
by_name!(
    OptimizerNames,
    OptimizerNames::ALL,
    OptimizerNames::as_str,
    [
        "adamw_torch_xla",
        "adamw_torch_npu_fused",
        "adamw_apex_fused",
        "adamw_anyprecision",
        "adamw_torch_4bit",
        "adamw_torch_8bit",
        "ademamix",
        "adamw_bnb_8bit",
        "adamw_8bit",
        "ademamix_8bit",
        "lion_8bit",
        "paged_adamw_32bit",
        "paged_adamw_8bit",
        "paged_ademamix_32bit",
        "paged_ademamix_8bit",
        "paged_lion_32bit",
        "paged_lion_8bit",
        "rmsprop_bnb",
        "rmsprop_bnb_8bit",
        "rmsprop_bnb_32bit",
        "galore_adamw",
        "galore_adamw_8bit",
        "galore_adafactor",
        "galore_adamw_layerwise",
        "galore_adamw_8bit_layerwise",
        "galore_adafactor_layerwise",
        "lomo",
        "adalomo",
        "grokadamw",
        "schedule_free_radam",
        "schedule_free_adamw",
        "schedule_free_sgd",
        "apollo_adamw",
        "apollo_adamw_layerwise",
        "stable_adamw"
    ]
);

/// Defines a type whose values are names: Python's enums and `choices`.
macro_rules! choices {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident {
            $( $(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal, )+
        }
    )+) => { $(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $variant_doc])+ $variant, )+ }

        impl $name {
            /// Every value, in Python's order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Python's name of the value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        by_name!($name, $name::ALL, $name::as_str, []);
    )+ };
}

choices! {
    /// When to evaluate or to log.
    IntervalStrategy {
        /// Never.
        No = "no",
        /// Every so many optimizer steps.
        Steps = "steps",
        /// At the end of every epoch.
        Epoch = "epoch",
    }
    /// When to save a checkpoint.
    SaveStrategy {
        /// Never.
        No = "no",
        /// Every so many optimizer steps.
        Steps = "steps",
        /// At the end of every epoch.
        Epoch = "epoch",
        /// Whenever an evaluation sets a new best value of `metric_for_best_model`.
        Best = "best",
    }
    /// How much a GPU backend measures to choose its kernels.
    Autotune {
        /// As little as it can.
        Minimal = "minimal",
        /// Whatever may pay.
        Full = "full",
    }
    /// How much the program says.
    LogLevel {
        /// Everything, with its place in the source.
        Detail = "detail",
        /// Everything.
        Debug = "debug",
        /// Progress and settings.
        Info = "info",
        /// Only what may be wrong.
        Warning = "warning",
        /// Only what went wrong.
        Error = "error",
        /// Only what ends the run.
        Critical = "critical",
        /// The program's own choice: `info`.
        Passive = "passive",
    }
    /// The precision that weights are loaded in.
    Dtype {
        /// What the checkpoint says.
        Auto = "auto",
        /// 16 bits, 8 of them exponent.
        Bfloat16 = "bfloat16",
        /// 16 bits, 5 of them exponent.
        Float16 = "float16",
        /// 32 bits.
        Float32 = "float32",
    }
    /// When Python uploads to the Hub.
    HubStrategy {
        /// At the end.
        End = "end",
        /// With every checkpoint.
        EverySave = "every_save",
        /// With every checkpoint, the newest one included as a folder.
        Checkpoint = "checkpoint",
        /// With every checkpoint, all of them included as folders.
        AllCheckpoints = "all_checkpoints",
    }
}
