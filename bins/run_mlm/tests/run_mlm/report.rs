//! What `report.html` and `--compare` show of real runs.

use crate::common::{Scratch, fixture, sample};

const TRAIN: &str = "--model_name_or_path bert --train_file train.txt --validation_file valid.txt --line_by_line \
                     --max_seq_length 20 --do_train --per_device_train_batch_size 2 --learning_rate 1e-2";

/// The steps of the line that is drawn in the chart of this title.
fn steps(report: &str, title: &str) -> Vec<u64> {
    let figure = report.split(&format!("<figcaption><span>{title}<")).nth(1).unwrap_or_else(|| panic!("no {title}"));
    let line = figure.split("data-steps=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
    line.split(' ').map(|step| step.parse().expect("a step")).collect()
}

/// The run logs nothing but its end, and evaluates once.
#[test]
fn a_run_with_the_default_logging_has_curves_marks_and_notes() {
    let scratch = Scratch::prepared();
    scratch
        .run(&format!("{TRAIN} --max_steps 40 --save_steps 20 --eval_strategy steps --eval_steps 30 --output_dir out"))
        .done();
    let report = scratch.read("out/report.html");
    let all: Vec<u64> = (1..=40).collect();
    for title in ["Loss", "Perplexity", "Learning rate", "Gradient norm before clipping", "Tokens per second"] {
        assert_eq!(steps(&report, title), all, "{title}");
    }
    assert_eq!(steps(&report, "Accuracy"), [30, 40]);
    for part in [
        "What to notice",
        "unigram baseline",
        "<title>checkpoint 20</title>",
        "<title>checkpoint 40</title>",
        "the model sees: [MASK]",
        "<th>before<i>",
        "<th>step 30<i>",
        "<th>step 40<i>",
        "<th>processor</th>",
        "<th>version</th><td>run_mlm ",
        "download=\"curves.csv\"",
    ] {
        assert!(report.contains(part), "{part}");
    }
    // Every cell that is predicted is marked in each version, with a probability.
    let hidden = report.matches("the model sees: ").count();
    let guessed =
        report.matches("<mark class=\"right\" title").count() + report.matches("<mark class=\"wrong\" title").count();
    assert!(hidden > 0 && guessed == 3 * hidden, "{guessed} of 3 times {hidden}");
    assert_eq!(report.matches("%</i></mark>").count(), guessed);
}

/// Two processes, one report: the curve of all steps, and where it was taken up.
#[test]
fn a_resumed_run_shows_all_of_it() {
    let scratch = Scratch::prepared();
    let words = format!("{TRAIN} --save_steps 5 --lr_scheduler_type constant --output_dir out");
    scratch.run(&format!("{words} --max_steps 5")).done();
    scratch.run(&format!("{words} --max_steps 12")).done();
    let report = scratch.read("out/report.html");
    assert_eq!(steps(&report, "Loss"), (1..=12).collect::<Vec<_>>());
    for part in ["<title>resumed from step 5</title>", "<title>checkpoint 5</title>", "<th>before<i>", "<th>step 12<i>"]
    {
        assert!(report.contains(part), "{part}");
    }
    // Of weights alone there is no record: the log shows what was before.
    let words = format!(
        "{TRAIN} --save_steps 5 --save_only_model --logging_steps 5 --lr_scheduler_type constant --output_dir alone"
    );
    scratch.run(&format!("{words} --max_steps 5")).done();
    scratch.run(&format!("{words} --max_steps 8 --allow_changes_on_resume")).done();
    assert_eq!(steps(&scratch.read("alone/report.html"), "Loss"), [5, 6, 7, 8]);
}

#[test]
fn runs_are_compared_on_one_page() {
    let scratch = Scratch::prepared();
    for (rate, name) in [("1e-2", "a"), ("3e-2", "b")] {
        scratch
            .run(&format!(
                "{TRAIN} --learning_rate {rate} --max_steps 6 --do_eval --logging_steps 2 --output_dir {name}"
            ))
            .done();
    }
    let said = scratch.run("--compare a b").done().stdout;
    assert!(said.contains("2 runs compared: ./compare.html"), "{said}");
    let page = scratch.read("compare.html");
    for part in
        ["Training loss", "learning_rate</td><td class=\"code\">0.01</td><td class=\"code\">0.03</td>", "Final figures"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains(">max_seq_length<"), "the same in both");
    assert_eq!(steps(&page, "Training loss"), [1, 2, 3, 4, 5, 6]);

    // What Python leaves compares as well: without a report.
    std::fs::remove_file(scratch.path("b/report.html")).expect("removed");
    scratch.run("--compare a b --output_dir pages/new").done();
    assert!(scratch.read("pages/new/compare.html").contains("unknown"));

    std::fs::create_dir(scratch.path("empty")).expect("made");
    scratch.write("broken/report.html", "<script type=\"application/json\" id=\"run\">{\"step\":</script>");
    for (words, code, said) in [
        ("--compare a", 2, "two output folders or more"),
        ("--compare a b --do_train", 2, "leave --do_train out"),
        ("--compare a b --train_file train.txt", 2, "leave --train_file out"),
        ("--compare a a", 1, "--compare a: named twice"),
        ("--compare a absent", 1, "--compare absent: no such folder"),
        ("--compare a train.txt", 1, "--compare train.txt: no such folder"),
        ("--compare a empty", 1, "--compare empty: neither report.html nor trainer_state.json"),
        ("--compare a broken", 1, "--compare: broken/report.html: "),
        ("--compare a b --output_dir train.txt", 1, "train.txt"),
    ] {
        scratch.run(words).fails(code, &[said]);
    }
}

/// 700 steps are more than a curve has points: each point is a few of them, and the last is there.
#[test]
fn a_long_run_is_thinned() {
    let scratch = Scratch::prepared();
    let train = sample("train.txt");
    let model = fixture("models/bert").display().to_string();
    let words = format!(
        "--config_name {model} --tokenizer_name bert --train_file {train} --line_by_line --max_seq_length 16 --do_train \
         --max_train_samples 64 --per_device_train_batch_size 1 --max_steps 700 --save_steps 350 --output_dir out"
    );
    scratch.run(&words).done();
    let steps = steps(&scratch.read("out/report.html"), "Loss");
    assert!((150..=300).contains(&steps.len()), "{}", steps.len());
    assert_eq!(steps.last(), Some(&700));
    let points = scratch.json("out/checkpoint-350/run_state.json")["history"]["curve"]["points"].clone();
    assert!(points.as_array().is_some_and(|points| (150..=300).contains(&points.len())), "{points}");
}
