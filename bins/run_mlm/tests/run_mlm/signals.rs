//! Signals, and two runs on one output folder.
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{Run, Scratch};

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
    let signals = [("TERM", "SIGTERM", 143), ("INT", "SIGINT", 130), ("HUP", "SIGHUP", 129), ("USR1", "SIGUSR1", 138)];
    for (signal, name, code) in signals {
        // The flag of a quick start of old does not make the promise a lie.
        let flags = &format!("{flags}{}", if signal == "INT" { " --overwrite_output_dir" } else { "" });
        let mut child = scratch.start(signal, flags);
        wait_until(&mut child, "the first steps", || lines_of_log(&scratch, signal) > 2);
        send(&child, signal);
        let run: Run = child.wait_with_output().expect("an end").into();
        let step = *scratch.checkpoints(signal).last().expect("a checkpoint");
        assert_eq!(
            run.fails(code).trim(),
            format!(
                "warning: {name} received: stopped after step {step} and saved {signal}/checkpoint-{step}; the same command goes on from there"
            )
        );
        assert!(!scratch.path(signal).join("model.safetensors").exists(), "not finished");
        let again = scratch.run(signal, flags).ok();
        assert!(again.stderr.contains(&format!("resuming from {signal}/checkpoint-{step} ")), "{}", again.stderr);
        scratch.assert_same("unbroken", signal, name);
    }
}

/// Somebody cleans the cache while a run reads it: one line, never SIGBUS.
#[test]
fn a_store_truncated_in_use_is_one_line() {
    let scratch = Scratch::new();
    let mut child = scratch.start("out", "--max_steps 100000 --save_steps 100000");
    wait_until(&mut child, "the first steps", || lines_of_log(&scratch, "out") > 2);
    for store in std::fs::read_dir(scratch.path("cache")).expect("a folder") {
        let path = store.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            std::fs::File::options().write(true).open(path).expect("a store").set_len(100).expect("truncated");
        }
    }
    let run: Run = child.wait_with_output().expect("an end").into();
    let line = run.fails(1);
    assert!(line.contains("was truncated or changed while it was in use; start again"), "{line}");
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

/// What the message says can be done, can be done.
#[test]
fn other_ways_on_lead_on() {
    let scratch = Scratch::new();
    let mut child = scratch.start("out", "--max_steps 4000 --save_steps 5000 --save_only_model");
    wait_until(&mut child, "the first steps", || lines_of_log(&scratch, "out") > 2);
    send(&child, "TERM");
    let run: Run = child.wait_with_output().expect("an end").into();
    assert!(run.fails(143).contains("so go on from it with --model_name_or_path"), "{}", run.stderr);
    let step = *scratch.checkpoints("out").last().expect("a checkpoint");
    scratch.run("next", &format!("--model_name_or_path out/checkpoint-{step} --max_steps 1")).ok();

    let text = std::fs::read_to_string(scratch.path("valid.txt")).expect("text");
    std::fs::write(scratch.path("valid.txt"), text.repeat(2000)).expect("written");
    let flags = "--max_steps 1 --do_eval --per_device_eval_batch_size 2";
    let mut child = scratch.start("evaluated", flags);
    wait_until(&mut child, "the end of training", || scratch.path("evaluated/train_results.json").exists());
    send(&child, "TERM");
    let run: Run = child.wait_with_output().expect("an end").into();
    assert!(run.stderr.contains("the trained model is saved; a signal ended its evaluation"), "{}", run.stderr);
    assert_eq!(run.code, Some(143));
    std::fs::write(scratch.path("valid.txt"), text).expect("written");
    scratch.run("alone", "--do_train false --do_eval --model_name_or_path evaluated").ok();
    assert!(scratch.json("alone/eval_results.json")["eval_loss"].is_number());
}

#[test]
fn a_step_of_many_batches_is_given_up() {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(scratch.path("train.txt")).expect("text");
    std::fs::write(scratch.path("train.txt"), text.repeat(400)).expect("written");
    // One step of thousands of batches; the second is begun and given up.
    let flags = "--gradient_accumulation_steps 200 --logging_steps 1 --max_steps 2 --save_steps 1000";
    scratch.run("unbroken", flags).ok();
    let mut child = scratch.start("out", flags);
    wait_until(&mut child, "the first step", || lines_of_log(&scratch, "out") > 0);
    send(&child, "TERM");
    let sent = Instant::now();
    let run: Run = child.wait_with_output().expect("an end").into();
    assert!(run.fails(143).contains("stopped after step 1 and saved out/checkpoint-1"), "{}", run.stderr);
    assert!(sent.elapsed() < Duration::from_secs(2), "within a batch");
    scratch.run("out", flags).ok();
    scratch.assert_same("unbroken", "out", "a step given up");

    // Nothing is there to save before the first step.
    let mut child = scratch.start("early", flags);
    wait_until(&mut child, "the start", || scratch.path("early/report.html").exists());
    send(&child, "INT");
    let run: Run = child.wait_with_output().expect("an end").into();
    assert!(run.fails(130).contains("before the first step was made; there is nothing to save"), "{}", run.stderr);
    assert!(scratch.checkpoints("early").is_empty());
    scratch.run("early", flags).ok();
    scratch.assert_same("unbroken", "early", "a run stopped before its first step");
}

#[test]
fn a_second_signal_leaves_at_once() {
    let scratch = Scratch::new();
    let line = std::fs::read_to_string(scratch.path("train.txt")).expect("text");
    std::fs::write(scratch.path("train.txt"), line.repeat(400)).expect("written");
    // Batches that take long.
    let flags = "--per_device_train_batch_size 2000 --plain_ops --save_strategy no --logging_steps 1";
    let mut child = scratch.start("out", flags);
    wait_until(&mut child, "the first step", || lines_of_log(&scratch, "out") > 0);
    std::thread::sleep(Duration::from_millis(100));
    send(&child, "TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().expect("a status").is_none(), "the first lets the batch end");
    let sent = Instant::now();
    send(&child, "INT");
    let run: Run = child.wait_with_output().expect("an end").into();
    assert!(run.fails(130).contains("a second signal, SIGINT: left at once"), "{}", run.stderr);
    assert!(sent.elapsed() < Duration::from_secs(2), "at once");
    assert!(scratch.checkpoints("out").is_empty());
    assert!(!scratch.names("out").iter().any(|name| name.contains("lock")), "given back");
}

#[test]
fn before_training_and_without_it_nothing_is_left_behind() {
    let scratch = Scratch::new();
    let line = std::fs::read_to_string(scratch.path("train.txt")).expect("text");
    std::fs::write(scratch.path("train.txt"), line.repeat(40_000)).expect("written");
    let mut child = scratch.start("out", "--preprocessing_num_workers 1 --overwrite_cache");
    wait_until(&mut child, "the lock", || scratch.path("out/.run.lock").exists());
    send(&child, "HUP");
    let run: Run = child.wait_with_output().expect("an end").into();
    assert!(run.fails(129).contains("SIGHUP received before anything was trained"), "{}", run.stderr);
    assert!(!scratch.path("out/.run.lock").exists());

    scratch.run("model", "--max_steps 1 --validation_file train.txt --train_file valid.txt").ok();
    let flags = "--do_train false --do_eval --model_name_or_path model --validation_file train.txt";
    let mut child = scratch.start("eval", flags);
    wait_until(&mut child, "the lock", || scratch.path("eval/.run.lock").exists());
    send(&child, "TERM");
    let run: Run = child.wait_with_output().expect("an end").into();
    assert!(run.fails(143).contains("SIGTERM received"), "{}", run.stderr);
    assert_eq!(scratch.names("eval"), [""; 0]);
}

/// There is nothing to save of a model that only answers, and nothing to say.
#[test]
fn a_model_that_answers_ends_without_a_word() {
    let scratch = Scratch::new();
    scratch.run("model", "--max_steps 1").ok();
    let pipe = Stdio::piped;
    let mut program = Command::new(crate::PROGRAM);
    program.args(["--model_name_or_path", "model", "--fill", "-"]).current_dir(scratch.path(""));
    let mut child = program.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().expect("started");
    let mut questions = child.stdin.take().expect("standard input");
    writeln!(questions, "the [MASK] sat").expect("written");
    let mut answer = String::new();
    BufReader::new(child.stdout.take().expect("standard output")).read_line(&mut answer).expect("a line");
    assert_eq!(answer, "the [MASK] sat\n");
    send(&child, "INT");
    let run: Run = child.wait_with_output().expect("an end").into();
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
}

/// What `nohup` started lives on when the terminal is closed.
#[cfg(target_os = "linux")]
#[test]
fn an_ignored_hangup_stays_ignored() {
    let scratch = Scratch::new();
    let program = scratch.command("out", "--max_steps 60 --save_strategy no");
    let mut command = Command::new("nohup");
    command.arg(program.get_program()).args(program.get_args()).current_dir(scratch.path(""));
    let pipe = std::process::Stdio::piped;
    let mut child = command.stdin(std::process::Stdio::null()).stdout(pipe()).stderr(pipe()).spawn().expect("started");
    wait_until(&mut child, "the first steps", || lines_of_log(&scratch, "out") > 2);
    send(&child, "HUP");
    let run: Run = child.wait_with_output().expect("an end").into();
    run.ok();
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
