//! The plan of a run: how many steps it has, what happens after which of them, what must not change on resume.

use anyhow::{Context, Result, ensure};
use lm_models::Task;

use crate::args::{Arguments, IntervalStrategy, SamplingStrategy, SaveStrategy, Steps, TokenCount, TrainingArguments};
use crate::checkpoint::Fingerprint;
use crate::device::precision;
use crate::observe::{LogRecord, steps_of};
use crate::optim::OptimizerNames;
use crate::train::lengths::Lengths;
use crate::train::step::StepOptions;

/// torch's own size of a bucket.
const DDP_BUCKET_CAP_MB: usize = 25;

/// What a run is going to do. When which part of it is due is [`cadence`](super::cadence)'s.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is predicted.
    pub task: Task,
    /// Steps of the whole run.
    pub max_steps: u64,
    /// How batches make steps and epochs.
    pub lengths: Lengths,
    /// `--logging_strategy` and `--logging_steps`
    pub logging: (IntervalStrategy, u64),
    /// `--logging_first_step`
    pub log_first_step: bool,
    /// `--eval_strategy` and `--eval_steps`
    pub evaluation: (IntervalStrategy, u64),
    /// `--eval_delay`: steps or epochs, as the strategy counts.
    pub eval_delay: f64,
    /// `--eval_on_start`
    pub eval_on_start: bool,
    /// `--save_strategy` and `--save_steps`
    pub saving: (SaveStrategy, u64),
    /// `--save_total_limit`
    pub save_limit: Option<usize>,
    /// `--save_only_model`
    pub save_only_model: bool,
    /// `--metric_for_best_model`, with its `eval_`, and `--greater_is_better`.
    pub best: Option<(String, bool)>,
    /// Threads that build batches, and how many they build ahead.
    pub workers: (usize, usize),
    /// `--include_num_input_tokens_seen`
    pub count_tokens: TokenCount,
    /// `--include_tokens_per_second`
    pub tokens_per_second: bool,
    /// `--ddp_bucket_cap_mb`, in bytes.
    pub bucket: usize,
    /// Whether every parameter must have a gradient on every rank (`--ddp_find_unused_parameters false`).
    pub all_used: bool,
    /// Arithmetic of a step; rate and position are filled in for each.
    pub step: StepOptions,
    /// What must not change on resume.
    pub fingerprint: Fingerprint,
    /// `--optim`
    pub optimizer: OptimizerNames,
    /// `--ignore_disk_check`
    pub ignore_disk_check: bool,
}

impl Plan {
    /// The plan of these arguments over an epoch of so many batches, none of a stream. `data` identifies the examples.
    ///
    /// # Errors
    /// If no number of steps follows from the arguments.
    pub fn new(args: &Arguments, batches_per_epoch: Option<u64>, data: String) -> Result<Self> {
        let training = &args.training;
        let batches_per_step = training.gradient_accumulation_steps.saturating_mul(args.num_devices()) as u64;
        let lengths = Lengths { batches_per_epoch, batches_per_step };
        let max_steps = max_steps(args, lengths)?;
        let steps = |steps: Steps| steps_of(steps.0, max_steps);
        Ok(Self {
            task: args.task,
            max_steps,
            lengths,
            logging: (training.logging_strategy, steps(training.logging_steps)),
            log_first_step: training.logging_first_step,
            evaluation: (training.eval_strategy, steps(training.eval_steps.unwrap_or(training.logging_steps))),
            eval_delay: training.eval_delay.0,
            eval_on_start: training.eval_on_start,
            saving: (training.save_strategy, steps(training.save_steps)),
            save_limit: training.checkpoint_limit(),
            save_only_model: training.save_only_model,
            best: best_metric(args),
            workers: workers(args),
            count_tokens: training.include_num_input_tokens_seen,
            tokens_per_second: training.include_tokens_per_second,
            bucket: training.ddp_bucket_cap_mb.unwrap_or(DDP_BUCKET_CAP_MB).saturating_mul(1 << 20),
            all_used: training.ddp_find_unused_parameters == Some(false),
            step: StepOptions {
                learning_rate: 0.0,
                max_grad_norm: training.max_grad_norm,
                label_smoothing: training.label_smoothing_factor,
                neftune_noise_alpha: training.neftune_noise_alpha,
                loss_scale: 1.0,
                seed: training.seed,
                first_micro_batch: 0,
                rank: 0,
                ranks: args.ranks,
                devices: args.beyond.num_devices(),
                gradient_checkpointing: training.gradient_checkpointing,
                compute: precision::of_training(args),
            },
            fingerprint: fingerprint(args, data),
            optimizer: training.optim.canonical(),
            ignore_disk_check: args.beyond.ignore_disk_check,
        })
    }

    /// Checkpoints that `--save_total_limit` lets stay: the best is one of them, but never the only one.
    pub fn checkpoints_kept(&self) -> Option<u64> {
        self.save_limit.map(|limit| (limit as u64).max(1 + u64::from(self.best.is_some())))
    }

    /// Whether evaluations belong to training.
    pub fn evaluates(&self) -> bool {
        self.evaluation.0 != IntervalStrategy::No || self.eval_on_start
    }
}

/// Steps as Python's `set_initial_training_values` counts them.
fn max_steps(args: &Arguments, lengths: Lengths) -> Result<u64> {
    let training = &args.training;
    let by_epochs = || {
        let per_epoch = lengths
            .steps_per_epoch()
            .context("--streaming needs --max_steps: a stream has no length that epochs could be counted in")?;
        Ok::<_, anyhow::Error>((training.num_train_epochs * per_epoch as f64).ceil() as u64)
    };
    let steps = training.fixed_steps().map_or_else(by_epochs, Ok)?;
    ensure!(steps > 0, "--num_train_epochs {} makes no step", training.num_train_epochs);
    Ok(steps)
}

fn best_metric(args: &Arguments) -> Option<(String, bool)> {
    let name = args.training.metric_for_best_model.as_ref()?;
    let is_whole = name.starts_with("eval_") || name == LogRecord::PERPLEXITY;
    let name = if is_whole { name.clone() } else { format!("eval_{name}") };
    Some((name, args.training.greater_is_better.unwrap_or(false)))
}

fn fingerprint(args: &Arguments, data: String) -> Fingerprint {
    let training = &args.training;
    Fingerprint {
        data,
        per_device_train_batch_size: training.per_device_train_batch_size,
        gradient_accumulation_steps: training.gradient_accumulation_steps,
        num_devices: args.beyond.num_devices(),
        ranks: args.ranks,
        asked_accumulation_steps: args.accumulation_asked,
        data_seed: training.order_seed(),
        seed: training.seed,
        order: order_name(training),
        by_example: !(args.data.streaming || training.group_by_length || training.dataloader_drop_last),
    }
}

/// What a checkpoint says of the order: `true` and `false` are those of `--group_by_length`.
fn order_name(training: &TrainingArguments) -> String {
    let order = match training.train_sampling_strategy {
        SamplingStrategy::Random => "false",
        SamplingStrategy::Sequential => "sequential",
        SamplingStrategy::GroupByLength => "true",
    };
    format!("{order}/{}", training.dataloader_drop_last)
}

/// Threads that build batches, and how many they build ahead (`--dataloader_num_workers`, `--dataloader_prefetch_factor`).
pub fn workers(args: &Arguments) -> (usize, usize) {
    // Room for what waits is taken at once.
    const MOST_AHEAD: usize = 1024;
    let workers = args.training.dataloader_num_workers.max(1);
    let each = args.training.dataloader_prefetch_factor.unwrap_or(2);
    (workers, each.saturating_mul(workers).saturating_mul(args.beyond.num_devices()).min(MOST_AHEAD))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::args::{Parsed, parse};

    /// The plan of these flags over epochs of so many batches.
    pub fn plan(batches_per_epoch: u64, flags: &str) -> Plan {
        let words =
            format!("--output_dir o --do_train --train_file t.txt --model_type bert --tokenizer_name t {flags}");
        match parse(Task::Mlm, words.split_whitespace().map(Into::into)) {
            Ok(Parsed::Run(args)) => Plan::new(&args, Some(batches_per_epoch), String::new()).expect("a plan"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn steps_are_counted_as_in_python() {
        assert_eq!(plan(10, "--num_train_epochs 3").max_steps, 30);
        assert_eq!(plan(10, "--num_train_epochs 1.25").max_steps, 13);
        assert_eq!(plan(10, "--num_train_epochs 2 --gradient_accumulation_steps 4").max_steps, 6);
        assert_eq!(plan(10, "--num_train_epochs 2 --max_steps 7").max_steps, 7);
        assert_eq!(plan(10, "--max_steps 100 --save_steps 0.25").saving.1, 25);
    }

    #[test]
    fn the_best_checkpoint_is_never_the_only_one() {
        assert_eq!(plan(10, "").checkpoints_kept(), Some(3));
        assert_eq!(plan(10, "--save_total_limit 1").checkpoints_kept(), Some(1));
        let best = plan(10, "--save_total_limit 1 --metric_for_best_model loss");
        assert_eq!(best.checkpoints_kept(), Some(2));
        assert_eq!(best.best, Some(("eval_loss".to_owned(), false)));
    }
}
