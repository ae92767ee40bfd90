//! From words to [`Arguments`], by the rules of Python's `HfArgumentParser` and `argparse`.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde_json::Value as Json;

use super::value::Arity;
use super::{Arguments, Flag, Group, Status, Task, check, flags, help, is_secret, training};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// A run.
    Run(Box<Arguments>),
    /// This text: `-h` or `--help`.
    Help(String),
    /// This text: `--version`.
    Version(String),
    /// This text, since nothing was asked for: no arguments at all.
    Usage(String),
    /// What this program can compute on: `--device list`, whatever else is given.
    DeviceList,
}

/// Why the command line cannot be followed: one line for the user; exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// A word that is not Unicode.
    #[error("the argument {0} is not valid UTF-8")]
    NotUnicode(String),
    /// A flag that no program has.
    #[error("unknown flag --{flag}{hint}")]
    UnknownFlag {
        /// As written.
        flag: String,
        /// What may have been meant.
        hint: String,
    },
    /// A key of an argument file that no program has.
    #[error("{file}: unknown key \"{key}\"{hint}")]
    UnknownKey {
        /// The argument file.
        file: String,
        /// As written.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// An argument of another program.
    #[error("{origin} belongs to {programs}: {program} does not have it{instead}")]
    OtherProgram {
        /// Where it was given.
        origin: Origin,
        /// The programs that have it.
        programs: String,
        /// The program that runs.
        program: &'static str,
        /// What it has in its place, if it has something.
        instead: String,
    },
    /// An abbreviation that fits several flags.
    #[error("--{flag} could mean {candidates}: write more of it")]
    Ambiguous {
        /// As written.
        flag: String,
        /// The flags that begin so.
        candidates: String,
    },
    /// A word that belongs to no flag.
    #[error("'{0}' belongs to no flag: flags begin with --, and one .json file of arguments may stand among them")]
    Stray(String),
    /// More than one argument file.
    #[error("'{1}' is a second argument file after '{0}': give one, and flags to override it")]
    SecondFile(String, String),
    /// An argument file that cannot be read.
    #[error("argument file {file}: {reason}")]
    File {
        /// The argument file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value of the wrong kind.
    #[error("{origin}: {reason}")]
    Value {
        /// Where it was given.
        origin: Origin,
        /// What was expected and what was found.
        reason: String,
    },
    /// An argument that Python has and this program has not.
    #[error("{origin} is not supported here: {why}")]
    Refused {
        /// Where it was given.
        origin: Origin,
        /// The reason.
        why: String,
    },
    /// Arguments that do not fit together, or are missing.
    #[error("{0}")]
    Rule(String),
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// By this flag.
    Flag(String),
    /// By a key of an argument file.
    File {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::File { file, key } => write!(f, "{file}: key \"{key}\""),
        }
    }
}

/// The arguments that were given, in order, each with where.
pub(super) struct Given(Vec<(&'static Flag, Origin)>);

impl Given {
    /// Whether `name` was given at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(flag, _)| flag.name == name)
    }
}

/// Reads a command line without the program's own name.
///
/// The argument file is read first, wherever it stands; flags override it, later ones earlier ones.
///
/// # Errors
///
/// [`ArgsError`] for anything that cannot be followed; its text is one line for the user.
pub fn parse(task: Task, words: impl IntoIterator<Item = OsString>) -> Result<Parsed, ArgsError> {
    let words = words
        .into_iter()
        .map(|word| word.into_string().map_err(|word| ArgsError::NotUnicode(format!("{word:?}"))))
        .collect::<Result<Vec<_>, _>>()?;
    for word in &words {
        match word.as_str() {
            "-h" => return Ok(Parsed::Help(help::short(task))),
            "--help" => return Ok(Parsed::Help(help::long(task))),
            "-V" | "--version" => {
                return Ok(Parsed::Version(format!("{} {}", task.binary(), env!("CARGO_PKG_VERSION"))));
            }
            "--" => break,
            _ => {}
        }
    }
    if words.is_empty() {
        return Ok(Parsed::Usage(help::usage(task)));
    }
    let line = split(task, &words)?;
    let mut args = Arguments::defaults(task);
    let mut given = Given(Vec::new());
    if let Some(file) = line.file {
        read_file(file, &mut args, &mut given)?;
        args.files.push((None, file.into()));
    }
    for (flag, name, words) in line.flags {
        let origin = Origin::Flag(name);
        set(flag, &origin, (flag.set_words)(&mut args, &words))?;
        if let Some(file) = words.first().filter(|word| flag.type_name == "dict" && !word.trim_start().starts_with('{'))
        {
            args.files.push((Some(flag.name), file.into()));
        }
        given.0.push((flag, origin));
    }
    if args.beyond.device == "list" {
        return Ok(Parsed::DeviceList);
    }
    refuse(&mut args, &given)?;
    check::check(&mut args, &given)?;
    Ok(Parsed::Run(Box::new(args)))
}

/// A command line, cut into its parts.
#[derive(Default)]
struct Line<'a> {
    file: Option<&'a str>,
    /// Each flag, its name as the user should see it, and the words that belong to it.
    flags: Vec<(&'static Flag, String, Vec<&'a str>)>,
}

fn split(task: Task, words: &[String]) -> Result<Line<'_>, ArgsError> {
    let defaults = Arguments::defaults(task);
    let mut line = Line::default();
    let mut rest = words.iter().map(String::as_str).peekable();
    while let Some(word) = rest.next() {
        if word == "--" {
            for word in rest.by_ref() {
                line.positional(word)?;
            }
            break;
        }
        if !is_flag(word) {
            line.positional(word)?;
            continue;
        }
        let (written, attached) = match word.split_once('=') {
            Some((written, value)) => (written, Some(value)),
            None => (word, None),
        };
        let Some(written) = written.strip_prefix("--") else {
            return Err(ArgsError::UnknownFlag {
                flag: written.trim_start_matches('-').into(),
                hint: "; flags begin with two dashes".into(),
            });
        };
        let (flag, negated) = find(task, &defaults, written)?;
        if negated {
            let name = format!("no_{}", flag.name);
            if let Some(value) = attached {
                return Err(ArgsError::Value {
                    origin: Origin::Flag(name),
                    reason: format!("takes no value, found '{value}'"),
                });
            }
            line.flags.push((flag, name, vec!["false"]));
            continue;
        }
        let mut values: Vec<&str> = attached.into_iter().collect();
        if attached.is_none() {
            let most = if flag.arity == Arity::Many { usize::MAX } else { 1 };
            while values.len() < most {
                let optional = flag.arity == Arity::ZeroOrOne || !values.is_empty();
                let wanted = |word: &&str| !is_flag(word) && (!optional || flag.json_files || !word.ends_with(".json"));
                match rest.next_if(wanted) {
                    Some(value) => values.push(value),
                    None => break,
                }
            }
        }
        line.flags.push((flag, flag.name.into(), values));
    }
    Ok(line)
}

impl<'a> Line<'a> {
    fn positional(&mut self, word: &'a str) -> Result<(), ArgsError> {
        if !word.ends_with(".json") {
            return Err(ArgsError::Stray(word.into()));
        }
        match self.file.replace(word) {
            Some(first) => Err(ArgsError::SecondFile(first.into(), word.into())),
            None => Ok(()),
        }
    }
}

/// Whether a word is a flag: it begins with a dash, and is neither a negative number nor a text with spaces.
fn is_flag(word: &str) -> bool {
    let name = word.split('=').next().unwrap_or_default();
    word.len() > 1 && word.starts_with('-') && !name.contains(' ') && word.parse::<f64>().is_err()
}

/// Names of earlier versions of the scripts, of their ancestors and of other programs, and what people try first; with
/// what each means here, the likeliest first.
const OTHER_NAMES: &[(&str, &[&str])] = &[
    ("evaluation_strategy", &["eval_strategy"]),
    ("evaluate_during_training", &["eval_strategy"]),
    ("torch_dtype", &["dtype"]),
    ("use_auth_token", &["token"]),
    ("train_data_file", &["train_file"]),
    ("eval_data_file", &["validation_file"]),
    ("cpu", &["use_cpu"]),
    ("batch_size", &["per_device_train_batch_size", "per_device_eval_batch_size"]),
    ("bs", &["per_device_train_batch_size", "per_device_eval_batch_size"]),
    ("batch", &["per_device_train_batch_size", "per_device_eval_batch_size"]),
    ("train_batch_size", &["per_device_train_batch_size"]),
    ("eval_batch_size", &["per_device_eval_batch_size"]),
    ("lr", &["learning_rate"]),
    ("lr_rate", &["learning_rate"]),
    ("learn_rate", &["learning_rate"]),
    ("lr_scheduler", &["lr_scheduler_type"]),
    ("scheduler", &["lr_scheduler_type"]),
    ("wd", &["weight_decay"]),
    ("epoch", &["num_train_epochs"]),
    ("epochs", &["num_train_epochs"]),
    ("num_epochs", &["num_train_epochs"]),
    ("n_epochs", &["num_train_epochs"]),
    ("steps", &["max_steps"]),
    ("num_steps", &["max_steps"]),
    ("train_steps", &["max_steps"]),
    ("total_steps", &["max_steps"]),
    ("warmup", &["warmup_steps", "warmup_ratio"]),
    ("seq_len", LENGTH),
    ("seq_length", LENGTH),
    ("sequence_length", LENGTH),
    ("max_len", LENGTH),
    ("max_length", LENGTH),
    ("max_tokens", LENGTH),
    ("context_length", LENGTH),
    ("model", &["model_name_or_path", "model_type"]),
    ("model_name", &["model_name_or_path"]),
    ("model_path", &["model_name_or_path"]),
    ("checkpoint", &["model_name_or_path", "resume_from_checkpoint"]),
    ("data", &["train_file", "validation_file"]),
    ("data_file", &["train_file"]),
    ("data_path", &["train_file", "validation_file"]),
    ("dataset_path", &["train_file", "validation_file"]),
    ("train_data", &["train_file"]),
    ("eval_data", &["validation_file"]),
    ("val_data", &["validation_file"]),
    ("test", &["do_eval", "validation_file"]),
    ("dataset", &["train_file", "validation_file"]),
    ("text_file", &["train_file"]),
    ("input", &["train_file"]),
    ("input_file", &["train_file"]),
    ("corpus", &["train_file"]),
    ("eval_file", &["validation_file"]),
    ("val_file", &["validation_file"]),
    ("valid_file", &["validation_file"]),
    ("dev_file", &["validation_file"]),
    ("test_file", &["validation_file"]),
    ("out", &["output_dir"]),
    ("out_dir", &["output_dir"]),
    ("save_dir", &["output_dir"]),
    ("checkpoint_dir", &["output_dir", "resume_from_checkpoint"]),
    ("output", &["output_dir"]),
    ("output_path", &["output_dir"]),
    ("grad_accum", &["gradient_accumulation_steps"]),
    ("grad_accum_steps", &["gradient_accumulation_steps"]),
    ("accumulate_grad_batches", &["gradient_accumulation_steps"]),
    ("grad_clip", &["max_grad_norm"]),
    ("gradient_clip_val", &["max_grad_norm"]),
    ("clip", &["max_grad_norm"]),
    ("mask_prob", &["mlm_probability"]),
    ("mask_probability", &["mlm_probability"]),
    ("masking_probability", &["mlm_probability"]),
    ("workers", &["dataloader_num_workers", "preprocessing_num_workers"]),
    ("num_workers", &["dataloader_num_workers", "preprocessing_num_workers"]),
    ("num_proc", &["preprocessing_num_workers"]),
    ("threads", &["preprocessing_num_workers", "dataloader_num_workers"]),
    ("gpu", &["device"]),
    ("gpus", &["devices"]),
    ("num_gpus", &["devices"]),
    ("n_gpu", &["devices"]),
    ("cuda", &["device"]),
    ("optimizer", &["optim"]),
    ("patience", &["early_stopping_patience"]),
    ("early_stopping", &["early_stopping_patience"]),
    ("evaluate", &["do_eval"]),
    ("evaluation", &["do_eval", "eval_strategy"]),
    ("eval", &["do_eval"]),
    ("eval_every", &["eval_steps"]),
    ("eval_every_n_steps", &["eval_steps"]),
    ("save_every", &["save_steps"]),
    ("save_every_n_steps", &["save_steps"]),
    ("log_every", &["logging_steps"]),
    ("log_every_n_steps", &["logging_steps"]),
    ("log_steps", &["logging_steps"]),
    ("log_interval", &["logging_steps"]),
    ("save_interval", &["save_steps"]),
    ("keep_checkpoints", &["save_total_limit"]),
    ("overwrite", &["overwrite_output_dir", "overwrite_cache"]),
    ("dropout", &["config_overrides"]),
    ("vocab", &["tokenizer_name", "train_tokenizer"]),
    ("vocab_size", &["train_tokenizer", "config_overrides"]),
    ("hidden_size", &["config_overrides"]),
    ("num_layers", &["config_overrides"]),
    ("num_hidden_layers", &["config_overrides"]),
    ("mixed_precision", &["bf16", "fp16"]),
    ("half", &["bf16", "fp16"]),
    ("tensorboard", &["report_to", "logging_dir"]),
    ("wandb", &["report_to"]),
    ("logger", &["report_to"]),
    ("hf_token", &["token"]),
    ("cache", &["cache_dir", "data_cache_dir"]),
];

/// What run_mlm and run_plm, and what run_clm calls the length of an example.
const LENGTH: &[&str] = &["max_seq_length", "block_size"];

/// Flags of different programs for the same thing.
const COUNTERPARTS: &[[&str; 2]] = &[["max_seq_length", "block_size"], ["mlm_probability", "plm_probability"]];

/// The flag that `written` names, and whether as its `--no_…` form. Unambiguous beginnings count, as in `argparse`.
fn find(task: Task, defaults: &Arguments, written: &str) -> Result<(&'static Flag, bool), ArgsError> {
    let name = written.replace('-', "_");
    let forms = || {
        let mine = flags().filter(|flag| flag.tasks.contains(&task));
        mine.flat_map(|flag| {
            let negation = flag.has_negation(defaults).then(|| (format!("no_{}", flag.name), flag, true));
            std::iter::once((flag.name.to_string(), flag, false)).chain(negation)
        })
    };
    if let Some((_, flag, negated)) = forms().find(|(form, ..)| *form == name) {
        return Ok((flag, negated));
    }
    if let Some(flag) = flags().find(|flag| flag.name == name) {
        return Err(other_program(task, flag, Origin::Flag(name)));
    }
    if !name.is_empty() {
        let mut candidates: Vec<_> = forms().filter(|(form, ..)| form.starts_with(&name)).collect();
        if candidates.iter().any(|(_, flag, _)| flag.group != Group::Beyond) {
            // A beginning that is clear among Python's flags stays clear.
            candidates.retain(|(_, flag, _)| flag.group != Group::Beyond);
        }
        match candidates.as_slice() {
            [] => {}
            [(_, flag, negated)] => return Ok((flag, *negated)),
            // What is meant is known better than by its beginning.
            _ if other_name(&name).is_some() => {}
            several => {
                let names: Vec<_> = several.iter().map(|(form, ..)| format!("--{form}")).collect();
                return Err(ArgsError::Ambiguous { flag: written.into(), candidates: names.join(", ") });
            }
        }
    }
    let nearest = nearest(task, &name);
    let hint = match nearest.as_slice() {
        [] => format!("; {} --help lists them all", task.binary()),
        names => format!("; did you mean --{}?", names.join(" or --")),
    };
    Err(ArgsError::UnknownFlag { flag: written.into(), hint })
}

/// The arguments that a wrong name may have meant, the likeliest first, at most three.
fn nearest(task: Task, name: &str) -> Vec<&'static str> {
    let mine = |name: &&str| flags().any(|flag| flag.name == *name && flag.tasks.contains(&task));
    if let Some(meant) = other_name(name) {
        return meant.iter().copied().filter(mine).collect();
    }
    // Suggested are flags that do something, those of most command lines first; old names of others are none.
    let usable = |flag: &&Flag| flag.status == Status::Supported && !flag.help.contains("Old name of");
    let rank = |name: &&str| !help::COMMON.contains(name);
    let mut names: Vec<_> =
        flags().filter(|flag| flag.tasks.contains(&task)).filter(usable).map(|flag| flag.name).collect();
    names.sort_by_key(rank);
    let parts: Vec<&str> = name.split('_').filter(|part| part.len() > 1).collect();
    let containing = names.iter().copied().filter(|candidate| parts.iter().all(|part| candidate.contains(part)));
    let containing: Vec<_> = containing.take(if parts.is_empty() { 0 } else { 3 }).collect();
    if parts.len() > 1 && !containing.is_empty() {
        return containing;
    }
    let known = names.iter().copied().chain(OTHER_NAMES.iter().map(|(other, _)| *other));
    if let Some(known) = most_like(name, known, 0.75) {
        return match other_name(known) {
            Some(meant) => meant.iter().copied().filter(mine).collect(),
            None => vec![known],
        };
    }
    if containing.is_empty() { most_like(name, names.into_iter(), 0.6).into_iter().collect() } else { containing }
}

/// What a name of elsewhere means here.
fn other_name(name: &str) -> Option<&'static [&'static str]> {
    OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, meant)| *meant)
}

/// The first of the candidates that a wrong word is most like, if one is so similar: 1 is equal, and each letter left out,
/// added, changed or swapped with the next costs its share of the longer word.
fn most_like<'a>(word: &str, candidates: impl Iterator<Item = &'a str>, similarity: f64) -> Option<&'a str> {
    let mut best = (similarity, None);
    for candidate in candidates {
        let found = strsim::normalized_damerau_levenshtein(candidate, word);
        if found > best.0 {
            best = (found, Some(candidate));
        }
    }
    best.1
}

/// The candidate that a wrong word is most like, if it is like one at all.
pub(crate) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    most_like(word, candidates, 0.6)
}

fn other_program(task: Task, flag: &Flag, origin: Origin) -> ArgsError {
    let programs: Vec<_> = flag.tasks.iter().map(|task| task.binary()).collect();
    let instead = COUNTERPARTS.iter().find_map(|pair| {
        let at = pair.iter().position(|name| *name == flag.name)?;
        let counterpart = flags().find(|other| other.name == pair[1 - at] && other.tasks.contains(&task))?;
        Some(format!("; its own is --{}", counterpart.name))
    });
    let instead = instead.unwrap_or_default();
    ArgsError::OtherProgram { origin, programs: programs.join(" and "), program: task.binary(), instead }
}

fn read_file(file: &str, args: &mut Arguments, given: &mut Given) -> Result<(), ArgsError> {
    let fail = |reason: String| ArgsError::File { file: file.into(), reason };
    let text = lm_files::read_to_string(Path::new(file), lm_files::SMALL)
        .map_err(|error| fail(format!("cannot be read: {error}")))?;
    let json: Json = lm_files::json::from_str(&text).map_err(|error| fail(format!("is not JSON: {error}")))?;
    let Json::Object(map) = json else {
        return Err(fail("must hold one object, such as {\"do_train\": true}".into()));
    };
    for (key, value) in &map {
        let origin = Origin::File { file: file.into(), key: key.clone() };
        let Some(flag) = flags().find(|flag| flag.name == key) else {
            let names: Vec<_> =
                nearest(args.task, &key.replace('-', "_")).iter().map(|name| format!("\"{name}\"")).collect();
            let hint = if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) };
            return Err(ArgsError::UnknownKey { file: file.into(), key: key.clone(), hint });
        };
        if !flag.tasks.contains(&args.task) {
            return Err(other_program(args.task, flag, origin));
        }
        // Whatever its type: such as the empty list that Python writes for fsdp, whose command line takes a text.
        let asks_nothing = matches!(flag.status, Status::Refused(_)) && training::is_off(value);
        if !asks_nothing {
            set(flag, &origin, (flag.set_json)(args, value))?;
        }
        given.0.push((flag, origin));
    }
    Ok(())
}

/// The outcome of reading a value. What is refused is refused whatever its value looks like.
fn set(flag: &Flag, origin: &Origin, outcome: Result<(), String>) -> Result<(), ArgsError> {
    outcome.map_err(|reason| match flag.status {
        Status::Refused(why) => ArgsError::Refused { origin: origin.clone(), why: why.into() },
        // The reason repeats the value.
        _ if is_secret(flag.name) => ArgsError::Value { origin: origin.clone(), reason: "expected one text".into() },
        _ => ArgsError::Value { origin: origin.clone(), reason },
    })
}

/// Refuses what was asked for and is not supported, and notes what has no effect.
fn refuse(args: &mut Arguments, given: &Given) -> Result<(), ArgsError> {
    let defaults = Arguments::defaults(args.task);
    for (index, (flag, origin)) in given.0.iter().enumerate() {
        let overridden = given.0.iter().skip(index + 1).any(|(later, _)| later.name == flag.name);
        let (value, default) = (flag.value(args), flag.value(&defaults));
        let as_default = value == default
            || (training::is_off(&value) && training::is_off(&default))
            || training::is_filled_in(flag.name, &value);
        if overridden || as_default {
            continue;
        }
        match flag.status {
            Status::Supported => {}
            Status::Refused(why) => return Err(ArgsError::Refused { origin: origin.clone(), why: why.into() }),
            Status::SameByNature(why) => args.notes.push(format!("{origin} changes nothing here: {why}")),
        }
    }
    Ok(())
}
