//! The settings that a model card lists.

use crate::args::{Arguments, TrainingArguments};
use crate::observe::format::python_float;

/// Python's `extract_hyperparameters_from_trainer`, for one process.
pub(super) fn hyperparameters(args: &Arguments) -> Vec<(&'static str, String)> {
    let (training, devices) = (&args.training, args.num_devices());
    let mut rows = vec![
        ("learning_rate", python_float(training.learning_rate)),
        ("train_batch_size", training.per_device_train_batch_size.to_string()),
        ("eval_batch_size", training.per_device_eval_batch_size.to_string()),
        ("seed", training.seed.to_string()),
    ];
    if devices > 1 {
        rows.push(("distributed_type", "multi-GPU".into()));
        rows.push(("num_devices", devices.to_string()));
    }
    if training.gradient_accumulation_steps > 1 {
        rows.push(("gradient_accumulation_steps", training.gradient_accumulation_steps.to_string()));
    }
    let batches = devices.saturating_mul(training.gradient_accumulation_steps);
    if batches > 1 {
        let total = training.per_device_train_batch_size.saturating_mul(batches);
        rows.push(("total_train_batch_size", total.to_string()));
    }
    if args.ranks > 1 {
        let total = training.per_device_eval_batch_size.saturating_mul(args.ranks);
        rows.push(("total_eval_batch_size", total.to_string()));
    }
    rows.push(("optimizer", optimizer(training)));
    rows.push(("lr_scheduler_type", training.lr_scheduler_type.to_string()));
    if training.warmup_ratio != 0.0 {
        rows.push(("lr_scheduler_warmup_ratio", python_float(training.warmup_ratio)));
    }
    if training.warmup_steps.0 != 0.0 {
        rows.push(("lr_scheduler_warmup_steps", training.warmup_steps.0.to_string()));
    }
    rows.push(match training.fixed_steps() {
        Some(steps) => ("training_steps", steps.to_string()),
        None => ("num_epochs", python_float(training.num_train_epochs)),
    });
    if training.fp16 {
        rows.push(("mixed_precision_training", "Native AMP".to_owned()));
    }
    if training.label_smoothing_factor != 0.0 {
        rows.push(("label_smoothing_factor", python_float(training.label_smoothing_factor)));
    }
    rows
}

fn optimizer(training: &TrainingArguments) -> String {
    let optim_args = training.optim_args.as_deref().unwrap_or("No additional optimizer arguments");
    let optim = training.optim;
    if !optim.as_str().contains("adam") {
        return format!("Use {optim} and the args are:\n{optim_args}");
    }
    let [beta1, beta2, epsilon] = [training.adam_beta1, training.adam_beta2, training.adam_epsilon].map(python_float);
    format!("Use {optim} with betas=({beta1},{beta2}) and epsilon={epsilon} and optimizer_args={optim_args}")
}

#[cfg(test)]
pub(crate) mod tests {
    use lm_models::Task;

    use super::*;
    use crate::args::{Parsed, parse};

    /// The settings of a run with these flags.
    pub fn rows(flags: &str) -> Vec<(&'static str, String)> {
        let words =
            format!("--output_dir o --do_train --train_file t.txt --model_type bert --tokenizer_name t {flags}");
        match parse(Task::Mlm, words.split_whitespace().map(Into::into)) {
            Ok(Parsed::Run(args)) => hyperparameters(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn settings_off_their_default_are_listed() {
        let rows = rows(
            "--gradient_accumulation_steps 4 --optim adafactor --warmup_ratio 0.06 --warmup_steps 10 --fp16 \
             --label_smoothing_factor 0.1",
        );
        let rows: Vec<String> = rows.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            rows,
            [
                "learning_rate: 5e-05",
                "train_batch_size: 8",
                "eval_batch_size: 8",
                "seed: 42",
                "gradient_accumulation_steps: 4",
                "total_train_batch_size: 32",
                "optimizer: Use adafactor and the args are:\nNo additional optimizer arguments",
                "lr_scheduler_type: linear",
                "lr_scheduler_warmup_ratio: 0.06",
                "lr_scheduler_warmup_steps: 10",
                "num_epochs: 3.0",
                "mixed_precision_training: Native AMP",
                "label_smoothing_factor: 0.1",
            ]
        );
    }
}
