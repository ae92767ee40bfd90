//! How much memory a run takes: what `--plan` foretells, and what becomes of a run that has less.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

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
    limited.output().expect("the shell starts").into()
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

#[test]
fn a_model_that_does_not_fit_is_refused_with_a_flag_by_which_it_would() {
    let scratch = Scratch::prepared();
    let mut config = scratch.json("bert/config.json");
    // 100 million parameters: 1.6 GB with AdamW, 1 GB with its moments in 8 bits.
    for (field, value) in [("hidden_size", 768), ("intermediate_size", 3072), ("num_hidden_layers", 12)] {
        config[field] = json!(value);
    }
    config["num_attention_heads"] = json!(12);
    config["vocab_size"] = json!(20_000);
    scratch.write("large.json", config.to_string());
    let words = "--config_name large.json --tokenizer_name bert --train_file train.txt --do_train --device cpu --output_dir out";
    limited(&scratch, 1_300_000, words).fails(1, &["of memory are free", "; with --optim adamw_8bit they need"]);
}

/// The run and the most memory that it had, in bytes. What is freed goes back to the system at once, large blocks too, and one
/// thread computes: which gap a block finds, and how much each thread keeps, is a matter of chance, up to 25 MiB, which is
/// much beside a model as small.
fn with_peak(scratch: &Scratch, words: &str) -> (Run, u64) {
    let (out, err) = (scratch.path("stdout.txt"), scratch.path("stderr.txt"));
    let file = |path| Stdio::from(fs::File::create(path).expect("a file"));
    let mut command = scratch.command();
    command.args(words.split_whitespace()).stdout(file(&out)).stderr(file(&err));
    command.env("MIMALLOC_PURGE_DELAY", "0").env("RAYON_NUM_THREADS", "1");
    let mut child = command.spawn().expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let code = loop {
        // A mark that only rises, looked at until the end: how often changes nothing.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(mark.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().expect("a child") {
            break status.code();
        }
        std::thread::park_timeout(Duration::from_millis(2));
    };
    (Run { code, stdout: scratch.read("stdout.txt"), stderr: scratch.read("stderr.txt") }, peak)
}

/// Bytes of the plan's last line.
fn foretold(plan: &Run) -> f64 {
    let line = plan.stdout.lines().find_map(|line| line.strip_prefix("peak memory")).expect("a figure");
    let (number, unit) = line.trim().split_once(' ').expect("a number and its unit");
    let factor = match unit {
        "GiB" => 1_073_741_824.0,
        "MiB" => 1_048_576.0,
        other => panic!("{other}"),
    };
    number.parse::<f64>().expect("a number") * factor
}

#[test]
fn a_plan_foretells_the_peak_to_a_tenth() {
    let scratch = Scratch::prepared();
    let mut config = scratch.json("bert/config.json");
    for (field, value) in [("hidden_size", 256), ("intermediate_size", 1024), ("num_hidden_layers", 8)] {
        config[field] = json!(value);
    }
    config["num_attention_heads"] = json!(4);
    // One tensor is little beside the model: whether two writers copy the largest at once is a matter of chance.
    config["vocab_size"] = json!(4_000);
    scratch.write("small.json", config.to_string());
    let common = "--tokenizer_name bert --train_file train.txt --validation_file valid.txt --line_by_line \
                  --max_seq_length 64 --pad_to_max_length --per_device_train_batch_size 8 --do_train --max_steps 4 \
                  --report_to none --dataloader_num_workers 1 --device cpu";
    let new = format!("--config_name small.json {common}");
    scratch.run(&format!("{new} --dtype bfloat16 --max_steps 1 --output_dir base")).done();
    let base = format!("--model_name_or_path base {common}");
    for (index, words) in [
        new.clone(),
        format!("{new} --do_eval --optim adamw_8bit"),
        format!("{new} --gradient_checkpointing"),
        format!("{base} --use_lora"),
        format!("{base} --use_lora --base_dtype bfloat16"),
        format!("{base} --use_lora --lora_target_modules all-linear --merge_lora"),
    ]
    .iter()
    .enumerate()
    {
        let (plan, _) = with_peak(&scratch, &format!("{words} --plan --output_dir planned"));
        let plan = plan.done();
        let (run, peak) = with_peak(&scratch, &format!("{words} --output_dir out{index}"));
        run.done();
        let (foretold, peak) = (foretold(&plan), peak as f64);
        assert!((foretold / peak - 1.0).abs() < 0.1, "{words}: {foretold} foretold, {peak} taken");
    }
}

/// A row may be a whole document: its text, its tokens, a byte for each of them and no copies of these, 2.0 times the text.
#[test]
fn a_document_is_in_memory_once() {
    let scratch = Scratch::prepared();
    // A token for each five bytes, so that tokens take four fifths of the text.
    let vocabulary = scratch.read("bert/vocab.txt").replace("unseen150\n", "line\n");
    scratch.write("bert/vocab.txt", vocabulary);
    let words = "--model_name_or_path bert --sample_by document --max_seq_length 64 --do_train --max_steps 2";
    for more in ["", "--streaming"] {
        let peak = |megabytes: usize| {
            let name = format!("{megabytes}.txt");
            scratch.write(&name, "line line line line\n".repeat((megabytes << 20) / 20));
            let (run, peak) =
                with_peak(&scratch, &format!("{words} {more} --train_file {name} --output_dir out{megabytes}{more}"));
            run.done();
            peak as f64 / f64::from(1 << 20)
        };
        let (small, large) = (peak(1), peak(33));
        assert!(large - small < 2.4 * 32.0, "{more}: {small} MiB for 1 MiB of text, {large} for 33");
    }
}
