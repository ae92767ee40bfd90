//! What a person sees on a terminal, and where there is none.

use crate::common::Scratch;

const RUN: &str = "--model_name_or_path bert --train_file train.txt --validation_file valid.txt --line_by_line \
                   --max_seq_length 24 --do_train --do_eval --max_steps 4 --logging_steps 2 --eval_strategy steps \
                   --eval_steps 2 --per_device_train_batch_size 2";

/// What the program writes to a terminal of so many columns; none if there is nothing to give it one.
#[cfg(target_os = "linux")]
pub fn on_a_terminal(scratch: &Scratch, columns: usize, words: &str, environment: &str) -> Option<String> {
    let line = format!("stty cols {columns} rows 24; {environment} '{program}' {words}", program = crate::PROGRAM);
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(scratch.path("")).stdin(std::process::Stdio::null());
    command.env("HF_HUB_OFFLINE", "1").env("XDG_CACHE_HOME", scratch.path("cache")).env("TERM", "xterm");
    command.env_remove("NO_COLOR").env_remove("RUST_BACKTRACE");
    let output = command.output().ok()?;
    assert!(output.status.code().is_some(), "{output:?}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The columns of the longest line that is drawn in one go, without what a terminal obeys.
#[cfg(target_os = "linux")]
fn widest(text: &str, of: impl Fn(&str) -> bool) -> usize {
    let pieces = text.split(['\r', '\n']).map(|piece| {
        let mut shown = String::new();
        let mut rest = piece;
        while let Some(start) = rest.find('\u{1b}') {
            shown += &rest[..start];
            let after = &rest[start + 1..];
            rest = after.find(|c: char| c.is_ascii_alphabetic()).map_or("", |end| &after[end + 1..]);
        }
        shown + rest
    });
    pieces.filter(|piece| of(piece)).map(|piece| piece.trim_end().chars().count()).max().unwrap_or(0)
}

#[cfg(target_os = "linux")]
#[test]
fn records_and_bars_fit_the_terminal() {
    let scratch = Scratch::prepared();
    for columns in [45, 60, 100] {
        let Some(text) = on_a_terminal(&scratch, columns, &format!("{RUN} --output_dir out{columns}"), "") else {
            return crate::not_tested("there is no `script` to give the program a terminal");
        };
        // The second of two bars follows the first, which is filled up to the terminal's width, without a new line.
        let bar = |piece: &str| piece.contains("/4 ") && !piece.contains("evaluating");
        let record = |piece: &str| piece.starts_with("step ");
        assert!(widest(&text, bar) > 20 && widest(&text, record) > 20, "{text}");
        assert!(widest(&text, bar) < columns && widest(&text, record) <= columns, "{columns}: {text}");
        assert!(text.contains("step 4/4  loss ") && text.contains("step 4/4  eval_loss "), "{text}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn colours_are_cargos_and_no_color_is_heeded() {
    let scratch = Scratch::prepared();
    let words = "--model_name_or_path bert --train_file train.txt --do_train --max_seq_length 999 --output_dir out";
    let Some(coloured) = on_a_terminal(&scratch, 80, words, "") else {
        return crate::not_tested("there is no `script` to give the program a terminal");
    };
    assert!(coloured.contains("\u{1b}[1;33mwarning:\u{1b}[0m "), "{coloured}");
    let plain = on_a_terminal(&scratch, 80, &format!("{words} --overwrite_output_dir"), "NO_COLOR=1").expect("text");
    assert!(plain.contains("warning: ") && !plain.contains("[1;33m"), "{plain}");
}

/// Piped, a record has all its fields, and no bar or colour is among them.
#[test]
fn what_is_piped_is_plain() {
    let run = Scratch::prepared().run(&format!("{RUN} --output_dir out")).done();
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(!said.contains('\u{1b}') && !said.contains('█'), "{said}");
    let record = run.stdout.lines().find(|line| line.starts_with("step 2/4  loss ")).unwrap_or_default();
    for part in ["  lr ", " tok/s", "  left 0:"] {
        assert!(record.contains(part), "{record}");
    }
    assert!(run.stderr.contains(" parameters, on cpu: 12 examples, 2 per batch, 4 steps, 1 epoch\n"), "{}", run.stderr);
    assert!(run.stderr.contains("train: 12 examples, ") && run.stderr.contains(" tokens of 12 rows"), "{}", run.stderr);
}

/// Of arguments that cannot be followed nothing is said but why.
#[test]
fn a_wrong_argument_is_all_that_is_said() {
    let scratch = Scratch::prepared();
    for words in ["--device nonsense", "--model_type gpt3", "--num_train_epochs x"] {
        let words = format!("--train_file train.txt --tokenizer_name bert --do_train --output_dir out {words}");
        let run = scratch.run(&words);
        assert_eq!((run.code, run.stderr.lines().count(), run.stdout.as_str()), (Some(2), 1, ""), "{}", run.stderr);
    }
}

/// Nor of files that are not there, or what else is wrong before anything was begun: neither what else the arguments have as
/// an effect, nor what was found of the files that are there.
#[test]
fn what_fails_before_it_begins_is_all_that_is_said() {
    let scratch = Scratch::prepared();
    scratch.write("empty.txt", "");
    scratch.write("full/thesis.txt", "years of work\n");
    let begins = "--model_name_or_path bert --train_file train.txt --do_train --no_cuda";
    for (words, part) in [
        ("--train_file absent.txt", "absent.txt"),
        ("--train_file train.txt,empty.txt --validation_file absent.txt", "--validation_file"),
        ("--model_name_or_path ./absent", "./absent"),
        ("--tokenizer_name ./absent", "--tokenizer_name"),
        ("--dataset_name ./absent", "--dataset_name"),
        ("--resume_from_checkpoint absent", "--resume_from_checkpoint"),
        ("--output_dir full", "not empty"),
        ("--max_seq_length 99", "--max_seq_length"),
        ("--max_seq_length 2", "--max_seq_length"),
        ("--merge_lora", "--merge_lora"),
    ] {
        let run = scratch.run(&format!("{begins} {words}"));
        let [line] = run.stderr.lines().collect::<Vec<_>>()[..] else { panic!("{words}: {}", run.stderr) };
        assert!(line.starts_with("run_mlm: error: ") && line.contains(part), "{words}: {line}");
    }
    let run = scratch.run(&format!("{begins} --max_steps 1 --output_dir out")).done();
    assert!(run.stderr.contains("only the 3 newest checkpoints are kept"), "{}", run.stderr);
    assert!(run.stderr.contains("--no_cuda is an old name"), "{}", run.stderr);
}

/// What the command line names is looked at before anything is downloaded.
#[test]
fn a_file_that_is_missing_is_known_before_a_download() {
    let scratch = Scratch::prepared();
    for words in ["--dataset_name owner/set", "--adapter_name_or_path owner/adapter --train_file train.txt"] {
        let words = format!("--model_name_or_path bert {words} --do_train --logging_dir train.txt");
        scratch.run(&words).fails(1, &["--logging_dir train.txt: is a file"]);
    }
}

/// At its end a run says what to notice.
#[test]
fn notes_at_the_end() {
    let scratch = Scratch::prepared();
    let words = RUN.replace("--max_steps 4", "--max_steps 32 --learning_rate 0.02 --mlm_probability 0.9");
    let run = scratch.run(&format!("{words} --output_dir out")).done();
    assert!(run.stdout.contains("note: the training loss was still falling, from "), "{}", run.stdout);
    assert!(run.stdout.contains("note: 100 % of the train rows were cut: a larger --max_seq_length"), "{}", run.stdout);
}
