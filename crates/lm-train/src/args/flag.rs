//! One row per argument: the `arguments!` macro turns a table into a typed struct and the list of its [`Flag`]s.
//!
//! A row is `/// help`, then `name: Type = default, status`, and optionally `only [tasks]`. Everything else — parsing,
//! `--help`, `docs/arguments.md`, `training_args.json` — is derived from it, so a flag is added in one place.

use clap::ArgMatches;
use clap::builder::ValueParser;
use serde_json::Value as Json;

use lm_models::Task;

use super::Arguments;
use super::value::Arity;

/// The heading under which `--help` lists an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Which model and tokenizer.
    Model,
    /// Which text, and how it becomes examples.
    Data,
    /// `TrainingArguments` of `transformers`.
    Training,
    /// What the Python scripts do not have.
    Beyond,
}

impl Group {
    /// All groups, in the order of `--help`.
    pub const ALL: &[Self] = &[Self::Model, Self::Data, Self::Training, Self::Beyond];

    /// The heading.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Data => "data",
            Self::Training => "training",
            Self::Beyond => "beyond",
        }
    }
}

/// What this program does with an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does what Python does.
    Supported,
    /// Accepted: it can change nothing here, for the reason given.
    SameByNature(&'static str),
    /// Recognised: asking for it is an error that gives the reason.
    Refused(&'static str),
}

/// What `-h` lists: the arguments of most command lines.
const COMMON: &[&str] = &[
    "model_name_or_path",
    "model_type",
    "config_overrides",
    "tokenizer_name",
    "train_file",
    "validation_file",
    "max_seq_length",
    "block_size",
    "line_by_line",
    "output_dir",
    "overwrite_output_dir",
    "do_train",
    "do_eval",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "warmup_steps",
    "bf16",
    "gradient_checkpointing",
    "logging_steps",
    "eval_strategy",
    "eval_steps",
    "save_steps",
    "load_best_model_at_end",
    "resume_from_checkpoint",
    "seed",
    "train_tokenizer",
    "device",
    "preview",
    "plan",
    "sample_prompts",
    "fill",
    "generate",
    "score",
];

/// One argument: a row of one of the tables.
pub struct Flag {
    /// Its name, with underscores and without dashes; also its key in an argument file.
    pub name: &'static str,
    /// Where `--help` lists it.
    pub group: Group,
    /// What it is for.
    pub help: &'static str,
    /// Python's name of its type.
    pub type_name: &'static str,
    /// What this program does with it.
    pub status: Status,
    /// The programs that have it.
    pub tasks: &'static [Task],
    pub(super) arity: Arity,
    pub(super) choices: fn() -> Vec<&'static str>,
    pub(super) json_files: bool,
    pub(super) nullable: bool,
    pub(super) expected: fn() -> String,
    pub(super) parser: fn() -> ValueParser,
    /// Takes the value that was parsed under this id.
    pub(super) set: fn(&mut Arguments, &ArgMatches, &str),
    pub(super) get: fn(&Arguments) -> Json,
}

impl Flag {
    /// The value that `args` hold for this argument.
    pub fn value(&self, args: &Arguments) -> Json {
        (self.get)(args)
    }

    /// Whether there is a `--no_…` form: Python's parser adds one to every bool that is on by default.
    pub fn has_negation(&self, defaults: &Arguments) -> bool {
        self.type_name == "bool" && self.value(defaults) == Json::Bool(true)
    }

    /// Its negation, `no_…`, where it has one.
    pub(super) fn negation(&self, defaults: &Arguments) -> Option<String> {
        self.has_negation(defaults).then(|| format!("no_{}", self.name))
    }

    /// Whether `-h` lists it.
    pub(super) fn is_common(&self) -> bool {
        COMMON.contains(&self.name)
    }

    /// The names to choose from; empty where anything goes.
    pub fn choices(&self) -> Vec<&'static str> {
        (self.choices)()
    }

    /// The help as one line of prose.
    pub fn help_line(&self) -> String {
        self.help.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// The arguments of one program, in the order of `--help`.
pub(super) fn flags_of(task: Task) -> impl Iterator<Item = &'static Flag> {
    flags().filter(move |flag| flag.tasks.contains(&task))
}

/// Every argument of every program, in the order of `--help`.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    [
        super::model::ModelArguments::FLAGS,
        super::data::DataTrainingArguments::FLAGS,
        super::training::TrainingArguments::FLAGS,
        super::beyond::BeyondArguments::FLAGS,
        super::inference::InferenceArguments::FLAGS,
        super::lora::LoraArguments::FLAGS,
    ]
    .into_iter()
    .flatten()
}

/// Defines a struct of arguments from its table. `$task` is the name by which a default may ask which program runs.
macro_rules! arguments {
    (
        $(#[$meta:meta])+
        pub struct $name:ident, $field:ident, $group:ident, |$task:ident| {
            $(
                $(#[doc = $help:literal])+
                $arg:ident: $type:ty = $default:expr, $status:expr $(, only $tasks:expr)?;
            )+
        }
    ) => {
        $(#[$meta])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $( $(#[doc = $help])+ pub $arg: $type, )+
        }

        impl $name {
            /// The values of a run that names none of these arguments.
            pub fn defaults($task: $crate::args::Task) -> Self {
                let _ = $task;
                Self { $( $arg: $default, )+ }
            }

            /// The rows of the table.
            pub const FLAGS: &[$crate::args::Flag] = &[
                $( {
                    type T = $type;
                    #[allow(unused_mut, unused_assignments)]
                    let mut tasks: &'static [$crate::args::Task] = $crate::args::Task::ALL;
                    $( tasks = &$tasks; )?
                    $crate::args::Flag {
                        name: stringify!($arg),
                        group: $crate::args::Group::$group,
                        help: concat!($($help, "\n"),+),
                        type_name: <T as $crate::args::value::Value>::TYPE,
                        status: $status,
                        tasks,
                        arity: <T as $crate::args::value::Value>::ARITY,
                        choices: <T as $crate::args::value::Value>::choices,
                        json_files: <T as $crate::args::value::Value>::JSON_FILES,
                        nullable: <T as $crate::args::value::Value>::NULLABLE,
                        expected: <T as $crate::args::value::Value>::expected,
                        parser: $crate::args::parser::parser::<T>,
                        set: |args, matches, id| {
                            if let Some(value) = $crate::args::parser::parsed::<T>(matches, id) {
                                args.$field.$arg = value;
                            }
                        },
                        get: |args| $crate::args::value::Value::to_json(&args.$field.$arg),
                    }
                }, )+
            ];
        }
    };
}
pub(super) use arguments;
