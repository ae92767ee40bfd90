//! `run_clm` as its users run it: whole runs, streaming, continuations, and what they can get wrong.

use crate::common::{Run, Scratch, fixture, sample, tensors};

/// A new GPT-2 of one layer with a tokenizer of its own, trained on the sample text.
const NEW: &str = "--model_type gpt2 --train_tokenizer 300 --block_size 32 --seed 7 \
                   --config_overrides n_embd=16,n_layer=1,n_head=2,n_positions=32";

fn run(scratch: &Scratch, words: &str) -> Run {
    let (train, valid) = (sample("train.txt"), sample("valid.txt"));
    scratch.run(&format!("{NEW} --train_file {train} --validation_file {valid} --max_eval_samples 8 {words}"))
}

#[test]
fn every_family_from_scratch() {
    crate::families::every_family(lm_models::Task::Clm, "--block_size 16");
}

/// The losses of a run stay within a hundredth, and Python's other name means the same.
#[test]
fn moments_of_8_bits_learn_as_well() {
    let scratch = Scratch::new();
    let losses = |optim: &str| -> Vec<f64> {
        let words = format!(
            "--do_train --optim {optim} --max_steps 60 --logging_steps 10 --learning_rate 3e-3 --save_strategy no \
             --config_overrides n_embd=32,n_layer=1,n_head=2,n_positions=32 --output_dir {optim}"
        );
        let words = NEW.split(" --config_overrides").next().unwrap_or_default().to_owned() + " " + &words;
        scratch.run(&format!("{words} --train_file {}", sample("train.txt"))).done();
        let log = scratch.json_lines(&format!("{optim}/log.jsonl"));
        log.iter().filter_map(|record| record["loss"].as_f64()).collect()
    };
    let (float32, ours) = (losses("adamw_torch"), losses("adamw_8bit"));
    assert_eq!(float32.len(), 6);
    assert!(float32[5] < 0.9 * float32[0], "{float32:?}");
    for (float32, ours) in float32.iter().zip(&ours) {
        assert!((ours - float32).abs() < 0.01 * float32 && ours != float32, "{ours}, in float32 {float32}");
    }
    assert_eq!(losses("adamw_bnb_8bit"), ours);
}

#[test]
fn trains_evaluates_and_continues_prompts() {
    let scratch = Scratch::new();
    scratch.write("prompts.txt", "The clock on the tower\n\nOn Monday\n");
    let words = "--do_train --do_eval --max_steps 4 --logging_steps 2 --eval_strategy steps --eval_steps 2 \
                 --sample_prompts prompts.txt --max_new_tokens 5 --output_dir out";
    let ran = run(&scratch, words).done();
    assert!(ran.stdout.contains("perplexity"), "{}", ran.stdout);
    let files = scratch.list("out");
    for name in [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "report.html",
        "all_results.json",
    ] {
        assert!(files.iter().any(|file| file == name), "{name} is missing in {files:?}");
    }
    let results = scratch.json("out/all_results.json");
    for name in ["eval_loss", "eval_accuracy", "perplexity", "train_loss", "train_samples"] {
        assert!(results[name].is_number(), "{name} in {results}");
    }
    let log = scratch.json_lines("out/log.jsonl");
    let samples: Vec<&str> = log.iter().filter_map(|record| record["sample_1"].as_str()).collect();
    assert_eq!(samples.len(), 2, "one continuation per evaluation: {log:?}");
    assert!(samples.iter().all(|text| text.starts_with("The clock on the tower")), "{samples:?}");
    let report = scratch.read("out/report.html");
    for part in [
        "Continued as it learns",
        "<td>The clock on the tower</td>",
        "<th>before</th>",
        "<th>step 2</th>",
        "<th>step 4</th>",
    ] {
        assert!(report.contains(part), "{part}");
    }
    let continued = report.split("<td>The clock on the tower").filter(|rest| rest.trim_start().starts_with("<mark>"));
    assert!(continued.count() >= 2, "what the model added is marked");
    // GPT-2's layout stays on disk: [in, out].
    let weights = tensors(&scratch.path("out/model.safetensors"));
    assert_eq!(weights["transformer.h.0.attn.c_attn.weight"].1, [16, 48]);

    // The folder is a model that can be trained on.
    let (train, valid) = (sample("train.txt"), sample("valid.txt"));
    let again = format!(
        "--model_name_or_path out --train_file {train} --validation_file {valid} --do_train --max_steps 1 --output_dir next"
    );
    scratch.run(&again).done();

    // Evaluation alone continues the prompts too.
    let alone = format!(
        "--model_name_or_path out --validation_file {valid} --max_eval_samples 8 --do_eval --sample_prompts prompts.txt \
         --max_new_tokens 5 --output_dir evaluated"
    );
    let ran = scratch.run(&alone).done();
    assert!(
        ran.stdout.contains("  1  The clock on the tower") && ran.stdout.contains("  2  On Monday"),
        "{}",
        ran.stdout
    );

    // Nothing of a stream is there to be shown beforehand.
    for flag in ["--preview 1", "--dump_examples dump.jsonl"] {
        scratch.run(&format!("{again} --streaming {flag}")).fails(2, &["leave out --do_train"]);
    }
    scratch.run(&format!("{again} --streaming --do_train false --preview 1")).done();
}

#[test]
fn a_streamed_run_goes_on_where_it_stopped() {
    let scratch = Scratch::new();
    let words = |steps: u64, folder: &str| {
        format!(
            "--do_train --streaming --max_steps {steps} --save_steps 3 --lr_scheduler_type constant --logging_steps 1 --output_dir {folder}"
        )
    };
    run(&scratch, &words(6, "whole")).done();
    run(&scratch, &words(3, "parts")).done();
    let resumed = run(&scratch, &words(6, "parts")).done();
    assert!(resumed.stderr.contains("checkpoint-3"), "{}", resumed.stderr);
    let weights = |folder: &str| std::fs::read(scratch.path(&format!("{folder}/model.safetensors"))).expect("weights");
    assert!(weights("whole") == weights("parts"), "the resumed run ends with other weights");
}

#[test]
fn streamed_and_stored_examples_are_the_same() {
    let scratch = Scratch::new();
    scratch.text("train.txt", 40);
    scratch.text("valid.txt", 8);
    let words = "--model_type gpt2 --train_tokenizer 270 --block_size 16 --train_file train.txt --validation_file valid.txt \
                 --config_overrides n_embd=16,n_layer=1,n_head=2,n_positions=16";
    scratch.run(&format!("{words} --dump_examples dump.jsonl --output_dir out")).done();
    let train = scratch.json_lines("dump.jsonl").into_iter().filter(|line| line["split"] == "train").count();
    assert!(train > 0, "no example was written");
    scratch.run(&format!("{words} --do_train --streaming --max_steps 2 --output_dir streamed")).done();
}

/// A stream that is not evaluated is trained on from its first row, and nothing is read before.
#[test]
fn a_stream_alone_holds_nothing_out() {
    let scratch = Scratch::new();
    scratch.text("train.txt", 40);
    scratch.write("broken.txt", [&b"a line of text that is fine\n".repeat(2000)[..], b"\xff\n"].concat());
    let words = "--model_type gpt2 --tokenizer_name tokenizer --config_overrides n_embd=16,n_layer=1,n_head=2,n_positions=16 \
                 --block_size 16 --streaming --do_train --max_steps 2 --per_device_train_batch_size 2";
    scratch.tokenizer("tokenizer", 200);
    for more in ["", "--validation_split_percentage 0", "--dataloader_drop_last --per_device_eval_batch_size 999"] {
        let run = scratch.run(&format!("{words} --train_file train.txt {more} --output_dir out{}", more.len())).done();
        let warns = |line: &str| line.starts_with("warning:") && !line.contains("special tokens");
        assert!(!run.stderr.lines().any(warns), "{}", run.stderr);
    }
    assert!(!scratch.path("cache").exists(), "nothing is tokenized beforehand");
    // The samples are the beginning of what is trained on.
    assert!(scratch.read("out0/report.html").contains("line 0 te"));
    scratch.run(&format!("{words} --train_file broken.txt --output_dir broken")).done();
    // With a share of it held out all rows are counted, once.
    scratch
        .run(&format!("{words} --train_file broken.txt --do_eval --output_dir counted"))
        .fails(1, &["broken.txt:2001:", "UTF-8"]);
    let evaluated =
        format!("{words} --train_file train.txt --do_eval --validation_split_percentage 50 --output_dir evaluated");
    scratch.run(&evaluated).done();
    assert!(scratch.json("evaluated/eval_results.json")["eval_loss"].is_number());
}

#[test]
fn what_can_be_wrong() {
    let scratch = Scratch::prepared();
    scratch.write("empty.txt", "\n\n");
    let train = |words: &str| run(&scratch, &format!("--do_train --max_steps 1 --output_dir out {words}"));
    let long = "--model_type gpt2 --tokenizer_name bert --config_overrides n_embd=16,n_layer=1,n_head=2,n_positions=32 \
                --train_file train.txt --do_train --block_size 64 --output_dir out1";
    scratch.run(long).fails(1, &["--block_size 64", "32 positions"]);
    train("--sample_prompts absent.txt").fails(1, &["--sample_prompts absent.txt"]);
    scratch.run(&format!("{NEW} --train_file {} --do_train --overwrite_output_dir --max_steps 1 --sample_prompts empty.txt --output_dir out", sample("train.txt"))).fails(1, &["--sample_prompts empty.txt", "no prompt"]);
    scratch
        .run(&format!("{NEW} --train_file train.txt --do_train --streaming --output_dir out2"))
        .fails(2, &["--max_steps"]);
    scratch
        .run("--model_name_or_path bert --train_file train.txt --do_train --output_dir out3")
        .fails(1, &["`bert`", "run_mlm"]);
    scratch
        .run("--model_type gpt3 --train_tokenizer 100 --train_file train.txt --do_train --output_dir out3")
        .fails(2, &["`gpt3`", "gpt2"]);
    scratch.run("--model_type gpt2 --mlm_probability 0.2 --train_file train.txt").fails(2, &["--mlm_probability"]);
    scratch.run(&format!("{NEW} --train_file absent.txt --do_train --output_dir out3")).fails(1, &["absent.txt"]);
    let gpt2 = fixture("models/gpt2").display().to_string();
    scratch
        .run(&format!("--model_name_or_path {gpt2} --train_file train.txt --do_train --output_dir out4"))
        .fails(1, &["tokenizer"]);
}

/// The model of the fixtures with the tiny tokenizer, on 51 blocks of 16 tokens.
const EVALUATE: &str = "--model_name_or_path gpt2 --tokenizer_name tokenizer --validation_file valid.txt --block_size 16 \
                        --per_device_eval_batch_size 4 --do_eval";

fn to_evaluate() -> Scratch {
    let scratch = Scratch::new();
    scratch.tokenizer("tokenizer", 200);
    for file in ["config.json", "model.safetensors"] {
        scratch.write(&format!("gpt2/{file}"), std::fs::read(fixture("models/gpt2").join(file)).expect("the fixture"));
    }
    scratch.text("valid.txt", 20);
    scratch
}

/// `eval_loss` and perplexity of a run with these words besides.
fn evaluated(scratch: &Scratch, words: &str) -> [f64; 2] {
    scratch.run(&format!("{EVALUATE} {words} --output_dir out")).done();
    let results = scratch.json("out/eval_results.json");
    ["eval_loss", "perplexity"].map(|name| results[name].as_f64().expect("a number"))
}

/// transformers 4.57 divides a causal loss by all T tokens of a block, of which T - 1 are predicted. Its figure of the same
/// model and text, from a Trainer, comes from ours by the factor that docs/training.md gives.
#[test]
fn the_loss_of_transformers_4_57_follows_from_ours() {
    const PYTHONS: f64 = 5.009478569030762;
    let scratch = to_evaluate();
    let [loss, perplexity] = evaluated(&scratch, "");
    assert!((loss * 15.0 / 16.0 - PYTHONS).abs() < 1e-5 * PYTHONS, "{loss}");
    assert!((perplexity - loss.exp()).abs() < 1e-9 * perplexity);
}

/// Python's `LabelSmoother` smooths the evaluation too, and divides by the predicted tokens.
#[test]
fn evaluation_is_smoothed_as_in_python() {
    const PYTHONS: f64 = 5.340141773223877;
    let scratch = to_evaluate();
    let [loss, perplexity] = evaluated(&scratch, "--label_smoothing_factor 0.1");
    assert!((loss - PYTHONS).abs() < 1e-5 * PYTHONS, "{loss}");
    assert!((perplexity - loss.exp()).abs() < 1e-9 * perplexity, "{perplexity}");
}

/// Before training a model takes over the tokenizer's special tokens, in both files, as Python's Trainer does it. Expected
/// is what transformers 4.57.6 saved.
#[test]
fn the_special_tokens_are_the_tokenizers() {
    let scratch = Scratch::new();
    let tokenizers = crate::common::workspace().join("crates/lm-data/tests/fixtures/tokenizers");
    let saved = |tokenizer: &str, model: &str, folder: &str| {
        let ran = scratch.run(&format!(
            "{model} --tokenizer_name {} --train_file {} --max_train_samples 4 --block_size 16 --do_train --max_steps 1 \
             --save_strategy no --output_dir {folder}",
            tokenizers.join(tokenizer).display(),
            sample("train.txt")
        ));
        let said = ran.done().stderr;
        let files = ["config.json", "generation_config.json"].map(|file| {
            let object = scratch.json(&format!("{folder}/{file}"));
            ["bos_token_id", "eos_token_id", "pad_token_id"].map(|name| object[name].clone())
        });
        (serde_json::json!(files), said)
    };
    let new = "--model_type gpt2 --config_overrides n_embd=16,n_layer=1,n_head=2,n_positions=32,vocab_size=3000";
    let (files, said) = saved("roberta-small", new, "roberta");
    assert_eq!(files, serde_json::json!([[0, 2, 1], [0, [2, 50256], 1]]));
    assert!(said.contains("eos_token_id 2 (config.json had 50256)"), "{said}");
    let (files, _) = saved("bert-cased-small", new, "bert");
    assert_eq!(files, serde_json::json!([[null, null, 0], [null, [50256], 0]]));
    let (files, said) = saved("roberta-small", "--model_name_or_path roberta", "again");
    assert_eq!(files, serde_json::json!([[0, 2, 1], [0, [2, 50256], 1]]));
    assert!(!said.contains("special tokens are not the model's"), "{said}");
}

/// What `run_mlm` does not read: prompts, and how a model generates.
#[cfg(unix)]
#[test]
fn files_that_never_end() {
    let scratch = Scratch::prepared();
    assert!(std::process::Command::new("mkfifo").arg(scratch.path("pipe")).status().expect("mkfifo").success());
    for name in ["config.json", "model.safetensors"] {
        scratch.write(&format!("gpt/{name}"), std::fs::read(fixture("models/gpt2").join(name)).expect("the fixture"));
    }
    for target in [scratch.path("pipe").as_path(), "/dev/zero".as_ref()] {
        let prompts = format!("--do_train --max_steps 1 --output_dir out --sample_prompts {}", target.display());
        run(&scratch, &prompts).fails(1, &["--sample_prompts", "not a regular file"]);
        let path = scratch.path("gpt/generation_config.json");
        std::os::unix::fs::symlink(target, &path).expect("a link");
        let words = "--model_name_or_path gpt --tokenizer_name bert --train_file train.txt --do_train --output_dir out";
        scratch.run(words).fails(1, &["generation_config.json", "not a regular file"]);
        std::fs::remove_file(path).expect("removed");
    }
}

/// Parquet, as the Hub has it, and what `save_to_disk` leaves.
#[test]
fn data_sets_of_parquet_and_arrow() {
    let model = "--model_type gpt2 --block_size 16 --config_overrides n_embd=16,n_layer=1,n_head=2,n_positions=32";
    crate::common::data_sets_of_parquet_and_arrow("roberta-small", model);
}

#[test]
fn a_data_set_is_read_from_the_hub_as_it_is_needed() {
    let tokenizer = crate::common::workspace().join("crates/lm-data/tests/fixtures/tokenizers/roberta-small");
    let model = "--model_type gpt2 --block_size 16 --config_overrides n_embd=16,n_layer=1,n_head=2,n_positions=32";
    // Of a data set by name line breaks are not kept, whatever is asked of files.
    let model = format!("{model} --tokenizer_name {} --keep_linebreaks false", tokenizer.display());
    crate::hub::streams_from_the_hub(&model);
}

#[test]
fn the_first_command_of_the_scripts() {
    let model = "--block_size 16 --max_steps 3 --group_batch_size 0";
    crate::hub::the_first_command("openai-community/gpt2", "gpt2", "roberta-small", model);
}
