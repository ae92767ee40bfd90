//! Several processes, started on this machine by mpirun, or by torchrun in a program without MPI: what the program makes of
//! them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{Moments, Run, Scratch};

/// The variable in which the launcher says the rank.
const RANK: &str = if cfg!(feature = "mpi") { "OMPI_COMM_WORLD_RANK" } else { "RANK" };

/// The program under the launcher, with what `Scratch::command` gives it.
fn ranks(scratch: &Scratch, number: usize, output_dir: &str, flags: &str) -> Command {
    ranks_through(scratch, number, output_dir, flags, "exec \"$0\" \"$@\"")
}

/// The same, where a script of bash, which knows `$RANK`, starts the program `$0` with its arguments `$@`.
fn ranks_through(scratch: &Scratch, number: usize, output_dir: &str, flags: &str, script: &str) -> Command {
    let program = scratch.command(output_dir, flags);
    let mut command = if cfg!(feature = "mpi") {
        let mut mpirun = Command::new("mpirun");
        mpirun.args(["-n", &number.to_string()]);
        // As root, and with more processes than there are processors.
        for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"] {
            mpirun.env(name, "1");
        }
        mpirun
    } else {
        let mut torchrun = Command::new("torchrun");
        torchrun.args(["--standalone", "--no-python", "--nproc-per-node", &number.to_string()]);
        torchrun
    };
    command
        .args(["bash", "-c", &format!("RANK=${RANK}; {script}")])
        .arg(program.get_program())
        .args(program.get_args());
    command.current_dir(scratch.path("")).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
    command
}

/// The exit code of ranks that leave with `code`: torchrun has one for all.
fn code(code: i32) -> Option<i32> {
    Some(if cfg!(feature = "mpi") { code } else { 1 })
}

fn run(scratch: &Scratch, number: usize, output_dir: &str, flags: &str) -> Run {
    ranks(scratch, number, output_dir, flags).output().expect("the launcher starts").into()
}

fn start(scratch: &Scratch, number: usize, output_dir: &str, flags: &str) -> Child {
    let mut command = ranks(scratch, number, output_dir, flags);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the launcher starts")
}

/// The line that the program itself says of its failure; the launcher says more, and torchrun's other ranks that they hear
/// it no more.
#[track_caller]
fn only_error(run: &Run) -> &str {
    let is_cause = |line: &&str| line.contains(": error: ") && !line.contains("does not hear the others any more");
    let errors: Vec<_> = run.stderr.lines().filter(is_cause).collect();
    assert_eq!(errors.len(), 1, "{}", run.stderr);
    errors[0]
}

/// The process of this rank.
fn pid_of(launcher: &Child, rank: usize) -> u32 {
    let wanted = format!("{RANK}={rank}");
    let is_rank = |pid: u32| {
        let read = |name: &str| std::fs::read(Path::new("/proc").join(pid.to_string()).join(name)).unwrap_or_default();
        let parent = format!("PPid:\t{}\n", launcher.id());
        String::from_utf8_lossy(&read("status")).contains(&parent)
            && read("environ").split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid| is_rank(*pid)).expect("the rank's process")
}

fn send(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().expect("kill").success());
}

/// Waits until the run into `output_dir` has a checkpoint.
#[track_caller]
fn wait_for_checkpoint(scratch: &Scratch, child: &mut Child, output_dir: &str) {
    let began = Instant::now();
    while scratch.checkpoints(output_dir).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(120), "waiting for a checkpoint");
        assert!(child.try_wait().expect("a status").is_none(), "it ended before its first checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn two_ranks_equal_one_that_accumulates_bit_for_bit() {
    let scratch = Scratch::new();
    // Six batches an epoch, so the last step of each has one batch for each rank or, of five, for the first alone.
    for (name, batch) in [("even", "4"), ("odd", "5")] {
        let flags = format!(
            "--max_steps 7 --do_eval --eval_strategy epoch --per_device_eval_batch_size 1 --per_device_train_batch_size {batch} \
             --include_num_input_tokens_seen --weight_decay 0.1"
        );
        let (one, two) = (format!("one-{name}"), format!("two-{name}"));
        scratch.run(&one, &format!("{flags} --gradient_accumulation_steps 2")).ok();
        run(&scratch, 2, &two, &format!("{flags} --ddp_bucket_cap_mb 0")).ok();
        scratch.assert_same(&one, &two, "two ranks");
        let card = String::from_utf8(scratch.bytes(&format!("{two}/README.md"))).expect("text");
        assert!(card.contains("- num_devices: 2\n") && card.contains("- total_eval_batch_size: 2\n"), "{card}");
        // The moments too.
        let optimizer = |folder: &str| scratch.bytes(&format!("{folder}/checkpoint-7/optimizer.pt"));
        assert!(optimizer(&one) == optimizer(&two), "moments");
    }
}

#[test]
fn four_ranks_equal_one_that_accumulates_to_rounding() {
    let scratch = Scratch::new();
    let flags = "--max_steps 4 --do_eval --logging_steps 1 --per_device_train_batch_size 2";
    scratch.run("one", &format!("{flags} --gradient_accumulation_steps 4")).ok();
    run(&scratch, 4, "four", flags).ok();
    run(&scratch, 2, "both", &format!("{flags} --devices cpu,cpu")).ok();
    let losses = |folder: &str| -> Vec<f64> {
        let history = scratch.history(folder);
        let losses = history.iter().flat_map(|record| [&record["loss"], &record["grad_norm"], &record["eval_loss"]]);
        losses.filter_map(serde_json::Value::as_f64).collect()
    };
    let one = losses("one");
    assert_eq!(one.len(), 9, "{one:?}");
    for folder in ["four", "both"] {
        let other = losses(folder);
        let equal = one.iter().zip(&other).all(|(one, other)| (one - other).abs() < 1e-4 * one.abs());
        assert!(one.len() == other.len() && equal, "{folder}: {one:?} {other:?}");
    }
}

#[test]
fn a_sharded_optimizer_changes_nothing() {
    let scratch = Scratch::new();
    for optim in ["adamw_torch", "adamw_8bit", "adafactor"] {
        let flags = format!("--max_steps 5 --optim {optim} --do_eval");
        let (whole, sharded) = (format!("whole-{optim}"), format!("sharded-{optim}"));
        run(&scratch, 3, &whole, &flags).ok();
        run(&scratch, 3, &sharded, &format!("{flags} --sharded_optimizer")).ok();
        scratch.assert_same(&whole, &sharded, "a sharded optimizer");
        let moments = |folder: &str| scratch.bytes(&format!("{folder}/checkpoint-5/optimizer.pt"));
        assert!(moments(&whole) == moments(&sharded), "moments of {optim}");
        // Its checkpoint is like any other.
        for (flag, from) in [("", &sharded), ("--sharded_optimizer", &whole)] {
            let resumed = format!("resumed{flag}-{optim}");
            scratch.copy_checkpoint(from, &resumed, 3);
            run(&scratch, 3, &resumed, &format!("{flags} {flag}")).ok();
            scratch.assert_same(&whole, &resumed, "resumed");
            assert!(moments(&whole) == moments(&resumed), "moments of {optim}, resumed");
        }
    }
}

#[test]
fn an_evaluation_is_the_same_for_any_number_of_ranks() {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(scratch.path("valid.txt")).expect("text");
    // More batches than the ranks evaluate before they hear each other, and not a multiple of that.
    std::fs::write(scratch.path("valid.txt"), text.repeat(11)).expect("written");
    let flags = "--do_train false --do_eval --per_device_eval_batch_size 1";
    scratch.run("one", flags).ok();
    for number in [2, 3, 4] {
        let folder = format!("of-{number}");
        run(&scratch, number, &folder, flags).ok();
        let figures = |folder: &str| {
            let mut results = scratch.json(&format!("{folder}/eval_results.json"));
            let results = results.as_object_mut().expect("an object");
            results.retain(|name, _| !name.contains("second") && !name.contains("time"));
            serde_json::Value::from(results.clone())
        };
        assert_eq!(figures("one"), figures(&folder));
    }
}

#[test]
fn a_killed_rank_ends_the_job_and_any_number_goes_on() {
    let scratch = Scratch::new();
    let flags = "--max_steps 80 --save_steps 5 --per_device_train_batch_size 1";
    scratch.run("unbroken", &format!("{flags} --gradient_accumulation_steps 2")).ok();
    let mut child = start(&scratch, 2, "killed", flags);
    wait_for_checkpoint(&scratch, &mut child, "killed");
    let killed = Instant::now();
    send(pid_of(&child, 1), "KILL");
    let run_of_two: Run = child.wait_with_output().expect("an end").into();
    assert!(killed.elapsed() < Duration::from_secs(10), "within seconds");
    let names_it = ["rank 1", "rank      : 1"].iter().any(|name| run_of_two.stderr.contains(name));
    assert!(run_of_two.code != Some(0) && names_it, "{}", run_of_two.stderr);
    assert!(!scratch.path("killed/model.safetensors").exists(), "not finished");
    // Four take turns with the batches of two, which is too many; one takes them all, and two go on to the end.
    let four = run(&scratch, 4, "killed", flags);
    let line = only_error(&four);
    assert!(line.contains("a step has 2 batches, which 4 processes cannot share evenly: start 1, 2, or"), "{line}");
    let mut child = scratch.start("killed", flags);
    let reached = *scratch.checkpoints("killed").last().expect("a checkpoint");
    let began = Instant::now();
    while scratch.checkpoints("killed").last() == Some(&reached) {
        assert!(began.elapsed() < Duration::from_secs(120), "waiting for the next checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().and_then(|()| child.wait()).expect("an end");
    let last = run(&scratch, 2, "killed", flags).ok();
    assert!(last.stderr.contains("resuming from killed/checkpoint-"), "{}", last.stderr);
    let weights = |folder: &str| scratch.bytes(&format!("{folder}/model.safetensors"));
    assert!(weights("unbroken") == weights("killed"), "weights");
    assert_eq!(scratch.history("unbroken"), scratch.history("killed"));
}

#[test]
fn a_signal_to_one_rank_stops_all_after_the_same_step() {
    let scratch = Scratch::new();
    let flags = "--max_steps 80 --save_steps 10 --per_device_train_batch_size 1";
    scratch.run("unbroken", &format!("{flags} --gradient_accumulation_steps 2")).ok();
    for (rank, signal, code) in [(1, "TERM", 143), (0, "USR1", 138), (1, "HUP", 129)] {
        let mut child = start(&scratch, 2, signal, flags);
        wait_for_checkpoint(&scratch, &mut child, signal);
        send(pid_of(&child, rank), signal);
        let stopped: Run = child.wait_with_output().expect("an end").into();
        assert_eq!(stopped.code, self::code(code), "{}", stopped.stderr);
        let step = *scratch.checkpoints(signal).last().expect("a checkpoint");
        let line =
            format!("warning: SIG{signal} received: stopped after step {step} and saved {signal}/checkpoint-{step}");
        assert_eq!(stopped.stderr.matches(&line).count(), 1, "{}", stopped.stderr);
        run(&scratch, 2, signal, flags).ok();
        scratch.assert_same("unbroken", signal, "two ranks that were stopped");
    }
}

#[test]
fn what_one_rank_cannot_do_is_told_once() {
    let scratch = Scratch::new();
    let failed = run(&scratch, 2, "out", "--validation_file absent.txt --do_eval");
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(only_error(&failed).contains("absent.txt"), "{}", failed.stderr);
    let failed = run(&scratch, 2, "out", "--learning_rate high");
    assert_eq!(failed.code, code(2), "{}", failed.stderr);
    assert!(only_error(&failed).contains("--learning_rate"), "{}", failed.stderr);
    // The second rank is given another command line.
    let script = "exec \"$0\" \"$@\" --seed $((1 + RANK))";
    let failed: Run = ranks_through(&scratch, 2, "out", "", script).output().expect("the launcher starts").into();
    let line = only_error(&failed);
    assert!(
        line.contains("the command lines of rank 0 and of rank 1 on ") && line.ends_with("differ: 1 and 2"),
        "{line}"
    );
    assert!(!scratch.path("out").exists(), "nothing was begun");
}

#[test]
fn a_store_that_one_rank_cannot_read_any_more() {
    let scratch = Scratch::new();
    let mut child = start(&scratch, 2, "out", "--max_steps 100000 --save_steps 50 --save_total_limit 2");
    wait_for_checkpoint(&scratch, &mut child, "out");
    for store in std::fs::read_dir(scratch.path("cache")).expect("a folder") {
        let path = store.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            std::fs::File::options().write(true).open(path).expect("a store").set_len(100).expect("truncated");
        }
    }
    let failed: Run = child.wait_with_output().expect("an end").into();
    let line = only_error(&failed);
    assert!(line.contains("was truncated or changed while it was in use") && line.contains("is saved"), "{line}");
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
}

/// Kills one rank or a run of one process again and again, and each time one or two go on: it ends as one that never was.
fn chain(steps: u64, kills: usize, seed: u64) {
    let scratch = Scratch::new();
    let flags = format!("--max_steps {steps} --save_steps 2 --save_total_limit 2 --per_device_train_batch_size 1");
    let of_one = format!("{flags} --gradient_accumulation_steps 2");
    scratch.run("unbroken", &of_one).ok();
    let mut moments = Moments(seed);
    let newest = || scratch.checkpoints("killed").last().copied();
    let (mut during_saves, mut of_two) = (0, 0);
    for _ in 0..kills {
        let before = newest();
        let two = before.is_none() || moments.coin();
        let mut child = if two { start(&scratch, 2, "killed", &flags) } else { scratch.start("killed", &of_one) };
        let began = Instant::now();
        while newest() == before {
            assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint after two minutes");
            assert!(child.try_wait().expect("a status").is_none(), "it ended before it was killed: give it more steps");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(moments.next(Duration::from_millis(100)));
        let victim = if two { pid_of(&child, usize::from(moments.coin())) } else { child.id() };
        send(victim, "KILL");
        let ended = child.wait_with_output().expect("an end");
        assert!(!ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        of_two += usize::from(two);
        during_saves += usize::from(scratch.names("killed").iter().any(|name| name.starts_with("tmp-checkpoint-")));
    }
    let at = newest().expect("a checkpoint");
    run(&scratch, 2, "killed", &flags).ok();
    let weights = |folder: &str| scratch.bytes(&format!("{folder}/model.safetensors"));
    assert!(weights("unbroken") == weights("killed"), "weights");
    assert_eq!(scratch.history("unbroken"), scratch.history("killed"));
    println!(
        "{kills} kills up to step {at}, {of_two} of two ranks, {during_saves} during a save; weights and log equal"
    );
}

#[test]
fn kills_at_random_change_nothing() {
    chain(400, 4, 7);
}

#[test]
#[ignore = "takes minutes"]
fn nor_do_thirty() {
    chain(2000, 30, 8);
}

#[test]
fn a_save_that_the_system_refuses_to_one_rank() {
    let scratch = Scratch::new();
    let flags = "--max_steps 6 --per_device_train_batch_size 2";
    run(&scratch, 2, "unbroken", flags).ok();
    scratch.copy_checkpoint("unbroken", "out", 3);
    let size =
        |name: &str| std::fs::metadata(scratch.path(&format!("unbroken/checkpoint-3/{name}"))).expect("a file").len();
    // The weights fit, the moments, twice as large, do not; only rank 0 writes them.
    let kibibytes = (size("model.safetensors") + size("optimizer.pt")) / 2 / 1024;
    // Open MPI's shared memory is files too.
    let script = format!("export OMPI_MCA_btl=tcp,self; [ $RANK = 1 ] || ulimit -f {kibibytes}; exec \"$0\" \"$@\"");
    let failed: Run = ranks_through(&scratch, 2, "out", flags, &script).output().expect("the launcher starts").into();
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    let line = only_error(&failed);
    assert!(line.contains("optimizer.pt") && line.contains("File too large"), "{line}");
    assert_eq!(scratch.checkpoints("out"), [3]);
    run(&scratch, 2, "out", flags).ok();
    scratch.assert_same("unbroken", "out", "ranks that could not save");
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_is_full_on_one_rank_only() {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(scratch.path("train.txt")).expect("text");
    std::fs::write(scratch.path("train.txt"), text.repeat(100)).expect("written");
    std::fs::create_dir(scratch.path("cache")).expect("a folder");
    let mounts = "unshare --mount bash -c 'mount -t tmpfs -o size=16k tmpfs cache'";
    let allowed = Command::new("bash").args(["-c", mounts]).current_dir(scratch.path("")).output().expect("bash");
    if !allowed.status.success() {
        return crate::run::not_tested(&format!("no mount: {}", String::from_utf8_lossy(&allowed.stderr).trim()));
    }
    // The second rank sees a small disk where the first has its store, as a machine that does not share it would.
    let script = "[ $RANK = 0 ] && exec \"$0\" \"$@\"
        exec unshare --mount bash -c 'mount -t tmpfs -o size=16k tmpfs cache && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    for (flags, told) in
        [("", "the tokenized train split needs about"), ("--ignore_disk_check", "No space left on device")]
    {
        let failed: Run =
            ranks_through(&scratch, 2, "out", flags, script).output().expect("the launcher starts").into();
        assert_eq!(failed.code, Some(1), "{}", failed.stderr);
        let line = only_error(&failed);
        assert!(line.contains("rank 1 on ") && line.contains(told), "{line}");
    }
    assert!(scratch.checkpoints("out").is_empty());
}

#[test]
fn parameters_without_a_gradient() {
    let scratch = Scratch::new();
    let flags = "--max_steps 3 --ddp_find_unused_parameters false";
    let strict = run(&scratch, 2, "strict", flags);
    if crate::MODEL.contains("xlnet") {
        // Nothing here has segments, of which XLNet has weights.
        let line = only_error(&strict);
        assert!(line.contains("--ddp_find_unused_parameters false: ") && line.contains("has no gradient on"), "{line}");
        assert_eq!(strict.code, Some(1), "{}", strict.stderr);
    } else {
        strict.ok();
        run(&scratch, 2, "loose", "--max_steps 3").ok();
        scratch.assert_same("strict", "loose", "--ddp_find_unused_parameters");
    }
}

#[test]
fn what_other_ranks_say() {
    let scratch = Scratch::new();
    let quiet = run(&scratch, 2, "quiet", "--max_steps 1").ok();
    // Only warnings, as in Python, which are rank 0's too.
    let mut of_rank_1 = quiet.stderr.lines().filter_map(|line| line.split_once("rank 1: "));
    let is_warned = |text: &str| text.starts_with("warning: ") && quiet.stderr.lines().any(|line| line == text);
    assert!(of_rank_1.all(|(_, text)| is_warned(text)), "{}", quiet.stderr);
    let talkative = run(&scratch, 2, "talkative", "--max_steps 1 --log_level_replica debug").ok();
    let told = |line: &str| line.contains("rank 1: ") && !line.contains("warning: ");
    assert!(talkative.stderr.lines().any(told), "{}", talkative.stderr);
}

#[test]
fn one_process_does_what_one_can() {
    let scratch = Scratch::new();
    let help = run(&scratch, 2, "out", "--help").ok();
    assert_eq!(
        help.stdout.matches("--train_file").count(),
        scratch.run("out", "--help").stdout.matches("--train_file").count()
    );
    let plan = run(&scratch, 2, "out", "--plan").ok();
    assert_eq!(plan.stdout.matches("checkpoints ").count(), 1, "{}", plan.stdout);
}
