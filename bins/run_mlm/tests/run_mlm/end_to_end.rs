//! Whole runs of the program, small ones: what it writes, prints, reads back and keeps the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::{Scratch, Tensors, fixture, sample, tensors, write_tensors};
use safetensors::Dtype;
use serde_json::{Value, json};

/// Arguments of a tiny model from scratch, with the tokenizer in `tokenizer`.
const TINY: &str = "--model_type bert --tokenizer_name tokenizer --config_overrides \
                    vocab_size=200,hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,max_position_embeddings=64";

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The `input_ids` of the lines of a dump that belong to a split.
pub fn ids(scratch: &Scratch, file: &str, split: &str) -> Vec<Vec<u64>> {
    let lines = scratch.json_lines(file).into_iter().filter(|line| line["split"] == split);
    lines.map(|line| serde_json::from_value(line["input_ids"].clone()).expect("numbers")).collect()
}

const KNOWS: &str = "which knows only how frequent each token of the training text";

/// By counts of the training ids in `dump.jsonl`, one added to each: that of its validation ids.
fn unigram_perplexity(scratch: &Scratch) -> f64 {
    let tokenizer = scratch.json("out/tokenizer.json");
    let special: Vec<u64> =
        tokenizer["added_tokens"].as_array().expect("a list").iter().filter_map(|t| t["id"].as_u64()).collect();
    let mut counts = vec![1.0; 300];
    let split = |name| {
        let ids = ids(scratch, "dump.jsonl", name).into_iter().flatten();
        ids.filter(|id| !special.contains(id)).collect::<Vec<_>>()
    };
    split("train").iter().for_each(|id| counts[*id as usize] += 1.0);
    let total: f64 = counts.iter().sum();
    let nats: Vec<f64> = split("validation").iter().map(|id| f64::ln(total / counts[*id as usize])).collect();
    (nats.iter().sum::<f64>() / nats.len() as f64).exp()
}

/// Trains a tokenizer and a model on the samples; every file of the output folder is there and says what Python's says.
#[test]
fn from_a_text_to_a_folder() {
    let scratch = Scratch::new();
    let run = scratch.run(&format!(
        "--model_type bert --config_overrides \
         hidden_size=32,num_hidden_layers=1,num_attention_heads=2,intermediate_size=64,max_position_embeddings=64 \
         --train_tokenizer 300 --train_file {} --validation_file {} --line_by_line --max_seq_length 48 --max_train_samples 64 \
         --max_eval_samples 16 --do_train --do_eval --max_steps 6 --learning_rate 0.01 --logging_steps 2 --eval_strategy steps \
         --eval_steps 3 --save_steps 3 --include_tokens_per_second --dump_examples dump.jsonl --output_dir out",
        sample("train.txt"),
        sample("valid.txt")
    ));
    let run = run.done();
    assert!(run.stdout.contains("***** train metrics *****") && run.stdout.contains("***** eval metrics *****"));
    assert!(run.stdout.contains("Saved to out"), "{}", run.stdout);

    let files: BTreeSet<String> = scratch.list("out").into_iter().collect();
    for file in [
        "README.md",
        "all_results.json",
        "checkpoint-3",
        "checkpoint-6",
        "config.json",
        "eval_results.json",
        "log.jsonl",
        "model.safetensors",
        "report.html",
        "runs",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "train_results.json",
        "trainer_state.json",
        "training_args.json",
        "vocab.txt",
    ] {
        assert!(files.contains(file), "{file} is missing in {files:?}");
    }
    let train = [
        "epoch",
        "total_flos",
        "train_loss",
        "train_runtime",
        "train_samples",
        "train_samples_per_second",
        "train_steps_per_second",
        "train_tokens_per_second",
    ];
    let eval = [
        "epoch",
        "eval_accuracy",
        "eval_loss",
        "eval_runtime",
        "eval_samples",
        "eval_samples_per_second",
        "eval_steps_per_second",
        "perplexity",
    ];
    assert_eq!(keys(&scratch.json("out/train_results.json")), train);
    assert_eq!(keys(&scratch.json("out/eval_results.json")), eval);
    let all: BTreeSet<&str> = train.into_iter().chain(eval).collect();
    assert_eq!(keys(&scratch.json("out/all_results.json")), all.into_iter().collect::<Vec<_>>());
    assert_eq!(scratch.json("out/train_results.json")["train_samples"], 64);
    assert_eq!(scratch.json("out/eval_results.json")["eval_samples"], 16);

    let state = scratch.json("out/trainer_state.json");
    assert_eq!((&state["global_step"], &state["max_steps"]), (&json!(6), &json!(6)));
    let history = state["log_history"].as_array().expect("a list");
    let steps = |key: &str| -> Vec<u64> {
        history.iter().filter(|record| record.get(key).is_some()).filter_map(|record| record["step"].as_u64()).collect()
    };
    assert_eq!(steps("loss"), [2, 4, 6]);
    assert_eq!(steps("eval_loss"), [3, 6, 6]);
    assert_eq!(steps("train_loss"), [6]);
    for file in ["config.json", "model.safetensors", "optimizer.pt", "trainer_state.json", "tokenizer.json"] {
        assert!(scratch.path("out/checkpoint-6").join(file).is_file(), "{file}");
    }

    let config = scratch.json("out/config.json");
    assert_eq!(config["architectures"], json!(["BertForMaskedLM"]));
    assert_eq!(config["hidden_size"], 32);
    let embedding = &tensors(&scratch.path("out/model.safetensors"))["bert.embeddings.word_embeddings.weight"];
    assert_eq!(json!(embedding.1), json!([config["vocab_size"], 32]));
    assert_eq!(scratch.json("out/training_args.json")["learning_rate"], 0.01);
    let card = scratch.read("out/README.md");
    assert!(card.starts_with("---\n") && card.contains("learning_rate: 0.01"), "{card}");
    for part in [
        "A masked language model: `BertForMaskedLM`.",
        "\nmodel = BertForMaskedLM.from_pretrained(\"out\")\n",
        &format!("- Training: {}: 64 examples, ", sample("train.txt")),
        &format!("- Evaluation: {}: 16 examples, ", sample("valid.txt")),
        "- Perplexity: ",
        &format!("- Perplexity of a unigram model, {KNOWS} is: {:.4}\n", unigram_perplexity(&scratch)),
    ] {
        assert!(card.contains(part), "{part}\n{card}");
    }
    assert!(scratch.read("out/report.html").contains("</html>"));
    assert!(scratch.json_lines("out/log.jsonl").len() >= 6);
}

#[test]
fn examples_are_dumped_without_training() {
    let scratch = Scratch::prepared();
    let words =
        "--tokenizer_name bert --train_file train.txt --validation_file valid.txt --line_by_line --max_seq_length 20";
    let run = scratch.run(&format!("{words} --dump_examples dump.jsonl")).done();
    assert_eq!(run.stdout, "");
    assert_eq!((ids(&scratch, "dump.jsonl", "train").len(), ids(&scratch, "dump.jsonl", "validation").len()), (12, 4));
    for example in ids(&scratch, "dump.jsonl", "train") {
        assert_eq!((example.len(), example[0], example[19]), (20, 2, 3), "[CLS] … [SEP]");
    }
    assert!(!scratch.path("trainer_output").exists() && !scratch.path("out").exists());

    let run = scratch.run(&format!("{words} --preview 2")).done();
    assert!(
        run.stdout.contains("example 0:") && run.stdout.contains("example 1:") && !run.stdout.contains("example 2:")
    );
    assert!(run.stdout.contains("[CLS]") && run.stdout.contains('{'), "{}", run.stdout);

    scratch
        .run(&format!(
            "{words} --model_name_or_path bert --dump_examples both.jsonl --do_train --max_steps 1 --output_dir out"
        ))
        .done();
    assert!(scratch.path("both.jsonl").is_file() && scratch.path("out/model.safetensors").is_file());
    let run = scratch
        .run(&format!("{words} --model_name_or_path bert --preview 1 --do_train --max_steps 1 --output_dir shown"))
        .done();
    assert!(run.stdout.contains("example 0:") && scratch.path("shown/model.safetensors").is_file(), "{}", run.stdout);
}

/// As Python's scripts: a model card, whether or not there was anything to tell in it.
#[test]
fn evaluation_alone_and_nothing_at_all() {
    let scratch = Scratch::prepared();
    let words = "--model_name_or_path bert --train_file train.txt --validation_file valid.txt --line_by_line --max_seq_length 32";
    let run = scratch.run(&format!("{words} --output_dir nothing")).done();
    assert!(run.stderr.contains("neither --do_train nor --do_eval is given"), "{}", run.stderr);
    assert_eq!(scratch.list("nothing"), ["README.md"]);
    assert!(!scratch.read("nothing/README.md").contains("evaluation set:"));

    scratch.run(&format!("{words} --do_eval --output_dir out")).done();
    assert_eq!(scratch.list("out"), ["README.md", "all_results.json", "eval_results.json"]);
    let results = scratch.json("out/eval_results.json");
    assert!(results["eval_model_preparation_time"].is_f64() && results.get("epoch").is_none(), "{results}");
    let card = scratch.read("out/README.md");
    assert!(card.contains("- eval_loss: ") && card.contains("- eval_model_preparation_time: "), "{card}");
    assert!(card.contains("- Evaluation: valid.txt: 4 examples, ") && !card.contains("- Training: "), "{card}");
    assert!(!card.contains("from_pretrained"), "no model lies there");

    // A card that a person wrote is theirs.
    scratch.write("out/README.md", "# My model\n");
    let run = scratch.run(&format!("{words} --do_eval --output_dir out")).done();
    assert!(run.stderr.contains("out/README.md is not a card that this program wrote"), "{}", run.stderr);
    assert_eq!(scratch.read("out/README.md"), "# My model\n");
}

#[test]
fn memory_and_tokens_are_told_on_request() {
    let scratch = Scratch::prepared();
    let words = "--model_name_or_path bert --train_file train.txt --validation_file valid.txt --line_by_line \
                 --pad_to_max_length --max_seq_length 32 --per_device_train_batch_size 4 --do_eval --skip_memory_metrics \
                 false --include_num_input_tokens_seen";
    let run = scratch
        .run(&format!(
            "{words} --do_train --max_steps 4 --logging_steps 2 --eval_strategy steps --eval_steps 2 --output_dir out"
        ))
        .done();
    let [train, eval] = ["train", "eval"].map(|split| scratch.json(&format!("out/{split}_results.json")));
    let memory = |results: &Value| -> Vec<String> {
        keys(results).into_iter().filter(|name| name.contains("_mem_")).map(String::from).collect()
    };
    let of_training = [
        "before_init_mem_cpu",
        "init_mem_cpu_alloc_delta",
        "init_mem_cpu_peaked_delta",
        "train_mem_cpu_alloc_delta",
        "train_mem_cpu_peaked_delta",
    ];
    assert_eq!(memory(&train), of_training);
    assert_eq!(memory(&eval), ["eval_mem_cpu_alloc_delta", "eval_mem_cpu_peaked_delta"]);
    assert!(train["before_init_mem_cpu"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{train}");
    assert!(run.stdout.lines().any(|line| line.contains("train_mem_cpu_peaked_delta") && line.ends_with("MB")));
    assert_eq!((&train["num_input_tokens_seen"], &eval["num_input_tokens_seen"]), (&json!(512), &json!(512)));

    let state = scratch.json("out/trainer_state.json");
    let history = state["log_history"].as_array().expect("a list");
    let seen: Vec<u64> = history.iter().filter_map(|record| record["num_input_tokens_seen"].as_u64()).collect();
    assert_eq!(seen, [256, 256, 512, 512, 512, 512], "in every record");
    for record in history.iter().filter(|record| record.get("loss").is_some()) {
        assert!(record["train_runtime"].is_f64() && record["train_tokens_per_second"].is_f64(), "{record}");
    }
    let card = scratch.read("out/README.md");
    assert!(card.contains("| Input Tokens Seen |") && card.contains("- Num Input Tokens Seen: 512"), "{card}");

    scratch.run(&format!("{words} --output_dir alone")).done();
    let alone = scratch.json("alone/eval_results.json");
    assert_eq!(memory(&alone).len(), 5, "{alone}");
    assert_eq!(alone["num_input_tokens_seen"], 0);
}

/// Of what is only trained on no row is held out, asked for or missed; the report and its samples live with that.
#[test]
fn training_alone_needs_no_validation_text() {
    let scratch = Scratch::prepared();
    scratch.write("one_line.txt", "the whole book stands on a single line . ".repeat(30));
    let words = "--model_name_or_path bert --do_train --max_steps 1 --max_seq_length 60 --per_device_train_batch_size 2 --output_dir out";
    let examples = |file: &str, more: &str| {
        fs::remove_dir_all(scratch.path("out")).unwrap_or_default();
        let run = scratch.run(&format!("{words} --train_file {file} {more}")).done();
        assert!(!run.stderr.contains("warning:") && !run.stderr.contains("validation"), "{}", run.stderr);
        assert!(!scratch.path("out/eval_results.json").exists());
        let report = scratch.read("out/report.html");
        assert!(report.contains("[MASK]") && !report.contains("validation</t"), "{report}");
        scratch.json("out/train_results.json")["train_samples"].as_u64().expect("a number")
    };
    let all = examples("train.txt", "");
    assert!(all > 2);
    assert_eq!(examples("train.txt", "--validation_split_percentage 0"), all);
    assert_eq!(examples("train.txt", "--dataloader_drop_last --per_device_eval_batch_size 999"), all);
    assert!(examples("one_line.txt", "") > 2);
    // Too little to evaluate is known before the training.
    fs::remove_dir_all(scratch.path("out")).expect("a folder");
    scratch
        .run(&format!("{words} --train_file train.txt --do_eval"))
        .fails(1, &["held out", "--validation_file", "--validation_split_percentage"]);
    assert!(!scratch.path("out/log.jsonl").exists(), "nothing was trained");

    let run = scratch.run(&format!("{words} --train_file one_line.txt --preview 1 --output_dir shown")).done();
    assert!(run.stdout.contains("train example 0: 60 tokens"), "{}", run.stdout);
    let evaluate = "--model_name_or_path out --train_file train.txt --line_by_line --max_seq_length 60 --do_eval";
    scratch.run(&format!("{words} --train_file train.txt")).done();
    let run = scratch.run(&format!("{evaluate} --validation_split_percentage 50 --output_dir evaluated")).done();
    assert!(
        run.stderr.contains(
            "no --validation_file: evaluating on the first 50 % of the training file, which a --do_train run"
        ),
        "{}",
        run.stderr
    );
}

#[test]
fn a_file_of_arguments_and_flags_that_override_it() {
    let scratch = Scratch::prepared();
    let arguments = json!({
        "model_name_or_path": "bert", "train_file": "train.txt", "validation_file": "valid.txt", "line_by_line": true,
        "max_seq_length": 16, "do_train": true, "max_steps": 5, "learning_rate": 1e-3, "output_dir": "from_file",
    });
    scratch.write("arguments.json", arguments.to_string());
    scratch.run("arguments.json --max_steps=2 --output-dir from_flag").done();
    assert!(!scratch.path("from_file").exists());
    assert_eq!(scratch.json("from_flag/trainer_state.json")["global_step"], 2);
    assert_eq!(scratch.json("from_flag/training_args.json")["learning_rate"], 1e-3);
}

#[test]
fn the_same_texts_from_every_kind_of_file() {
    let scratch = Scratch::new();
    scratch.tokenizer("tokenizer", 200);
    let texts = ["first, with a comma", "second \"quoted\"", "third"];
    scratch.write("all.txt", texts.join("\n"));
    let csv: String = texts.iter().map(|text| format!("7,\"{}\"\n", text.replace('"', "\"\""))).collect();
    scratch.write("all.csv", format!("id,text\n{csv}"));
    let rows: Vec<String> = texts.iter().map(|text| json!({"id": 7, "text": text}).to_string()).collect();
    scratch.write("all.jsonl", rows.join("\n"));
    scratch.write("all.json", rows.join("\n"));
    scratch.write("other.csv", csv.replace("7,", "8,").replacen("8,", "id,body\n8,", 1));
    for (at, text) in texts.iter().enumerate() {
        scratch.write(&format!("parts/{at}.txt"), text);
    }
    let dump = |files: &[&str]| {
        let words = [
            "--tokenizer_name",
            "tokenizer",
            "--line_by_line",
            "--max_seq_length",
            "32",
            "--dump_examples",
            "dump.jsonl",
        ];
        scratch.run_with(&[&words[..], &["--validation_file"], files].concat()).done();
        ids(&scratch, "dump.jsonl", "validation")
    };
    let expected = dump(&["all.txt"]);
    assert_eq!(expected.len(), 3);
    for files in [
        &["all.csv"][..],
        &["all.jsonl"],
        &["all.json"],
        &["parts/*.txt"],
        &["parts/0.txt", "parts/1.txt", "parts/2.txt"],
        &["other.csv", "--text_column", "body"],
    ] {
        assert_eq!(dump(files), expected, "{files:?}");
    }
}

#[test]
fn options_of_the_examples() {
    let scratch = Scratch::prepared();
    let words = "--tokenizer_name bert --train_file train.txt --validation_file valid.txt --dump_examples dump.jsonl";
    scratch.write("train.txt", "a short one\nthis one is rather a bit longer than the first\n".repeat(6));
    let lengths = |more: &str| -> Vec<usize> {
        scratch.run(&format!("{words} {more}")).done();
        ids(&scratch, "dump.jsonl", "train").iter().map(Vec::len).collect()
    };
    let lines = lengths("--line_by_line --max_seq_length 60");
    assert!(lines.len() == 12 && lines[0] < lines[1] && lines[1] < 60, "{lines:?}");
    assert_eq!(lengths("--line_by_line --max_seq_length 60 --pad_to_max_length"), [60; 12]);
    assert_eq!(lengths("--line_by_line --max_seq_length 60 --max_train_samples 5"), lines[..5]);
    let blocks = lengths("--max_seq_length 60");
    assert!(blocks.len() > 4 && blocks.iter().all(|&length| length == 60), "{blocks:?}");
    let held_out = |percent: &str| {
        let words = "--tokenizer_name bert --train_file train.txt --line_by_line --max_seq_length 60 --dump_examples dump.jsonl";
        scratch.run(&format!("{words} --validation_split_percentage {percent}")).done();
        ids(&scratch, "dump.jsonl", "validation").len()
    };
    assert_eq!((held_out("25"), held_out("50")), (3, 6));
}

/// Of a word that is spelt in pieces, either all pieces are predicted or none.
#[test]
fn whole_words_are_masked() {
    let scratch = Scratch::prepared();
    let words = "--tokenizer_name bert --validation_file valid.txt --line_by_line --max_seq_length 60 --mlm_probability 0.3 --preview 4";
    let pieces = |more: &str| {
        let run = scratch.run(&format!("{words} {more}")).done();
        assert!(run.stdout.contains("predicted"), "{}", run.stdout);
        run.stdout
    };
    let single = pieces("");
    let whole = pieces("--whole_word_mask");
    assert_ne!(single, whole);
    // The words of the text are spelt character by character: where one piece of a word is marked, its neighbours are.
    let broken = |text: &str| {
        text.lines().filter(|line| line.starts_with('[')).any(|line| {
            let parts: Vec<&str> = line.split('{').collect();
            parts.len() > 1
                && parts[1..].iter().any(|part| part.split_once('}').is_some_and(|(_, rest)| rest.starts_with(" ##")))
        })
    };
    assert!(broken(&single), "{single}");
    assert!(!broken(&whole), "{whole}");
}

#[test]
fn training_goes_on_from_a_saved_folder() {
    let scratch = Scratch::prepared();
    let words = "--train_file train.txt --validation_file valid.txt --line_by_line --max_seq_length 32 --do_train --do_eval --max_steps 2";
    scratch.run(&format!("{words} --model_name_or_path bert --output_dir first")).done();
    let run = scratch.run(&format!("{words} --model_name_or_path first --output_dir second")).done();
    assert!(!run.stderr.contains("initialized") && !run.stderr.contains("not used"), "{}", run.stderr);
    let card = scratch.read("second/README.md");
    assert!(card.contains("base_model: first"), "{card}");
    // What it began with was written by transformers, and this by none of its versions.
    assert!(scratch.read("bert/config.json").contains("transformers_version"));
    for file in ["config.json", "README.md", "trainer_state.json"] {
        let text = scratch.read(&format!("second/{file}"));
        assert!(!text.contains("transformers_version") && !text.contains("4.57"), "{file}: {text}");
    }
    for file in ["vocab.txt", "tokenizer.json", "tokenizer_config.json", "config.json"] {
        assert_eq!(scratch.read(&format!("first/{file}")), scratch.read(&format!("second/{file}")), "{file}");
    }
}

/// Evaluates a model folder on `valid.txt` and returns the loss.
fn loss(scratch: &Scratch, model: &str) -> f64 {
    let output = format!("evaluated_{model}");
    scratch
        .run(&format!(
            "--model_name_or_path {model} --validation_file valid.txt --line_by_line --max_seq_length 32 --do_eval \
             --output_dir {output}"
        ))
        .done();
    let results = scratch.json(&format!("{output}/eval_results.json"));
    assert_eq!(results, scratch.json(&format!("{output}/all_results.json")));
    assert!(!scratch.path(&output).join("model.safetensors").exists(), "evaluation saves no model");
    results["eval_loss"].as_f64().expect("a number")
}

#[test]
fn weights_in_other_files() {
    let scratch = Scratch::prepared();
    let whole = tensors(&scratch.path("bert/model.safetensors"));
    scratch.bert("sharded");
    fs::remove_file(scratch.path("sharded/model.safetensors")).expect("it was there");
    let mut map = serde_json::Map::new();
    for (at, name) in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"].into_iter().enumerate() {
        let part: Tensors =
            whole.clone().into_iter().enumerate().filter(|(i, _)| i % 2 == at).map(|(_, t)| t).collect();
        map.extend(part.keys().map(|tensor| (tensor.clone(), json!(name))));
        write_tensors(&scratch.path("sharded").join(name), &part);
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
    scratch.write("sharded/model.safetensors.index.json", index.to_string());
    assert_eq!(loss(&scratch, "bert"), loss(&scratch, "sharded"));

    // pytorch_model.bin: saved again as safetensors, with a step that moves nothing, it is the same model.
    scratch.tokenizer("bin", 120);
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bin");
    for file in ["config.json", "pytorch_model.bin"] {
        fs::copy(bin.join(file), scratch.path("bin").join(file)).expect("the fixture");
    }
    let run = scratch
        .run(
            "--model_name_or_path bin --train_file train.txt --validation_file valid.txt --line_by_line --max_seq_length 32 \
             --do_train --max_steps 1 --learning_rate 0 --output_dir saved",
        )
        .done();
    assert!(!run.stderr.contains("initialized") && !run.stderr.contains("not used"), "{}", run.stderr);
    assert!(scratch.path("saved/model.safetensors").is_file());
    assert_eq!(loss(&scratch, "bin"), loss(&scratch, "saved"));
}

#[test]
fn a_checkpoint_without_the_head() {
    let scratch = Scratch::prepared();
    let path = scratch.path("bert/model.safetensors");
    let mut all = tensors(&path);
    all.retain(|name, _| !name.starts_with("cls."));
    all.insert("bert.pooler.dense.bias".into(), (Dtype::F32, vec![32], vec![0; 128]));
    write_tensors(&path, &all);
    let run = scratch
        .run("--model_name_or_path bert --train_file train.txt --line_by_line --max_seq_length 32 --do_train --max_steps 1 --output_dir out")
        .done();
    assert!(
        run.stderr.contains("Some weights of BertForMaskedLM were not initialized from the model checkpoint at bert and are newly initialized: ['cls.predictions.bias'"),
        "{}", run.stderr
    );
    assert!(run.stderr.contains("Some weights of the model checkpoint at bert were not used when initializing BertForMaskedLM: ['bert.pooler.dense.bias'"), "{}", run.stderr);
    let saved = tensors(&scratch.path("out/model.safetensors"));
    assert!(
        saved.contains_key("cls.predictions.transform.dense.weight") && !saved.contains_key("bert.pooler.dense.bias")
    );
}

#[test]
fn a_tokenizer_with_more_entries_than_the_model() {
    let scratch = Scratch::prepared();
    scratch.tokenizer("larger", 210);
    scratch
        .run(
            "--model_name_or_path bert --tokenizer_name larger --train_file train.txt --line_by_line --max_seq_length 32 \
             --do_train --max_steps 1 --learning_rate 0 --output_dir out",
        )
        .done();
    assert_eq!(scratch.json("out/config.json")["vocab_size"], 210);
    let (before, after) =
        (tensors(&fixture("models/bert/model.safetensors")), tensors(&scratch.path("out/model.safetensors")));
    let (_, shape, values) = &after["bert.embeddings.word_embeddings.weight"];
    assert_eq!(shape, &[210, 8]);
    assert_eq!(values[..200 * 8 * 4], before["bert.embeddings.word_embeddings.weight"].2);
    assert_eq!(after["cls.predictions.bias"].1, [210]);
}

#[test]
fn weights_in_sixteen_bits() {
    let scratch = Scratch::prepared();
    scratch
        .run(
            "--model_name_or_path bert --train_file train.txt --line_by_line --max_seq_length 32 --do_train --max_steps 1 \
             --dtype bfloat16 --output_dir out",
        )
        .done();
    assert!(tensors(&scratch.path("out/model.safetensors")).values().all(|(dtype, ..)| *dtype == Dtype::BF16));
    assert_eq!(scratch.json("out/config.json")["dtype"], "bfloat16");
    assert!(loss(&scratch, "out").is_finite());
}

/// Two runs with the same arguments write the same bytes, however many threads tokenize and build batches.
#[test]
fn equal_runs_are_equal() {
    let scratch = Scratch::new();
    scratch.tokenizer("tokenizer", 200);
    let run = |output: &str, more: &str| {
        scratch
            .run(&format!(
                "{TINY} --train_file {} --line_by_line --max_seq_length 32 --max_train_samples 60 --do_train --max_steps 4 \
                 --overwrite_cache --output_dir {output} {more}",
                sample("valid.txt")
            ))
            .done();
        fs::read(scratch.path(output).join("model.safetensors")).expect("a model")
    };
    let first = run("first", "--preprocessing_num_workers 1");
    for workers in [0, 1, 2, 7] {
        let flags = format!("--preprocessing_num_workers 2 --dataloader_num_workers {workers}");
        assert!(first == run(&format!("with-{workers}"), &flags), "{workers} workers");
    }
    assert!(first != run("third", "--seed 43"));
}

/// What each step of a training with these flags logged, one example a step.
fn logged(scratch: &Scratch, flags: &str, name: &str) -> Vec<f64> {
    let common = "--model_name_or_path bert --do_train --line_by_line --max_seq_length 32 --per_device_train_batch_size 1 \
                  --logging_steps 1 --output_dir out --overwrite_output_dir --save_strategy no --report_to none";
    scratch.run(&format!("{common} {flags}")).done();
    let state = scratch.json("out/trainer_state.json");
    let records = state["log_history"].as_array().expect("a list").iter();
    records.filter_map(|record| record[name].as_f64()).collect()
}

#[test]
fn examples_come_in_the_order_asked_for() {
    let scratch = Scratch::prepared();
    let lines = scratch.read("train.txt");
    // The first two lines are the same, and the others not.
    let (first, others) = lines.split_at(lines.match_indices('\n').nth(1).expect("three lines").0 + 1);
    scratch.write("other.txt", first.to_string() + &others.replace("ships", "rain").replace("storms", "snow"));
    for (strategy, alike) in [("sequential", true), ("random", false)] {
        let losses = |file: &str| {
            logged(&scratch, &format!("--train_file {file} --max_steps 2 --train_sampling_strategy {strategy}"), "loss")
        };
        let (one, other) = (losses("train.txt"), losses("other.txt"));
        assert_eq!((one.len(), one == other), (2, alike), "{strategy}: {one:?} {other:?}");
    }
}

#[test]
fn a_warm_up_may_be_a_share_of_the_steps() {
    let scratch = Scratch::prepared();
    let rates =
        |flags: &str| logged(&scratch, &format!("--train_file train.txt --max_steps 4 {flags}"), "learning_rate");
    let steps = rates("--warmup_steps 3");
    assert_eq!(rates("--warmup_steps 0.51"), steps);
    assert_eq!(rates("--warmup_ratio 0.51"), steps);
    assert!(scratch.read("out/README.md").contains("lr_scheduler_warmup_ratio: 0.51"));
    assert_ne!(rates("--warmup_steps 1"), steps);
}

#[test]
fn a_plan_trains_nothing() {
    let scratch = Scratch::prepared();
    let run = scratch
        .run(
            "--model_name_or_path bert --train_file train.txt --line_by_line --max_seq_length 32 --do_train --num_train_epochs 2 \
             --per_device_train_batch_size 4 --output_dir out --plan",
        )
        .done();
    for line in [
        "model        BertForMaskedLM",
        "memory ",
        "data         12 examples, ",
        "B in the cache",
        "steps        6 of 4",
        "checkpoints  1 of",
        "disk ",
        "time ",
    ] {
        assert!(run.stdout.contains(line), "`{line}` is missing in:\n{}", run.stdout);
    }
    assert!(!scratch.path("out").exists());
}

/// A reader of the output who leaves, as `head` does, costs no result.
#[cfg(unix)]
#[test]
fn nobody_has_to_read_the_output() {
    let scratch = Scratch::prepared();
    let words = "--model_name_or_path bert --train_file train.txt --validation_file valid.txt --line_by_line --max_seq_length 32 \
                 --do_train --do_eval --max_steps 1 --output_dir out";
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status =
        scratch.command().args(words.split_whitespace()).stdout(writer).stderr(std::process::Stdio::null()).status();
    assert!(status.expect("the program starts").success());
    for file in ["all_results.json", "eval_results.json", "train_results.json", "README.md"] {
        assert!(scratch.path("out").join(file).is_file(), "{file}");
    }
}

#[test]
fn tokenized_text_is_used_again() {
    let scratch = Scratch::prepared();
    let words =
        "--tokenizer_name bert --train_file train.txt --validation_file valid.txt --line_by_line --max_seq_length 32";
    let stores = || {
        let names = scratch.list("cache/run_lm/examples").into_iter().filter(|name| name.ends_with(".bin"));
        names
            .map(|name| {
                let path = scratch.path("cache/run_lm/examples").join(&name);
                (name, fs::metadata(path).and_then(|file| file.modified()).expect("a time"))
            })
            .collect::<Vec<_>>()
    };
    let dump = |more: &str| {
        let run = scratch.run(&format!("{words} --dump_examples dump.jsonl {more}")).done();
        (scratch.read("dump.jsonl"), run.stderr)
    };
    let (first, _) = dump("");
    let before = stores();
    assert_eq!(before.len(), 2);
    let (second, said) = dump("");
    assert!(first == second && stores() == before && said.contains("(cached)"), "{said}");

    // A damaged store is told of and made again, another text gets one of its own.
    let damaged = scratch.path("cache/run_lm/examples").join(&before[0].0);
    let bytes = fs::read(&damaged).expect("a store");
    fs::write(&damaged, &bytes[..bytes.len() - 1]).expect("a shorter store");
    let (third, said) = dump("");
    assert!(first == third && said.contains("built again"), "{said}");
    let (fourth, said) = dump("--overwrite_cache");
    assert!(first == fourth && !said.contains("(cached)"), "{said}");
    scratch.text("train.txt", 13);
    assert_ne!(dump("").0, first);
    assert_eq!(stores().len(), 3);
}

#[test]
fn every_family_from_scratch() {
    crate::families::every_family(lm_models::Task::Mlm, "--line_by_line --max_seq_length 16");
}

/// Python's Trainer drops the mask of special tokens, and its collator asks the tokenizer, for which an unknown word and a
/// literal mask in the text are special.
#[test]
fn special_tokens_in_the_text_are_not_predicted() {
    let scratch = Scratch::prepared();
    scratch.write("special.txt", "a \u{2603} b [MASK] c [SEP]\n");
    let predicted = |words: &str| {
        let ran = scratch.run(&format!(
            "--model_name_or_path bert --train_file special.txt --validation_file special.txt --line_by_line \
             --mlm_probability 1 --preview 1 {words} --output_dir out"
        ));
        ran.done().stdout
    };
    let said = predicted("");
    assert!(said.contains("8 tokens, 3 predicted"), "{said}");
    for words in ["--remove_unused_columns False", "--no_remove_unused_columns"] {
        let said = predicted(words);
        assert!(said.contains("8 tokens, 6 predicted"), "{said}");
    }
}

/// `math.exp` of a large loss is `inf` in Python's scripts, `Infinity` in its files; and what is written is read again.
#[test]
fn a_perplexity_beyond_numbers_is_infinity() {
    let scratch = Scratch::prepared();
    let path = scratch.path("bert/model.safetensors");
    let mut weights = tensors(&path);
    let (_, _, bias) = weights.get_mut("cls.predictions.bias").expect("a bias");
    bias[4 * 7..][..4].copy_from_slice(&5000f32.to_le_bytes());
    write_tensors(&path, &weights);
    let words = "--model_name_or_path bert --train_file train.txt --validation_file valid.txt --line_by_line --do_train \
                 --do_eval --max_steps 2 --learning_rate 1e-9 --eval_strategy steps --eval_steps 1 --save_steps 1 \
                 --metric_for_best_model perplexity --greater_is_better --output_dir out";
    let said = scratch.run(words).done().stdout;
    assert!(said.lines().any(|line| line.contains("perplexity ") && line.ends_with(" inf")), "{said}");
    for file in ["eval_results.json", "all_results.json", "trainer_state.json", "log.jsonl"] {
        let text = scratch.read(&format!("out/{file}")).replace(' ', "");
        assert!(text.contains("\"perplexity\":Infinity") && !text.contains("null,\"perp"), "{file}: {text}");
    }
    assert!(scratch.read("out/README.md").contains("model"));

    // The checkpoint's state is read back, infinity and all.
    fs::remove_dir_all(scratch.path("out/checkpoint-2")).expect("removed");
    let resumed = scratch.run(words).done();
    assert!(resumed.stderr.contains("(step 1)"), "{}", resumed.stderr);
    assert_eq!(scratch.read("out/trainer_state.json").matches("\"perplexity\": Infinity").count(), 3);
}

/// With 16 bits lines are padded to a multiple of 8.
#[test]
fn lines_for_16_bits_are_padded_to_8() {
    let scratch = Scratch::prepared();
    scratch.write("odd.txt", "a b c\n");
    let seen = |words: &str| {
        let common = "--model_name_or_path bert --train_file odd.txt --validation_file odd.txt --do_train --mlm_probability 0.9 --max_steps 1 \
                      --save_strategy no --include_num_input_tokens_seen all --logging_steps 1 --output_dir";
        let folder = words.replace([' ', '-'], "");
        scratch.run(&format!("{common} {folder} {words}")).done();
        scratch.json(&format!("{folder}/trainer_state.json"))["num_input_tokens_seen"].as_u64()
    };
    assert_eq!(seen("--line_by_line"), Some(5));
    assert_eq!(seen("--line_by_line --bf16"), Some(8));
    assert_eq!(seen("--line_by_line --bf16 --pad_to_max_length --max_seq_length 12"), Some(12));
}

/// A checkpoint of 2019: config.json without `model_type`, vocab.txt, weights; nothing else.
#[test]
fn a_folder_from_before_model_type() {
    let scratch = Scratch::prepared();
    let mut config = scratch.json("bert/config.json");
    let fields = config.as_object_mut().expect("an object");
    fields.retain(|name, _| !["model_type", "architectures", "transformers_version"].contains(&name.as_str()));
    let put = |folder: &str| {
        scratch.write(&format!("{folder}/config.json"), config.to_string());
        for file in ["model.safetensors", "vocab.txt"] {
            let bytes = fs::read(scratch.path("bert").join(file)).expect("a file");
            scratch.write(&format!("{folder}/{file}"), bytes);
        }
    };
    put("my-bert-2019");
    put("old");
    put("my-squeezebert");
    let train = |words: &str| {
        scratch.run(&format!("{words} --train_file train.txt --line_by_line --do_train --max_steps 1 --output_dir out"))
    };
    for words in ["--model_name_or_path my-bert-2019", "--model_name_or_path old --model_type bert"] {
        let ran = train(words).done();
        assert!(ran.stderr.contains("has no model_type: it is taken for `bert` by"), "{}", ran.stderr);
        assert_eq!(scratch.json("out/config.json")["model_type"], "bert");
        assert_eq!(scratch.json("out/tokenizer_config.json")["tokenizer_class"], "BertTokenizer");
        fs::remove_dir_all(scratch.path("out")).expect("removed");
    }
    train("--model_name_or_path old").fails(1, &["old/config.json", "`model_type` is missing", "--model_type"]);
    train("--model_name_or_path my-squeezebert").fails(1, &["my-squeezebert/config.json", "`squeezebert`"]);
}

/// The first release of BERT: vocab.txt, bert_config.json and a checkpoint of TensorFlow 1; by its name, as the scripts take
/// it, and by its folder.
#[test]
fn a_checkpoint_of_tensorflow_1() {
    let scratch = Scratch::prepared();
    let mut config = scratch.json("bert/config.json");
    let fields = config.as_object_mut().expect("an object");
    fields.retain(|name, _| !["model_type", "architectures", "transformers_version"].contains(&name.as_str()));
    for (folder, name) in [("first-bert", "bert_config.json"), ("other", "config.json")] {
        scratch.write(&format!("{folder}/{name}"), config.to_string());
        scratch.write(&format!("{folder}/vocab.txt"), scratch.read("bert/vocab.txt"));
        for ending in ["index", "data-00000-of-00001"] {
            let bytes = fs::read(fixture("weights/foreign/tensorflow1.bert").join(format!("bert_model.ckpt.{ending}")));
            scratch.write(&format!("{folder}/bert_model.ckpt.{ending}"), bytes.expect("the fixture"));
        }
    }
    let evaluate = |model: &str| {
        let words = "--validation_file valid.txt --line_by_line --max_seq_length 32 --do_eval --output_dir out";
        scratch.run(&format!("--model_name_or_path {model} {words} --overwrite_output_dir"))
    };
    let loss = || scratch.json("out/eval_results.json")["eval_loss"].clone();
    evaluate("bert").done();
    let expected = loss();
    for model in [
        "first-bert/bert_model.ckpt",
        "first-bert/bert_model.ckpt.index",
        "first-bert",
        "other/bert_model.ckpt --model_type bert",
        "other --config_name bert --tokenizer_name bert",
    ] {
        let ran = evaluate(&format!("{model} --log_level debug")).done();
        assert_eq!(loss(), expected, "{model}");
        let read = "parameters of BertForMaskedLM from";
        assert!(
            ran.stderr.contains(read) && ran.stderr.contains("bert_model.ckpt.index, TensorFlow 1"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("read bert.embeddings.LayerNorm.bias"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("were not"), "{}", ran.stderr);
    }
    evaluate("first-bert/other.ckpt").fails(1, &["first-bert/other.ckpt", "NAME.data-00000-of-00001"]);
}

/// `total_flos` of a model with a head of its own counts the head, as Python's `num_parameters(exclude_embeddings=True)`.
#[test]
fn total_flos_count_a_head_of_its_own() {
    let scratch = Scratch::prepared();
    scratch.write("line.txt", "a b c\n");
    let mut config = scratch.json("bert/config.json");
    for (tied, parameters) in [(true, 1504.0), (false, 3104.0)] {
        config["tie_word_embeddings"] = json!(tied);
        scratch.write("config.json", config.to_string());
        scratch
            .run(
                "--config_name config.json --tokenizer_name bert --train_file line.txt --validation_file line.txt \
                 --line_by_line --mlm_probability 0.9 --do_train --max_steps 1 --save_strategy no --output_dir out",
            )
            .done();
        assert_eq!(scratch.json("out/train_results.json")["total_flos"], 6.0 * 5.0 * parameters);
        fs::remove_dir_all(scratch.path("out")).expect("removed");
    }
}

/// Every file below a folder.
fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn no_secret_is_written_or_said() {
    let scratch = Scratch::prepared();
    let arguments = json!({"push_to_hub_token": "first-s3cret", "logging_steps": 1, "log_level": "debug"});
    scratch.write("arguments.json", arguments.to_string());
    let run = scratch.run_with(&[
        "arguments.json",
        "--token",
        "second-s3cret",
        "--hub-token=third-s3cret",
        "--hub_model_id",
        "https://me:fourth-s3cret@host/model",
        "--run_name",
        "it's $HOME",
        "--model_name_or_path",
        "bert",
        "--train_file",
        "train.txt",
        "--line_by_line",
        "--max_seq_length",
        "32",
        "--do_train",
        "--max_steps",
        "2",
        "--save_steps",
        "1",
        "--report_to",
        "tensorboard",
        "--output_dir",
        "out",
    ]);
    let run = run.done();
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("s3cret"), "{}{}", run.stdout, run.stderr);
    for path in files_below(&scratch.path("out")) {
        let bytes = fs::read(&path).expect("a file");
        assert!(!bytes.windows(6).any(|window| window == b"s3cret"), "{}", path.display());
    }
    let report = scratch.read("out/report.html");
    for part in ["--token &quot;$HF_TOKEN&quot;", "--hub-token=&quot;$HF_TOKEN&quot;", "https://…@host/model"] {
        assert!(report.contains(part), "{part}");
    }
    let begin = report.find("arguments.json --token").expect("the command");
    let command = report[begin..].lines().next().and_then(|line| line.split("</pre>").next()).expect("its end");
    let command = command.replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&");
    let shell = format!("printf '%s\\n' {command}");
    let words =
        std::process::Command::new("sh").args(["-c", &shell]).env("HF_TOKEN", "again").output().expect("a shell");
    let words = String::from_utf8(words.stdout).expect("UTF-8");
    assert!(words.starts_with("arguments.json\n--token\nagain\n--hub-token=again\n"), "{words}");
    assert!(words.contains("\n--run_name\nit's $HOME\n"), "{words}");

    // Nor in a message about words that are wrong.
    for (words, said) in [
        ("--token a-s3cret a-s3cret", "'…' belongs to no flag"),
        ("--tokn a-s3cret --hub_token a-s3cret --max_steps a-s3cret", "--tokn"),
        ("--max_steps https://me:a-s3cret@host --do_train", "https://…@host"),
        (
            "--train_file train.txt --model_name_or_path https://me:a-s3cret@host/x --do_train --output_dir o",
            "https://…@host/x",
        ),
    ] {
        let run = scratch.run(words);
        assert!(run.stderr.contains(said) && !run.stderr.contains("s3cret"), "{}", run.stderr);
    }
    scratch.write("wrong.json", json!({"token": ["a-s3cret"]}).to_string());
    scratch.run("wrong.json").fails(2, &["wrong.json: key \"token\": expected one text"]);
}
