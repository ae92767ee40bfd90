//! SIGINT and SIGTERM, and two runs on one output folder.
#![cfg(unix)]

mod run;

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use run::{Run, Scratch};

const PROGRAM: &str = env!("CARGO_BIN_EXE_run_mlm");
const MODEL: &str =
    "--config_name config.json --tokenizer_name TOKENIZERS/bert-cased-small --line_by_line --max_seq_length 32";

/// Waits until the condition holds while the child runs.
#[track_caller]
fn wait_until(child: &mut Child, what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(120), "waiting for {what}");
        assert!(child.try_wait().expect("a status").is_none(), "it ended before {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

fn lines_of_log(scratch: &Scratch, output_dir: &str) -> usize {
    let text = std::fs::read_to_string(scratch.path(output_dir).join("log.jsonl")).unwrap_or_default();
    text.lines().count()
}

#[test]
fn the_step_is_finished_and_saved_and_the_same_command_goes_on() {
    let scratch = Scratch::new();
    let flags = "--max_steps 400 --save_steps 1000";
    scratch.run("unbroken", flags).ok();
    for (signal, name, code) in [("TERM", "SIGTERM", 143), ("INT", "SIGINT", 130)] {
        let mut child = scratch.start(signal, flags);
        wait_until(&mut child, "the first steps", || lines_of_log(&scratch, signal) > 2);
        send(&child, signal);
        let run: Run = child.wait_with_output().expect("an end").into();
        let step = *scratch.checkpoints(signal).last().expect("a checkpoint");
        assert_eq!(
            run.fails(code).trim(),
            format!(
                "WARN {name} received: stopped after step {step} and saved {signal}/checkpoint-{step}; the same command goes on from there"
            )
        );
        assert!(!scratch.path(signal).join("model.safetensors").exists(), "not finished");
        scratch.run(signal, flags).ok();
        scratch.assert_same("unbroken", signal, name);
    }
}

#[test]
fn an_evaluation_is_broken_off_and_made_up_for() {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(scratch.path("valid.txt")).expect("text");
    std::fs::write(scratch.path("valid.txt"), text.repeat(400)).expect("written");
    let flags = "--max_steps 4 --eval_strategy steps --eval_steps 2 --save_steps 2 --save_total_limit 1 \
                 --load_best_model_at_end --do_eval --per_device_eval_batch_size 2";
    scratch.run("unbroken", flags).ok();
    let mut child = scratch.start("stopped", flags);
    wait_until(&mut child, "the evaluation", || lines_of_log(&scratch, "stopped") == 1);
    send(&child, "TERM");
    let run: Run = child.wait_with_output().expect("an end").into();
    assert!(run.fails(143).contains("after step 2"), "{}", run.stderr);
    assert_eq!(lines_of_log(&scratch, "stopped"), 1, "no half of an evaluation");
    scratch.run("stopped", flags).ok();
    scratch.assert_same("unbroken", "stopped", "a run stopped while it evaluated");
}

#[test]
fn a_second_signal_leaves_at_once() {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(scratch.path("train.txt")).expect("text");
    std::fs::write(scratch.path("train.txt"), text.repeat(400)).expect("written");
    // One step of thousands of batches.
    let mut child = scratch.start("out", "--gradient_accumulation_steps 2000 --logging_steps 1");
    wait_until(&mut child, "the start", || scratch.path("out/log.jsonl").exists());
    std::thread::sleep(Duration::from_millis(300));
    send(&child, "TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().expect("a status").is_none(), "the first lets the step end");
    let sent = Instant::now();
    send(&child, "INT");
    let run: Run = child.wait_with_output().expect("an end").into();
    run.fails(130);
    assert!(sent.elapsed() < Duration::from_secs(2), "at once");
    assert!(scratch.checkpoints("out").is_empty());
}

#[test]
fn two_runs_never_share_a_folder() {
    let scratch = Scratch::new();
    let mut first = scratch.start("out", "--max_steps 100000 --save_steps 100000");
    wait_until(&mut first, "training", || lines_of_log(&scratch, "out") > 0);
    for flags in ["", "--overwrite_output_dir", "--do_train false --do_eval"] {
        let second = scratch.run("out", flags);
        let message = second.fails(1);
        assert!(
            message.contains(&format!("--output_dir out: in use by another run (pid {} on ", first.id())),
            "{message}"
        );
    }
    first.kill().expect("killed");
    first.wait().expect("an end");
    let next = scratch.run("out", "--max_steps 2").ok();
    let owner = format!("pid {} on ", first.id());
    assert!(next.stderr.contains(&owner) && next.stderr.contains("its lock is taken over"), "{}", next.stderr);
    assert!(!scratch.names("out").iter().any(|name| name.contains("lock")), "given back");
}

/// `ps` shows everybody on the machine the words of a command.
#[cfg(target_os = "linux")]
#[test]
fn a_token_does_not_stay_in_the_list_of_processes() {
    let scratch = Scratch::new();
    let mut child =
        scratch.start("out", "--token s3cret-one --hub_token=s3cret-two --max_steps 100000 --save_strategy no");
    let list = format!("/proc/{}/cmdline", child.id());
    wait_until(&mut child, "the first steps", || lines_of_log(&scratch, "out") > 0);
    let shown = std::fs::read_to_string(list).expect("the command").replace('\0', " ");
    child.kill().and_then(|()| child.wait()).expect("an end");
    assert!(shown.contains("--token ********** --hub_token=********** --max_steps 100000"), "{shown}");
}
