//! Checkpoints and resume: a run that goes on from a checkpoint equals the one that was never broken, bit for bit.

use std::fs;
use std::time::{Duration, Instant};

use crate::run::{Scratch, copy, resumes_exactly, resumes_exactly_with};
use serde_json::{Value, json};

const DROPOUT: &str = "--config_name dropout.json";

#[test]
fn mid_epoch_at_its_end_and_across_epochs() {
    // An epoch has 6 steps; 3 is between two log records.
    resumes_exactly("", &[1, 3, 6, 12, 13, 14]);
}

#[test]
fn by_epochs() {
    resumes_exactly("--max_steps -1 --num_train_epochs 2.5 --logging_strategy epoch --eval_strategy epoch", &[5, 6, 7]);
}

#[test]
fn with_accumulation() {
    // Batches of an epoch: 4 and 2.
    resumes_exactly("--gradient_accumulation_steps 4 --max_steps 5", &[1, 2, 3]);
}

#[test]
fn with_dropout_smoothing_and_noise() {
    resumes_exactly(&format!("{DROPOUT} --label_smoothing_factor 0.1 --neftune_noise_alpha 5"), &[4, 7]);
}

#[test]
fn with_any_number_of_workers() {
    let workers =
        "--dataloader_num_workers 3 --dataloader_prefetch_factor 4 --preprocessing_num_workers 1 --overwrite_cache";
    resumes_exactly_with(DROPOUT, workers, &[5]);
}

#[test]
fn with_any_number_of_threads() {
    let scratch = Scratch::new();
    // Large enough for its products to be shared out.
    let mut config = scratch.json("dropout.json");
    (config["hidden_size"], config["intermediate_size"]) = (json!(256), json!(1024));
    fs::write(scratch.path("large.json"), config.to_string()).expect("written");
    for threads in ["1", "2", "3"] {
        let flags = "--config_name large.json --per_device_train_batch_size 16 --max_steps 3 --save_strategy no --logging_steps 1";
        let mut command = scratch.command(threads, flags);
        crate::run::Run::from(command.env("RAYON_NUM_THREADS", threads).output().expect("started")).ok();
        scratch.assert_same("1", threads, &format!("{threads} threads"));
    }
}

#[test]
fn while_streaming() {
    resumes_exactly("--streaming", &[1, 5, 6, 11]);
    resumes_exactly("--streaming --gradient_accumulation_steps 2 --max_steps 7", &[2, 3]);
}

#[test]
fn while_corpora_and_examples_are_mixed() {
    let corpora = "--train_file train.txt:3,valid.txt:1";
    resumes_exactly(corpora, &[1, 6, 9]);
    resumes_exactly("--streaming --shuffle_buffer_size 8", &[1, 2, 5, 6, 11]);
    resumes_exactly(&format!("{corpora} --streaming --shuffle_buffer_size 8"), &[3, 8]);
}

#[test]
fn with_blocks_and_streaming() {
    let scratch = Scratch::new();
    let flags = "--line_by_line false --group_batch_size 7 --max_steps 8 --streaming";
    scratch.run("unbroken", flags).ok();
    scratch.copy_checkpoint("unbroken", "resumed", 3);
    scratch.run("resumed", flags).ok();
    scratch.assert_same("unbroken", "resumed", "blocks");
}

#[test]
fn with_each_optimizer() {
    for optimizer in ["adamw_torch", "adafactor", "sgd", "adagrad", "rmsprop", "lion_32bit", "adamw_8bit"] {
        resumes_exactly(&format!("--optim {optimizer} --weight_decay 0.1 --max_steps 4"), &[2]);
    }
}

#[test]
fn with_schedules_that_follow_a_metric_or_the_number_of_steps() {
    let plateau =
        r#"--lr_scheduler_type reduce_lr_on_plateau --lr_scheduler_kwargs {"patience":0,"factor":0.5,"threshold":0.5}"#;
    resumes_exactly(&format!("{plateau} --eval_strategy steps --eval_steps 2"), &[3, 6, 9]);
    resumes_exactly("--lr_scheduler_type cosine_with_restarts --warmup_steps 5", &[3, 8]);
}

#[test]
fn with_the_best_model_and_early_stopping() {
    // So great a rate makes the loss grow again.
    let flags = "--eval_strategy steps --eval_steps 2 --save_steps 2 --load_best_model_at_end --early_stopping_patience 2 \
                 --learning_rate 0.3 --max_steps 40 --save_total_limit 3 --do_eval";
    let scratch = Scratch::new();
    let run = scratch.run("unbroken", flags).ok();
    assert!(run.stderr.contains("early stopping after step"), "{}", run.stderr);
    assert!(run.stderr.contains("loaded the best model from unbroken/checkpoint-"), "{}", run.stderr);
    let steps = scratch.checkpoints("unbroken");
    let (best, last) = (steps[0], steps[steps.len() - 1]);
    assert_eq!(steps.len(), 3);
    for &step in &steps {
        let resumed = format!("resumed-{step}");
        scratch.copy_checkpoint("unbroken", &resumed, best);
        scratch.copy_checkpoint("unbroken", &resumed, step);
        let run = scratch.run(&resumed, flags).ok();
        if step == last {
            assert!(run.stderr.contains("nothing left to train"), "it had stopped there: {}", run.stderr);
        }
        scratch.assert_same("unbroken", &resumed, &format!("the best model, resumed at step {step}"));
    }
}

#[test]
fn with_lengths_grouped_and_short_batches_dropped() {
    resumes_exactly("--group_by_length --dataloader_drop_last --per_device_eval_batch_size 5", &[3, 5, 8]);
}

#[cfg(feature = "tch")]
#[test]
fn on_libtorch() {
    resumes_exactly(&format!("{DROPOUT} --device libtorch:cpu"), &[4, 7]);
    crate::run::moves_between_the_cpu_and("libtorch:cpu", "");
}

#[cfg(feature = "wgpu")]
#[test]
fn on_wgpu() {
    resumes_exactly(&format!("{DROPOUT} --device wgpu --max_steps 6"), &[4]);
    crate::run::moves_between_the_cpu_and("wgpu", "");
}

#[test]
fn with_weights_rounded_on_disk() {
    resumes_exactly("--dtype bfloat16 --max_steps 5", &[3]);
}

#[test]
fn more_steps_continue_the_schedule_as_in_python() {
    let scratch = Scratch::new();
    scratch.run("out", "--max_steps 4 --logging_steps 1").ok();
    let run = scratch.run("out", "--max_steps 8 --logging_steps 1").ok();
    assert!(run.stderr.contains("resuming from out/checkpoint-4"), "{}", run.stderr);
    assert!(run.stderr.contains("other arguments than the checkpoint was made with: --max_steps 8 (was 4)\n"));
    let history = scratch.history("out");
    let rates: Vec<f64> = history.iter().filter_map(|record| record["learning_rate"].as_f64()).collect();
    // LambdaLR keeps the rate of the checkpoint for one step and goes on with the new formula.
    let expected = [8.0, 6.0, 4.0, 2.0, 0.0, 3.0, 2.0, 1.0].map(|eighths| eighths / 8.0 * 1e-3);
    assert_eq!(rates.len(), 8);
    assert!(rates.iter().zip(expected).all(|(rate, expected)| (rate - expected).abs() < 1e-12), "{rates:?}");

    let epochs = |epochs| format!("--max_steps -1 --num_train_epochs {epochs} --overwrite_output_dir false");
    scratch.run("epochs", &epochs("1")).ok();
    scratch.run("epochs", &epochs("2")).ok();
    assert_eq!(scratch.json("epochs/trainer_state.json")["global_step"], 12);
    assert_eq!(scratch.json("epochs/trainer_state.json")["num_train_epochs"], 2);
}

#[test]
fn a_finished_run_is_saved_again_and_nothing_else() {
    let scratch = Scratch::new();
    scratch.run("out", "--max_steps 4 --do_eval").ok();
    copy(&scratch.path("out"), &scratch.path("first"));
    fs::remove_file(scratch.path("out/model.safetensors")).expect("removed");
    for steps in ["4", "2"] {
        let run = scratch.run("out", &format!("--max_steps {steps} --do_eval")).ok();
        assert!(run.stderr.contains("nothing left to train: the checkpoint is at step 4 already"), "{}", run.stderr);
        assert!(scratch.bytes("out/model.safetensors") == scratch.bytes("first/model.safetensors"));
        assert_eq!(scratch.json("out/trainer_state.json")["global_step"], 4);
        assert_eq!(scratch.checkpoints("out"), [1, 2, 3, 4]);
    }
}

#[test]
fn three_checkpoints_are_kept_unless_told_otherwise() {
    let scratch = Scratch::new();
    let limit = |limit: &str| {
        let folder = format!("limit{limit}");
        let flag = if limit.is_empty() { String::new() } else { format!("--save_total_limit {limit}") };
        let mut command = scratch.command(&folder, &format!("--max_steps 5 {flag}"));
        if limit.is_empty() {
            // Without the flag that all other tests have.
            let args: Vec<_> = command.get_args().map(|arg| arg.to_owned()).collect();
            let at = args.iter().position(|arg| arg == "--save_total_limit").expect("the flag");
            command = std::process::Command::new(command.get_program());
            command.args(&args[..at]).args(&args[at + 2..]).current_dir(scratch.path(""));
        }
        let run = crate::run::Run::from(command.output().expect("started")).ok();
        (scratch.checkpoints(&folder), run.stderr)
    };
    let (kept, said) = limit("");
    assert_eq!(kept, [3, 4, 5]);
    assert!(
        said.contains("only the 3 newest checkpoints are kept: --save_total_limit N keeps N, 0 keeps all"),
        "{said}"
    );
    assert_eq!(limit("1").0, [5]);
    assert_eq!(limit("2").0, [4, 5]);
    assert_eq!(limit("0").0, [1, 2, 3, 4, 5]);
    assert_eq!(limit("-1").0, [1, 2, 3, 4, 5]);
}

#[test]
fn the_best_checkpoint_is_never_deleted() {
    let scratch = Scratch::new();
    // The loss falls, so the first evaluation stays the best.
    let flags = "--eval_strategy steps --eval_steps 1 --metric_for_best_model loss --greater_is_better --max_steps 6";
    for limit in [1, 2, 3] {
        let folder = format!("out{limit}");
        scratch.run(&folder, &format!("{flags} --save_total_limit {limit}")).ok();
        let state = scratch.json(&format!("{folder}/trainer_state.json"));
        assert_eq!(state["best_global_step"], 1);
        assert_eq!(state["best_model_checkpoint"], format!("{folder}/checkpoint-1"));
        // As in Python: with a limit of 1 the newest goes too when the run is at its end.
        let kept: &[u64] = [&[1][..], &[1, 6], &[1, 5, 6]][limit - 1];
        assert_eq!(scratch.checkpoints(&folder), kept);
    }
    let run = scratch.run("loaded", &format!("{flags} --load_best_model_at_end --save_total_limit 1")).ok();
    assert!(run.stderr.contains("loaded the best model from loaded/checkpoint-1 (step 1)"), "{}", run.stderr);
    assert!(scratch.bytes("loaded/model.safetensors") == scratch.bytes("loaded/checkpoint-1/model.safetensors"));
    assert!(scratch.bytes("loaded/model.safetensors") != scratch.bytes("out2/checkpoint-6/model.safetensors"));
    assert_eq!(scratch.checkpoints("loaded"), [1]);
    // That is a finished run, not one that stopped after its first step.
    let again = format!("{flags} --load_best_model_at_end --save_total_limit 1 --overwrite_output_dir");
    let run = scratch.run("loaded", &again).ok();
    assert!(run.stderr.contains("kept as loaded/set-aside-checkpoint-1;"), "{}", run.stderr);
}

#[test]
fn without_the_best_checkpoint_the_last_model_is_kept() {
    let scratch = Scratch::new();
    let flags = "--eval_strategy steps --eval_steps 1 --load_best_model_at_end --greater_is_better --max_steps 3";
    scratch.run("out", flags).ok();
    fs::write(scratch.path("out/checkpoint-1/model.safetensors"), "torn").expect("written");
    let run = scratch.run("out", flags).ok();
    assert!(run.stderr.contains("out/checkpoint-1") && run.stderr.contains("the last model is kept"), "{}", run.stderr);
    assert!(scratch.bytes("out/model.safetensors") == scratch.bytes("out/checkpoint-3/model.safetensors"));
}

#[test]
fn only_the_model() {
    let scratch = Scratch::new();
    scratch.run("out", "--max_steps 2 --save_only_model").ok();
    let names = scratch.names("out/checkpoint-2");
    assert!(names.contains(&"model.safetensors".into()) && names.contains(&"trainer_state.json".into()), "{names:?}");
    assert!(!names.contains(&"optimizer.pt".into()) && !names.contains(&"run_state.json".into()), "{names:?}");
    let again = scratch.run("out", "--max_steps 4");
    let message = again.fails(1);
    assert!(message.contains("--save_only_model") && message.contains("--overwrite_output_dir"), "{message}");
    scratch.run("next", "--model_name_or_path out/checkpoint-2 --max_steps 2").ok();
}

#[test]
fn which_checkpoint_is_taken() {
    let scratch = Scratch::new();
    scratch.run("out", "--max_steps 5").ok();
    let resumed = |folder: &str, flags: &str| {
        let run = scratch.run(folder, flags).ok();
        let line = run.stderr.lines().find(|line| line.contains("resuming from ")).map(str::to_owned);
        line.unwrap_or_default().replace("resuming from ", "").trim().to_owned()
    };
    assert_eq!(resumed("out", "--max_steps 6"), "out/checkpoint-5 (step 5)");
    assert_eq!(resumed("out", "--max_steps 7 --resume_from_checkpoint"), "out/checkpoint-6 (step 6)");
    assert_eq!(resumed("out", "--max_steps 8 --resume_from_checkpoint true"), "out/checkpoint-7 (step 7)");
    assert_eq!(
        resumed("other", "--max_steps 8 --resume_from_checkpoint out/checkpoint-4"),
        "out/checkpoint-4 (step 4)"
    );
    assert_eq!(scratch.checkpoints("other"), [5, 6, 7, 8]);

    // Later checkpoints belong to another course: kept, but never mistaken for this run's.
    let run = scratch.run("out", "--max_steps 4 --resume_from_checkpoint out/checkpoint-3 --save_total_limit 2").ok();
    assert!(run.stderr.contains("kept as out/set-aside-checkpoint-8"), "{}", run.stderr);
    assert_eq!(scratch.checkpoints("out"), [3, 4]);
    let aside = scratch.names("out").into_iter().filter(|name| name.starts_with("set-aside-")).count();
    assert_eq!(aside, 5);

    assert_eq!(resumed("out", "--max_steps 2 --overwrite_output_dir"), "");
    assert_eq!(scratch.checkpoints("out"), [1, 2]);

    let none = scratch.run("new", "--resume_from_checkpoint");
    assert!(none.fails(1).contains("no checkpoint in new"), "{}", none.stderr);
    let none = scratch.run("new", "--resume_from_checkpoint nowhere/checkpoint-7");
    assert!(none.fails(1).contains("nowhere/checkpoint-7"), "{}", none.stderr);
    let parent = scratch.run("new", "--resume_from_checkpoint out");
    assert!(parent.fails(1).contains("such as out/checkpoint-2"), "{}", parent.stderr);

    fs::create_dir(scratch.path("mine")).expect("a folder");
    fs::write(scratch.path("mine/thesis.txt"), "mine").expect("a file");
    let full = scratch.run("mine", "");
    assert!(full.fails(1).contains("not empty") && full.stderr.contains("--overwrite_output_dir"), "{}", full.stderr);
    assert_eq!(scratch.names("mine"), ["thesis.txt"]);
}

#[test]
fn a_damaged_checkpoint_is_reported_and_the_one_before_taken() {
    let scratch = Scratch::new();
    scratch.run("whole", "--max_steps 4 --save_total_limit 2").ok();
    let names = scratch.names("whole/checkpoint-4");
    assert!(names.len() >= 8, "{names:?}");
    let flags = "--max_steps 5 --save_total_limit 2";
    copy(&scratch.path("whole"), &scratch.path("expected"));
    scratch.run("expected", flags).ok();
    for (index, name) in names.iter().enumerate() {
        for damage in ["truncated", "deleted", "altered"] {
            let folder = format!("{damage}{index}");
            copy(&scratch.path("whole"), &scratch.path(&folder));
            let path = scratch.path(&format!("{folder}/checkpoint-4/{name}"));
            let mut bytes = fs::read(&path).expect("read");
            match damage {
                "deleted" => fs::remove_file(&path).expect("removed"),
                "truncated" => fs::write(&path, &bytes[..bytes.len() / 2]).expect("cut"),
                _ => {
                    let last = bytes.len() - 3;
                    bytes[last] ^= 1;
                    fs::write(&path, &bytes).expect("written");
                }
            }
            let run = scratch.run(&folder, flags).ok();
            let report = run.stderr.lines().find(|line| line.starts_with("warning:")).unwrap_or_default();
            assert!(
                report.contains(&format!("{folder}/checkpoint-4/{name}"))
                    && report.contains("the checkpoint before it"),
                "{name} {damage}: {}",
                run.stderr
            );
            assert!(run.stderr.contains(&format!("resuming from {folder}/checkpoint-3")), "{}", run.stderr);
            assert!(run.stderr.contains(&format!("kept as {folder}/set-aside-checkpoint-4")), "{}", run.stderr);
            // With 5 steps instead of 4 the schedule differs before and after step 4, so only the course is compared.
            assert_eq!(scratch.json(&format!("{folder}/trainer_state.json"))["global_step"], 5);
            assert_eq!(scratch.checkpoints(&folder), [4, 5]);
        }
    }
    for step in [3, 4] {
        fs::remove_file(scratch.path(&format!("whole/checkpoint-{step}/optimizer.pt"))).expect("removed");
    }
    let run = scratch.run("whole", flags);
    let message = run.fails(1);
    assert!(
        message.contains("no checkpoint in whole is whole") && message.contains("--overwrite_output_dir"),
        "{message}"
    );
    assert_eq!(scratch.checkpoints("whole"), [3, 4], "nothing is removed");
}

#[test]
fn what_a_killed_save_leaves_is_brought_in_order() {
    let scratch = Scratch::new();
    scratch.run("out", "--max_steps 3").ok();
    // Killed while it wrote step 4, while it removed step 1, and while a new folder took the name of step 3.
    copy(&scratch.path("out/checkpoint-3"), &scratch.path("out/tmp-checkpoint-4-x7Yz01"));
    fs::rename(scratch.path("out/checkpoint-1"), scratch.path("out/tmp-checkpoint-1-old")).expect("renamed");
    fs::rename(scratch.path("out/checkpoint-3"), scratch.path("out/replaced-checkpoint-3")).expect("renamed");
    let run = scratch.run("out", "--max_steps 5").ok();
    assert!(run.stderr.contains("resuming from out/checkpoint-3"), "{}", run.stderr);
    assert_eq!(scratch.checkpoints("out"), [2, 3, 4, 5]);
    assert!(!scratch.names("out").iter().any(|name| name.contains("tmp-") || name.contains("replaced-")));
}

#[test]
fn other_data_or_batches_are_refused_unless_allowed() {
    let scratch = Scratch::new();
    scratch.run("out", "--max_steps 4").ok();
    scratch.run("stream", "--max_steps 4 --streaming").ok();
    let text = fs::read_to_string(scratch.path("train.txt")).expect("text");
    fs::write(scratch.path("other.txt"), text.replace("cat", "dog")).expect("written");
    fs::write(scratch.path("moved.txt"), &text).expect("written");
    for (folder, flags, reason) in [
        ("out", "--per_device_train_batch_size 2", "--per_device_train_batch_size is 2, was 4"),
        ("out", "--gradient_accumulation_steps 2", "--gradient_accumulation_steps is 2, was 1"),
        ("out", "--seed 1", "--seed is 1, was 42"),
        ("out", "--data_seed 1", "--data_seed is 1, was 42"),
        ("out", "--group_by_length", "--group_by_length"),
        ("out", "--train_file other.txt", "the training examples differ"),
        ("out", "--max_seq_length 16", "the training examples differ"),
        ("out", "--max_train_samples 20", "the training examples differ"),
        ("out", "--streaming", "the training examples differ"),
        ("stream", "--streaming --train_file other.txt", "the training examples differ"),
        ("stream", "--streaming --max_train_samples 20", "the training examples differ"),
        ("stream", "--streaming --per_device_train_batch_size 2", "--per_device_train_batch_size is 2, was 4"),
    ] {
        let flags = format!("--max_steps 6 {flags}");
        let run = scratch.run(folder, &flags);
        let message = run.fails(1);
        assert!(message.contains(reason) && message.contains("--allow_changes_on_resume"), "{flags}: {message}");
        assert_eq!(scratch.checkpoints(folder), [1, 2, 3, 4]);
        let copied = format!("{folder}-allowed");
        scratch.copy_checkpoint(folder, &copied, 4);
        let run = scratch.run(&copied, &format!("{flags} --allow_changes_on_resume")).ok();
        assert!(run.stderr.contains(reason), "{}", run.stderr);
        assert_eq!(scratch.json(&format!("{copied}/trainer_state.json"))["global_step"], 6);
        fs::remove_dir_all(scratch.path(&copied)).expect("removed");
    }
    let run = scratch.run("out", "--optim sgd --max_steps 6");
    assert!(run.fails(1).contains("--optim adamw_torch, not sgd"), "{}", run.stderr);
    let run = scratch.run("out", "--lr_scheduler_type reduce_lr_on_plateau --eval_strategy steps --max_steps 6");
    assert!(run.fails(1).contains("--lr_scheduler_type"), "{}", run.stderr);
    // The same data elsewhere is no change.
    scratch.run("out", "--train_file moved.txt --max_steps 6").ok();
    scratch.run("stream", "--train_file moved.txt --max_steps 6 --streaming").ok();
}

/// As after `--auto_find_batch_size` had to take less than the command says.
#[test]
fn a_batch_size_that_was_found_is_kept() {
    let scratch = Scratch::new();
    let flags = "--lr_scheduler_type constant --per_device_train_batch_size";
    let half = "2 --gradient_accumulation_steps 2";
    scratch.run("unbroken", &format!("{flags} {half} --max_steps 5")).ok();
    scratch.run("out", &format!("{flags} {half} --max_steps 3")).ok();
    let run = scratch.run("out", &format!("{flags} 4 --max_steps 5 --auto_find_batch_size")).ok();
    let found = "--auto_find_batch_size: the checkpoint was made with --per_device_train_batch_size 2";
    assert!(run.stderr.contains(found), "{}", run.stderr);
    assert!(scratch.bytes("out/model.safetensors") == scratch.bytes("unbroken/model.safetensors"));
    // What the next smaller size makes of the same checkpoint.
    let run =
        scratch.run("out", &format!("{flags} 1 --gradient_accumulation_steps 4 --max_steps 7 --auto_find_batch_size"));
    let changed = "the batches are cut otherwise";
    assert!(run.ok().stderr.contains(changed), "{flags}");
}

#[test]
fn steps_of_the_same_examples_go_on_however_they_are_cut() {
    let scratch = Scratch::new();
    let flags = "--max_steps 8 --per_device_train_batch_size 1 --gradient_accumulation_steps 4 --logging_steps 1";
    scratch.run("unbroken", flags).ok();
    scratch.copy_checkpoint("unbroken", "resumed", 3);
    let run =
        scratch.run("resumed", &format!("{flags} --per_device_train_batch_size 4 --gradient_accumulation_steps 1"));
    assert!(run.ok().stderr.contains("each step has the same examples"));
    let losses = |folder: &str| -> Vec<f64> {
        scratch.history(folder).iter().filter_map(|record| record["loss"].as_f64()).collect()
    };
    let (unbroken, resumed) = (losses("unbroken"), losses("resumed"));
    assert_eq!((unbroken.len(), resumed.len()), (8, 8));
    for (one, other) in unbroken.iter().zip(&resumed) {
        assert!((one - other).abs() < 1e-4 * one, "{unbroken:?} {resumed:?}");
    }
}

#[test]
fn overwriting_removes_nothing_and_goes_on_with_what_is_unfinished() {
    let scratch = Scratch::new();
    let flags = "--max_steps 4 --overwrite_output_dir";
    scratch.run("unbroken", "--max_steps 4").ok();
    // An unfinished run of the same arguments, as Ctrl-C leaves it.
    scratch.run("out", "--max_steps 4").ok();
    for name in scratch.names("out") {
        if !["checkpoint-1", "checkpoint-2"].contains(&name.as_str()) {
            let path = scratch.path("out").join(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        }
    }
    let run = scratch.run("out", flags).ok();
    assert!(run.stderr.contains("out/checkpoint-2 is of an unfinished run of the same arguments"), "{}", run.stderr);
    assert!(run.stderr.contains("resuming from out/checkpoint-2 (step 2)"), "{}", run.stderr);
    scratch.assert_same("unbroken", "out", "an unfinished run that was to be overwritten");

    // Finished, it is begun anew, and what it wrote is kept.
    let run = scratch.run("out", flags).ok();
    assert!(!run.stderr.contains("resuming"), "{}", run.stderr);
    for step in 1..=4 {
        assert!(run.stderr.contains(&format!("kept as out/set-aside-checkpoint-{step};")), "{}", run.stderr);
        assert!(scratch.path(&format!("out/set-aside-checkpoint-{step}/model.safetensors")).exists());
    }
    scratch.assert_same("unbroken", "out", "a finished run that was overwritten");

    // Unfinished again, but with other arguments, or other text under the same name.
    fs::remove_dir_all(scratch.path("out/checkpoint-4")).expect("removed");
    let run = scratch.run("out", "--max_steps 4 --learning_rate 1e-4 --overwrite_output_dir").ok();
    assert!(!run.stderr.contains("resuming") && run.stderr.contains("set-aside-checkpoint-3-1"), "{}", run.stderr);
    fs::remove_dir_all(scratch.path("out/checkpoint-4")).expect("removed");
    let text = fs::read_to_string(scratch.path("train.txt")).expect("text");
    fs::write(scratch.path("train.txt"), text.replace("cat", "dog")).expect("written");
    let run = scratch.run("out", "--max_steps 4 --learning_rate 1e-4 --overwrite_output_dir").ok();
    assert!(run.stderr.contains("not the run of out/checkpoint-3 after all"), "{}", run.stderr);
    assert!(!run.stderr.contains("resuming") && run.stderr.contains("set-aside-checkpoint-3-2"), "{}", run.stderr);

    // None whole: the flag that the message names does what it says.
    for step in 1..=4 {
        fs::write(scratch.path(&format!("out/checkpoint-{step}/run_state.json")), "torn").expect("written");
    }
    let torn = scratch.run("out", "--max_steps 4");
    assert!(torn.fails(1).contains("no checkpoint in out is whole"), "{}", torn.stderr);
    let run = scratch.run("out", flags).ok();
    assert!(run.stderr.contains("set-aside-checkpoint-4"), "{}", run.stderr);
}

#[test]
fn a_failed_start_renames_nothing() {
    let scratch = Scratch::new();
    scratch.run("out", "--max_steps 3").ok();
    let before = scratch.names("out");
    for flags in ["--max_steps 1000000000 --logging_steps 1", "--tokenizer_name nowhere", "--train_file nowhere.txt"] {
        let run = scratch.run("out", &format!("{flags} --overwrite_output_dir"));
        assert_ne!(run.code, Some(0), "{}", run.stderr);
        let after: Vec<_> = scratch.names("out");
        assert_eq!(after, before, "{flags}");
    }
    // A folder that was made for nothing goes again.
    let run = scratch.run("new", "--train_tokenizer 3");
    assert_ne!(run.code, Some(0), "{}", run.stderr);
    assert!(!scratch.path("new").exists());
}

#[test]
fn an_error_in_the_middle_saves_first() {
    let scratch = Scratch::new();
    let row = |index: usize| format!("{{\"text\": \"the cat sat on mat number {index}\"}}\n");
    // Beyond what is read ahead.
    let rows: Vec<String> = (0..2000).map(row).collect();
    let bad = format!("{}{{\"text\": 7}}\n{}", rows[..1500].concat(), rows[1500..].concat());
    fs::write(scratch.path("rows.jsonl"), bad).expect("written");
    let flags = "--train_file rows.jsonl --streaming --max_steps 450 --save_steps 1000 --logging_steps 50 \
                 --save_total_limit 1 --per_device_train_batch_size 4";
    let run = scratch.run("out", flags);
    let message = run.fails(1).to_owned();
    assert!(message.contains("rows.jsonl:1501"), "{message}");
    let step = *scratch.checkpoints("out").last().expect("a checkpoint");
    assert!((200..375).contains(&step), "{step}");
    for part in [
        format!("all up to step {step} is saved"),
        format!("out/checkpoint-{step} is kept: the same command goes on from there"),
        "once it is mended, --allow_changes_on_resume goes on".to_owned(),
    ] {
        assert!(message.contains(&part), "{part} is not in {message}");
    }
    // As the message says, and to the same end as a run that never met the row.
    fs::write(scratch.path("rows.jsonl"), rows.concat()).expect("written");
    let run = scratch.run("out", &format!("{flags} --allow_changes_on_resume")).ok();
    assert!(run.stderr.contains(&format!("(step {step})")), "{}", run.stderr);
    scratch.run("unbroken", flags).ok();
    assert!(scratch.bytes("out/model.safetensors") == scratch.bytes("unbroken/model.safetensors"));
}

#[test]
fn a_diverging_run_keeps_its_last_usable_model() {
    let scratch = Scratch::new();
    let run = scratch.run("out", "--learning_rate 1e38 --max_grad_norm 0 --save_steps 1000 --max_steps 50 --optim sgd");
    let message = run.fails(1);
    assert!(message.contains("training has diverged") && message.contains("--model_name_or_path"), "{message}");
    if let Some(step) = scratch.checkpoints("out").last() {
        assert!(message.contains(&format!("out/checkpoint-{step} is the model before that step")), "{message}");
        assert!(!message.contains("the same command goes on"), "{message}");
    }
}

#[test]
fn a_validation_set_without_a_predicted_token_is_a_warning() {
    let scratch = Scratch::new();
    fs::write(scratch.path("valid.txt"), "a\n").expect("written");
    let flags = "--max_steps 4 --eval_strategy steps --eval_steps 2 --do_eval --early_stopping_patience 1 \
                 --metric_for_best_model loss --mlm_probability 0.001";
    let run = scratch.run("out", flags).ok();
    let warning = "no token of the validation set is predicted, so eval_loss will be null: give more text, or a higher";
    let said = run.stderr.find(warning).expect(&run.stderr);
    assert!(said < run.stderr.find("saved").unwrap_or(usize::MAX), "before the first step: {}", run.stderr);
    assert_eq!(scratch.json("out/trainer_state.json")["global_step"], 4, "never the end of the training");
    let results = scratch.json("out/eval_results.json");
    assert!(results["eval_loss"].is_null() && results["perplexity"].is_null(), "{results}");
    let alone =
        scratch.run("alone", "--do_train false --do_eval --model_name_or_path out --mlm_probability 0.001").ok();
    assert!(alone.stderr.contains(warning), "{}", alone.stderr);
}

#[test]
fn foreign_things_in_the_output_folder_stay() {
    let scratch = Scratch::new();
    let flags = "--max_steps 5 --save_total_limit 1 --do_eval";
    scratch.run("out", "--max_steps 1").ok();
    let write = |name: &str| fs::write(scratch.path(name), "years of work").expect("written");
    write("out/checkpoint-1/thesis.doc");
    write("out/checkpoint-4");
    fs::create_dir(scratch.path("out/tmp-checkpoint-3")).expect("a folder");
    write("out/tmp-checkpoint-3/thesis.doc");
    write("out/README.md");
    write("precious.json");
    #[cfg(unix)]
    for name in ["config.json", "trainer_state.json", "train_results.json"] {
        fs::remove_file(scratch.path("out").join(name)).expect("removed");
        std::os::unix::fs::symlink("../precious.json", scratch.path("out").join(name)).expect("a link");
    }
    let run = scratch.run("out", flags).ok();
    assert!(run.stderr.contains("thesis.doc is not this program's"), "{}", run.stderr);
    for name in [
        "out/checkpoint-1/thesis.doc",
        "out/set-aside-checkpoint-4",
        "out/tmp-checkpoint-3/thesis.doc",
        "out/README.md",
        "precious.json",
    ] {
        assert_eq!(scratch.bytes(name), b"years of work", "{name}");
    }
    assert_eq!(scratch.checkpoints("out"), [1, 5]);
    assert!(scratch.json("out/config.json")["vocab_size"].is_number());

    // What the run reads is not written over either.
    fs::copy(scratch.path("valid.txt"), scratch.path("out/vocab.txt")).expect("copied");
    let run = scratch.run("out", &format!("{flags} --validation_file out/vocab.txt"));
    let message = run.fails(2);
    assert!(message.contains("--validation_file out/vocab.txt would be lost: this run writes its own"), "{message}");
}

#[test]
fn the_checkpoint_of_another_model_is_refused() {
    let scratch = Scratch::new();
    scratch.run("out", "--max_steps 2").ok();
    let mut config = scratch.json("config.json");
    let mut with = |name: &str, changed: Value| {
        config[name] = changed;
        fs::write(scratch.path("changed.json"), config.to_string()).expect("written");
        let run = scratch.run("out", "--max_steps 4 --config_name changed.json");
        let message = run.fails(1).to_owned();
        assert!(message.contains("out/checkpoint-2") && message.contains("bert."), "{name}: {message}");
    };
    with("num_hidden_layers", json!(3));
    with("hidden_size", json!(64));
}

/// From the start of the program to the end of its first step, the fastest of five.
fn seconds_to_first_step(scratch: &Scratch, from: &str, flags: &str) -> f64 {
    let once = |round: usize| {
        let folder = format!("{from}-{round}");
        copy(&scratch.path(from), &scratch.path(&folder));
        let lines = || fs::read_to_string(scratch.path(&folder).join("log.jsonl")).unwrap_or_default().lines().count();
        let before = scratch.json(&format!("{from}/history.json")).as_u64().expect("a number") as usize;
        let began = Instant::now();
        let mut child = scratch.start(&folder, flags);
        while lines() <= before {
            assert!(child.try_wait().expect("a status").is_none() || lines() > before, "{flags}");
            std::thread::sleep(Duration::from_millis(1));
        }
        let seconds = began.elapsed().as_secs_f64();
        crate::run::Run::from(child.wait_with_output().expect("an end")).ok();
        seconds
    };
    (0..5).map(once).fold(f64::INFINITY, f64::min)
}

#[test]
fn resuming_costs_the_same_at_any_step() {
    const LATE: u64 = 1_000_000;
    let scratch = Scratch::new();
    for mode in ["", "--streaming"] {
        let flags = format!("{mode} --save_steps 100 --logging_steps 1 --save_total_limit 0");
        let early = format!("early{mode}");
        scratch.run(&early, &format!("{flags} --max_steps 100")).ok();
        let late = format!("late{mode}");
        copy(&scratch.path(&format!("{early}/checkpoint-100")), &scratch.path(&format!("{late}/checkpoint-{LATE}")));
        for name in scratch.names(&early).iter().filter(|name| !name.starts_with("checkpoint-")) {
            let path = scratch.path(&format!("{early}/{name}"));
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        }
        let edit = |name: &str, change: &dyn Fn(&mut Value)| {
            let path = format!("{late}/checkpoint-{LATE}/{name}");
            let mut value = scratch.json(&path);
            change(&mut value);
            let mut text = serde_json::to_string_pretty(&value).expect("JSON");
            if name == "run_state.json" {
                // It checks itself.
                let seal = format!("{:08x}", crc32fast::hash(text.as_bytes()));
                text = text.replace("\"seal\": \"00000000\"", &format!("\"seal\": \"{seal}\""));
            }
            fs::write(scratch.path(&path), text).expect("written");
        };
        edit("run_state.json", &|state| {
            state["seal"] = "00000000".into();
            state["files"].as_object_mut().expect("files").remove("trainer_state.json");
            state["schedule"]["next_step"] = LATE.into();
            for steps in state["optimizer_steps"].as_array_mut().expect("a list") {
                *steps = LATE.into();
            }
            if !mode.is_empty() {
                state["stream_position"]["epoch"] = (LATE / 6).into();
            }
        });
        edit("trainer_state.json", &|state| {
            state["global_step"] = LATE.into();
            // As many records as the default --logging_steps 500 makes.
            let record = state["log_history"][0].clone();
            state["log_history"] = vec![record; LATE as usize / 500].into();
        });
        fs::write(scratch.path(&format!("{early}/history.json")), "100").expect("written");
        fs::write(scratch.path(&format!("{late}/history.json")), (LATE / 500).to_string()).expect("written");
        let at_100 = seconds_to_first_step(&scratch, &early, &format!("{flags} --max_steps 102"));
        let at_million = seconds_to_first_step(&scratch, &late, &format!("{flags} --max_steps {}", LATE + 2));
        println!("{mode} first step after start: {at_100:.3} s from step 100, {at_million:.3} s from step 1,000,000");
        assert!(at_million < 1.5 * at_100 + 0.3, "{mode}: {at_100} s from step 100, {at_million} s from step {LATE}");
    }
}

#[test]
fn a_plan_trains_nothing() {
    let scratch = Scratch::new();
    let run = scratch.run("out", "--plan").ok();
    for word in ["parameters", "memory", "steps", "tokens", "checkpoints", "disk"] {
        assert!(run.stdout.to_lowercase().contains(word), "{word} in {}", run.stdout);
    }
    assert!(!scratch.path("out").exists());
}

#[test]
fn a_group_of_lengths_needs_less_padding() {
    let scratch = Scratch::new();
    let text = fs::read_to_string(scratch.path("train.txt")).expect("text");
    fs::write(scratch.path("train.txt"), text.repeat(4)).expect("written");
    let padding = |flags: &str| -> f64 {
        let folder = format!("out{flags}");
        scratch.run(&folder, &format!("--logging_steps 1 --save_strategy no --max_steps 21 {flags}")).ok();
        let history = scratch.history(&folder);
        let sum = |name: &str| history.iter().filter_map(|record| record[name].as_f64()).sum::<f64>();
        1.0 - sum("real_tokens") / sum("tokens")
    };
    let (shuffled, grouped) = (padding(""), padding("--group_by_length"));
    assert!(grouped < 0.7 * shuffled, "{grouped} {shuffled}");
}

#[test]
fn in_bfloat16() {
    resumes_exactly("--bf16", &[5]);
}

/// With one sentence per batch the first scales are too large: their steps move neither the model nor the learning rate.
#[test]
fn in_float16_with_skipped_steps() {
    let flags = "--fp16 --per_device_train_batch_size 1 --max_steps 8";
    let scratch = Scratch::new();
    scratch.run("out", flags).ok();
    let state = scratch.json("out/checkpoint-8/run_state.json");
    let skipped = 8 - state["schedule"]["next_step"].as_i64().expect("a number");
    assert!((1..8).contains(&skipped), "{state}");
    assert_eq!(state["grad_scaler"]["scale"].as_f64(), Some(65536.0 * 0.5f64.powi(skipped as i32)), "{state}");
    resumes_exactly(flags, &[1, 5]);
}
