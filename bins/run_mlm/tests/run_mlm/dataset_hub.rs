//! `--dataset_name` with a stand-in for the Hub on this machine: the first command of every tutorial of the scripts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::{Scratch, workspace};
use crate::hub::{TestHub, run_at, serve, streams_from_the_hub, the_first_command};

#[test]
fn the_first_command_of_the_scripts() {
    the_first_command("FacebookAI/roberta-base", "roberta", "roberta-small", "--max_seq_length 16 --max_steps 3");
}

#[test]
fn the_data_set_of_every_tutorial() {
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
    serve("served/many-batches", &scratch.path("set"));
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

/// What Python was asked for: the splits, rows and texts of repositories, slices of them, and errors. All are as there, downloaded
/// and streamed.
#[test]
fn repositories_have_the_rows_of_datasets() {
    let (scratch, hub) = (Scratch::new(), TestHub::new());
    byte_tokenizer(&scratch);
    let fixtures = workspace().join("crates/lm-data/tests/fixtures");
    let read = |path: PathBuf| std::fs::read_to_string(path).expect("the fixture");
    type Sets = BTreeMap<String, BTreeMap<String, Value>>;
    let mut sets: Sets = serde_json::from_str(&read(fixtures.join("repositories/expected.json"))).expect("JSON");
    for name in sets.keys() {
        serve(&format!("served/{name}"), &fixtures.join("repositories").join(name));
    }
    let readings: BTreeMap<String, Value> = serde_json::from_str(&read(fixtures.join("readings.json"))).expect("JSON");
    for (name, mut set) in readings {
        for (file, content) in set["files"].as_object().expect("files") {
            scratch.write(&format!("sets/{name}/{file}"), content.as_str().expect("a text"));
        }
        serve(&format!("served/{name}"), &scratch.path(&format!("sets/{name}")));
        sets.insert(name, BTreeMap::from([(String::new(), set["splits"].take())]));
    }
    // As a data set has it: configuration, split, and what Python found.
    let mut wanted: Vec<(&str, String, String, &Value)> = Vec::new();
    for (name, configs) in &sets {
        for (config, facts) in configs {
            // Of the large configuration, if there are several.
            let of = if config != "slices" {
                config
            } else if configs.contains_key("large") {
                "large"
            } else {
                ""
            };
            match facts.get("error") {
                Some(_) => wanted.push((name, of.into(), "train".into(), facts)),
                None => wanted.extend(
                    facts
                        .as_object()
                        .expect("splits")
                        .iter()
                        .map(|(split, facts)| (name.as_str(), of.to_string(), split.clone(), facts)),
                ),
            }
        }
    }
    assert!(wanted.len() > 80, "{}", wanted.len());
    for (name, config, split, facts) in wanted {
        // First streamed, since what was downloaded is read from the cache.
        for streaming in ["--streaming", ""] {
            let config = if config.is_empty() { String::new() } else { format!("--dataset_config_name {config}") };
            // Nothing is held out where there is something to evaluate on.
            let words = format!(
                "--dataset_name served/{name} {config} --train_split {split} --validation_split train {streaming} \
                 --tokenizer_name bytes --max_seq_length 2 --group_batch_size 0 --dump_examples dump.jsonl"
            );
            let run = hub.run(&scratch, &words);
            if facts.get("error").is_some() {
                assert!(run.code.is_some_and(|code| code > 0), "{words}: {facts}");
                let says = facts["says"].as_array().expect("words").iter().filter_map(Value::as_str);
                says.for_each(|part| assert!(run.stderr.contains(part), "`{part}` is missing in: {}", run.stderr));
                continue;
            }
            run.done();
            let rows = rows_of_bytes(&scratch, "dump.jsonl", &facts["rows"]);
            let mut hash = Sha256::new();
            for row in &rows {
                hash.update((row.len() as i64).to_le_bytes());
                hash.update(row);
            }
            let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((json!(rows.len()), json!(hash)), (facts["rows"].clone(), facts["sha256"].clone()), "{words}");
        }
    }
}

/// A tokenizer whose tokens are bytes, the first of which has the number 4, and the end of each row.
fn byte_tokenizer(scratch: &Scratch) {
    // `bytes_to_unicode` of GPT-2: what has no sign of its own gets one beyond the bytes.
    let shown = |byte: &u32| (33..127).contains(byte) || (161..173).contains(byte) || (174..256).contains(byte);
    let mut beyond = 256..;
    let signs = (0..256).map(|byte| if shown(&byte) { byte } else { beyond.next().expect("a number") });
    let signs = signs.map(|sign| char::from_u32(sign).expect("a letter").to_string());
    let special = ["</s>", "<pad>", "<unk>", "<mask>"];
    let tokens = special.map(String::from).into_iter().chain(signs);
    let vocabulary: serde_json::Map<String, Value> = tokens.zip(0..).map(|(token, id)| (token, json!(id))).collect();
    let added = special.iter().zip(0..).map(|(content, id)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true})
    });
    let backend = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Value>(), "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [0], "tokens": ["</s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": []}
    });
    scratch.write("bytes/tokenizer.json", backend.to_string());
    let settings = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>",
        "unk_token": "<unk>", "mask_token": "<mask>"});
    scratch.write("bytes/tokenizer_config.json", settings.to_string());
}

/// The rows of the training split by that tokenizer, of examples that have two tokens each. The last token is in none if their
/// number is odd: it is the end of a row.
fn rows_of_bytes(scratch: &Scratch, dump: &str, expected: &Value) -> Vec<Vec<u8>> {
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    for example in scratch.json_lines(dump).iter().filter(|example| example["split"] == "train") {
        for token in example["input_ids"].as_array().expect("tokens") {
            match token.as_u64().expect("a token") {
                0 => rows.push(std::mem::take(&mut row)),
                token => row.push(u8::try_from(token - 4).expect("a byte")),
            }
        }
    }
    // Without bytes before that end, nothing but the number of rows tells of it.
    if !row.is_empty() || json!(rows.len() + 1) == *expected {
        rows.push(row);
    }
    rows
}

/// A branch, a tag or a commit, each downloaded and streamed; none that is not there.
#[test]
fn revisions_of_a_data_set() {
    let (scratch, hub) = (Scratch::prepared(), TestHub::new());
    let words = "--dataset_name owner/versions --model_name_or_path bert --line_by_line --max_seq_length 16 --do_eval \
                 --validation_split train --output_dir out";
    for (revision, rows) in [("main", 40), ("v1.0", 9), ("ffffffffffffffffffffffffffffffffffffffff", 9)] {
        for more in ["", "--streaming"] {
            hub.run(&scratch, &format!("{words} --dataset_revision {revision} {more}")).done();
            assert_eq!(scratch.json("out/eval_results.json")["eval_samples"], rows, "{revision} {more}");
        }
    }
    hub.run(&scratch, &format!("{words} --dataset_revision v2.0"))
        .fails(1, &["owner/versions", "has no revision \"v2.0\"", "--dataset_revision"]);
}

/// Without the Hub, what was downloaded before is read, and the rest is told in one line.
#[test]
fn without_the_hub_the_cache_serves() {
    let (scratch, hub) = (Scratch::prepared(), TestHub::new());
    let words = "--dataset_name wikitext --dataset_config_name wikitext-2-raw-v1 --model_name_or_path bert --line_by_line \
                 --max_seq_length 16 --do_eval --output_dir out";
    // Nobody listens at the port of discard.
    let alone = |words: &str| run_at("http://127.0.0.1:9", &scratch, words);
    for more in ["", "--streaming --do_train --max_steps 1"] {
        alone(&format!("{words} {more}"))
            .fails(1, &["wikitext", "http://127.0.0.1:9 cannot be reached", "not in the cache"]);
    }
    hub.run(&scratch, words).done();
    let cached = alone(words).done();
    assert!(cached.stderr.contains("the Hub cannot be reached: using what the cache has"), "{}", cached.stderr);
    // Of another split nothing was downloaded.
    alone(&format!("{words} --validation_split test")).fails(1, &["test-00000-of-00001.parquet", "cannot be reached"]);
    scratch
        .run(&format!("{words} --validation_split test"))
        .fails(1, &["test-00000-of-00001.parquet", "HF_HUB_OFFLINE"]);
}

/// A download is taken up where it broke off, waits for a Hub that is busy, and is one bar over all files.
#[test]
fn a_download_goes_on_through_trouble() {
    let (scratch, hub) = (Scratch::prepared(), TestHub::new());
    for file in 0..8 {
        let text: String = (0..2000).map(|line| format!("line {line} of file {file}\n")).collect();
        scratch.write(&format!("set/train-{file}.txt"), text);
    }
    serve("served/many", &scratch.path("set"));
    *hub.troubles.lock().expect("no panic") =
        vec!["", "429 Too Many Requests", "", "503 Service Unavailable", "500 Internal Server Error"];
    let words = "--tokenizer_name bert --line_by_line --max_seq_length 16 --validation_split train";
    let run = hub.run(&scratch, &format!("{words} --dataset_name served/many --dump_examples there.jsonl"));
    // The reasons in the warnings have the word that `done` looks for.
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(hub.troubles.lock().expect("no panic").is_empty());
    assert!(run.stderr.contains("the download broke off"), "{}", run.stderr);
    assert!(run.stderr.contains("downloading 8 files of served/many, "), "{}", run.stderr);
    scratch.run(&format!("{words} --dataset_name set --dump_examples here.jsonl")).done();
    assert!(scratch.read("there.jsonl") == scratch.read("here.jsonl"));

    #[cfg(target_os = "linux")]
    {
        serve("served/shown", &scratch.path("set"));
        let environment = format!("HF_HUB_OFFLINE=0 HF_ENDPOINT={}", hub.endpoint);
        let words = format!("{words} --dataset_name served/shown --dump_examples shown.jsonl");
        let Some(text) = crate::terminal::on_a_terminal(&scratch, 100, &words, &environment) else {
            return crate::not_tested("there is no `script` to give the program a terminal");
        };
        assert!(text.contains("Downloading served/shown"), "{text}");
    }
}
