//! What a wrong name may have meant.

use super::flag::flags_of;
use super::{Flag, Status, Task};

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
    ("mlflow", &["report_to"]),
    ("logger", &["report_to"]),
    ("hf_token", &["token"]),
    ("cache", &["cache_dir", "data_cache_dir"]),
];

/// What run_mlm and run_plm, and what run_clm calls the length of an example.
const LENGTH: &[&str] = &["max_seq_length", "block_size"];

/// The arguments that a wrong name may have meant, the likeliest first, at most three.
pub(super) fn nearest(task: Task, name: &str) -> Vec<&'static str> {
    let mine = |name: &&str| flags_of(task).any(|flag| flag.name == *name);
    if let Some(meant) = other_name(name) {
        return meant.iter().copied().filter(mine).collect();
    }
    // Suggested are flags that do something, those of most command lines first; old names of others are none.
    let usable = |flag: &&Flag| flag.status == Status::Supported && !flag.help.contains("Old name of");
    let mut usable: Vec<_> = flags_of(task).filter(usable).collect();
    usable.sort_by_key(|flag| !flag.is_common());
    let names: Vec<_> = usable.into_iter().map(|flag| flag.name).collect();
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
pub(super) fn other_name(name: &str) -> Option<&'static [&'static str]> {
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
