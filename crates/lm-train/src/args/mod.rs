//! The command line of `run_mlm`, `run_clm` and `run_plm`: the Python scripts' own, and what goes beyond it.
//!
//! ```text
//! args.json ──file──┐
//! argv ─────words───┴─> clap ──parse──> the tables of typed values ──check──> Arguments
//! ```
//!
//! `model`, `data`, `training`, `beyond`, `inference` and `lora` are the tables: one row per argument with its type, default, help
//! and [`Status`]. To add a flag, add a row there and read the field where it matters; the `clap::Command` (`command`),
//! `--help`, completions and man page (`help`) and `docs/arguments.md` (`page`) follow. Rules that join several arguments
//! are in `check`.

mod beyond;
mod check;
mod choice;
mod command;
mod data;
mod dataset;
mod error;
mod file;
mod flag;
mod given;
mod help;
mod inference;
mod lora;
mod model;
#[cfg(test)]
mod page;
mod parse;
mod parser;
pub(crate) mod secrets;
mod suggest;
#[cfg(test)]
mod tests;
mod training;
mod value;
mod words;

use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value as Json};

pub use beyond::BeyondArguments;
pub use choice::{
    Autotune, BaseDtype, Dtype, HubStrategy, IntervalStrategy, LogLevel, LoraInit, SamplingStrategy, SaveStrategy,
};
pub use data::DataTrainingArguments;
pub use dataset::DatasetFiles;
pub use error::{ArgsError, Origin};
pub use flag::{Flag, Group, Status, flags};
pub use help::help;
pub use inference::{Inference, InferenceArguments};
pub use lm_models::Task;
pub use lora::LoraArguments;
pub use model::ModelArguments;
pub use parse::{Parsed, parse};
pub(crate) use suggest::closest;
pub use training::TrainingArguments;
pub use value::{Arity, Files, Kwargs, Resume, Steps, TokenCount};

use crate::sys::secrets::hide_credentials;

/// All arguments of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Arguments {
    /// Which program runs.
    pub task: Task,
    /// Which model and tokenizer.
    pub model: ModelArguments,
    /// Which text, and how it becomes examples.
    pub data: DataTrainingArguments,
    /// How to train.
    pub training: TrainingArguments,
    /// What the Python scripts do not have.
    pub beyond: BeyondArguments,
    /// A trained model in use, and how texts are continued.
    pub inference: InferenceArguments,
    /// Adapters, and what is frozen.
    pub lora: LoraArguments,
    /// The files that `--dataset_name` stands for, once they are found.
    pub dataset: Option<DatasetFiles>,
    /// Files that the arguments themselves were read from, each with its flag: none of the file of arguments.
    pub files: Vec<(Option<&'static str>, PathBuf)>,
    /// Processes of the run, which train together; 1 but under a launcher such as mpirun.
    pub ranks: usize,
    /// `--gradient_accumulation_steps` as it was given, where another number of processes changed it.
    pub accumulation_asked: Option<usize>,
    /// What the user should know before the run starts, one line each: flags without effect, old names.
    pub notes: Vec<String>,
}

impl Arguments {
    /// The arguments of an empty command line, before any check.
    pub fn defaults(task: Task) -> Self {
        Self {
            task,
            model: ModelArguments::defaults(task),
            data: DataTrainingArguments::defaults(task),
            training: TrainingArguments::defaults(task),
            beyond: BeyondArguments::defaults(task),
            inference: InferenceArguments::defaults(task),
            lora: LoraArguments::defaults(task),
            dataset: None,
            files: Vec::new(),
            ranks: 1,
            accumulation_asked: None,
            notes: Vec::new(),
        }
    }

    /// How many devices train together, of all processes.
    pub fn num_devices(&self) -> usize {
        self.beyond.num_devices().saturating_mul(self.ranks)
    }

    /// Whether examples, or what a trained model makes of a text, are looked at, or runs are planned or compared: work of one
    /// process.
    pub fn is_for_one_process(&self) -> bool {
        let looks = self.beyond.compare.is_some() || self.beyond.plan || self.inference.asked().is_some();
        looks || !(self.training.do_train || self.training.do_eval)
    }

    /// Whether the examples are all that is asked for: `--dump_examples` and `--preview` without training or evaluation.
    pub fn shows_only(&self) -> bool {
        let shows = self.beyond.dump_examples.is_some() || self.beyond.preview.is_some();
        shows && !(self.training.do_train || self.training.do_eval || self.beyond.plan)
    }

    /// Whether the run has an adapter beside its model: `--use_lora`, or one to go on with.
    pub fn adapts(&self) -> bool {
        self.lora.use_lora || self.lora.adapter_name_or_path.is_some()
    }

    /// Whether the output folder gets an adapter in place of a model.
    pub fn writes_adapter(&self) -> bool {
        self.adapts() && !self.lora.merge_lora
    }

    /// Whether a merged model is all that is asked for: `--merge_lora` without training or evaluation.
    pub fn merges_only(&self) -> bool {
        let runs = self.training.do_train || self.training.do_eval || self.beyond.plan;
        self.lora.merge_lora && !runs && !self.shows_only()
    }

    /// All values under Python's names, for `training_args.json`, which the programs read as an argument file again.
    /// Tokens are left out.
    pub fn to_json(&self) -> Json {
        Json::Object(self.values(Group::ALL))
    }

    /// Those of Python's `TrainingArguments` alone.
    pub fn training_to_json(&self) -> Map<String, Json> {
        self.values(&[Group::Training])
    }

    fn values(&self, groups: &[Group]) -> Map<String, Json> {
        let flags = flags().filter(|flag| flag.tasks.contains(&self.task) && groups.contains(&flag.group));
        let values = flags.map(|flag| {
            let value = match flag.value(self) {
                _ if is_secret(flag.name) => Json::Null,
                Json::String(text) => hide_credentials(&text).into(),
                value if flag.name == "gradient_accumulation_steps" => {
                    self.accumulation_asked.map_or(value, Json::from)
                }
                value => value,
            };
            (flag.name.to_string(), value)
        });
        values.collect()
    }
}

/// Whether an argument is a password of some service, which no file and no log may hold.
pub(crate) fn is_secret(name: &str) -> bool {
    name == "token" || name.ends_with("_token")
}

/// What differs from the defaults, one line per group: `training: do_train=true, max_steps=100`.
impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let defaults = Self::defaults(self.task);
        let mut first = true;
        for group in Group::ALL {
            let changed: Vec<String> = flags()
                .filter(|flag| flag.group == *group && flag.tasks.contains(&self.task))
                .filter(|flag| flag.value(self) != flag.value(&defaults))
                .map(|flag| match flag.value(self) {
                    _ if is_secret(flag.name) => format!("{}=…", flag.name),
                    Json::String(text) => format!("{}={}", flag.name, hide_credentials(&text)),
                    value => format!("{}={value}", flag.name),
                })
                .collect();
            if !changed.is_empty() {
                write!(f, "{}{}: {}", if first { "" } else { "\n" }, group.name(), changed.join(", "))?;
                first = false;
            }
        }
        Ok(())
    }
}
