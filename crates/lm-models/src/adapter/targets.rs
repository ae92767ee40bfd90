//! Which layers get a pair: peft's `target_modules`.

use regex::Regex;
use serde_json::{Value, json};

use crate::parameters::{Kind, Layer, ParameterInfo};

/// The word for every linear layer but the projection to the vocabulary.
const ALL_LINEAR: &str = "all-linear";

/// Which modules an adapter has pairs for.
#[derive(Clone, Debug)]
pub enum Targets {
    /// Every linear layer but the projection to the vocabulary (`all-linear`).
    AllLinear,
    /// Those whose path is one of these, or ends in one after a dot.
    Names(Vec<String>),
    /// Those whose whole path matches.
    Pattern(Regex),
}

impl PartialEq for Targets {
    fn eq(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }
}

impl Targets {
    /// From adapter_config.json: a list of names, `all-linear`, or a regular expression.
    pub(super) fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Self::from_text(text),
            _ => match names(value) {
                Some(names) if !names.is_empty() => Ok(Self::Names(names)),
                _ => Err(format!("`target_modules` = {value}: expected a list of names, or a text")),
            },
        }
    }

    /// `all-linear`, or a regular expression.
    fn from_text(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case(ALL_LINEAR) {
            return Ok(Self::AllLinear);
        }
        let pattern = Regex::new(&format!("^(?:{text})$"));
        pattern.map(Self::Pattern).map_err(|error| {
            let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            format!("`{text}` is no regular expression that can be used: {reason}")
        })
    }

    /// From the words of a flag: one word may be `all-linear` or a regular expression, as peft takes a text; a plain name
    /// stands for the layers of this name.
    ///
    /// # Errors
    /// If there is none, or one is no regular expression.
    pub fn from_words(words: &[String]) -> Result<Self, String> {
        let plain = |word: &String| word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
        match words {
            [] => Err("name at least one layer".into()),
            [word] if !plain(word) || word.eq_ignore_ascii_case(ALL_LINEAR) => Self::from_text(word),
            _ => match words.iter().find(|word| !plain(word)) {
                Some(word) => Err(format!("`{word}`: a regular expression stands alone")),
                None => Ok(Self::Names(words.to_vec())),
            },
        }
    }

    /// peft's default for an architecture; where it has none, queries and values, by the names that they have there, as in the
    /// paper. The second says whether it is peft's.
    pub fn of_model_type(model_type: &str) -> Option<(Self, bool)> {
        const QUERY_VALUE: &[&str] = &["query", "value"];
        const Q_V_PROJ: &[&str] = &["q_proj", "v_proj"];
        let (names, pefts): (&[&str], bool) = match model_type {
            "gpt2" => (&["c_attn"], true),
            "openai-gpt" => (&["c_attn"], false),
            "bloom" | "gpt_neox" | "falcon" => (&["query_key_value"], true),
            "bert" | "roberta" | "xlm-roberta" | "electra" => (QUERY_VALUE, true),
            "deberta" => (&["in_proj"], true),
            "deberta-v2" => (&["query_proj", "value_proj"], true),
            "opt" | "gptj" | "gpt_neo" | "llama" | "mistral" | "stablelm" | "gemma" | "gemma2" | "gemma3_text"
            | "qwen2" | "qwen3" => (Q_V_PROJ, true),
            "phi" => (&["q_proj", "v_proj", "fc1", "fc2"], true),
            "camembert"
            | "data2vec-text"
            | "roberta-prelayernorm"
            | "xlm-roberta-xl"
            | "ernie"
            | "megatron-bert"
            | "rembert"
            | "roformer"
            | "convbert"
            | "longformer"
            | "big_bird"
            | "albert"
            | "mobilebert"
            | "esm" => (QUERY_VALUE, false),
            "distilbert" | "xlm" | "flaubert" => (&["q_lin", "v_lin"], false),
            "mpnet" => (&["attn.q", "attn.v"], false),
            "modernbert" => (&["Wqkv"], false),
            "phi3" => (&["qkv_proj"], false),
            "ctrl" => (&["Wq", "Wv"], false),
            "smollm3" | "olmo2" | "granite" | "biogpt" | "starcoder2" => (Q_V_PROJ, false),
            "xlnet" => (&["layer_1", "layer_2"], false),
            _ => return None,
        };
        Some((Self::Names(names.iter().map(|&name| name.to_owned()).collect()), pefts))
    }

    /// Whether a module of this path is one of them by its name.
    pub(super) fn name(&self, module: &str) -> bool {
        match self {
            Self::AllLinear => false,
            Self::Names(names) => names.iter().any(|name| ends_in(module, name)),
            Self::Pattern(pattern) => pattern.is_match(module),
        }
    }

    /// Whether this parameter is the weight of one of them, but for modules that are saved whole.
    pub(super) fn want(&self, info: &ParameterInfo, modules_to_save: &[String]) -> bool {
        let (Some(layer), Some(module)) = (info.layer, module_of(info)) else { return false };
        let whole = |name: &String| format!(".{module}.").contains(&format!(".{name}."));
        if modules_to_save.iter().any(whole) {
            return false;
        }
        match self {
            Self::AllLinear => layer != Layer::Embedding && info.kind != Kind::Head,
            _ => self.name(module),
        }
    }

    /// As adapter_config.json has it.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::AllLinear => json!(ALL_LINEAR),
            Self::Names(names) => json!(names),
            Self::Pattern(pattern) => {
                let text = pattern.as_str();
                json!(text.strip_prefix("^(?:").and_then(|text| text.strip_suffix(")$")).unwrap_or(text))
            }
        }
    }
}

/// The path of the module that has this weight.
pub(super) fn module_of(info: &ParameterInfo) -> Option<&str> {
    info.name.strip_suffix(".weight")
}

fn ends_in(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// A list of texts.
pub(super) fn names(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}
