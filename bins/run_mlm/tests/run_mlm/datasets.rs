//! `--dataset_name`: configurations, splits and slices, from a folder.

use crate::common::{Scratch, workspace};
use crate::end_to_end::ids;

/// A folder by the rules of `datasets`: configurations, splits, slices, what is held out, and what is not there.
#[test]
fn a_data_set_that_is_a_folder() {
    let scratch = Scratch::new();
    scratch.tokenizer("tokenizer", 200);
    let lines = |range: std::ops::Range<usize>| range.map(|line| format!("text {line}\n")).collect::<String>();
    scratch.write(
        "set/README.md",
        "---\nconfigs:\n- config_name: small\n  data_files:\n  - split: train\n    path: s/*.txt\n  - split: validation\n    path: \
         v.txt\n- config_name: large\n  data_dir: large\n---\n# Title\n",
    );
    scratch.write("set/s/b.txt", lines(10..20));
    scratch.write("set/s/a.txt", lines(0..10));
    scratch.write("set/v.txt", lines(20..23));
    scratch.write("set/large/train.txt", lines(0..50));
    let run = |flags: &str| {
        scratch.run(&format!(
            "--dataset_name set --tokenizer_name tokenizer --line_by_line --max_seq_length 32 --dump_examples dump.jsonl {flags}"
        ))
    };
    let counts = |flags: &str| {
        run(flags).done();
        (ids(&scratch, "dump.jsonl", "train").len(), ids(&scratch, "dump.jsonl", "validation").len())
    };
    assert_eq!(counts("--dataset_config_name small"), (20, 3));
    // `train[:5%]` of 50 rows is 2.
    assert_eq!(counts("--dataset_config_name large"), (48, 2));
    assert_eq!(counts("--dataset_config_name small --train_split train[:10%]"), (2, 3));
    assert_eq!(
        counts("--dataset_config_name small --train_split train+validation --validation_split train[-3:]"),
        (23, 3)
    );
    assert_eq!(counts("--dataset_config_name small --train_split validation[1:]+train[:10%]+train[-3:]"), (7, 3));
    let first = ids(&scratch, "dump.jsonl", "train").remove(2);
    assert_eq!(counts("--dataset_config_name small --validation_split train[:1]"), (20, 1));
    assert_eq!(ids(&scratch, "dump.jsonl", "validation"), [first], "a.txt comes before b.txt");
    assert_eq!(counts("--dataset_config_name large --train_split train[-10:]"), (10, 0));
    run("").fails(1, &["--dataset_name: set: has several configurations", "one of small, large"]);
    run("--dataset_config_name tiny").fails(1, &["no configuration `tiny`", "one of small, large"]);
    run("--dataset_config_name small --train_split test").fails(1, &["no split `test`", "train, validation"]);
    run("--dataset_config_name small --train_split train[5]").fails(2, &["--train_split", "train[:10%]"]);
}

/// What README.md says of how files are read, and what it cannot say.
#[test]
fn files_are_read_as_a_data_set_says() {
    let scratch = Scratch::new();
    scratch.tokenizer("tokenizer", 200);
    scratch.write("set/train.txt", "one\ntwo\n\nthree\n");
    let run = |option: &str, flags: &str| {
        scratch.write("set/README.md", format!("---\nconfigs:\n- config_name: default\n  {option}\n---\n"));
        let words = "--dataset_name set --tokenizer_name tokenizer --line_by_line --max_seq_length 32 --dump_examples dump.jsonl";
        scratch.run(&format!("{words} --validation_split train {flags}"))
    };
    let examples = || ids(&scratch, "dump.jsonl", "train").len();
    run("sample_by: paragraph", "").done();
    assert_eq!(examples(), 2);
    run("sample_by: paragraph", "--sample_by line").done();
    assert_eq!(examples(), 3);
    let said = run("sep: ;", "").done();
    assert!(
        said.stderr.contains("set: its configuration default has what no option of text files is"),
        "{}",
        said.stderr
    );
    assert_eq!(examples(), 3);
    run("encoding: latin-1", "").fails(1, &["set: its configuration default", "`encoding: \"latin-1\"`", "UTF-8"]);
}

/// What `save_to_disk` leaves: all splits, or one of them alone; also as files, and as a stream that goes on where it was.
#[test]
fn what_datasets_saved_is_read() {
    let scratch = Scratch::prepared();
    let saved = workspace().join("bins/run_mlm/tests/fixtures/saved").display().to_string();
    let run = |words: &str| {
        scratch.run(&format!(
            "--model_name_or_path bert --line_by_line --max_seq_length 16 --do_train --per_device_train_batch_size 8 {words}"
        ))
    };
    let samples = |folder: &str| {
        let results = scratch.json(&format!("{folder}/all_results.json"));
        (results["train_samples"].clone(), results["eval_samples"].clone())
    };
    run(&format!("--dataset_name {saved} --do_eval --max_steps 2 --output_dir both")).done();
    assert_eq!(samples("both"), (40.into(), 6.into()));
    run(&format!("--dataset_name {saved}/train --do_eval --max_steps 2 --output_dir one")).done();
    assert_eq!(samples("one"), (38.into(), 2.into()));
    let files = format!("--train_file {saved}/train --validation_file {saved}/validation");
    run(&format!("{files} --do_eval --max_steps 2 --output_dir files")).done();
    assert_eq!(samples("files"), (40.into(), 6.into()));

    let stream = format!("--dataset_name {saved} --streaming --lr_scheduler_type constant --save_steps 3");
    run(&format!("{stream} --max_steps 9 --output_dir whole")).done();
    run(&format!("{stream} --max_steps 3 --output_dir parts")).done();
    run(&format!("{stream} --max_steps 9 --output_dir parts")).done();
    let weights = |folder: &str| std::fs::read(scratch.path(&format!("{folder}/model.safetensors"))).expect("weights");
    assert!(weights("whole") == weights("parts"), "the resumed run ends with other weights");
}
