//! `run_plm` as its users run it: whole runs, and what they can get wrong.

use crate::common::{Run, Scratch, fixture, sample};

/// A new XLNet of one layer with a tokenizer of its own, trained on the sample text.
const NEW: &str = "--train_tokenizer 400 --seed 7 --config_overrides d_model=16,n_layer=1,n_head=2,d_inner=32";

fn run(scratch: &Scratch, words: &str) -> Run {
    let (train, valid) = (sample("train.txt"), sample("valid.txt"));
    scratch.run(&format!("{NEW} --train_file {train} --validation_file {valid} --max_eval_samples 8 {words}"))
}

#[test]
fn every_family_from_scratch() {
    crate::families::every_family(lm_models::Task::Plm, "--max_seq_length 16");
}

#[test]
fn trains_and_evaluates_in_blocks_and_line_by_line() {
    let scratch = Scratch::new();
    for (folder, words) in [
        ("blocks", "--max_seq_length 32"),
        ("lines", "--max_seq_length 33 --line_by_line"),
        ("padded", "--max_seq_length 32 --line_by_line --pad_to_max_length"),
    ] {
        run(&scratch, &format!("--do_train --do_eval --max_steps 2 --output_dir {folder} {words}")).done();
        let files = scratch.list(folder);
        for name in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "report.html"] {
            assert!(files.iter().any(|file| file == name), "{name} is missing in {files:?}");
        }
        let results = scratch.json(&format!("{folder}/all_results.json"));
        assert!(results["eval_loss"].is_number() && results["perplexity"].is_number(), "{results}");
        let report = scratch.read(&format!("{folder}/report.html"));
        let hidden = report.matches("the model sees: ").count();
        let guessed = report.matches("%</i></mark>").count();
        assert!(
            hidden > 0 && guessed == 2 * hidden,
            "predicted tokens are marked: {guessed} of {hidden}, before and after"
        );
    }
    // The folder is a model that can be trained on.
    let (train, valid) = (sample("train.txt"), sample("valid.txt"));
    let again = format!(
        "--model_name_or_path lines --train_file {train} --validation_file {valid} --max_seq_length 32 --do_train --max_steps 1 --output_dir next"
    );
    scratch.run(&again).done();
}

#[test]
fn a_run_is_a_function_of_its_arguments_and_can_be_resumed() {
    let scratch = Scratch::new();
    let words = |steps: u64, folder: &str| {
        format!(
            "--max_seq_length 32 --do_train --max_steps {steps} --save_steps 2 --lr_scheduler_type constant --logging_steps 1 --output_dir {folder}"
        )
    };
    run(&scratch, &words(4, "whole")).done();
    run(&scratch, &words(2, "parts")).done();
    run(&scratch, &words(4, "parts")).done();
    let weights = |folder: &str| std::fs::read(scratch.path(&format!("{folder}/model.safetensors"))).expect("weights");
    assert!(weights("whole") == weights("parts"), "the resumed run ends with other weights");
}

#[test]
fn what_can_be_wrong() {
    let scratch = Scratch::prepared();
    run(&scratch, "--do_train --plm_probability 0 --output_dir out").fails(2, &["plm_probability"]);
    run(&scratch, "--do_train --max_span_length 0 --output_dir out1").fails(2, &["max_span_length"]);
    run(&scratch, "--do_train --max_seq_length 2 --output_dir out2")
        .fails(1, &["--max_seq_length 2", "special tokens"]);
    scratch
        .run("--model_name_or_path bert --train_file train.txt --do_train --output_dir out3")
        .fails(1, &["`bert`", "run_mlm"]);
    scratch.run("--mlm_probability 0.2 --train_file train.txt").fails(2, &["--mlm_probability"]);
    run(&scratch, "--do_train --train_file absent.txt --output_dir out4").fails(1, &["absent.txt"]);
    let xlnet = fixture("models/xlnet").display().to_string();
    scratch
        .run(&format!("--model_name_or_path {xlnet} --train_file train.txt --do_train --output_dir out5"))
        .fails(1, &["tokenizer"]);
}

/// Parquet, as the Hub has it, and what `save_to_disk` leaves.
#[test]
fn data_sets_of_parquet_and_arrow() {
    let model = "--max_seq_length 16 --config_overrides d_model=16,n_layer=1,n_head=2,d_inner=32";
    crate::common::data_sets_of_parquet_and_arrow("xlnet-small", model);
}

/// From left to right, each token from those before it: the log-likelihood in one of the orders that XLNet was trained for.
#[test]
fn scores_are_pythons() {
    crate::inference::scores_are_pythons("xlnet", ["log_likelihood", "perplexity"], "tokens: perplexity ");
    crate::inference::what_can_be_wrong_with_a_score("xlnet");
}

#[test]
fn the_first_command_of_the_scripts() {
    let model = "--max_seq_length 16 --max_steps 3 --group_batch_size 0";
    crate::hub::the_first_command("xlnet/xlnet-base-cased", "xlnet", "xlnet-small", model);
}
