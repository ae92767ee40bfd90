//! Tokenized text that is broken off: by a kill, and by a disk that fills.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::Scratch;

/// What a killed run finished is there for the next, which goes on after it.
#[test]
fn tokenizing_that_was_killed_goes_on() {
    let scratch = Scratch::prepared();
    // A part has 64 MiB, and a token two bytes; each letter of such a word is one.
    let row = format!("{}\n", " qxzjqvkzxwqjzvkqxz".repeat(2000));
    scratch.write("long.txt", row.repeat(2000));
    let tokenizer = crate::common::workspace().join("crates/lm-data/tests/fixtures/tokenizers/roberta-small");
    let words =
        format!("--tokenizer_name {} --train_file long.txt --max_seq_length 128 --preview 1", tokenizer.display());
    let parts = || {
        let mut names = scratch.list("cache/run_lm/examples");
        names.retain(|name| name.ends_with(".bin"));
        names
    };
    let mut child = scratch.command().args(words.split(' ')).stdout(Stdio::null()).spawn().expect("the program starts");
    let began = Instant::now();
    while !scratch.path("cache/run_lm/examples").exists() || parts().is_empty() {
        assert!(child.try_wait().expect("a status").is_none(), "it ended before it was killed");
        assert!(began.elapsed() < Duration::from_secs(300), "no part after five minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("an end");
    let finished = parts();
    assert_eq!(finished.len(), 1, "{finished:?}");
    let path = scratch.path("cache/run_lm/examples").join(&finished[0]);
    let written = || std::fs::metadata(&path).and_then(|file| file.modified()).expect("a time");
    let before = written();
    let run = scratch.run(&words).done();
    assert!(run.stderr.contains("tokenizing goes on after 1 parts that are there"), "{}", run.stderr);
    assert_eq!(written(), before, "what was finished is not written again");
    assert!(scratch.run(&words).done().stderr.contains("(cached)"));
}
