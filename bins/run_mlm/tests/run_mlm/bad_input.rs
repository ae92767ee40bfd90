//! What a user can get wrong, tried on the program: one line says what, where and what to do; exit code 2 for bad
//! arguments, 1 for a run that failed. Never a panic.

use std::fs;

use crate::common::{Run, Scratch, tensors, vocabulary, write_tensors};
use serde_json::{Value, json};

/// Trains the model `bert` on `train.txt` for a step, with further words.
fn train(scratch: &Scratch, words: &str) -> Run {
    scratch.run(&format!(
        "--model_name_or_path bert --train_file train.txt --validation_file valid.txt --line_by_line --max_seq_length 32 \
         --do_train --max_steps 1 --output_dir out {words}"
    ))
}

/// Evaluates the model `bert` on a file.
fn evaluate(scratch: &Scratch, file: &str, words: &str) -> Run {
    scratch.run(&format!(
        "--model_name_or_path bert --validation_file {file} --line_by_line --max_seq_length 32 --do_eval --output_dir out \
         {words}"
    ))
}

#[test]
fn files_that_are_not_there() {
    let scratch = Scratch::prepared();
    evaluate(&scratch, "absent.txt", "").fails(1, &["absent.txt"]);
    evaluate(&scratch, "absent*.txt", "").fails(1, &["absent*.txt"]);
    train(&scratch, "--train_file absent.txt").fails(1, &["absent.txt"]);
    scratch.run("absent.json").fails(2, &["absent.json"]);
    scratch.run("--model_name_or_path ./absent --train_file train.txt --do_train").fails(1, &["./absent"]);
    train(&scratch, "--tokenizer_name ./absent").fails(1, &["--tokenizer_name", "./absent"]);
    train(&scratch, "--resume_from_checkpoint absent").fails(1, &["--resume_from_checkpoint", "absent"]);
    train(&scratch, "--resume_from_checkpoint train.txt").fails(1, &["--resume_from_checkpoint train.txt: is a file"]);
    // The text is looked for before the model is downloaded or loaded.
    for (file, part) in [("absent.txt", "no such file"), ("absent*.txt", "no file matches"), ("bert/*", "kind of file")]
    {
        scratch
            .run(&format!("--model_name_or_path ./absent --train_file {file} --do_train"))
            .fails(1, &["--train_file: ", part]);
    }
}

#[test]
fn files_without_text() {
    let scratch = Scratch::prepared();
    for (name, content) in [("empty.txt", ""), ("blank.txt", " \n\t\n\n"), ("empty.csv", ""), ("empty.jsonl", "\n")] {
        scratch.write(name, content);
        evaluate(&scratch, name, "").fails(1, &[name]);
    }
    evaluate(&scratch, "blank.txt", "").fails(1, &["blank.txt", "no usable line"]);
    train(&scratch, "--validation_file blank.txt").fails(1, &["blank.txt", "no usable line"]);
    train(&scratch, "--train_file blank.txt").fails(1, &["blank.txt", "no usable line"]);
    scratch.write("few.txt", "a b\n");
    scratch
        .run("--model_name_or_path bert --validation_file few.txt --max_seq_length 32 --do_eval --output_dir out")
        .fails(1, &["few.txt", "no block of 32", "--max_seq_length"]);
}

#[test]
fn files_that_are_none() {
    let scratch = Scratch::prepared();
    fs::create_dir(scratch.path("folder")).expect("a folder");
    fs::create_dir(scratch.path("folder.txt")).expect("a folder");
    evaluate(&scratch, "folder", "").fails(1, &["folder: is a folder without a file of text"]);
    evaluate(&scratch, "folder.txt", "").fails(1, &["folder.txt: is a folder without a file of text"]);
    evaluate(&scratch, "bert/vocab.doc", "").fails(2, &["bert/vocab.doc", "txt"]);
}

#[cfg(unix)]
#[test]
fn files_and_folders_without_permission() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let mut scratch = Scratch::prepared();
    symlink("loop.txt", scratch.path("loop.txt")).expect("a link");
    evaluate(&scratch, "loop.txt", "").fails(1, &["loop.txt"]);

    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    };
    mode(&scratch.write("secret.txt", "text\n"), 0o000);
    mode(scratch.write("sealed/out/kept.txt", "text\n").parent().expect("a folder"), 0o555);
    mode(&scratch.path("sealed"), 0o555);
    // Root may do everything, so it runs the program as somebody else.
    if fs::read(scratch.path("secret.txt")).is_ok() {
        mode(&scratch.path(""), 0o777);
        if !scratch.become_nobody() {
            return crate::not_tested("the program can't be started as another user");
        }
    }
    evaluate(&scratch, "secret.txt", "--output_dir evaluated").fails(1, &["secret.txt", "ermission denied"]);
    train(&scratch, "--output_dir sealed/new").fails(1, &["--output_dir sealed/new", "ermission denied"]);
    train(&scratch, "--output_dir sealed/out").fails(1, &["sealed/out", "ermission denied"]);
    train(&scratch, "--output_dir sealed/out --overwrite_output_dir").fails(1, &["sealed/out", "ermission denied"]);
}

#[test]
fn text_that_is_no_utf_8() {
    let scratch = Scratch::prepared();
    scratch.write("latin.txt", b"fine\nalso fine\ncaf\xe9\n");
    evaluate(&scratch, "latin.txt", "").fails(1, &["latin.txt:3:", "UTF-8"]);
    scratch.write("latin.csv", b"text\nfine\ncaf\xe9\n");
    evaluate(&scratch, "latin.csv", "").fails(1, &["latin.csv:3:", "UTF-8"]);
    scratch.write("latin.jsonl", b"{\"text\": \"fine\"}\n{\"text\": \"caf\xe9\"}\n");
    evaluate(&scratch, "latin.jsonl", "").fails(1, &["latin.jsonl:2:", "UTF-8"]);
    scratch.write("arguments.json", b"{\"output_dir\": \"caf\xe9\"}");
    scratch.run("arguments.json").fails(2, &["arguments.json", "UTF-8"]);
}

#[test]
fn tables_without_the_column_or_with_broken_rows() {
    let scratch = Scratch::prepared();
    scratch.write("rows.csv", "id,body\n1,some text\n2,more text\n");
    evaluate(&scratch, "rows.csv", "--text_column text").fails(1, &["rows.csv", "`text`", "id, body"]);
    scratch.write("long.csv", "text,id\nfine,1\nnot, fine,2\n");
    evaluate(&scratch, "long.csv", "").fails(1, &["long.csv:3:", "3 fields"]);
    scratch.write("short.csv", "id,text\n1,fine\n2\n");
    evaluate(&scratch, "short.csv", "").fails(1, &["short.csv:3:", "`text`"]);
    scratch.write("open.csv", "text\nfine\n\"not closed\nmore\n");
    evaluate(&scratch, "open.csv", "").fails(1, &["open.csv:3:", "quote"]);
}

/// Chosen once, for the files of both splits, and said.
#[test]
fn columns_that_hold_no_text_or_differ() {
    let scratch = Scratch::prepared();
    scratch.write("labels.csv", "label,review\n0,a fine day\n1,a bad day\n");
    scratch.write(
        "labels.jsonl",
        "{\"label\": 0, \"review\": \"a fine day\"}\n{\"label\": 1, \"review\": \"a bad day\"}\n",
    );
    scratch.write("dates.csv", "when,Content,note\n2024-01-05,a fine day,x\n2024-01-06,a bad day,y\n");
    scratch.write("reviews.csv", "review,label\na fine day,0\na bad day,1\n");
    for (file, first, kind, columns) in [
        ("labels.csv", "`label`", "numbers", "label, review"),
        ("labels.jsonl", "`label`", "numbers", "label, review"),
        ("dates.csv", "`when`", "dates", "when, Content, note"),
    ] {
        evaluate(&scratch, file, "").fails(1, &[file, first, kind, columns, "--text_column"]);
    }
    scratch.write("comments.csv", "comment\na fine day\n");
    train(&scratch, "--train_file reviews.csv --validation_file comments.csv")
        .fails(1, &["comments.csv", "no column `review`", "comment", "reviews.csv", "--text_column"]);
    let run = train(
        &scratch,
        "--train_file reviews.csv --validation_file labels.csv --do_eval --mlm_probability 1 --preview 9",
    )
    .done();
    assert!(run.stderr.contains("reviews.csv: the text is column `review`, the first one; the others are: label (--text_column names another)"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("the text is column").count(), 1, "{}", run.stderr);
    evaluate(&scratch, "labels.jsonl", "--text_column review --mlm_probability 1 --output_dir named").done();
}

/// A damaged gzip, a picture of a page, an archive: never trained on, whatever the name says.
#[test]
fn files_that_are_no_text() {
    let scratch = Scratch::prepared();
    let wide: Vec<u8> = "Some text\n".repeat(9).encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes, parts) in
        [("d.txt", &wide[..], ["UTF-16", "iconv"]), ("e.txt", b"%PDF-1.7\n", ["PDF", "pdftotext"])]
    {
        scratch.write(name, bytes);
        evaluate(&scratch, name, "").fails(1, &[&[name, "not text in UTF-8"][..], &parts].concat());
    }
    scratch.write("c.jsonl", b"PAR1rest");
    evaluate(&scratch, "c.jsonl", "").fails(1, &["c.jsonl: no Parquet file, or one whose end is damaged or cut off"]);
    scratch.write("a.txt", b"\x1f\x8b\x08\0\0\0\0\0");
    scratch.write("b.csv", b"PK\x03\x04rest");
    evaluate(&scratch, "b.csv", "").fails(1, &["b.csv", "zip archive is damaged or cut off", "unzip -t"]);
    evaluate(&scratch, "a.txt", "").fails(1, &["a.txt", "gzip stream is damaged or cut off", "gzip -t"]);
    scratch.write("marked.txt", "\u{feff}a line\nanother\n");
    let run = evaluate(&scratch, "marked.txt", "--mlm_probability 1 --preview 1").done();
    assert!(run.stderr.contains("marked.txt: begins with a byte order mark, which is left out"), "{}", run.stderr);
    assert!(!run.stdout.contains('\u{feff}'), "{}", run.stdout);
}

/// A file without line ends, a quote that is never closed.
#[test]
fn rows_without_end() {
    let scratch = Scratch::prepared();
    scratch.write("long.txt", format!("fine\n{}", "a b c d ".repeat((257 << 20) / 8)));
    evaluate(&scratch, "long.txt", "").fails(1, &["long.txt:2: the line that begins here is longer than 256 MiB"]);
    scratch.write("open.csv", format!("text\n\"{}", "a b c d ".repeat(1 << 10)));
    evaluate(&scratch, "open.csv", "").fails(1, &["open.csv:2: a quote is opened in this record and never closed"]);
}

/// Text in a compressed file, an archive or a folder, and rows that are paragraphs or lack a header.
#[test]
fn text_is_read_however_it_is_packed() {
    let scratch = Scratch::prepared();
    let packed = |name: &str| {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/lm-data/tests/fixtures/compressed");
        std::fs::read(folder.join(name)).expect("the fixture")
    };
    let rows = |name: &str, flags: &str| {
        // Files of the same rows make one store.
        let words = format!("--mlm_probability 1 --overwrite_cache --output_dir {name}.out {flags}");
        let run = evaluate(&scratch, name, &words).done();
        let line = run.stderr.lines().find(|line| line.starts_with("validation: ")).unwrap_or_default().to_owned();
        line.split_once(" of ").and_then(|(_, rest)| Some(rest.split_once(" rows")?.0.to_owned())).unwrap_or(line)
    };
    for (name, count) in [
        ("two.txt.gz", "200"),
        ("two.txt.xz", "200"),
        ("rows.csv.gz", "2"),
        ("rows.jsonl.zst", "2"),
        ("texts.zip", "24"),
    ] {
        scratch.write(name, packed(name));
        assert_eq!(rows(name, ""), count, "{name}");
    }
    scratch.write("some/a.txt", "one\n");
    scratch.write("some/b/c.txt", "two\nthree\n");
    assert_eq!(rows("some", ""), "3");
    scratch.write("poem.txt", "a line\nanother\n\na stanza\n");
    assert_eq!([rows("poem.txt", "--sample_by paragraph"), rows("poem.txt", "--sample_by document")], ["2", "1"]);
    scratch.write("bare.csv", "1;first\n2;second, and more\n");
    assert_eq!(rows("bare.csv", "--column_names id text"), "2");
    let run = evaluate(&scratch, "bare.csv", "--column_names id text --mlm_probability 1 --output_dir said").done();
    assert!(run.stderr.contains("bare.csv: its columns are separated by semicolons"), "{}", run.stderr);
}

/// As Python writes and reads it: NaN, Infinity, objects spread over lines or sharing one.
#[test]
fn json_as_python_has_it() {
    let scratch = Scratch::prepared();
    scratch.write(
        "rows.jsonl",
        "{\"score\": NaN, \"text\": \"one\"}\n{\n \"score\": -Infinity,\n \"text\": \"two\"\n} {\"text\": \"three\"}\n",
    );
    let eval = evaluate(&scratch, "rows.jsonl", "--mlm_probability 1").done();
    assert!(eval.stdout.contains("eval_samples"), "{}", eval.stdout);
    assert_eq!(scratch.json("out/eval_results.json")["eval_samples"], 3);
    scratch.write("nested.json", "{\"data\": [{\"text\": \"a\"}]}");
    evaluate(&scratch, "nested.json", "").fails(1, &["nested.json", "`data`", "an array"]);
    // The files of a model, and of arguments.
    for (file, field) in
        [("bert/config.json", "\"score\": NaN"), ("bert/tokenizer_config.json", "\"model_max_length\": Infinity")]
    {
        let text = scratch.read(file).replace("\"model_max_length\":512", "\"x\":512");
        scratch.write(file, text.trim_end().trim_end_matches('}').trim_end().to_owned() + ", " + field + "}");
    }
    scratch.write("arguments.json", "{\"x\": NaN}");
    scratch.run("arguments.json").fails(2, &["arguments.json", "x"]);
    evaluate(&scratch, "valid.txt", "--output_dir lenient").done();
}

#[test]
fn json_that_is_no_object_per_line() {
    let scratch = Scratch::prepared();
    for (name, content, place) in [
        ("strings.jsonl", "{\"text\": \"a\"}\n\"b\"\n", 2),
        ("numbers.json", "1\n2\n", 1),
        ("cut.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\n", 2),
        ("words.json", "just words\n", 1),
        ("typed.jsonl", "{\"text\": \"a\"}\n{\"text\": 5}\n", 2),
        ("lacking.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n", 2),
    ] {
        scratch.write(name, content);
        evaluate(&scratch, name, "").fails(1, &[&format!("{name}:{place}:")]);
    }
    scratch.write("bodies.jsonl", "{\"body\": \"a\"}\n");
    evaluate(&scratch, "bodies.jsonl", "--text_column text").fails(1, &["bodies.jsonl", "text", "body"]);
}

#[test]
fn sequences_too_long_or_too_short() {
    let scratch = Scratch::prepared();
    evaluate(&scratch, "valid.txt", "--max_seq_length 100").fails(1, &["--max_seq_length 100", "66 positions"]);
    for length in ["1", "2"] {
        evaluate(&scratch, "valid.txt", &format!("--max_seq_length {length}"))
            .fails(1, &[&format!("--max_seq_length {length}"), "2 special tokens", "at least 3"]);
    }
    evaluate(&scratch, "valid.txt", "--max_seq_length 0").fails(2, &["--max_seq_length 0", "at least 1"]);
    evaluate(&scratch, "valid.txt", "--max_seq_length 3 --mlm_probability 1").done();
}

#[test]
fn a_tokenizer_that_does_not_fit_the_model() {
    let scratch = Scratch::prepared();
    let mut vocabulary: serde_json::Map<String, Value> =
        vocabulary(100).into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    // Fewer entries than the model has embeddings, but one of them beyond.
    vocabulary["unseen99"] = json!(5000);
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": null,
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    scratch.write("holes/tokenizer.json", tokenizer.to_string());
    let named = json!({"tokenizer_class": "BertTokenizerFast", "mask_token": "[MASK]", "pad_token": "[PAD]",
        "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"});
    scratch.write("holes/tokenizer_config.json", named.to_string());
    evaluate(&scratch, "valid.txt", "--tokenizer_name holes").fails(1, &["5000", "200", "--tokenizer_name"]);

    let mut nameless = tokenizer;
    nameless["model"]["vocab"]["unseen99"] = json!(99);
    scratch.write("nameless/tokenizer.json", nameless.to_string());
    scratch.write("nameless/tokenizer_config.json", json!({"tokenizer_class": "PreTrainedTokenizerFast"}).to_string());
    evaluate(&scratch, "valid.txt", "--tokenizer_name nameless").fails(1, &["mask"]);

    scratch.write("damaged/tokenizer.json", "{\"model\": ");
    evaluate(&scratch, "valid.txt", "--tokenizer_name damaged").fails(1, &["damaged/tokenizer.json"]);
    scratch.write("nothing/README.md", "no tokenizer");
    evaluate(&scratch, "valid.txt", "--tokenizer_name nothing").fails(1, &["--tokenizer_name", "nothing"]);
}

/// Evaluates with other bytes in model.safetensors.
fn with_weights(bytes: &[u8], parts: &[&str]) {
    let scratch = Scratch::prepared();
    scratch.write("bert/model.safetensors", bytes);
    evaluate(&scratch, "valid.txt", "").fails(1, &[&["model.safetensors"], parts].concat());
}

fn weights() -> Vec<u8> {
    fs::read(crate::common::fixture("models/bert/model.safetensors")).expect("the fixture")
}

#[test]
fn truncated_weights() {
    let bytes = weights();
    with_weights(&[], &[]);
    with_weights(&bytes[..5], &[]);
    with_weights(&bytes[..200], &[]);
    with_weights(&bytes[..bytes.len() - 4], &[]);
    with_weights(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 145976\n", &[]);
}

#[test]
fn lying_weights() {
    let bytes = weights();
    // A header said to be longer than all memory.
    with_weights(&[&u64::MAX.to_le_bytes(), &bytes[8..]].concat(), &[]);
    // A header that is no JSON.
    with_weights(&[&bytes[..8], &vec![b'x'; bytes.len() - 8][..]].concat(), &[]);
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
    let lie = |change: &dyn Fn(&mut Value)| {
        let mut header = header.clone();
        change(&mut header["bert.embeddings.word_embeddings.weight"]);
        let header = header.to_string().into_bytes();
        [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + length..]].concat()
    };
    with_weights(&lie(&|tensor| tensor["shape"] = json!([2000, 8])), &[]);
    with_weights(&lie(&|tensor| tensor["shape"] = json!([u64::MAX, u64::MAX])), &[]);
    with_weights(&lie(&|tensor| tensor["data_offsets"] = json!([0, 1u64 << 40])), &[]);
    with_weights(&lie(&|tensor| tensor["data_offsets"] = json!([10, 4])), &[]);
    with_weights(&lie(&|tensor| tensor["dtype"] = json!("F7")), &[]);
}

#[test]
fn weights_of_another_shape() {
    let scratch = Scratch::prepared();
    let path = scratch.path("bert/model.safetensors");
    let mut all = tensors(&path);
    let bias = all.get_mut("bert.encoder.layer.0.attention.self.query.bias").expect("in the fixture");
    (bias.1, bias.2) = (vec![7], vec![0; 4 * 7]);
    write_tensors(&path, &all);
    evaluate(&scratch, "valid.txt", "").fails(1, &["bert.encoder.layer.0.attention.self.query.bias", "7", "8"]);
}

#[test]
fn folders_without_weights() {
    let scratch = Scratch::prepared();
    fs::remove_file(scratch.path("bert/model.safetensors")).expect("it was there");
    evaluate(&scratch, "valid.txt", "").fails(1, &["bert", "model.safetensors"]);
    scratch.write("bert/model.safetensors.index.json", "{\"weight_map\": {\"a\": \"../../elsewhere.safetensors\"}}");
    evaluate(&scratch, "valid.txt", "").fails(1, &["elsewhere.safetensors"]);
    scratch.write("bert/model.safetensors.index.json", "[]");
    evaluate(&scratch, "valid.txt", "").fails(1, &["model.safetensors.index.json"]);
}

/// A pickle that would run a program: it is read, never executed.
#[test]
fn weights_that_are_a_program() {
    let scratch = Scratch::prepared();
    fs::remove_file(scratch.path("bert/model.safetensors")).expect("it was there");
    for program in ["program.bin", "program_at_root.bin"] {
        scratch.write(
            "bert/pytorch_model.bin",
            fs::read(crate::common::fixture("weights").join(program)).expect("a fixture"),
        );
        evaluate(&scratch, "valid.txt", "").fails(1, &["pytorch_model.bin"]);
    }
}

#[test]
fn configurations_of_unknown_models() {
    let scratch = Scratch::prepared();
    let config = scratch.json("bert/config.json");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut config = config.clone();
        change(&mut config);
        scratch.write("bert/config.json", config.to_string());
        evaluate(&scratch, "valid.txt", "")
    };
    changed(&|config| config["model_type"] = json!("brt"))
        .fails(1, &["config.json", "`brt`", "`bert`", "roberta", "distilbert"]);
    changed(&|config| config["model_type"] = json!("t5"))
        .fails(1, &["config.json", "`t5`", "bert", "roberta", "distilbert"]);
    // In a folder whose name does not tell it either.
    scratch.write("model/config.json", json!({"hidden_size": 32}).to_string());
    scratch
        .run("--model_name_or_path model --tokenizer_name bert --validation_file valid.txt --do_eval --output_dir out")
        .fails(1, &["config.json", "model_type", "bert"]);
    changed(&|config| *config = json!([])).fails(1, &["config.json", "object"]);
    changed(&|config| config["hidden_size"] = json!("wide")).fails(1, &["hidden_size"]);
    changed(&|config| config["hidden_size"] = json!(0)).fails(1, &["hidden_size"]);
    changed(&|config| config["num_attention_heads"] = json!(0)).fails(1, &["num_attention_heads"]);
    changed(&|config| config["num_attention_heads"] = json!(5)).fails(1, &["num_attention_heads"]);
    changed(&|config| config["hidden_act"] = json!("sine")).fails(1, &["hidden_act", "sine"]);
    changed(&|config| config["intermediate_size"] = json!(0)).fails(1, &["`intermediate_size` = 0"]);
    changed(&|config| config["type_vocab_size"] = json!(0)).fails(1, &["`type_vocab_size` = 0"]);
    changed(&|config| config["hidden_dropout_prob"] = json!(2.0)).fails(1, &["hidden_dropout_prob"]);
    changed(&|config| config["max_position_embeddings"] = json!(-1)).fails(1, &["max_position_embeddings"]);
    scratch.write("bert/config.json", "{\"model_type\": ");
    evaluate(&scratch, "valid.txt", "").fails(1, &["config.json"]);
    fs::remove_file(scratch.path("bert/config.json")).expect("it was there");
    evaluate(&scratch, "valid.txt", "").fails(1, &["config.json"]);
}

/// Told by name before anything is read or built, by `--plan` too.
#[test]
fn sizes_that_cannot_be_had() {
    let scratch = Scratch::prepared();
    let config = scratch.json("bert/config.json");
    for (name, value) in [
        ("vocab_size", 1_000_000_000_000_u64),
        ("vocab_size", 2_000_000_000),
        ("hidden_size", 1 << 40),
        ("hidden_size", 1 << 30),
        ("num_hidden_layers", 1_000_000_000),
        ("max_position_embeddings", u64::MAX),
        ("max_position_embeddings", 2_000_000_000),
        ("intermediate_size", 2_000_000_000),
        ("type_vocab_size", 2_000_000_000),
        ("num_attention_heads", 1 << 60),
        ("num_attention_heads", 7),
    ] {
        let mut config = config.clone();
        config[name] = json!(value);
        scratch.write("bert/config.json", config.to_string());
        for words in ["", "--plan"] {
            let run = train(&scratch, words);
            assert!(!run.stderr.contains("rows,"), "nothing is tokenized before: {}", run.stderr);
            run.fails(1, &["bert", &format!("`{name}`"), &value.to_string()]);
        }
    }
    assert!(!scratch.path("out").exists(), "nor a folder made");
    let words = "--model_type bert --tokenizer_name bert --train_file train.txt --output_dir out --do_train";
    scratch
        .run(&format!("{words} --config_overrides num_hidden_layers=1000000000"))
        .fails(1, &["`num_hidden_layers` = 1000000000 makes", "parameters", "of memory are free"]);
}

/// What the memory check cannot know, an allocation tells that fails: here the scores of one long sequence.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_cannot_be_had() {
    let scratch = Scratch::prepared();
    let mut config = scratch.json("bert/config.json");
    config["max_position_embeddings"] = json!(40_000);
    scratch.write("long.json", config.to_string());
    let mut settings = scratch.json("bert/tokenizer_config.json");
    settings["model_max_length"] = json!(40_000);
    scratch.write("bert/tokenizer_config.json", settings.to_string());
    let words = "--config_name long.json --tokenizer_name bert --train_file train.txt --validation_file valid.txt \
         --line_by_line --max_seq_length 40000 --pad_to_max_length --per_device_train_batch_size 1 --do_train --max_steps 1 \
         --plain_ops --device cpu --output_dir out";
    let program = scratch.command().get_program().to_owned();
    let mut command = scratch.command();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -v 6000000; exec \"$@\"", "sh"]).arg(program).args(words.split_whitespace());
    limited.current_dir(scratch.path("")).envs(command.args([""; 0]).get_envs().filter_map(|(k, v)| Some((k, v?))));
    let output = limited.output().expect("the shell starts");
    let run = Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    };
    run.fails(1, &["memory exhausted: ", "bytes could not be had", "--per_device_train_batch_size"]);
}

#[test]
fn weights_that_are_no_numbers() {
    let scratch = Scratch::prepared();
    let path = scratch.path("bert/model.safetensors");
    let mut all = tensors(&path);
    let name = "bert.encoder.layer.0.attention.self.query.weight";
    all.get_mut(name).expect("in the fixture").2[40..44].copy_from_slice(&f32::NAN.to_le_bytes());
    write_tensors(&path, &all);
    for run in [train(&scratch, ""), evaluate(&scratch, "valid.txt", "")] {
        assert!(!run.stderr.contains("learning_rate"), "{}", run.stderr);
        run.fails(1, &["bert/model.safetensors", name, "holds NaN (value 10 of 64)"]);
    }
    // Numbers that are usable one by one, yet not together.
    let huge = f32::MAX.to_le_bytes();
    all.get_mut(name).expect("in the fixture").2.chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&huge));
    write_tensors(&path, &all);
    let run = train(&scratch, "");
    assert!(!run.stderr.contains("learning_rate"), "{}", run.stderr);
    run.fails(1, &["step 1", "NaN", "before any training"]);
}

/// What the tokenizers library would panic at, or never end with.
#[test]
fn tokenizers_that_end_the_library() {
    let scratch = Scratch::prepared();
    let vocabulary: serde_json::Map<String, Value> =
        vocabulary(200).into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let split =
        |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let template = |single: Value, pair: Value| json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {}});
    let token = |content: &str, id: u32| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": content == "\n", "rstrip": content == "\n",
            "normalized": content == "\n", "special": content == "\n"})
    };
    // What the error tells; none where this version of the library, or this text, may do with it.
    let faults = [
        ("pre_tokenizer", json!({"type": "FixedLength", "length": 0}), Some("must be non-zero")),
        ("normalizer", json!({"type": "Prepend", "prepend": ""}), None),
        ("post_processor", template(json!([sequence("B")]), json!([sequence("B")])), Some("--tokenizer_name")),
        (
            "post_processor",
            template(json!([{"SpecialToken": {"id": "a", "type_id": 0}}]), json!([sequence("A")])),
            Some("--tokenizer_name"),
        ),
        ("added_tokens", json!([token("", 200), token("\n", 201)]), None),
        ("pre_tokenizer", split(r"(\w+\s*)+$"), Some("regular expression")),
        ("pre_tokenizer", split(r"(?:(a*)*)*b"), None),
        ("normalizer", replace(json!({"Regex": r"(\w+\s*)+$"}), "x"), Some("regular expression")),
        ("normalizer", replace(json!({"String": "e"}), &"x".repeat(1_000_000)), Some("1000000 bytes")),
        (
            "normalizer",
            json!({"type": "Sequence", "normalizers": vec![replace(json!({"String": "e"}), &"e".repeat(10)); 6]}),
            Some("times as long"),
        ),
    ];
    for (part, fault, told) in faults {
        let mut tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": null,
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary},
        });
        tokenizer[part] = fault;
        scratch.write("bert/tokenizer.json", tokenizer.to_string());
        // A text on which a regular expression of the usual kind takes for ever, if it does not at the probe.
        scratch.write("long.txt", format!("fine\n{}!\n", "a".repeat(3000)));
        let run = scratch.run(
            "--model_name_or_path bert --train_file long.txt --validation_file long.txt --max_seq_length 32 --do_train \
             --line_by_line --max_steps 1 --output_dir out --overwrite_output_dir",
        );
        assert!(!run.stderr.contains("fault in this program") && !run.stderr.contains("--plain_ops"), "{}", run.stderr);
        match told {
            None if run.code == Some(0) => {}
            _ => drop(run.fails(1, &["bert/tokenizer.json", told.unwrap_or_default()])),
        }
    }
}

/// A regular expression that goes wrong only at some text: the text's line is named.
#[test]
fn a_text_that_takes_for_ever() {
    let scratch = Scratch::prepared();
    let vocabulary: serde_json::Map<String, Value> =
        vocabulary(200).into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(z+)+y"}, "behavior": "Isolated", "invert": false},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    scratch.write("bert/tokenizer.json", tokenizer.to_string());
    scratch.write("long.txt", format!("fine\n\nalso fine\n{}!\nfine\n", "z".repeat(3000)));
    for words in ["", "--streaming --max_steps 1"] {
        train(&scratch, &format!("--train_file long.txt {words}"))
            .fails(1, &["long.txt:4: ", "bert/tokenizer.json", "\"zzzz", "regular expression", "--tokenizer_name"]);
    }
}

/// Names from files reach the terminal without what it would obey, and cut.
#[test]
fn control_characters_in_names() {
    let scratch = Scratch::prepared();
    let clean = |run: Run, shown: &str| {
        let said = format!("{}{}", run.stdout, run.stderr);
        let obeyed = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!said.contains(obeyed), "{said:?}");
        assert!(said.contains(shown), "{shown} is not in {said}");
        run
    };
    let evil = "\u{1b}[31m\u{202e}\u{7}";
    scratch.write("evil.csv", format!("a{evil},b\nx,y\n"));
    clean(evaluate(&scratch, "evil.csv", "--text_column text"), r"a\u{1b}[31m\u{202e}\u{7}").fails(1, &["evil.csv"]);
    scratch.write("evil.jsonl", json!({format!("a{evil}"): 1}).to_string() + "\n");
    clean(evaluate(&scratch, "evil.jsonl", "--text_column text"), r"\u{202e}").fails(1, &["evil.jsonl"]);
    scratch.write("evil.json", json!({format!("a{evil}"): 1}).to_string());
    clean(scratch.run("evil.json"), r"\u{1b}").fails(2, &["evil.json"]);
    clean(scratch.run_with(&[&format!("--a{evil}"), "1"]), r"\u{1b}").fails(2, &[]);
    scratch.write("evil.txt", format!("to{evil} the lighthouse\n"));
    let preview = "--model_name_or_path bert --validation_file evil.txt --line_by_line --max_seq_length 32 --preview 1";
    clean(scratch.run(preview), "example 0");

    let path = scratch.path("bert/model.safetensors");
    let mut all = tensors(&path);
    let bias = all.get("cls.predictions.bias").expect("in the fixture").clone();
    all.insert(format!("extra{evil}"), bias);
    write_tensors(&path, &all);
    clean(evaluate(&scratch, "valid.txt", ""), r"extra\u{1b}[31m").done();

    let mut config = scratch.json("bert/config.json");
    config["model_type"] = json!(format!("x{evil}{}", "y".repeat(5000)));
    scratch.write("bert/config.json", config.to_string());
    let run = clean(evaluate(&scratch, "valid.txt", ""), r"x\u{1b}[31m");
    assert!(run.stderr.len() < 1500, "{}", run.stderr);
    run.fails(1, &["config.json", "…`"]);
}

#[test]
fn models_of_another_program() {
    let scratch = Scratch::prepared();
    scratch.write("gpt2/config.json", json!({"model_type": "gpt2", "vocab_size": 200}).to_string());
    scratch.write("gpt2/model.safetensors", weights());
    scratch
        .run("--model_name_or_path gpt2 --tokenizer_name bert --validation_file valid.txt --do_eval")
        .fails(1, &["gpt2", "run_clm", "bert"]);
    scratch
        .run("--model_type gpt2 --tokenizer_name bert --validation_file valid.txt --do_eval")
        .fails(1, &["gpt2", "run_clm", "bert"]);
    scratch
        .run("--model_type brt --tokenizer_name bert --validation_file valid.txt --do_eval")
        .fails(2, &["--model_type", "`brt`", "`bert`"]);
}

#[test]
fn output_folders_that_hold_something() {
    let scratch = Scratch::prepared();
    let kept = scratch.write("out/thesis.txt", "years of work\n");
    train(&scratch, "").fails(1, &["--output_dir out", "not empty", "--overwrite_output_dir"]);
    assert_eq!(scratch.list("out"), ["thesis.txt"]);
    train(&scratch, "--overwrite_output_dir").done();
    assert_eq!(fs::read_to_string(kept).expect("it is kept"), "years of work\n");
}

/// Checkpoints are given up only when all is well and training begins, and never if the run starts from one of them.
#[test]
fn checkpoints_are_not_overwritten_in_vain() {
    let scratch = Scratch::prepared();
    train(&scratch, "--max_steps 2 --save_steps 1").done();
    let checkpoints = || scratch.list("out").into_iter().filter(|name| name.starts_with("checkpoint-")).count();
    train(&scratch, "--overwrite_output_dir --model_name_or_path out/checkpoint-2")
        .fails(1, &["--model_name_or_path out/checkpoint-2", "--overwrite_output_dir would set aside"]);
    train(&scratch, "--overwrite_output_dir --train_file absent.txt").fails(1, &["absent.txt"]);
    train(&scratch, "--overwrite_output_dir --tokenizer_name ./absent").fails(1, &["./absent"]);
    assert_eq!(checkpoints(), 2);
    train(&scratch, "--overwrite_output_dir --model_name_or_path out").done();
    assert_eq!(checkpoints(), 1);
}

#[test]
fn output_folders_that_cannot_be_written() {
    let scratch = Scratch::prepared();
    train(&scratch, "--output_dir train.txt/out").fails(1, &["--output_dir train.txt/out"]);
    train(&scratch, "--output_dir train.txt").fails(1, &["--output_dir train.txt"]);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::PermissionsExt;
        train(&scratch, "--output_dir /proc/out").fails(1, &["--output_dir /proc/out"]);
        train(&scratch, "--output_dir /proc").fails(1, &["/proc"]);
        fs::create_dir(scratch.path("sealed")).expect("a folder");
        fs::set_permissions(scratch.path("sealed"), fs::Permissions::from_mode(0o555)).expect("permissions");
        // Root may write there all the same.
        if fs::write(scratch.path("sealed/probe"), "").is_err() {
            train(&scratch, "--output_dir sealed").fails(1, &["sealed", "ermission denied"]);
        }
    }
    train(&scratch, "--data_cache_dir train.txt/cache").fails(1, &["train.txt/cache", "--data_cache_dir"]);
    train(&scratch, "--dump_examples absent/examples.jsonl").fails(1, &["--dump_examples absent/examples.jsonl"]);
}

/// Whatever file of the run `--dump_examples` is given, by its name or by another one, it stays as it is.
#[test]
fn files_that_are_read_are_not_written_over() {
    let scratch = Scratch::prepared();
    let model = "--model_name_or_path bert --line_by_line --max_seq_length 32";
    scratch
        .run(&format!(
            "{model} --train_file train.txt --do_train --max_steps 1 --output_dir trained --data_cache_dir cache"
        ))
        .done();
    scratch.write("arguments.json", json!({"validation_file": "valid.txt"}).to_string());
    scratch.write("settings.json", "{}");
    fs::create_dir(scratch.path("folder")).expect("a folder");
    fs::hard_link(scratch.path("train.txt"), scratch.path("hard.jsonl")).expect("a link");
    let examples = format!("cache/{}", scratch.list("cache").remove(0));
    let files = [
        ("train.txt", "--train_file"),
        ("./folder/../valid.txt", "--validation_file"),
        ("hard.jsonl", "--train_file train.txt"),
        ("bert/config.json", "--model_name_or_path"),
        ("bert/model.safetensors", "--model_name_or_path"),
        ("bert/vocab.txt", "bert/vocab.txt"),
        ("arguments.json", "arguments.json"),
        ("settings.json", "--lr_scheduler_kwargs"),
        ("trained/checkpoint-1/optimizer.pt", "--output_dir"),
        (&examples, "--data_cache_dir"),
        ("folder", "is a folder"),
    ];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("train.txt", scratch.path("soft.jsonl")).expect("a link");
        std::os::unix::fs::symlink("nowhere", scratch.path("dangling.jsonl")).expect("a link");
    }
    let of_unix = [("soft.jsonl", "is a link"), ("dangling.jsonl", "is a link"), ("/dev/null", "a device")];
    for &(file, part) in files.iter().chain(of_unix.iter().filter(|_| cfg!(unix))) {
        let before = fs::read(scratch.path(file)).ok();
        for goes_on in ["", "--do_train --overwrite_output_dir"] {
            scratch
                .run(&format!(
                    "{model} arguments.json --train_file train.txt --lr_scheduler_kwargs settings.json \
                     --output_dir trained --data_cache_dir cache --dump_examples {file} {goes_on}"
                ))
                .fails(2, &[&format!("--dump_examples {file}: "), part]);
        }
        assert_eq!(fs::read(scratch.path(file)).ok(), before, "{file}");
    }
    assert!(!scratch.path("nowhere").exists());
    // Another file is replaced as a whole.
    scratch.write("old.jsonl", "old");
    scratch.run(&format!("{model} --train_file train.txt --dump_examples old.jsonl")).done();
    assert!(scratch.read("old.jsonl").starts_with("{\""), "{}", scratch.read("old.jsonl"));
    // Nor may a text lie where the run writes its results.
    fs::create_dir(scratch.path("results")).expect("a folder");
    fs::hard_link(scratch.path("train.txt"), scratch.path("results/log.jsonl")).expect("a link");
    train(&scratch, "--output_dir results --overwrite_output_dir").fails(2, &["--train_file train.txt would be lost"]);
    for flag in ["output_dir", "logging_dir", "data_cache_dir", "cache_dir"] {
        train(&scratch, &format!("--{flag} valid.txt")).fails(1, &[&format!("--{flag} valid.txt: is a file")]);
    }
}

#[test]
fn numbers_out_of_range() {
    let scratch = Scratch::prepared();
    for (words, parts) in [
        ("--max_steps 0", "--max_steps 0: must be at least 1"),
        ("--max_steps -7", "--max_steps -7"),
        ("--per_device_train_batch_size 0", "--per_device_train_batch_size 0: must be at least 1"),
        ("--per_device_eval_batch_size 0", "--per_device_eval_batch_size 0: must be at least 1"),
        ("--per_device_train_batch_size -1", "--per_device_train_batch_size"),
        ("--gradient_accumulation_steps 0", "--gradient_accumulation_steps 0"),
        ("--max_steps -1 --num_train_epochs 0", "--num_train_epochs 0"),
        ("--learning_rate -1", "--learning_rate -1"),
        ("--learning_rate nan", "--learning_rate"),
        ("--mlm_probability 1.5", "--mlm_probability"),
        ("--warmup_ratio 2", "--warmup_ratio"),
        ("--preprocessing_num_workers 0", "--preprocessing_num_workers 0"),
        ("--max_train_samples 0", "--max_train_samples 0"),
        ("--max_steps many", "--max_steps"),
        ("--max_steps 1e40", "--max_steps"),
        ("--seed -1", "--seed"),
    ] {
        train(&scratch, words).fails(2, &[parts]);
    }
    assert!(!scratch.path("out").exists(), "nothing was begun");
}

#[test]
fn numbers_far_beyond_reason() {
    let scratch = Scratch::prepared();
    let most = "18446744073709551615";
    for flag in [
        "--dataloader_num_workers",
        "--dataloader_num_workers 9 --dataloader_prefetch_factor",
        "--preprocessing_num_workers",
        "--per_device_train_batch_size",
        "--per_device_eval_batch_size",
        "--group_batch_size",
        "--max_train_samples",
        "--seed",
        "--warmup_steps",
        "--preview",
    ] {
        train(&scratch, &format!("{flag} {most} --overwrite_output_dir")).done();
    }
}

#[test]
fn arguments_that_contradict_each_other() {
    let scratch = Scratch::prepared();
    train(&scratch, "--config_overrides hidden_size=64").fails(2, &["--config_overrides", "--model_name_or_path"]);
    train(&scratch, "--train_tokenizer 100").fails(2, &["--train_tokenizer", "--model_name_or_path"]);
    train(&scratch, "--load_best_model_at_end").fails(2, &["--load_best_model_at_end", "--eval_strategy"]);
    train(&scratch, "--use_cpu --device wgpu").fails(2, &["--use_cpu", "--device wgpu"]);
    scratch.run("--train_file train.txt --do_train").fails(2, &["--tokenizer_name", "--model_name_or_path"]);
    scratch.run("--model_name_or_path bert --do_train").fails(2, &["--train_file"]);
    scratch.run("--model_name_or_path bert --validation_file valid.txt --do_train").fails(2, &["--train_file"]);
}

#[test]
fn arguments_that_do_not_exist() {
    let scratch = Scratch::prepared();
    train(&scratch, "--learning_rte 1").fails(2, &["--learning_rte", "--learning_rate"]);
    train(&scratch, "--block_size 8").fails(2, &["--block_size", "run_clm"]);
    train(&scratch, "--bathc_size 8").fails(2, &["did you mean --per_device_train_batch_size or"]);
    train(&scratch, "--lr 1e-3").fails(2, &["unknown flag --lr; did you mean --learning_rate?"]);
    train(&scratch, "--device gpu7").fails(2, &["--device gpu7", "--device list"]);
    if cfg!(not(any(feature = "tch", feature = "cuda"))) {
        for name in ["cuda", "cuda:0", "gpu", "mps"] {
            train(&scratch, &format!("--device {name}")).fails(2, &["--features tch", "--device libtorch:cuda"]);
        }
    }
    train(&scratch, "--output_dir").fails(2, &["--output_dir"]);
    train(&scratch, "--optim adamwow").fails(2, &["--optim", "adamw_torch"]);
    train(&scratch, "--fp16 --bf16").fails(2, &["fp16", "bf16", "At most one"]);
    train(&scratch, "--tf32").fails(2, &["--tf32", "--device libtorch:cuda"]);
    scratch.write("arguments.json", "{\"train_fil\": \"train.txt\"}");
    scratch.run("arguments.json").fails(2, &["arguments.json", "train_fil", "train_file"]);
    scratch.write("arguments.json", "{\"train_file\": ");
    scratch.run("arguments.json").fails(2, &["arguments.json"]);
    let scratch_model = "--model_type bert --tokenizer_name bert --train_file train.txt --line_by_line \
                         --do_train --output_dir out";
    scratch
        .run(&format!("{scratch_model} --config_overrides hidden_sise=32"))
        .fails(2, &["hidden_sise", "hidden_size"]);
    scratch.run(&format!("{scratch_model} --config_overrides hidden_size")).fails(2, &["hidden_size", "key=value"]);
    scratch.run(&format!("{scratch_model} --config_overrides hidden_size=0")).fails(1, &["hidden_size"]);
    scratch
        .run(&format!("{scratch_model} --config_overrides num_attention_heads=7"))
        .fails(1, &["num_attention_heads"]);
}

#[test]
fn training_that_diverges_stops_and_keeps_its_checkpoint() {
    let scratch = Scratch::prepared();
    train(&scratch, "--max_steps 20 --save_steps 1 --learning_rate 1e30 --max_grad_norm 0")
        .fails(1, &["step 2", "loss", "diverged", "out/checkpoint-1", "--learning_rate"]);
    assert!(scratch.path("out/checkpoint-1/model.safetensors").is_file());
    assert!(!scratch.path("out/model.safetensors").exists(), "no result");
    let report = scratch.read("out/report.html");
    assert!(report.contains("diverged"), "the report says how it ended");

    let nan = Scratch::prepared();
    train(&nan, "--learning_rate 1e30 --max_grad_norm 0 --max_steps 9 --save_strategy no")
        .fails(1, &["step 2", "out/checkpoint-1 is the model before that step"]);
}

#[test]
fn a_tokenizer_that_cannot_be_trained() {
    let scratch = Scratch::prepared();
    let words = "--model_type bert --config_overrides hidden_size=32,num_hidden_layers=1,num_attention_heads=2 --do_train \
                 --max_steps 1 --output_dir out";
    scratch.run(&format!("{words} --train_file train.txt --train_tokenizer 3")).fails(1, &["tokenizer"]);
    scratch.run(&format!("{words} --train_file train.txt --train_tokenizer 0")).fails(2, &["--train_tokenizer 0"]);
    scratch.write("blank.txt", "\n \n");
    scratch
        .run(&format!("{words} --train_file blank.txt --validation_file valid.txt --train_tokenizer 100"))
        .fails(1, &["blank.txt"]);
}

/// Whatever is read as a whole must end: pipes, devices and links in a circle are refused before they are waited for.
#[cfg(unix)]
#[test]
fn files_that_never_end() {
    use std::os::unix::fs::symlink;

    let begun = std::time::Instant::now();
    let scratch = Scratch::prepared();
    let pipe = scratch.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    symlink("circle", scratch.path("circle")).expect("a link");
    let endless = [(pipe.as_path(), "regular file"), ("/dev/zero".as_ref(), "regular file"), ("circle".as_ref(), "")];

    for name in ["config.json", "tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"] {
        for (target, why) in endless {
            let folder = tempfile::tempdir_in(scratch.path("")).expect("a folder");
            for file in ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"] {
                fs::copy(scratch.path("bert").join(file), folder.path().join(file)).expect("a copy");
            }
            let path = folder.path().join(name);
            // It is either there already, or not.
            let _ = fs::remove_file(&path);
            symlink(if target.is_absolute() { target } else { path.as_path() }, &path).expect("a link");
            let model = folder.path().display();
            let words = format!("--model_name_or_path {model} --validation_file valid.txt --do_eval --output_dir out");
            // A folder without a vocabulary is told so, whatever has its name.
            let why = if name == "vocab.txt" { "" } else { why };
            scratch.run(&words).fails(1, &[name, why]);
        }
    }
    for name in ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"] {
        for (target, _) in endless {
            let folder = tempfile::tempdir_in(scratch.path("")).expect("a folder");
            for file in ["config.json", "vocab.txt", "tokenizer_config.json"] {
                fs::copy(scratch.path("bert").join(file), folder.path().join(file)).expect("a copy");
            }
            let path = folder.path().join(name);
            symlink(if target.is_absolute() { target } else { path.as_path() }, &path).expect("a link");
            let model = folder.path().display();
            let words = format!("--model_name_or_path {model} --validation_file valid.txt --do_eval --output_dir out");
            scratch.run(&words).fails(1, &[name, "no regular file"]);
        }
    }
    for (target, why) in endless {
        let target = if target.is_absolute() { target } else { "circle".as_ref() };
        symlink(target, scratch.path("endless.json")).expect("a link");
        scratch.run("endless.json").fails(2, &["argument file endless.json", why]);
        train(&scratch, "--lr_scheduler_type cosine --lr_scheduler_kwargs endless.json")
            .fails(2, &["endless.json", why]);
        scratch
            .run("--config_name endless.json --tokenizer_name bert --train_file train.txt --do_train --output_dir out")
            .fails(1, &["endless.json", why]);
        scratch
            .run("--model_name_or_path endless.json --train_file train.txt --do_train --output_dir out")
            .fails(1, &["endless.json: is a"]);
        fs::remove_file(scratch.path("endless.json")).expect("removed");
    }
    assert!(begun.elapsed().as_secs() < 120, "nothing was waited for");
}

/// Programs share what they downloaded with Python: the variables that say where are the same.
#[test]
fn the_cache_is_where_python_has_it() {
    let scratch = Scratch::prepared();
    let names = ["HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"];
    let cases: [(&[(&str, &str)], &str); 7] = [
        (&[("HOME", "/h")], "/h/.cache/huggingface/hub"),
        (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
        (&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/hf")], "/h/hf/hub"),
        (&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
        (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/c")], "/c"),
        (&[("HOME", "/h"), ("HF_HUB_CACHE", "~/c")], "/h/c"),
        (&[("HF_HUB_CACHE", "/c"), ("TRANSFORMERS_CACHE", "/t")], "/t"),
    ];
    for (variables, cache) in cases {
        let mut command = scratch.command();
        command.args("--model_name_or_path owner/model --train_file train.txt --do_train --output_dir out".split(' '));
        for name in names {
            command.env_remove(name);
        }
        let output = command.envs(variables.iter().copied()).output().expect("the program starts");
        let stderr = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(stderr.contains(&format!("not in the cache {cache}: ")), "{variables:?}: {stderr}");
    }
}

/// What comes from a Hub that cannot be reached, or that is none, is one line; and that it is asked is said before.
#[test]
fn a_hub_that_cannot_be_reached() {
    let scratch = Scratch::prepared();
    // Nobody listens on a port that was just closed.
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = address.expect("an address");
    let run = |endpoint: &str| {
        let words =
            "--model_name_or_path owner/model --train_file train.txt --do_train --output_dir out --token s3cr3t";
        crate::hub::run_at(endpoint, &scratch, words)
    };
    let asked = run(&format!("http://me:passw0rd@{address}"));
    assert!(asked.stderr.contains(&format!("asking http://…@{address} for owner/model")), "{}", asked.stderr);
    assert!(!asked.stderr.contains("passw0rd") && !asked.stderr.contains("ERROR"), "{}", asked.stderr);
    asked.fails(1, &["owner/model", "cannot be reached", "not in the cache", "check the network, or give a folder"]);
    run("nowhere").fails(1, &["HF_ENDPOINT \"nowhere\" is no URL"]);
}
