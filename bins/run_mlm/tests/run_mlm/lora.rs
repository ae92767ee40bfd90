//! LoRA and frozen parameters as users of the program see them; peft's own adapters are compared in lm-train's `reference`.

use std::fs;

use crate::common::{Scratch, tensors};
use crate::hub::{TestHub, serve};
use crate::run::copy;

const TRAIN: &str = "--train_file train.txt --validation_file valid.txt --line_by_line --max_seq_length 32 --do_train \
                     --do_eval --learning_rate 1e-2 --per_device_train_batch_size 4 --seed 3";

fn train(scratch: &Scratch, words: &str) -> crate::common::Run {
    scratch.run(&format!("{TRAIN} {words}"))
}

fn eval_loss(scratch: &Scratch, folder: &str) -> f64 {
    scratch.json(&format!("{folder}/all_results.json"))["eval_loss"].as_f64().expect("a loss")
}

const LORA: &str = "--model_name_or_path bert --use_lora --lora_r 2 --lora_alpha 16 --lora_dropout 0.1 --max_steps 6 \
                    --save_steps 3";

#[test]
fn an_adapter_is_pefts_folder_and_resumes_bit_for_bit() {
    let scratch = Scratch::prepared();
    let ran = train(&scratch, &format!("{LORA} --output_dir whole")).done();
    assert!(ran.stderr.contains("of them trained ("), "{}", ran.stderr);
    for folder in ["whole", "whole/checkpoint-3"] {
        let files = scratch.list(folder);
        for name in ["adapter_config.json", "adapter_model.safetensors", "vocab.txt", "training_args.json"] {
            assert!(files.iter().any(|file| file == name), "{name} is missing in {folder}: {files:?}");
        }
        for name in ["config.json", "model.safetensors"] {
            assert!(!files.iter().any(|file| file == name), "{name} is in {folder}: {files:?}");
        }
    }
    let config = scratch.json("whole/adapter_config.json");
    assert_eq!(config["peft_type"], "LORA");
    assert_eq!((&config["r"], &config["lora_alpha"], &config["lora_dropout"]), (&2.into(), &16.into(), &0.1.into()));
    assert_eq!(config["target_modules"], serde_json::json!(["query", "value"]));
    assert_eq!(config["base_model_name_or_path"], "bert");
    assert_eq!(config["auto_mapping"]["base_model_class"], "BertForMaskedLM");
    let saved = tensors(&scratch.path("whole/adapter_model.safetensors"));
    assert_eq!(saved.len(), 2 * 2 * 2, "{:?}", saved.keys());
    let prefix = "base_model.model.bert.encoder.layer.";
    assert!(saved.keys().all(|name| name.starts_with(prefix) && name.contains(".lora_")), "{:?}", saved.keys());
    assert!(scratch.read("whole/README.md").contains("base_model: bert"));
    assert!(scratch.read("whole/report.html").contains("trained"));
    // Moments of what is trained alone: 8 pairs of a few values.
    let moments = fs::metadata(scratch.path("whole/checkpoint-3/optimizer.pt")).expect("moments").len();
    assert!(moments < 12_000, "optimizer.pt has {moments} bytes");

    fs::create_dir(scratch.path("parts")).expect("a folder");
    copy(&scratch.path("whole/checkpoint-3"), &scratch.path("parts/checkpoint-3"));
    let ran = train(&scratch, &format!("{LORA} --output_dir parts")).done();
    assert!(ran.stderr.contains("resuming from parts/checkpoint-3"), "{}", ran.stderr);
    let weights = |folder: &str| fs::read(scratch.path(&format!("{folder}/adapter_model.safetensors"))).expect("read");
    assert!(weights("whole") == weights("parts"), "the resumed run ends with another adapter");
    assert!(weights("whole") != weights("whole/checkpoint-3"), "nothing was trained after step 3");

    let other = LORA.replace("--lora_alpha 16", "--lora_alpha 8");
    fs::create_dir(scratch.path("other")).expect("a folder");
    copy(&scratch.path("whole/checkpoint-3"), &scratch.path("other/checkpoint-3"));
    train(&scratch, &format!("{other} --output_dir other")).fails(1, &["--lora_alpha", "checkpoint-3"]);
}

#[test]
fn an_adapter_is_evaluated_trained_further_and_merged() {
    let scratch = Scratch::prepared();
    train(&scratch, &format!("{LORA} --lora_target_modules all-linear --lora_bias lora_only --output_dir out")).done();
    let trained = eval_loss(&scratch, "out");
    let evaluate = "--validation_file valid.txt --line_by_line --max_seq_length 32 --do_eval --seed 3";
    let near = |folder: &str| {
        let loss = eval_loss(&scratch, folder);
        assert!((loss - trained).abs() < 1e-4, "{folder}: {loss}, not {trained}");
    };
    // Its base is found, from another folder too.
    scratch.run(&format!("--model_name_or_path out {evaluate} --output_dir alone")).done();
    near("alone");
    let both = "--model_name_or_path bert --adapter_name_or_path out";
    scratch.run(&format!("{both} {evaluate} --output_dir both")).done();
    near("both");
    let base = scratch.run(&format!("--model_name_or_path bert {evaluate} --output_dir base"));
    base.done();
    assert!((eval_loss(&scratch, "base") - trained).abs() > 1e-3, "the adapter changes nothing");

    scratch.run("--model_name_or_path out --merge_lora --output_dir merged").done();
    let files = scratch.list("merged");
    assert!(["config.json", "model.safetensors", "vocab.txt"].iter().all(|name| files.iter().any(|file| file == name)));
    assert!(!files.iter().any(|file| file.starts_with("adapter")), "{files:?}");
    let (merged, base) =
        (tensors(&scratch.path("merged/model.safetensors")), tensors(&scratch.path("bert/model.safetensors")));
    assert!(merged.keys().eq(base.keys()), "{:?}", merged.keys());
    scratch.run(&format!("--model_name_or_path merged {evaluate} --output_dir of_merged")).done();
    near("of_merged");

    // Further, and merged at the end.
    train(&scratch, "--model_name_or_path out --max_steps 2 --output_dir further --merge_lora").done();
    assert!(scratch.list("further").iter().any(|file| file == "model.safetensors"));
    assert!(scratch.list("further/checkpoint-2").iter().any(|file| file == "adapter_model.safetensors"));
    assert!((eval_loss(&scratch, "further") - trained).abs() > 1e-6, "nothing was trained");
}

#[test]
fn gradient_checkpointing_and_the_best_checkpoint_know_adapters() {
    let scratch = Scratch::prepared();
    let lora = "--model_name_or_path bert --use_lora --lora_target_modules all-linear --max_steps 4 --save_steps 2";
    train(&scratch, &format!("{lora} --output_dir kept")).done();
    train(&scratch, &format!("{lora} --gradient_checkpointing --output_dir computed")).done();
    let loss =
        |folder: &str| scratch.json(&format!("{folder}/all_results.json"))["train_loss"].as_f64().expect("a loss");
    assert!((loss("kept") - loss("computed")).abs() < 1e-5, "{} and {}", loss("kept"), loss("computed"));
    // What is greater is not better, but is what was there before the last step.
    let best = "--eval_strategy steps --eval_steps 2 --load_best_model_at_end --greater_is_better true";
    let ran = train(&scratch, &format!("{lora} {best} --output_dir best")).done();
    assert!(ran.stderr.contains("loaded the best model from best/checkpoint-2"), "{}", ran.stderr);
    let weights = |folder: &str| fs::read(scratch.path(&format!("{folder}/adapter_model.safetensors"))).expect("read");
    assert!(weights("best") == weights("best/checkpoint-2"));
    let plan = scratch.run(&format!("{TRAIN} {lora} --plan --output_dir planned")).done();
    assert!(plan.stdout.contains("of them trained ("), "{}", plan.stdout);
}

#[test]
fn what_is_saved_whole_and_what_is_frozen() {
    let scratch = Scratch::prepared();
    let base = tensors(&scratch.path("bert/model.safetensors"));
    let whole = "--use_lora --lora_target_modules query --lora_modules_to_save word_embeddings --max_steps 2";
    train(&scratch, &format!("--model_name_or_path bert {whole} --output_dir whole")).done();
    let saved = tensors(&scratch.path("whole/adapter_model.safetensors"));
    let embeddings = &saved["base_model.model.bert.embeddings.word_embeddings.weight"];
    // The head is tied to it, and Python's two are trained as one only if both are there.
    assert!(embeddings == &saved["base_model.model.cls.predictions.decoder.weight"]);
    assert!(embeddings.2 != base["bert.embeddings.word_embeddings.weight"].2);
    let named = scratch.json("whole/adapter_config.json")["modules_to_save"].clone();
    assert_eq!(named, serde_json::json!(["word_embeddings", "decoder"]));
    scratch.run("--model_name_or_path whole --merge_lora --output_dir merged").done();

    let frozen = "--model_name_or_path bert --freeze_embeddings --freeze_layers 1 --max_steps 4 --save_steps 2";
    train(&scratch, &format!("{frozen} --output_dir frozen")).done();
    let trained = tensors(&scratch.path("frozen/model.safetensors"));
    for (name, tensor) in &trained {
        let keeps = name.contains(".layer.0.") || name.contains("_embeddings.");
        // The bias of keys has no gradient but rounding.
        assert!((tensor == &base[name]) == keeps || name.ends_with("key.bias"), "{name}");
    }
    fs::create_dir(scratch.path("parts")).expect("a folder");
    copy(&scratch.path("frozen/checkpoint-2"), &scratch.path("parts/checkpoint-2"));
    train(&scratch, &format!("{frozen} --output_dir parts")).done();
    assert!(tensors(&scratch.path("parts/model.safetensors")) == trained, "the resumed run ends with other weights");
}

#[test]
fn a_base_in_16_bits_trains_the_same_adapter() {
    let scratch = Scratch::prepared();
    train(&scratch, "--model_name_or_path bert --dtype bfloat16 --max_steps 1 --output_dir narrow").done();
    let lora = LORA.replace("path bert", "path narrow");
    for (folder, words) in [
        ("wide", ""),
        ("mapped", "--base_dtype bfloat16"),
        ("computed", "--base_dtype bfloat16 --gradient_checkpointing"),
    ] {
        train(&scratch, &format!("{lora} {words} --output_dir {folder}")).done();
        let (found, expected) = (eval_loss(&scratch, folder), eval_loss(&scratch, "wide"));
        assert!((found - expected).abs() < 1e-5, "{folder}: {found}, not {expected}");
    }
    fs::create_dir(scratch.path("parts")).expect("a folder");
    copy(&scratch.path("mapped/checkpoint-3"), &scratch.path("parts/checkpoint-3"));
    train(&scratch, &format!("{lora} --base_dtype bfloat16 --output_dir parts")).done();
    let adapter = |folder: &str| fs::read(scratch.path(&format!("{folder}/adapter_model.safetensors"))).expect("read");
    assert!(adapter("parts") == adapter("mapped"), "the resumed run ends with another adapter");
    let merged = |words: &str| {
        scratch.run(&format!("--model_name_or_path mapped --merge_lora {words} --output_dir merged")).done();
        let tensors = tensors(&scratch.path("merged/model.safetensors"));
        fs::remove_dir_all(scratch.path("merged")).expect("removed");
        tensors
    };
    assert!(merged("") == merged("--base_dtype bfloat16"), "merged weights differ");

    // What is trained is not rounded, whatever the rest lies in.
    let frozen = "--model_name_or_path bert --freeze_embeddings --freeze_layers 1 --max_steps 4 --save_steps 2";
    train(&scratch, &format!("{frozen} --base_dtype bfloat16 --output_dir frozen")).done();
    let (base, trained) =
        (tensors(&scratch.path("bert/model.safetensors")), tensors(&scratch.path("frozen/model.safetensors")));
    let values = |bytes: &[u8]| {
        let values = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        values.collect::<Vec<_>>()
    };
    for (name, tensor) in &trained {
        let in_16_bits = (name.contains(".layer.0.") && name.ends_with(".weight") && !name.contains("LayerNorm"))
            || name.contains("_embeddings.");
        let rounded = |x: f32| f32::from_bits((x.to_bits() + 0x7FFF + (x.to_bits() >> 16 & 1)) & 0xFFFF_0000);
        if in_16_bits {
            let expected = values(&base[name].2).into_iter().map(rounded).collect::<Vec<_>>();
            assert!(values(&tensor.2) == expected, "{name}");
        }
    }
    fs::create_dir(scratch.path("frozen_parts")).expect("a folder");
    copy(&scratch.path("frozen/checkpoint-2"), &scratch.path("frozen_parts/checkpoint-2"));
    train(&scratch, &format!("{frozen} --base_dtype bfloat16 --output_dir frozen_parts")).done();
    assert!(tensors(&scratch.path("frozen_parts/model.safetensors")) == trained, "the resumed run ends elsewhere");
}

#[test]
fn an_adapter_on_the_hub_finds_its_base_there() {
    let (scratch, hub) = (Scratch::prepared(), TestHub::new());
    serve("owner/base", &scratch.path("bert"));
    let lora = LORA.replace("path bert", "path owner/base");
    hub.run(&scratch, &format!("{TRAIN} {lora} --output_dir out")).done();
    assert_eq!(scratch.json("out/adapter_config.json")["base_model_name_or_path"], "owner/base");
    serve("owner/adapter", &scratch.path("out"));
    let evaluate = "--validation_file valid.txt --line_by_line --max_seq_length 32 --do_eval --seed 3";
    let adapter = format!("--adapter_name_or_path owner/adapter {evaluate}");
    hub.run(&scratch, &format!("{adapter} --output_dir there")).done();
    // From the cache alone.
    scratch.run(&format!("{adapter} --output_dir offline")).done();
    for folder in ["there", "offline"] {
        assert_eq!(eval_loss(&scratch, folder), eval_loss(&scratch, "out"), "{folder}");
    }
    hub.run(&scratch, &format!("--model_name_or_path owner/adapter {evaluate} --output_dir not"))
        .fails(1, &["owner/adapter", "--adapter_name_or_path"]);
    hub.run(&scratch, &format!("--adapter_name_or_path owner/base {evaluate} --output_dir not"))
        .fails(1, &["owner/base", "adapter_config.json"]);
}

#[test]
fn an_enlarged_vocabulary_is_saved_beside_the_pairs() {
    let scratch = Scratch::prepared();
    copy(&scratch.path("bert"), &scratch.path("larger"));
    let words = scratch.read("larger/vocab.txt");
    scratch.write("larger/vocab.txt", format!("{}\nthe\ncat\n", words.trim_end()));
    let rows = words.lines().count() + 2;
    train(&scratch, &format!("{LORA} --tokenizer_name larger --output_dir out")).done();
    let saved = tensors(&scratch.path("out/adapter_model.safetensors"));
    for name in ["bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"] {
        assert_eq!(saved[&format!("base_model.model.{name}")].1[0], rows, "{name}");
    }
    let evaluate = "--validation_file valid.txt --line_by_line --max_seq_length 32 --do_eval --seed 3";
    scratch.run(&format!("--model_name_or_path out {evaluate} --output_dir alone")).done();
    scratch.run("--model_name_or_path out --merge_lora --output_dir merged").done();
    scratch.run(&format!("--model_name_or_path merged {evaluate} --output_dir of_merged")).done();
    for folder in ["alone", "of_merged"] {
        let (found, expected) = (eval_loss(&scratch, folder), eval_loss(&scratch, "out"));
        assert!((found - expected).abs() < 1e-4, "{folder}: {found}, not {expected}");
    }
}

#[test]
fn what_cannot_be_is_said() {
    let scratch = Scratch::prepared();
    let bert = "--model_name_or_path bert --output_dir out";
    for (words, parts) in [
        ("--lora_r 4", &["--lora_r needs --use_lora"][..]),
        ("--use_lora --lora_r 0", &["--lora_r"]),
        ("--use_lora --lora_dropout 1", &["--lora_dropout"]),
        ("--use_lora --lora_target_modules (", &["--lora_target_modules", "regular expression"]),
        ("--use_lora --lora_init pissa", &["--lora_init", "pissa"]),
        ("--use_lora --freeze_layers 1", &["--freeze_layers"]),
    ] {
        train(&scratch, &format!("{bert} {words}")).fails(2, parts);
    }
    for (words, parts) in [
        ("--use_lora --lora_target_modules q_proj", &["q_proj", "query"][..]),
        ("--use_lora --lora_target_modules query decoder", &["decoder", "tied"]),
        ("--use_lora --lora_modules_to_save nothing", &["`nothing`"]),
        ("--freeze_layers 9", &["--freeze_layers 9", "at most 2"]),
        ("--merge_lora", &["--merge_lora", "no adapter"]),
        ("--base_dtype bfloat16", &["--base_dtype bfloat16", "nothing is frozen"]),
        ("--adapter_name_or_path bert", &["--adapter_name_or_path bert", "adapter_config.json"]),
    ] {
        train(&scratch, &format!("{bert} {words}")).fails(1, parts);
    }
    scratch
        .write("dora/adapter_config.json", r#"{"peft_type": "LORA", "target_modules": ["query"], "use_dora": true}"#);
    train(&scratch, &format!("{bert} --adapter_name_or_path dora"))
        .fails(1, &["dora/adapter_config.json", "`use_dora`"]);
    train(&scratch, "--model_name_or_path dora --output_dir out").fails(1, &["dora/adapter_config.json", "`use_dora`"]);
    scratch.write("none/adapter_config.json", r#"{"peft_type": "LORA", "target_modules": ["query"]}"#);
    train(&scratch, "--model_name_or_path none --output_dir out").fails(1, &["base", "--model_name_or_path"]);
}
