//! `--dataset_name` with a stand-in for the Hub on this machine: the first command of every tutorial of the scripts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::common::{Scratch, workspace};
use crate::hub::{TestHub, serve, streams_from_the_hub};

#[test]
fn the_first_command_of_every_tutorial() {
    let scratch = Scratch::prepared();
    let hub = TestHub::new();
    let words = "--dataset_name wikitext --dataset_config_name wikitext-2-raw-v1 --model_name_or_path bert --line_by_line \
                 --max_seq_length 16 --max_steps 2 --per_device_train_batch_size 8 --do_train";
    let run = hub.run(&scratch, &format!("{words} --do_eval --output_dir out")).done();
    assert!(run.stderr.contains("wikitext is Salesforce/wikitext on the Hub"), "{}", run.stderr);
    let files = ["train", "validation"].map(|split| format!("wikitext-2-raw-v1/{split}-00000-of-00001.parquet"));
    assert_eq!(hub.sent(), [&["README.md".to_string()], &files[..]].concat(), "only what the run reads");
    assert_eq!(scratch.json("out/train_results.json")["train_samples"], 40);
    assert_eq!(scratch.json("out/eval_results.json")["eval_samples"], 8);
    let card = scratch.read("out/README.md");
    assert!(
        card.contains("datasets:\n- wikitext\n") && card.contains("the wikitext wikitext-2-raw-v1 dataset"),
        "{card}"
    );
    let evaluated = "- Evaluation: split validation of the wikitext wikitext-2-raw-v1 dataset: 8 examples";
    assert!(card.contains("- Training: split train of the wikitext") && card.contains(evaluated), "{card}");
    assert!(scratch.path("hub/hub/datasets--Salesforce--wikitext/refs/main").exists(), "Python's own folder");

    // Again, without the Hub.
    scratch.run(&format!("{words} --do_eval --output_dir offline")).done();
    hub.run(&scratch, &format!("{words} --output_dir again --train_split test[:5]")).done();
    assert_eq!(hub.sent(), ["wikitext-2-raw-v1/test-00000-of-00001.parquet"]);
    assert_eq!(scratch.json("again/train_results.json")["train_samples"], 5);
    // What is in the cache is not fetched again.
    hub.run(&scratch, &format!("{words} --output_dir streamed --streaming")).done();
    assert!(hub.sent().is_empty());
}

#[test]
fn data_sets_that_are_not_there() {
    let scratch = Scratch::prepared();
    let hub = TestHub::new();
    let run = |flags: &str| {
        let words = "--model_name_or_path bert --line_by_line --max_seq_length 16 --do_train --do_eval --max_steps 1";
        hub.run(&scratch, &format!("{words} --output_dir out {flags}"))
    };
    run("--dataset_name owner/nothing")
        .fails(1, &["owner/nothing", "no such dataset on", "private dataset needs a token"]);
    run("--dataset_name owner/gated").fails(1, &["access is restricted", "/datasets/owner/gated"]);
    run("--dataset_name owner/gated --token hf_secret").done();
    run("--dataset_name wikitext").fails(1, &["no default", "one of wikitext-103-raw-v1, wikitext-2-raw-v1"]);
    let config = "--dataset_name wikitext --dataset_config_name";
    run(&format!("{config} wikitext-3")).fails(1, &["no configuration `wikitext-3`", "wikitext-103-raw-v1"]);
    run(&format!("{config} wikitext-2-raw-v1 --train_split dev"))
        .fails(1, &["no split `dev`", "test, train, validation"]);
    run("--dataset_name owner/alone").fails(1, &["made by alone.py", "refs/convert/parquet", "--train_file"]);
    let scripted = run("--dataset_name owner/scripted --overwrite_output_dir").done();
    assert!(scripted.stderr.contains("made by scripted.py, which is not run"), "{}", scripted.stderr);
    scratch
        .run("--dataset_name owner/unseen --model_name_or_path bert --do_train --output_dir out")
        .fails(1, &["owner/unseen", "HF_HUB_OFFLINE forbids"]);
}

#[test]
fn a_data_set_is_read_from_the_hub_as_it_is_needed() {
    streams_from_the_hub("--model_name_or_path bert --line_by_line --max_seq_length 16");
}

#[test]
fn streams_that_cannot_be() {
    let scratch = Scratch::prepared();
    let hub = TestHub::new();
    let words = "--model_name_or_path bert --line_by_line --max_seq_length 16 --do_train --max_steps 2 --streaming";
    hub.run(&scratch, &format!("{words} --dataset_name owner/gated --output_dir out"))
        .fails(1, &["access is restricted"]);
    hub.run(&scratch, &format!("{words} --dataset_name owner/gated --token hf_secret --output_dir out")).done();
    // Rows are held out of a file that has an index without reading it, and evaluated on.
    let held_out = format!("{words} --dataset_name owner/gated --token hf_secret --do_eval --output_dir held");
    hub.run(&scratch, &format!("{held_out} --validation_split_percentage 20")).done();
    assert_eq!(scratch.json("held/eval_results.json")["eval_samples"], 8);
    scratch
        .run(&format!("{words} --dataset_name owner/gated --output_dir out"))
        .fails(1, &["owner/gated", "HF_HUB_OFFLINE forbids"]);
}

/// Of an Arrow file the batches that are read are asked for, and not the headers of all that there are.
#[test]
fn record_batches_are_found_without_the_others() {
    let scratch = Scratch::prepared();
    let hub = TestHub::new();
    let saved = workspace().join("bins/run_mlm/tests/fixtures/saved/train/data-00000-of-00002.arrow");
    let few = std::fs::read(saved).expect("the fixture");
    // A stream is a schema, whose header has no body, the batches, and eight bytes at the end.
    let start = 8 + u32::from_le_bytes([few[4], few[5], few[6], few[7]]) as usize;
    let (batches, end) = (&few[start..few.len() - 8], &few[few.len() - 8..]);
    let many = [&few[..start], &batches.repeat(5000), end].concat();
    scratch.write("set/train.arrow", &many);
    if !serve("served/many-batches", &scratch.path("set")) {
        return crate::not_tested("no sha256sum");
    }
    let words = |steps: usize| {
        format!(
            "--model_name_or_path bert --line_by_line --max_seq_length 16 --do_train --streaming --save_steps 3 \
             --dataset_name served/many-batches --max_steps {steps} --output_dir out"
        )
    };
    for steps in [3, 6] {
        hub.run(&scratch, &words(steps)).done();
        let parts = hub.parts();
        assert!((3..12).contains(&parts), "{steps} steps: {parts} of {} bytes", many.len());
    }
}

/// The examples of a folder are those of the same files on the Hub, downloaded and streamed; and so are errors.
#[test]
fn a_folder_and_the_hub_have_the_same_rows() {
    let scratch = Scratch::prepared();
    let hub = TestHub::new();
    let fixtures = workspace().join("bins/run_mlm/tests/fixtures");
    let parquet = std::fs::read(fixtures.join("wikitext/train.parquet")).expect("the fixture");
    scratch.write("sets/parquet/data/train-00000-of-00002.parquet", &parquet);
    scratch.write("sets/parquet/data/train-00001-of-00002.parquet", &parquet);
    scratch.write("sets/csv/train/a.csv", "text;n\none, two;1\nthree;2\n");
    scratch.write("sets/csv/dev/b.csv", "text;n\nfour;1\n");
    let readme = "---\nconfigs:\n- config_name: x\n  data_files: a*.txt\n- config_name: y\n  data_files: b.txt\n---\n";
    scratch.write("sets/configs/README.md", readme);
    for name in ["a1.txt", "a2.txt", "b.txt"] {
        scratch.write(&format!("sets/configs/{name}"), format!("a row of {name}\n").repeat(30));
    }
    let zipped = workspace().join("crates/lm-data/tests/fixtures/compressed");
    std::fs::create_dir(scratch.path("sets/zip")).expect("a folder");
    std::fs::copy(zipped.join("texts.zip"), scratch.path("sets/zip/texts.zip")).expect("copied");
    let mut sets: Vec<(PathBuf, Vec<String>)> = Vec::new();
    for (name, configs) in [("parquet", &[""][..]), ("csv", &[""]), ("configs", &["", "x", "y", "z"]), ("zip", &[""])] {
        sets.push((scratch.path("sets").join(name), configs.iter().map(|config| config.to_string()).collect()));
    }
    // What Python was asked for, where that is there.
    let reference = workspace().join("../shared/reference/datasets");
    if let Ok(text) = std::fs::read_to_string(reference.join("expected.json")) {
        let expected: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
            serde_json::from_str(&text).expect("JSON");
        for (name, configs) in expected {
            sets.push((reference.join(name), configs.into_keys().filter(|config| config != "slices").collect()));
        }
    }
    for (folder, configs) in sets {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name");
        if !serve(&format!("served/{name}"), &folder) {
            return crate::not_tested("no sha256sum");
        }
        for config in configs {
            let examples = |set: &str, more: &str| {
                let config = if config.is_empty() { String::new() } else { format!("--dataset_config_name {config}") };
                let words = format!(
                    "--tokenizer_name bert --line_by_line --max_seq_length 32 --dataset_name {set} {config} {more} \
                     --dump_examples {name}.jsonl"
                );
                let words: Vec<&str> = words.split_whitespace().collect();
                let run = hub.run(&scratch, &words.join(" "));
                match run.code {
                    Some(0) => Ok(scratch.read(&format!("{name}.jsonl"))),
                    _ => Err(run.stderr),
                }
            };
            let here = examples(&folder.display().to_string(), "");
            // First streamed, since what was downloaded is read from the cache.
            let streamed = examples(&format!("served/{name}"), "--streaming");
            let downloaded = examples(&format!("served/{name}"), "");
            match &here {
                Ok(_) => {
                    assert!(here == streamed && here == downloaded, "{name} {config}: {streamed:?} {downloaded:?}")
                }
                Err(error) => assert!(streamed.is_err() && downloaded.is_err(), "{name} {config}: {error}"),
            }
        }
    }
}
