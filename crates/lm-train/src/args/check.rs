//! What joins several arguments: the checks of the scripts and of `TrainingArguments.__post_init__`, and the values
//! that follow from others.

use std::path::Path;

use lm_data::source::{data_extension, extensions, weighted};

use super::choice::{IntervalStrategy, SamplingStrategy, SaveStrategy};
use super::error::rule;
use super::given::Given;
use super::value::{Files, Kwargs, Steps};
use super::{ArgsError, Arguments, Task, dataset, inference, lora};
use crate::optim::OptimizerNames;
use crate::schedule::{Schedule, SchedulerType};
use crate::sys::variable;

type Checked = Result<(), ArgsError>;

/// Completes `args` as Python does and checks them; what the user should know goes to `args.notes`.
pub(super) fn check(args: &mut Arguments, given: &Given) -> Checked {
    if let Some(folders) = &args.beyond.compare {
        rule(folders.len() >= 2, || "--compare needs two output folders or more, separated by spaces".into())?;
        return compare(args, given);
    }
    old_names(args, given);
    sampling(args, given)?;
    inference::check(args, given)?;
    model(args)?;
    data(args)?;
    columns(args);
    numbers(args)?;
    intervals(args)?;
    schedule(args)?;
    best_model(args)?;
    device(args, given)?;
    lora::check(args)?;
    precision(args)?;
    reports(args)?;
    whole_run(args, given)
}

/// `--compare` reads runs and makes none: nothing else has an effect beside it.
fn compare(args: &mut Arguments, given: &Given) -> Checked {
    let own = ["compare", "output_dir", "log_level"];
    if let Some((other, _)) = given.0.iter().find(|(flag, _)| !own.contains(&flag.name)) {
        return Err(ArgsError::Rule(format!("--compare only reads runs that are there: leave --{} out", other.name)));
    }
    if !given.has("output_dir") {
        args.training.output_dir = ".".into();
    }
    Ok(())
}

/// Old names set what they were replaced by.
fn old_names(args: &mut Arguments, given: &Given) {
    let training = &mut args.training;
    // As in Python, 0 means that nothing was given.
    if let Some(size @ 1..) = training.per_gpu_train_batch_size {
        training.per_device_train_batch_size = size;
    }
    if let Some(size @ 1..) = training.per_gpu_eval_batch_size {
        training.per_device_eval_batch_size = size;
    }
    training.use_cpu |= training.no_cuda;
    let old_counts = given.by_flag("gradient_checkpointing") && !given.by_flag("activation_checkpointing");
    if let (Some(on), false) = (training.activation_checkpointing, old_counts) {
        training.gradient_checkpointing = on;
    }
    if training.adafactor {
        training.optim = OptimizerNames::Adafactor;
    }
    let renamed = [
        ("per_gpu_train_batch_size", "per_device_train_batch_size", training.per_gpu_train_batch_size.is_some()),
        ("per_gpu_eval_batch_size", "per_device_eval_batch_size", training.per_gpu_eval_batch_size.is_some()),
        ("no_cuda", "use_cpu", training.no_cuda),
        ("adafactor", "optim adafactor", training.adafactor),
    ];
    for (old, new, _) in renamed.into_iter().filter(|(.., asked)| *asked) {
        args.notes.push(format!("--{old} is an old name: write --{new}"));
    }
}

/// `--group_by_length` and `--train_sampling_strategy` become one: a flag counts before a file's key.
fn sampling(args: &mut Arguments, given: &Given) -> Checked {
    let training = &mut args.training;
    let strategy = &mut training.train_sampling_strategy;
    let (old, new) = (given.by_flag("group_by_length"), given.by_flag("train_sampling_strategy"));
    if new && !old {
        training.group_by_length = *strategy == SamplingStrategy::GroupByLength;
    } else if old && !training.group_by_length && *strategy == SamplingStrategy::GroupByLength {
        *strategy = SamplingStrategy::Random;
    }
    rule(!training.group_by_length || *strategy != SamplingStrategy::Sequential || old != new, || {
        "--group_by_length and --train_sampling_strategy sequential contradict each other: give one".into()
    })?;
    if training.group_by_length {
        *strategy = SamplingStrategy::GroupByLength;
    }
    training.group_by_length = *strategy == SamplingStrategy::GroupByLength;
    Ok(())
}

fn model(args: &Arguments) -> Checked {
    let (model, beyond) = (&args.model, &args.beyond);
    let empty = [
        ("model_name_or_path", &model.model_name_or_path),
        ("config_name", &model.config_name),
        ("tokenizer_name", &model.tokenizer_name),
        ("model_type", &model.model_type),
    ];
    if let Some((name, _)) =
        empty.into_iter().find(|(_, value)| value.as_ref().is_some_and(|value| value.trim().is_empty()))
    {
        return Err(ArgsError::Rule(format!("--{name} is empty: name a folder or a model, or leave the flag out")));
    }
    rule(
        model.config_overrides.is_none() || (model.config_name.is_none() && model.model_name_or_path.is_none()),
        || {
            "--config_overrides can't be used in combination with --config_name or --model_name_or_path: it changes the \
         defaults of a new model, named by --model_type"
            .into()
        },
    )?;
    if let Some(size) = beyond.train_tokenizer {
        rule(size > 0, || {
            "--train_tokenizer 0 would have no entry: give the size of the vocabulary, such as 8000".into()
        })?;
        rule(model.model_name_or_path.is_none(), || {
            "--train_tokenizer can't be used in combination with --model_name_or_path: the model's weights belong to its own \
             tokenizer; train from scratch with --model_type or --config_name"
                .into()
        })?;
        rule(model.tokenizer_name.is_none(), || {
            "--train_tokenizer can't be used in combination with --tokenizer_name: train one or load one".into()
        })?;
        rule(args.data.train_file.is_some() || args.data.dataset_name.is_some(), || {
            "--train_tokenizer needs a --train_file or a --dataset_name to train on".into()
        })?;
    }
    let has_model = model.model_name_or_path.is_some() || args.lora.adapter_name_or_path.is_some();
    rule(has_model || model.tokenizer_name.is_some() || beyond.train_tokenizer.is_some(), || {
        "no tokenizer: give --tokenizer_name, or --model_name_or_path, or --train_tokenizer SIZE to train one on the text".into()
    })?;
    let new_model = model.config_name.is_some() || model.model_type.is_some() || args.task == Task::Plm;
    let only_text = args.shows_only() && beyond.train_tokenizer.is_none();
    rule(has_model || new_model || only_text, || {
        "no model: give --model_name_or_path to start from a checkpoint, or --model_type or --config_name to train from scratch".into()
    })
}

/// Every file of a split has an ending that says how to read it, and all have the same, unless they are corpora to be mixed.
/// What lies in folders and archives is looked at when they are read.
fn files(flag: &str, files: Option<&Files>, are_mixed: bool) -> Checked {
    let mut first: Option<String> = None;
    for file in files.into_iter().flat_map(|files| &files.0) {
        let path = Path::new(file);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = data_extension(path);
        let is_pattern = |text: &str| text.contains(['*', '?', '[']);
        if path.is_dir() || extension == "zip" || (extension.is_empty() && is_pattern(&name)) {
            continue;
        }
        rule(extensions().any(|known| known == extension) || is_pattern(&extension), || {
            let mut known: Vec<&str> = extensions().collect();
            known.sort();
            let article = |name: &str| if name.starts_with('a') { "an" } else { "a" };
            let mut known: Vec<_> = known.iter().map(|name| format!("{} {name}", article(name))).collect();
            let last = known.pop().unwrap_or_default();
            format!("--{flag} {file}: should be {} or {last} file, by its extension", known.join(", "))
        })?;
        match &first {
            Some(first) if *first != extension && !are_mixed => {
                return Err(ArgsError::Rule(format!(
                    "--{flag} mixes .{first} and .{extension} files: give one kind (a file of arguments stands before the flags)"
                )));
            }
            _ => first = Some(extension),
        }
    }
    Ok(())
}

fn data(args: &Arguments) -> Checked {
    let (data, training) = (&args.data, &args.training);
    dataset::check(args)?;
    let train_files = data.train_file.as_ref().map(|files| weighted(&files.0)).transpose();
    let (train_files, weights) =
        train_files.map_err(|error| ArgsError::Rule(format!("--train_file {error}")))?.unwrap_or_default();
    files("train_file", Some(&Files(train_files)), !weights.is_empty())?;
    if !weights.is_empty() {
        mixed(args)?;
    }
    files("validation_file", data.validation_file.as_ref(), false)?;
    rule(!training.do_train || data.train_file.is_some() || data.dataset_name.is_some(), || {
        "--do_train requires a train dataset: give --train_file or --dataset_name".into()
    })?;
    let evaluates = training.do_eval || training.eval_on_start || training.eval_strategy != IntervalStrategy::No;
    if data.validation_file.is_none() && data.dataset_name.is_none() && evaluates {
        let share = data.validation_split_percentage.unwrap_or(0);
        rule((1..100).contains(&share), || {
            format!(
                "--validation_split_percentage {share} leaves nothing to evaluate or to train on: give 1 to 99, or a --validation_file"
            )
        })?;
    }
    rule(data.validation_split_percentage.is_none_or(|share| share <= 100), || {
        "--validation_split_percentage must lie in 0 to 100".into()
    })?;
    for (flag, length) in [("max_seq_length", data.max_seq_length), ("block_size", data.block_size)] {
        rule(length != Some(0), || format!("--{flag} 0: must be at least 1"))?;
    }
    for (flag, count) in [("max_train_samples", data.max_train_samples), ("max_eval_samples", data.max_eval_samples)] {
        rule(count != Some(0), || format!("--{flag} 0: must be at least 1, or left out for all"))?;
    }
    rule(data.preprocessing_num_workers != Some(0), || "--preprocessing_num_workers 0: must be at least 1".into())?;
    rule((0.0..=1.0).contains(&data.mlm_probability), || "--mlm_probability must lie in 0 to 1".into())?;
    rule(data.plm_probability > 0.0 && data.plm_probability <= 1.0, || {
        "--plm_probability must lie above 0, up to 1".into()
    })?;
    rule(data.max_span_length >= 1, || "--max_span_length 0: must be at least 1".into())?;
    rule(args.beyond.text_column.as_deref() != Some(""), || "--text_column is empty: name a column".into())?;
    rule(data.streaming || args.beyond.shuffle_buffer_size == 0, || {
        "--shuffle_buffer_size mixes a stream: give --streaming, or leave it out, as what is tokenized is mixed as a whole"
            .into()
    })?;
    if data.streaming && training.do_train {
        for (flag, given) in
            [("dump_examples", args.beyond.dump_examples.is_some()), ("preview", args.beyond.preview.is_some())]
        {
            rule(!given, || {
                format!(
                    "--{flag} shows examples before training, which --streaming makes meanwhile: leave out --do_train"
                )
            })?;
        }
        rule(training.max_steps > 0, || "--streaming does not know how long the data is: give --max_steps".into())?;
        rule(!training.group_by_length, || {
            "--group_by_length needs all lengths beforehand: leave out --streaming".into()
        })?;
    }
    Ok(())
}

/// Corpora with weights hold nothing out, and have no order of their own.
fn mixed(args: &Arguments) -> Checked {
    let (data, training) = (&args.data, &args.training);
    rule(data.validation_file.is_some() || !(training.do_eval || training.eval_on_start), || {
        "--train_file with weights keeps no rows for evaluation: give a --validation_file".into()
    })?;
    rule(!training.group_by_length, || {
        "--group_by_length does not go with weights of --train_file: leave one out".into()
    })?;
    rule(!data.streaming || data.max_train_samples.is_none(), || {
        "--max_train_samples does not go with --streaming and weights of --train_file, which have no epoch: leave one out".into()
    })
}

/// Text files have no columns to choose from.
fn columns(args: &mut Arguments) {
    let files = [&args.data.train_file, &args.data.validation_file].into_iter().flatten().flat_map(|files| &files.0);
    let only_text = files.into_iter().all(|file| file.ends_with(".txt"));
    if only_text && args.beyond.text_column.is_some() {
        args.notes.push("--text_column has no effect on txt files".into());
    }
}

fn precision(args: &Arguments) -> Checked {
    let training = &args.training;
    rule(!(training.bf16 && training.fp16), || "At most one of fp16 and bf16 can be True, but not both".into())?;
    rule(!(training.bf16_full_eval && training.fp16_full_eval), || {
        "At most one of fp16 and bf16 can be True for full eval, but not both".into()
    })
}

fn numbers(args: &Arguments) -> Checked {
    let (training, beyond, inference) = (&args.training, &args.beyond, &args.inference);
    let at_least_one = [
        ("per_device_train_batch_size", training.per_device_train_batch_size),
        ("per_device_eval_batch_size", training.per_device_eval_batch_size),
        ("gradient_accumulation_steps", training.gradient_accumulation_steps),
        ("early_stopping_patience", beyond.early_stopping_patience.map_or(1, |patience| usize::from(patience > 0))),
        ("dataloader_prefetch_factor", training.dataloader_prefetch_factor.unwrap_or(1)),
        ("torch_empty_cache_steps", training.torch_empty_cache_steps.unwrap_or(1)),
        ("max_new_tokens", inference.max_new_tokens),
    ];
    for (flag, value) in at_least_one {
        rule(value >= 1, || format!("--{flag} 0: must be at least 1"))?;
    }
    rule(training.max_steps > 0 || training.max_steps == -1, || {
        format!("--max_steps {}: must be at least 1, or -1 to train for --num_train_epochs", training.max_steps)
    })?;
    rule(training.max_steps > 0 || training.num_train_epochs > 0.0, || {
        format!("--num_train_epochs {}: must be above 0", training.num_train_epochs)
    })?;
    let not_negative = [
        ("learning_rate", training.learning_rate),
        ("weight_decay", training.weight_decay),
        ("adam_epsilon", training.adam_epsilon),
        ("neftune_noise_alpha", training.neftune_noise_alpha.unwrap_or(0.0)),
        ("early_stopping_threshold", beyond.early_stopping_threshold),
        ("data_cache_limit", beyond.data_cache_limit),
        ("temperature", inference.temperature),
    ];
    for (flag, value) in not_negative {
        rule(value >= 0.0, || format!("--{flag} {value}: must not be negative"))?;
    }
    for (flag, value) in [("adam_beta1", training.adam_beta1), ("adam_beta2", training.adam_beta2)] {
        rule((0.0..1.0).contains(&value), || format!("--{flag} {value}: must be at least 0 and below 1"))?;
    }
    rule((0.0..=1.0).contains(&training.warmup_ratio), || "--warmup_ratio must lie in range [0,1]".into())?;
    rule((0.0..=1.0).contains(&training.label_smoothing_factor), || {
        "--label_smoothing_factor must lie in range [0,1]".into()
    })?;
    rule(inference.top_p > 0.0 && inference.top_p <= 1.0, || "--top_p must lie above 0, up to 1".into())?;
    rule(training.dataloader_num_workers > 0 || training.dataloader_prefetch_factor.is_none(), || {
        "--dataloader_prefetch_factor needs --dataloader_num_workers of at least 1".into()
    })
}

fn whole(flag: &str, active: bool, steps: Steps) -> Checked {
    rule(!active || steps.0 <= 1.0 || steps.0.fract() == 0.0, || {
        format!("--{flag} must be an integer if bigger than 1: {}", steps.0)
    })
}

fn intervals(args: &mut Arguments) -> Checked {
    let training = &mut args.training;
    let evaluates_by_steps = training.eval_strategy == IntervalStrategy::Steps;
    training.do_eval |= training.eval_strategy != IntervalStrategy::No;
    if evaluates_by_steps && training.eval_steps.is_none_or(|steps| steps.0 == 0.0) {
        rule(training.logging_steps.0 > 0.0, || {
            "--eval_strategy steps requires either non-zero --eval_steps or --logging_steps".into()
        })?;
        training.eval_steps = Some(training.logging_steps);
    }
    let logs_by_steps = training.logging_strategy == IntervalStrategy::Steps;
    rule(!logs_by_steps || training.logging_steps.0 > 0.0, || {
        "--logging_strategy steps requires non-zero --logging_steps".into()
    })?;
    whole("logging_steps", logs_by_steps, training.logging_steps)?;
    whole("eval_steps", evaluates_by_steps, training.eval_steps.unwrap_or(Steps(0.0)))?;
    whole("save_steps", training.save_strategy == SaveStrategy::Steps, training.save_steps)
}

/// The keywords of the schedule do not depend on the length of the run: they are checked before anything is loaded.
fn schedule(args: &mut Arguments) -> Checked {
    let training = &args.training;
    let Kwargs(kwargs) = training.lr_scheduler_kwargs.clone().unwrap_or_default();
    let schedule = Schedule::new(training.lr_scheduler_type, training.learning_rate, 0, 0, &kwargs)
        .map_err(|error| ArgsError::Rule(error.to_string()))?;
    if let [unused, ..] = schedule.unused_kwargs() {
        let line = format!("--lr_scheduler_kwargs: {} ignores {unused}, as Python does", training.lr_scheduler_type);
        args.notes.push(line);
    }
    Ok(())
}

/// Metrics that an evaluation computes, without Python's prefix `eval_`.
const METRICS: &[&str] = &["loss", "accuracy", "perplexity"];

fn best_model(args: &mut Arguments) -> Checked {
    let training = &mut args.training;
    let (evaluates, saves) = (training.eval_strategy, training.save_strategy);
    if training.load_best_model_at_end && saves != SaveStrategy::Best {
        rule(evaluates.as_str() == saves.as_str(), || {
            format!(
                "--load_best_model_at_end requires the save and eval strategy to match, but found --eval_strategy {evaluates} and \
                 --save_strategy {saves}"
            )
        })?;
        if let (IntervalStrategy::Steps, Some(eval_steps)) = (evaluates, training.eval_steps) {
            multiple(training.save_steps, eval_steps)?;
        }
    }
    let saves_best = saves == SaveStrategy::Best;
    let stops_early = args.beyond.early_stopping_patience.is_some();
    for (flag, given) in [("save_strategy best", saves_best), ("early_stopping_patience", stops_early)] {
        rule(!given || evaluates != IntervalStrategy::No, || {
            format!("--{flag} needs evaluations during training: give --eval_strategy steps or epoch")
        })?;
    }
    let plateau = training.lr_scheduler_type == SchedulerType::ReduceLrOnPlateau;
    rule(!plateau || evaluates != IntervalStrategy::No, || {
        "--lr_scheduler_type reduce_lr_on_plateau requires an eval strategy".into()
    })?;
    if training.metric_for_best_model.is_none()
        && (training.load_best_model_at_end || plateau || saves_best || stops_early)
    {
        training.metric_for_best_model = Some("loss".into());
    }
    if !stops_early && args.beyond.early_stopping_threshold != 0.0 {
        args.notes.push("--early_stopping_threshold has no effect without --early_stopping_patience".into());
    }
    if let Some(metric) = &training.metric_for_best_model {
        let name = metric.strip_prefix("eval_").unwrap_or(metric);
        rule(METRICS.contains(&name), || {
            format!("--metric_for_best_model {metric}: an evaluation computes {}", METRICS.join(", "))
        })?;
        rule(name != "accuracy" || !training.prediction_loss_only, || {
            "--metric_for_best_model accuracy is not computed with --prediction_loss_only".into()
        })?;
        training.greater_is_better.get_or_insert(name == "accuracy");
    }
    Ok(())
}

/// Checkpoints can only be judged where an evaluation took place.
fn multiple(save: Steps, eval: Steps) -> Checked {
    let (save, eval) = (save.0, eval.0);
    rule((save < 1.0) == (eval < 1.0), || {
        format!(
            "--load_best_model_at_end cannot join a share with a number of steps: found --save_steps {save} and --eval_steps {eval}"
        )
    })?;
    // Shares are compared as millionths: as they stand they are not exact.
    let scale = if save < 1.0 { 1e6 } else { 1.0 };
    rule(((save * scale) % (eval * scale)) == 0.0, || {
        format!(
            "--load_best_model_at_end requires the saving steps to be a round multiple of the evaluation steps, but found \
             --save_steps {save}, which is not a round multiple of --eval_steps {eval}"
        )
    })
}

fn device(args: &mut Arguments, given: &Given) -> Checked {
    if let Some(devices) = &args.beyond.devices {
        rule(!given.has("device"), || {
            format!("--device {} and --devices {devices} contradict each other: give one", args.beyond.device)
        })?;
        rule(!args.training.use_cpu || devices.split(',').all(|name| name.trim() == "cpu"), || {
            format!("--use_cpu and --devices {devices} contradict each other: give one")
        })?;
        rule(args.training.average_tokens_across_devices || !devices.contains(','), || {
            format!(
                "--average_tokens_across_devices false with --devices {devices}: here the loss is always the mean over the tokens of all devices"
            )
        })?;
        return Ok(());
    }
    if args.training.use_cpu {
        rule(matches!(args.beyond.device.as_str(), "auto" | "cpu"), || {
            format!("--use_cpu and --device {} contradict each other: give one", args.beyond.device)
        })?;
        args.beyond.device = "cpu".into();
    }
    Ok(())
}

fn reports(args: &mut Arguments) -> Checked {
    let names = args.training.report_to.take().unwrap_or_else(|| vec!["tensorboard".into()]);
    let mut kept: Vec<String> = Vec::new();
    for name in &names {
        let alone = || match names.len() {
            1 => Ok(()),
            _ => Err(ArgsError::Rule(format!(
                "--report_to {name} stands alone: give it without {}",
                others(&names, name)
            ))),
        };
        match name.as_str() {
            "tensorboard" | "wandb" | "mlflow" if kept.contains(name) => {}
            "tensorboard" | "wandb" | "mlflow" => kept.push(name.clone()),
            "all" => {
                alone()?;
                kept = ["tensorboard", "wandb"].map(str::to_owned).to_vec();
                kept.extend(has_mlflow().then(|| "mlflow".to_owned()));
            }
            "none" => alone()?,
            _ => {
                let known = "give tensorboard, wandb, mlflow, all or none";
                return Err(ArgsError::Rule(format!("--report_to {name} is not supported here: {known}")));
            }
        }
    }
    args.training.report_to = Some(kept);
    Ok(())
}

fn others(names: &[String], name: &str) -> String {
    names.iter().filter(|other| *other != name).map(String::as_str).collect::<Vec<_>>().join(" and ")
}

/// Whether `--report_to all` means MLflow, too: if its server has an address, where Python asks whether MLflow is installed.
fn has_mlflow() -> bool {
    variable("MLFLOW_TRACKING_URI").is_some_and(|address| address.starts_with("http"))
}

fn whole_run(args: &mut Arguments, given: &Given) -> Checked {
    let training = &args.training;
    let other = args.beyond.plan || args.shows_only() || args.merges_only() || args.inference.asked().is_some();
    if !(training.do_train || training.do_eval || other) {
        let line = "neither --do_train nor --do_eval is given: only the model card is written, as in Python";
        args.notes.push(line.into());
    }
    if training.do_train {
        if !given.has("output_dir") {
            args.notes.push("no --output_dir given: the output goes to trainer_output".into());
        }
        if training.save_strategy != SaveStrategy::No && !given.has("save_total_limit") {
            args.notes.push("only the 3 newest checkpoints are kept: --save_total_limit N keeps N, 0 keeps all".into());
        }
    }
    Ok(())
}
