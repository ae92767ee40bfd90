//! Checkpoints of Python's Trainer go on here as they do there.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{Scratch, tensors, workspace};

/// `trainer_checkpoint` of the fixtures.
fn trainer_checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/trainer_checkpoint")
}

/// Arguments that continue `checkpoint` in the folder `out`, where every step sees `examples` examples of `block` tokens.
fn arguments(root: &Path, checkpoint: &Path, optim: &str, examples: usize, block: usize) -> String {
    format!(
        "--do_train --output_dir out --optim {optim} --per_device_train_batch_size {examples} --block_size {block} \
         --logging_steps 1 --warmup_steps 2 --max_grad_norm 0 --keep_linebreaks false --data_cache_dir cache --model_name_or_path {} \
         --train_file {} --resume_from_checkpoint {}",
        root.join("start").display(),
        root.join("train.txt").display(),
        checkpoint.display()
    )
}

/// The values that the run into `out` logged.
fn logged(scratch: &Scratch, name: &str) -> Vec<f64> {
    let state = scratch.json("out/trainer_state.json");
    let records = state["log_history"].as_array().expect("a list").iter();
    records.filter_map(|record| record.get("loss").and(record[name].as_f64())).collect()
}

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: {found:?} {expected:?}");
    let close = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= tolerance);
    assert!(close, "{what}: {found:?}, Python's {expected:?}");
}

/// With every optimizer that both have.
#[test]
fn goes_on_as_in_python() {
    let root = trainer_checkpoint();
    let expected: Value = serde_json::from_slice(&fs::read(root.join("expected.json")).expect("a file")).expect("JSON");
    let examples = expected["examples"].as_u64().expect("a number") as usize;
    let rates = [
        ("adamw_torch", 0.02),
        ("adafactor", 0.02),
        ("rmsprop", 0.01),
        ("adagrad", 0.05),
        ("sgd", 1.0),
        ("adamw_bnb_8bit", 0.02),
    ];
    for (optim, rate) in rates {
        let scratch = Scratch::new();
        let checkpoint = root.join(optim).join("checkpoint-3");
        let mut arguments = arguments(&root, &checkpoint, optim, examples, 16);
        if optim == "adamw_bnb_8bit" {
            // A model of its own, which is wide enough for them.
            let start = format!("--model_name_or_path {}", root.join("start").display());
            let wide = format!(
                "--model_name_or_path {} --tokenizer_name {}",
                checkpoint.display(),
                root.join("start").display()
            );
            arguments = arguments.replace(&start, &wide);
        }
        let more = format!("--max_steps 6 --save_steps 5 --learning_rate {rate} --weight_decay 0.01");
        let run = scratch.run(&format!("{arguments} {more}")).done();
        assert_eq!(run.stderr.matches("does not tell its examples").count(), 1, "{}", run.stderr);
        let theirs = &expected["runs"][optim];
        assert_close(&logged(&scratch, "loss"), &numbers(&theirs["loss"]), 3e-4, optim);
        assert_close(&logged(&scratch, "learning_rate"), &numbers(&theirs["learning_rate"]), 1e-12, optim);
    }
}

/// The larger run of the references, where they lie beside the project: its weights too.
#[test]
fn the_reference_goes_on_as_in_python() {
    let root = workspace().join("../shared/reference/trainer-checkpoint");
    let Ok(text) = fs::read(root.join("expected.json")) else { return };
    let root = root.canonicalize().expect("a folder");
    let expected: Value = serde_json::from_slice(&text).expect("JSON");
    let scratch = Scratch::new();
    let arguments = arguments(&root, &root.join("run/checkpoint-6"), "adamw_torch", 8, 64);
    let more = "--max_steps 12 --save_steps 6 --learning_rate 0.002 --weight_decay 0.05 --lr_scheduler_type cosine";
    scratch.run(&format!("{arguments} {more}")).done();
    // Python divides a causal loss by 64 where 63 are predicted; the first six records are its own.
    let losses = logged(&scratch, "loss");
    let losses: Vec<f64> = losses.iter().enumerate().map(|(i, x)| if i < 6 { *x } else { x * 63.0 / 64.0 }).collect();
    assert_close(&losses, &numbers(&expected["losses"]), 5e-3, "losses");
    assert_close(&logged(&scratch, "learning_rate"), &numbers(&expected["learning_rates"]), 1e-12, "rates");
    let (ours, theirs) = (tensors(&scratch.path("out/model.safetensors")), tensors(&root.join("final.safetensors")));
    let values = |bytes: &[u8]| -> Vec<f64> {
        bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
    };
    for (name, (_, _, bytes)) in &theirs {
        let Some((_, _, found)) = ours.get(name) else { continue };
        for (a, b) in values(found).iter().zip(values(bytes)) {
            assert!((a - b).abs() < 2e-3, "{name}: {a}, Python's {b}");
        }
    }
    assert!(theirs.keys().filter(|name| ours.contains_key(*name)).count() > 20, "{:?}", theirs.keys());
}

#[test]
fn what_does_not_fit_is_one_line() {
    let (root, scratch) = (trainer_checkpoint(), Scratch::new());
    let copy = |to: &str| {
        for name in ["config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"] {
            scratch.write(
                &format!("{to}/{name}"),
                fs::read(root.join("adamw_torch/checkpoint-3").join(name)).expect(name),
            );
        }
    };
    let arguments = |checkpoint: &str, optim: &str| {
        format!("{} --max_steps 6 --learning_rate 0.02", arguments(&root, Path::new(checkpoint), optim, 5, 16))
    };
    copy("checkpoint-3");
    let parts = &["checkpoint-3 was trained with --optim adamw_torch, not sgd"];
    scratch.run(&arguments("checkpoint-3", "sgd")).fails(1, parts);

    for name in ["optimizer.pt", "scheduler.pt"].map(|name| format!("checkpoint-3/{name}")) {
        let whole = fs::read(scratch.path(&name)).expect("a file");
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            scratch.write(&name, &whole[..cut]);
            scratch.run(&arguments("checkpoint-3", "adamw_torch")).fails(1, &[name.as_str()]);
        }
        // Weights, in another format.
        scratch.write(&name, fs::read(scratch.path("checkpoint-3/model.safetensors")).expect("a file"));
        scratch.run(&arguments("checkpoint-3", "adamw_torch")).fails(1, &[name.as_str()]);
        scratch.write(&name, whole);
    }

    // Without its optimizer a checkpoint is its weights alone, which must be asked for.
    fs::remove_file(scratch.path("checkpoint-3/optimizer.pt")).expect("removed");
    let alone = arguments("checkpoint-3", "adamw_torch");
    scratch.run(&alone).fails(1, &["--allow_changes_on_resume", "--model_name_or_path"]);
    let run = scratch.run(&format!("{alone} --allow_changes_on_resume")).done();
    assert!(run.stderr.contains("holds the weights alone: their optimizer begins anew"), "{}", run.stderr);
    let rates = logged(&scratch, "learning_rate");
    assert_close(&rates, &[0.0, 0.01, 0.02, 0.015, 0.01, 0.005], 1e-12, "rates");
}

/// Python's Trainer would go on with the optimizer's own; here the arguments are in force, which is said.
#[test]
fn arguments_other_than_the_optimizers_are_told() {
    let (root, scratch) = (trainer_checkpoint(), Scratch::new());
    for (optim, told) in [
        (
            "adamw_torch",
            "than the checkpoint was made with: --weight_decay 0.3 (was 0.01), --adam_beta2 0.95 (was 0.999), --adam_epsilon 1e-7 (was 1e-8)\n",
        ),
        ("sgd", "than the checkpoint was made with: --weight_decay 0.3 (was 0.01)\n"),
    ] {
        let checkpoint = root.join(optim).join("checkpoint-3");
        let flags = "--max_steps 4 --learning_rate 0.02 --weight_decay 0.3 --adam_beta2 0.95 --adam_epsilon 1e-7";
        let run = scratch.run(&format!("{} {flags}", arguments(&root, &checkpoint, optim, 5, 16))).done();
        assert_eq!(run.stderr.matches(told).count(), 1, "{}", run.stderr);
    }
}

/// What is written is in Python's form: without run_state.json, which Python does not read either, it goes on the same.
#[test]
fn what_is_written_goes_on_by_pythons_files_alone() {
    let root = trainer_checkpoint();
    let start = root.join("start").display().to_string();
    // Wide enough for moments of 8 bits.
    let wide = format!(
        "--model_type gpt2 --tokenizer_name {start} --config_overrides n_embd=16,n_layer=1,n_head=2,n_positions=16"
    );
    let start = format!("--model_name_or_path {start}");
    for (optim, flags) in [
        ("adamw_bnb_8bit", ""),
        ("adamw_torch", ""),
        ("adafactor", ""),
        ("rmsprop", ""),
        ("adagrad", ""),
        ("sgd", ""),
        (
            "adamw_torch",
            "--lr_scheduler_type reduce_lr_on_plateau --warmup_steps 0 --eval_strategy steps --eval_steps 1",
        ),
    ] {
        let scratch = Scratch::new();
        let model = if optim == "adamw_bnb_8bit" { &wide } else { &start };
        let common = format!(
            "{flags} --do_train --optim {optim} --per_device_train_batch_size 5 --block_size 16 --logging_steps 1 \
             --max_grad_norm 0 --keep_linebreaks false --data_cache_dir cache {model} --train_file {} \
             --validation_file {} --max_steps 6 --save_steps 3 --learning_rate 0.02 --weight_decay 0.01",
            root.join("train.txt").display(),
            root.join("train.txt").display()
        );
        scratch.run(&format!("{common} --output_dir unbroken")).done();
        for name in scratch.list("unbroken/checkpoint-3") {
            if name != "run_state.json" && name != "training_args.json" {
                let bytes = fs::read(scratch.path(&format!("unbroken/checkpoint-3/{name}"))).expect("a file");
                scratch.write(&format!("checkpoint-3/{name}"), bytes);
            }
        }
        let run = scratch.run(&format!("{common} --output_dir out --resume_from_checkpoint checkpoint-3")).done();
        assert!(!run.stderr.contains("other arguments"), "{optim}: {}", run.stderr);
        let weights = |folder: &str| fs::read(scratch.path(&format!("{folder}/model.safetensors"))).expect("a file");
        assert!(weights("unbroken") == weights("out"), "{optim} {flags}");
    }
}

/// For Python alone: its arguments without tokens, and its random numbers, which follow from the seed.
#[test]
fn arguments_and_random_numbers_are_there_for_python() {
    let (root, scratch) = (trainer_checkpoint(), Scratch::new());
    let (start, text) = (root.join("start"), root.join("train.txt"));
    let run = |out: &str, seed: u32| {
        let flags = format!(
            "--do_train --max_steps 1 --save_steps 1 --block_size 16 --data_cache_dir cache --hub_token hf_secret \
             --model_name_or_path {} --train_file {} --output_dir {out} --seed {seed}",
            start.display(),
            text.display()
        );
        scratch.run(&flags).done();
        ["training_args.bin", "rng_state.pth"]
            .map(|name| fs::read(scratch.path(&format!("{out}/checkpoint-1/{name}"))).expect(name))
    };
    let has = |bytes: &[u8], part: &str| bytes.windows(part.len()).any(|window| window == part.as_bytes());
    let [arguments, numbers] = run("one", 1);
    assert!(has(&arguments, "ctransformers.training_args\nTrainingArguments\n") && has(&arguments, "hub_token"));
    assert!(!has(&arguments, "hf_secret"));
    assert_eq!(run("two", 1)[1], numbers);
    assert_ne!(run("three", 2)[1], numbers);
}
