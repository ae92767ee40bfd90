//! `model_type` → architecture: the one place that lists them all.

pub mod bert;
pub mod distilbert;
pub mod gpt;
pub mod gpt2;
pub mod roberta;
pub mod xlnet;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde_json::Value;

use crate::config::{ConfigError, ModelConfig};
use crate::generate::CausalModel;
use crate::inputs::{Mode, ModelInputs};
use crate::ops::Decoder;
use crate::params;
use crate::params::{Initial, ParameterInfo};
use crate::stages::Stages;

/// What an architecture is trained for, one binary each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Masked language modelling: `run_mlm`.
    Mlm,
    /// Causal language modelling: `run_clm`.
    Clm,
    /// Permutation language modelling: `run_plm`.
    Plm,
}

impl Task {
    /// All three.
    pub const ALL: &[Self] = &[Self::Mlm, Self::Clm, Self::Plm];

    /// The program that trains it.
    pub fn binary(self) -> &'static str {
        match self {
            Self::Mlm => "run_mlm",
            Self::Clm => "run_clm",
            Self::Plm => "run_plm",
        }
    }

    /// "masked language" and so on, to stand before "model".
    pub fn noun(self) -> &'static str {
        match self {
            Self::Mlm => "masked language",
            Self::Clm => "causal language",
            Self::Plm => "permutation language",
        }
    }
}

/// One `model_type`.
#[derive(Debug)]
pub struct Family {
    /// As in config.json.
    pub model_type: &'static str,
    /// What it is trained for.
    pub task: Task,
    /// Python's class with the language-model head, for `architectures` in config.json.
    pub class: &'static str,
    /// Python's `base_model_prefix`: what names in a checkpoint of the bare model lack.
    pub base_model_prefix: &'static str,
    /// Further names of tied parameters, `(alias, parameter)`, as old checkpoints hold them.
    pub ties: &'static [(&'static str, &'static str)],
    /// Buffers that old checkpoints hold although they are computed; `*` stands for one part between dots.
    pub buffers: &'static [&'static str],
    /// Parts of names that a checkpoint may have beyond the model's without a word
    /// (`_keys_to_ignore_on_load_unexpected`).
    pub ignore_unexpected: &'static [&'static str],
    /// The fields of Python's default configuration.
    pub defaults: fn() -> Value,
    /// A field that Python computes from others and writes into config.json.
    pub derived: fn(&ModelConfig) -> Option<(&'static str, Value)>,
    /// Python's `attribute_map`: other names for fields.
    pub aliases: &'static [(&'static str, &'static str)],
    /// The most tokens a sequence may have; none for no limit.
    pub max_positions: fn(&ModelConfig) -> Option<usize>,
    /// Whether positions count from the padding token's id on, so that config.json can't take just any.
    pub positions_from_padding: bool,
    /// Builds the model with empty parameters.
    pub build: fn(&ModelConfig, &Device) -> Result<AutoModel, ConfigError>,
}

/// All architectures. A new one is a new file, a line here and a variant of [`AutoModel`].
pub static FAMILIES: &[Family] = &[
    Family {
        model_type: "bert",
        class: "BertForMaskedLM",
        base_model_prefix: "bert",
        defaults: bert::defaults,
        build: bert::build,
        ..MLM
    },
    Family { model_type: "roberta", class: "RobertaForMaskedLM", defaults: roberta::defaults, ..ROBERTA },
    Family { model_type: "xlm-roberta", class: "XLMRobertaForMaskedLM", ..ROBERTA },
    Family { model_type: "camembert", class: "CamembertForMaskedLM", ..ROBERTA },
    Family {
        model_type: "distilbert",
        class: "DistilBertForMaskedLM",
        base_model_prefix: "distilbert",
        ties: distilbert::TIES,
        defaults: distilbert::defaults,
        aliases: distilbert::ALIASES,
        build: distilbert::build,
        ..MLM
    },
    Family {
        model_type: "openai-gpt",
        class: "OpenAIGPTLMHeadModel",
        ties: gpt::TIES,
        defaults: gpt::defaults,
        build: gpt::build,
        ..CAUSAL
    },
    Family { model_type: "gpt2", class: "GPT2LMHeadModel", ties: gpt2::TIES, ..CAUSAL },
    Family {
        model_type: "xlnet",
        task: Task::Plm,
        class: "XLNetLMHeadModel",
        base_model_prefix: "transformer",
        ties: xlnet::TIES,
        buffers: &[],
        ignore_unexpected: &[],
        defaults: xlnet::defaults,
        derived: xlnet::derived,
        aliases: xlnet::ALIASES,
        max_positions: |_| None,
        positions_from_padding: false,
        build: xlnet::build,
    },
];

/// What masked language models have in common.
const MLM: Family = Family {
    model_type: "",
    task: Task::Mlm,
    class: "",
    base_model_prefix: "",
    ties: bert::TIES,
    buffers: &["*.embeddings.position_ids", "embeddings.position_ids"],
    ignore_unexpected: &[],
    defaults: bert::defaults,
    derived: |_| None,
    aliases: &[],
    max_positions: |config| config.size("max_position_embeddings"),
    positions_from_padding: false,
    build: bert::build,
};

/// RoBERTa's code under its names.
const ROBERTA: Family = Family {
    base_model_prefix: "roberta",
    ties: roberta::TIES,
    ignore_unexpected: &["pooler"],
    defaults: roberta::defaults_of_relatives,
    max_positions: roberta::max_positions,
    positions_from_padding: true,
    build: roberta::build,
    ..MLM
};

/// GPT's and GPT-2's common names.
const CAUSAL: Family = Family {
    model_type: "",
    task: Task::Clm,
    class: "",
    base_model_prefix: "transformer",
    ties: &[],
    buffers: gpt2::BUFFERS,
    ignore_unexpected: &[],
    defaults: gpt2::defaults,
    derived: |_| None,
    aliases: gpt2::ALIASES,
    max_positions: |config| config.size("n_positions"),
    positions_from_padding: false,
    build: gpt2::build,
};

/// What every architecture does.
pub trait LanguageModel {
    /// Rust field names that differ from the names in the files.
    const RENAMES: &'static [(&'static str, &'static str)];

    /// The way from a batch to the rows to decode. `mode` gives the random choices that all layers share; the others
    /// are made while the stages run.
    fn stages<'a>(&'a self, inputs: &'a ModelInputs, mode: &Mode) -> Stages<'a>;

    /// The projection to the vocabulary.
    fn decoder(&self) -> Decoder;

    /// Python's `_init_weights` for one parameter.
    fn initial_value(&self, parameter: &ParameterInfo) -> Initial;
}

/// A model of any architecture.
#[derive(Module, Debug)]
pub enum AutoModel {
    /// BERT
    Bert(bert::BertForMaskedLM),
    /// RoBERTa, XLM-RoBERTa, CamemBERT
    Roberta(roberta::RobertaForMaskedLM),
    /// DistilBERT
    DistilBert(distilbert::DistilBertForMaskedLM),
    /// GPT
    OpenAIGPT(gpt::OpenAIGPTLMHeadModel),
    /// GPT-2
    GPT2(gpt2::GPT2LMHeadModel),
    /// XLNet
    XLNet(xlnet::XLNetLMHeadModel),
}

/// Calls the same method on whichever architecture it is.
macro_rules! each {
    ($self:expr, $model:ident => $call:expr) => {
        match $self {
            AutoModel::Bert($model) => $call,
            AutoModel::Roberta($model) => $call,
            AutoModel::DistilBert($model) => $call,
            AutoModel::OpenAIGPT($model) => $call,
            AutoModel::GPT2($model) => $call,
            AutoModel::XLNet($model) => $call,
        }
    };
}

impl AutoModel {
    /// A model whose parameters are drawn as Python draws them for a new model (other numbers, the same distribution).
    pub fn from_config(config: &ModelConfig, seed: u64, device: &Device) -> Result<Self, ConfigError> {
        Ok(params::initialize((config.family().build)(config, device)?, seed))
    }

    /// See [`LanguageModel::stages`].
    pub fn stages<'a>(&'a self, inputs: &'a ModelInputs, mode: &Mode) -> Stages<'a> {
        each!(self, model => model.stages(inputs, mode))
    }

    /// The rows to decode, [predicted, dim], for [`Decoder::logits`] or [`crate::ops::cross_entropy`].
    pub fn forward(&self, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        self.stages(inputs, mode).forward(mode)
    }

    /// See [`LanguageModel::decoder`].
    pub fn decoder(&self) -> Decoder {
        each!(self, model => model.decoder())
    }

    /// The model as one that can continue a text, if it is.
    pub fn causal(&self) -> Option<&dyn CausalModel> {
        match self {
            Self::OpenAIGPT(model) => Some(model),
            Self::GPT2(model) => Some(model),
            Self::Bert(_) | Self::Roberta(_) | Self::DistilBert(_) | Self::XLNet(_) => None,
        }
    }

    pub(crate) fn initial_value(&self, parameter: &ParameterInfo) -> Initial {
        each!(self, model => model.initial_value(parameter))
    }

    pub(crate) fn renames(&self) -> &'static [(&'static str, &'static str)] {
        fn of<M: LanguageModel>(_: &M) -> &'static [(&'static str, &'static str)] {
            M::RENAMES
        }
        each!(self, model => of(model))
    }
}

/// The family of a `model_type`.
pub fn family(model_type: &str) -> Result<&'static Family, ConfigError> {
    FAMILIES.iter().find(|family| family.model_type == model_type).ok_or_else(|| ConfigError::UnknownModelType {
        model_type: model_type.to_owned(),
        nearest: nearest(model_type, FAMILIES.iter().map(|family| family.model_type)),
    })
}

/// Architectures of Python whose names contain the name of one of ours: a folder named after them is not taken for ours.
const NAMESAKES: &[&str] = &[
    "albert",
    "bert-generation",
    "convbert",
    "deberta",
    "deberta-v2",
    "flaubert",
    "hubert",
    "ibert",
    "megatron-bert",
    "mobilebert",
    "modernbert",
    "modernbert-decoder",
    "qdqbert",
    "rembert",
    "retribert",
    "roberta-prelayernorm",
    "roc_bert",
    "squeezebert",
    "visual_bert",
    "wav2vec2-bert",
    "xlm-roberta-xl",
];

/// The architecture that the name of a folder or of a model on the Hub speaks of, for checkpoints of before there was a
/// `model_type`: the longest name in it, as in Python. The last part of a path counts before the whole of it.
pub fn model_type_in(name: &str) -> Option<&'static str> {
    let longest = |text: &str| {
        let known = FAMILIES.iter().map(|family| family.model_type).chain(NAMESAKES.iter().copied());
        known.filter(|known| text.contains(known)).max_by_key(|known| known.len())
    };
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
    longest(last).or_else(|| longest(name))
}

/// The known types, of one task or all, as a list for messages.
pub fn known_model_types(task: Option<Task>) -> String {
    let names = FAMILIES.iter().filter(|family| task.is_none_or(|task| family.task == task)).map(|f| f.model_type);
    names.collect::<Vec<_>>().join(", ")
}

/// The candidate most similar to `word`, if any is similar at all.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_speak_of_their_architecture() {
        for (name, expected) in [
            ("my-bert-2019", Some("bert")),
            ("bert-base-uncased", Some("bert")),
            ("distilbert-base-cased", Some("distilbert")),
            ("FacebookAI/xlm-roberta-base", Some("xlm-roberta")),
            ("/data/roberta-experiments/my-bert-2019/", Some("bert")),
            ("/data/gpt2/checkpoint-500", Some("gpt2")),
            ("openai-gpt", Some("openai-gpt")),
            ("google/mobilebert-uncased", Some("mobilebert")),
            ("/home/albert/bert", Some("bert")),
            ("out", None),
        ] {
            assert_eq!(model_type_in(name), expected, "{name}");
        }
    }
}
