//! What becomes of a run for which there is too little memory.

use std::process::Command;

use serde_json::json;

use crate::common::{Run, Scratch, tensors};

/// The program, with as much memory of its own as this, in KiB.
fn limited(scratch: &Scratch, kibibytes: u64, words: &str) -> Run {
    let mut command = scratch.command();
    command.args(words.split_whitespace());
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -d {kibibytes}; exec \"$0\" \"$@\"")]).arg(command.get_program());
    limited.args(command.get_args()).current_dir(scratch.path("")).env("RAYON_NUM_THREADS", "2");
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = limited.output().expect("the shell starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Sequences of which each takes some 70 MB where every operation is plain.
fn long(scratch: &Scratch) -> String {
    const LENGTH: usize = 1024;
    let mut config = scratch.json("bert/config.json");
    config["max_position_embeddings"] = json!(LENGTH);
    scratch.write("long.json", config.to_string());
    let mut settings = scratch.json("bert/tokenizer_config.json");
    settings["model_max_length"] = json!(LENGTH);
    scratch.write("bert/tokenizer_config.json", settings.to_string());
    format!(
        "--config_name long.json --tokenizer_name bert --train_file train.txt --line_by_line --max_seq_length {LENGTH} \
         --pad_to_max_length --do_train --max_steps 2 --logging_steps 1 --plain_ops --device cpu --report_to none \
         --dataloader_num_workers 1 --seed 5"
    )
}

#[test]
fn a_batch_for_which_memory_is_too_small_is_halved_and_the_step_stays_the_same() {
    let scratch = Scratch::prepared();
    scratch.text("train.txt", 16);
    let words = long(&scratch);
    let found = limited(
        &scratch,
        900_000,
        &format!("{words} --per_device_train_batch_size 16 --auto_find_batch_size --output_dir found"),
    )
    .done();
    let told =
        "too little memory for --per_device_train_batch_size 16; going on with 8 and --gradient_accumulation_steps 2";
    assert!(found.stderr.contains(told), "{}", found.stderr);
    let size = scratch.json("found/trainer_state.json")["train_batch_size"].as_u64().expect("a size");
    assert!(size <= 8, "{size}");
    let same = format!("--per_device_train_batch_size {size} --gradient_accumulation_steps {}", 16 / size);
    scratch.run(&format!("{words} {same} --output_dir same")).done();
    let weights = |folder: &str| tensors(&scratch.path(&format!("{folder}/model.safetensors")));
    assert!(weights("found") == weights("same"), "other weights than those of a run with {same}");
}

#[test]
fn a_plan_that_does_not_fit_says_what_would() {
    let scratch = Scratch::prepared();
    scratch.text("train.txt", 16);
    let words = format!("{} --plan --output_dir out", long(&scratch));
    let plan = limited(&scratch, 900_000, &format!("{words} --per_device_train_batch_size 16")).done();
    assert!(plan.stderr.contains("too little memory; with --gradient_checkpointing besides:"), "{}", plan.stderr);
    assert!(plan.stdout.contains("peak memory"), "{}", plan.stdout);
    let fits = limited(&scratch, 900_000, &format!("{words} --per_device_train_batch_size 1")).done();
    assert!(!fits.stderr.contains("too little memory"), "{}", fits.stderr);
}
