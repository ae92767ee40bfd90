//! `run_mlm --fill`, and `--score` of a masked model.

use crate::common::Scratch;
use crate::inference::{expected, model, run_on, scores_are_pythons, what_can_be_wrong_with_a_score};

#[test]
fn a_masked_model_scores_as_in_python() {
    scores_are_pythons("bert", ["pseudo_log_likelihood", "pseudo_perplexity"], "tokens: pseudo-perplexity ");
    what_can_be_wrong_with_a_score("bert");
}

/// The tokens and probabilities of Python's model, mask by mask.
#[test]
fn masks_are_filled_in_as_in_python() {
    let (scratch, expected) = (model("bert"), expected());
    let text = expected["fill"]["text"].as_str().expect("a text");
    let ran = scratch.run_with(&["--model_name_or_path", "model", "--fill", text]).done();
    let mut shown = format!("{text}\n");
    for (number, mask) in (1..).zip(expected["fill"]["masks"].as_array().expect("a list")) {
        shown += &format!("  mask {number}\n");
        for token in mask.as_array().expect("a list") {
            let (token, probability) = (token[0].as_str().expect("a token"), token[1].as_f64().expect("a number"));
            shown += &format!("  {probability:.4}  {token}\n");
        }
    }
    assert_eq!(ran.stdout, shown);
    assert_eq!(scratch.list("."), ["model"], "nothing is written");

    let ran =
        run_on(&scratch, &["--model_name_or_path", "model", "--fill", "-"], &format!("{text}\n\nno [MASK]\r\n{text}"));
    let ran = ran.done();
    let [first, second, third] = ran.stdout.split("\n\n").collect::<Vec<_>>()[..] else { panic!("{}", ran.stdout) };
    assert_eq!(format!("{first}\n"), shown);
    assert!(second.starts_with("no [MASK]\n  0.") && second.lines().count() == 6, "{second}");
    assert_eq!(third, shown);
}

#[test]
fn what_can_be_wrong() {
    let scratch = model("bert");
    let fill = |text: &str| scratch.run_with(&["--model_name_or_path", "model", "--fill", text]);
    fill("The <mask> sat.").fails(1, &["--fill", "no mask", "[MASK]"]);
    fill("").fails(1, &["--fill", "no mask"]);
    fill(&format!("[MASK] {}", "a ".repeat(70))).fails(1, &["--fill", "73 tokens", "at most 66"]);
    let ran = run_on(&scratch, &["--model_name_or_path", "model", "--fill", "-"], "a [MASK]\n\nb\n");
    let ran = ran.fails(1, &["standard input:3: ", "no mask"]);
    assert!(ran.stdout.starts_with("a [MASK]\n"), "{}", ran.stdout);
    scratch.run("--model_name_or_path model --fill [MASK] --score model/vocab.txt").fails(2, &["--fill and --score"]);
    scratch.run("--fill [MASK]").fails(2, &["--fill", "--model_name_or_path"]);
    scratch.run("--model_name_or_path absent --fill [MASK]").fails(1, &["--model_name_or_path", "absent"]);
    scratch.run("--model_name_or_path model --generate a").fails(2, &["--generate belongs to run_clm"]);
}

/// An output folder as it is, and an adapter's, which the end of its run names; `--preview` alone trains nothing.
#[test]
fn the_end_of_a_run_names_a_command_that_works() {
    let scratch = Scratch::prepared();
    let train = "--model_name_or_path bert --train_file train.txt --line_by_line --do_train --max_steps 1";
    for (folder, more) in [("whole", ""), ("adapter", "--use_lora --lora_r 2")] {
        let ran = scratch.run(&format!("{train} {more} --output_dir {folder}")).done();
        let command = format!("run_mlm --model_name_or_path {folder} --fill \"The [MASK] sat.\"");
        assert!(ran.stdout.contains(&format!("try it:           {command}\n")), "{}", ran.stdout);
        let used = scratch.run_with(&["--model_name_or_path", folder, "--fill", "The [MASK] sat."]).done();
        assert!(
            used.stdout.starts_with("The [MASK] sat.\n  0.") && used.stdout.lines().count() == 6,
            "{}",
            used.stdout
        );
    }
    let words = [train.split(' ').collect(), vec!["--output_dir", "a folder"]].concat();
    let ran = scratch.run_with(&words).done();
    assert!(ran.stdout.contains("run_mlm --model_name_or_path 'a folder' --fill"), "{}", ran.stdout);
    assert!(ran.stdout.contains("from_pretrained(\"a folder\")"), "{}", ran.stdout);
    let ran = scratch.run("--model_name_or_path bert --train_file train.txt --preview 2 --output_dir shown").done();
    assert!(ran.stdout.contains("train "), "{}", ran.stdout);
    assert!(!scratch.path("shown").exists());
}
