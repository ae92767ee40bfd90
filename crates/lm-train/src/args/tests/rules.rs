//! Rules that join several arguments.

use std::path::PathBuf;

use super::*;

#[test]
fn rules_of_the_scripts() {
    let fails = |task, words: &[&str], part: &str| match parse_words(task, words) {
        Err(error) => assert!(error.to_string().contains(part), "{error}"),
        other => panic!("{words:?}: {other:?}"),
    };
    let model = ["--model_name_or_path", "m"];
    fails(
        Task::Mlm,
        &[&model[..], &["--do_train"]].concat(),
        "Need either a dataset name or a training/validation file",
    );
    fails(Task::Mlm, &["--train_file", "a.txt", "--do_train", "--model_type", "bert"], "no tokenizer");
    fails(Task::Mlm, &["--train_file", "a.txt", "--do_train", "--tokenizer_name", "t"], "no model");
    fails(
        Task::Mlm,
        &[&model[..], &["--validation_file", "a.txt", "--do_train"]].concat(),
        "--do_train requires a train dataset",
    );
    for (words, part) in [
        (vec!["--config_overrides", "hidden_size=4"], "--config_overrides can't be used in combination"),
        (vec!["--train_tokenizer", "100"], "--train_tokenizer can't be used in combination with --model_name_or_path"),
        (
            vec!["--train_file", "a.xml"],
            "should be an arrow, a csv, a json, a jsonl, a ndjson, a parquet, a tsv or a txt file",
        ),
        (vec!["--train_file", "a.txt", "b.csv"], "mixes .txt and .csv files"),
        (vec!["--train_file", "a.txt:2,b.xml:1", "--validation_file", "c.txt"], "should be an arrow, a csv"),
        (vec!["--do_eval", "--validation_split_percentage", "0"], "leaves nothing to evaluate"),
        (vec!["--max_seq_length", "0"], "--max_seq_length 0"),
        (vec!["--mlm_probability", "1.5"], "--mlm_probability must lie in 0 to 1"),
        (vec!["--streaming"], "give --max_steps"),
        (vec!["--dataset_name", "wikitext", "--train_file", "a.txt"], "--dataset_name can't be used in combination"),
        (vec!["--dataset_config_name", "x"], "--dataset_config_name needs a --dataset_name"),
        (vec!["--train_split", "train[:10%]"], "--train_split needs a --dataset_name"),
        (vec!["--max_steps", "0"], "--max_steps 0: must be at least 1"),
        (vec!["--num_train_epochs", "0"], "--num_train_epochs 0: must be above 0"),
        (vec!["--per_device_train_batch_size", "0"], "--per_device_train_batch_size 0: must be at least 1"),
        (vec!["--warmup_ratio", "2"], "--warmup_ratio must lie in range [0,1]"),
        (vec!["--logging_steps", "0"], "--logging_strategy steps requires non-zero --logging_steps"),
        (vec!["--logging_steps", "1.5"], "--logging_steps must be an integer if bigger than 1: 1.5"),
        (vec!["--load_best_model_at_end"], "requires the save and eval strategy to match"),
        (
            vec!["--load_best_model_at_end", "--eval_strategy", "steps", "--eval_steps", "200"],
            "--save_steps 500, which is not a round multiple of --eval_steps 200",
        ),
        (vec!["--load_best_model_at_end", "--eval_strategy", "steps", "--eval_steps", "0.2"], "cannot join a share"),
        (vec!["--lr_scheduler_type", "reduce_lr_on_plateau"], "requires an eval strategy"),
        (vec!["--lr_scheduler_kwargs", "{\"cycles\": 2}"], "--lr_scheduler_kwargs: linear has no argument 'cycles'"),
        (vec!["--early_stopping_patience", "2"], "--early_stopping_patience needs evaluations during training"),
        (vec!["--metric_for_best_model", "bleu"], "an evaluation computes loss, accuracy, perplexity"),
        (
            vec!["--report_to", "comet_ml"],
            "--report_to comet_ml is not supported here: give tensorboard, wandb, mlflow",
        ),
        (vec!["--report_to", "none", "wandb"], "--report_to none stands alone: give it without wandb"),
        (vec!["--use_cpu", "--device", "wgpu"], "contradict each other"),
        (vec!["--shuffle_buffer_size", "100"], "give --streaming"),
        (vec!["--train_file", "a.txt:1,b.txt"], "b.txt: has no weight"),
        (vec!["--train_file", "a.txt:1,b.txt:0"], "above 0"),
        (vec!["--train_file", "a.txt:1,b.txt:2", "--do_eval"], "give a --validation_file"),
        (vec!["--data_cache_limit", "-1"], "must not be negative"),
        (vec!["--dataloader_prefetch_factor", "2"], "needs --dataloader_num_workers"),
    ] {
        let line = error(Task::Mlm, &words);
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn what_follows_from_other_arguments() {
    let args = run(Task::Mlm, &["--eval_strategy", "steps", "--logging_steps", "100"]);
    assert!(args.training.do_eval);
    assert_eq!(args.training.eval_steps, Some(Steps(100.0)));
    assert_eq!(args.training.metric_for_best_model, None);

    let args = run(
        Task::Mlm,
        &["--eval_strategy", "steps", "--eval_steps", "0.1", "--save_steps", "0.3", "--load_best_model_at_end"],
    );
    assert_eq!(args.training.metric_for_best_model.as_deref(), Some("loss"));
    assert_eq!(args.training.greater_is_better, Some(false));
    let args = run(Task::Mlm, &["--metric_for_best_model", "eval_accuracy"]);
    assert_eq!(args.training.greater_is_better, Some(true));

    let args = run(Task::Mlm, &["--no_cuda", "--adafactor", "--per_gpu_train_batch_size", "3"]);
    assert_eq!(args.beyond.device, "cpu");
    assert_eq!(args.training.optim, OptimizerNames::Adafactor);
    assert_eq!(args.training.per_device_train_batch_size, 3);
    assert!(args.notes.iter().any(|note| note == "--no_cuda is an old name: write --use_cpu"));

    let reports = |words: &[&str]| run(Task::Mlm, words).training.report_to.expect("a list");
    assert_eq!(reports(&[]), ["tensorboard"]);
    assert_eq!(reports(&["--report_to", "all"])[..2], ["tensorboard", "wandb"]);
    assert_eq!(reports(&["--report_to", "wandb", "tensorboard", "wandb"]), ["wandb", "tensorboard"]);
    assert_eq!(reports(&["--report_to", "none"]), [""; 0]);
    assert_eq!(run(Task::Mlm, &[]).training.checkpoint_limit(), Some(3));
    for all in ["0", "-1"] {
        assert_eq!(run(Task::Mlm, &["--save_total_limit", all]).training.checkpoint_limit(), None);
    }
    assert_eq!(run(Task::Plm, &[]).data.sequence_length(Task::Plm), Some(512));
    assert_eq!(run(Task::Mlm, &["--resume_from_checkpoint"]).training.resume_from_checkpoint, Some(Resume::Newest));
    let folder = run(Task::Mlm, &["--resume_from_checkpoint", "o/checkpoint-5"]).training.resume_from_checkpoint;
    assert_eq!(folder, Some(Resume::Folder(PathBuf::from("o/checkpoint-5"))));
}

#[test]
fn a_use_of_a_model_stands_alone() {
    let parsed = |task, words: &[&str]| match parse_words(task, &[&["--model_name_or_path", "m"], words].concat()) {
        Ok(Parsed::Run(args)) => *args,
        other => panic!("{words:?}: {other:?}"),
    };
    let fill = parsed(Task::Mlm, &["--fill", "a [MASK]"]);
    assert_eq!(fill.inference.asked(), Some(Inference::Fill("a [MASK]")));
    assert!(fill.notes.is_empty(), "{:?}", fill.notes);
    let generate = parsed(Task::Clm, &["--generate", "-", "--top_k", "3", "--seed", "1", "--bf16", "--device", "cpu"]);
    assert_eq!(generate.inference.asked(), Some(Inference::Generate(Inference::STDIN)));
    assert!(generate.notes.is_empty(), "{:?}", generate.notes);
    let score =
        parsed(Task::Plm, &["--score", "a.txt", "--max_seq_length", "9", "--seed", "1", "--train_file", "b.txt"]);
    assert_eq!(score.inference.asked(), Some(Inference::Score(Path::new("a.txt"))));
    assert_eq!(score.notes, ["without effect beside --score: --train_file, --seed"]);
    assert_eq!(parsed(Task::Mlm, &["--do_eval", "--validation_file", "a.txt"]).inference.asked(), None);
    let names: Vec<_> = flags().map(|flag| flag.name).collect();
    assert!(super::super::inference::SHARED.iter().all(|name| names.contains(name)));
}
