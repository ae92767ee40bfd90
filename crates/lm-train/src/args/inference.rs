//! A trained model in use: filling in masks, going on with texts, scoring them.

use std::path::{Path, PathBuf};

use super::Status::Supported;
use super::Task::{Clm, Mlm};
use super::error::rule;
use super::flag::arguments;
use super::given::Given;
use super::{ArgsError, Arguments};

arguments! {
    /// A trained model in use, and how texts are continued.
    pub struct InferenceArguments, inference, Beyond, |task| {
        /// Print the five likeliest tokens for each mask of this text, with their probabilities; - reads texts from standard
        /// input, one per line. Needs a --model_name_or_path and nothing else, as do the next two.
        fill: Option<String> = None, Supported, only [Mlm];
        /// Continue this text and print it while it grows; - reads texts from standard input, one per line.
        generate: Option<String> = None, Supported, only [Clm];
        /// Print a JSON object for each line of this file, or of standard input if it is -: its number of scored tokens, their
        /// log-likelihood and perplexity; of a masked model the pseudo-log-likelihood and pseudo-perplexity.
        score: Option<PathBuf> = None, Supported;
        /// File for what --score would print.
        score_output: Option<PathBuf> = None, Supported;
        /// Tokens that are added to a prompt at most.
        max_new_tokens: usize = 32, Supported, only [Clm];
        /// Sampling temperature; below 1 is more sober, 0 always takes the likeliest token.
        temperature: f64 = 1.0, Supported, only [Clm];
        /// Sample among this many of the likeliest tokens; 0 among all.
        top_k: usize = 50, Supported, only [Clm];
        /// Sample among the likeliest tokens that together have this probability.
        top_p: f64 = 1.0, Supported, only [Clm];
    }
}

/// What a model is used for, in place of training and evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inference<'a> {
    /// Fill in the masks of this text.
    Fill(&'a str),
    /// Continue this text.
    Generate(&'a str),
    /// Score the lines of this file.
    Score(&'a Path),
}

impl Inference<'_> {
    /// The value that stands for standard input.
    pub const STDIN: &'static str = "-";

    /// The flag that asks for it.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Fill(_) => "--fill",
            Self::Generate(_) => "--generate",
            Self::Score(_) => "--score",
        }
    }

    /// The arguments that matter to it alone.
    fn own_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Fill(_) => &["fill"],
            Self::Generate(_) => &["generate", "max_new_tokens", "temperature", "top_k", "top_p", "seed"],
            Self::Score(_) => &["score", "score_output", "per_device_eval_batch_size", "max_seq_length", "block_size"],
        }
    }
}

/// The arguments that matter however a model is used: which model, where and in what precision it computes, what is said.
pub(super) const SHARED: &[&str] = &[
    "model_name_or_path",
    "config_name",
    "tokenizer_name",
    "cache_dir",
    "model_revision",
    "token",
    "dtype",
    "adapter_name_or_path",
    "device",
    "devices",
    "use_cpu",
    "no_cuda",
    "autotune",
    "plain_ops",
    "bf16",
    "fp16",
    "bf16_full_eval",
    "fp16_full_eval",
    "tf32",
    "full_determinism",
    "log_level",
];

impl InferenceArguments {
    /// What the model is to be used for, if it is not to be trained or evaluated.
    pub fn asked(&self) -> Option<Inference<'_>> {
        let fill = self.fill.as_deref().map(Inference::Fill);
        let generate = self.generate.as_deref().map(Inference::Generate);
        fill.or(generate).or(self.score.as_deref().map(Inference::Score))
    }
}

/// A use stands alone: beside a model it needs nothing, and nothing else happens in its run. What has no effect is noted.
pub(super) fn check(args: &mut Arguments, given: &Given) -> Result<(), ArgsError> {
    let inference = &args.inference;
    let Some(asked) = inference.asked() else {
        return rule(inference.score_output.is_none(), || "--score_output needs --score: name a file to score".into());
    };
    let (flag, model) = (asked.flag(), &args.model);
    rule(model.model_name_or_path.is_some() || args.lora.adapter_name_or_path.is_some(), || {
        format!("{flag} uses a trained model: give --model_name_or_path, an output folder or a name on the Hub")
    })?;
    let (training, beyond) = (&args.training, &args.beyond);
    let contradicting = [
        ("score", inference.score.is_some()),
        ("do_train", training.do_train),
        ("do_eval", training.do_eval),
        ("plan", beyond.plan),
        ("preview", beyond.preview.is_some()),
        ("dump_examples", beyond.dump_examples.is_some()),
        ("train_tokenizer", beyond.train_tokenizer.is_some()),
        ("use_lora", args.lora.use_lora),
        ("merge_lora", args.lora.merge_lora),
        ("push_to_hub", training.push_to_hub),
    ];
    for (other, asked) in contradicting.into_iter().filter(|(other, _)| *other != flag.trim_start_matches('-')) {
        rule(!asked, || format!("{flag} and --{other} are runs of their own: give one of them"))?;
    }
    rule(inference.score_output.is_none() || inference.score.is_some(), || {
        format!("--score_output is for --score, not {flag}: leave it out")
    })?;
    let defaults = Arguments::defaults(args.task);
    let matters = |name: &str| SHARED.contains(&name) || asked.own_arguments().contains(&name);
    let idle = given.0.iter().map(|(flag, _)| *flag).filter(|flag| flag.status == Supported && !matters(flag.name));
    let mut idle: Vec<String> =
        idle.filter(|flag| flag.value(args) != flag.value(&defaults)).map(|flag| format!("--{}", flag.name)).collect();
    idle.dedup();
    if !idle.is_empty() {
        args.notes.push(format!("without effect beside {flag}: {}", idle.join(", ")));
    }
    Ok(())
}
