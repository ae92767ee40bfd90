//! Too little disk: before training, before a save, and in the middle of one.
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::run::{Run, Scratch};

/// A small file system in memory, until dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None, with a word on why, where this user may not mount.
    fn mount(path: PathBuf, mebibytes: u64) -> Option<Self> {
        fs::create_dir(&path).expect("a folder");
        let size = format!("size={mebibytes}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(path)),
            Ok(output) => {
                crate::not_tested(&format!("no mount: {}", String::from_utf8_lossy(&output.stderr).trim()));
                None
            }
            Err(error) => {
                crate::not_tested(&format!("no mount: {error}"));
                None
            }
        }
    }

    /// Takes what is free beyond so many KiB for the file `filler`. The program writes and removes files meanwhile, so
    /// a write that finds less room than there was takes what it gets.
    fn fill(&self, filler: &mut fs::File, free: u64) {
        let output = Command::new("df").args(["--output=avail", "-k"]).arg(&self.0).output().expect("df");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let available: u64 = text.lines().last().and_then(|line| line.trim().parse().ok()).expect("a number");
        let _ = filler.write_all(&vec![1; (available.saturating_sub(free) * 1024) as usize]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The folder around it goes anyway.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn too_little_before_training_names_both_numbers_and_the_flags() {
    let scratch = Scratch::new();
    // More checkpoints than any disk holds.
    let flags = "--max_steps 1000000000 --save_steps 1 --logging_steps 1";
    let run = scratch.run("out", flags);
    let message = run.fails(1);
    for part in [
        "this run needs",
        "PiB of disk",
        "are free",
        "--save_total_limit",
        "--save_steps",
        "--save_only_model",
        "--ignore_disk_check",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(scratch.checkpoints("out").is_empty());

    let mut child = scratch.start("out", &format!("{flags} --ignore_disk_check"));
    let began = Instant::now();
    while scratch.checkpoints("out").is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "it goes on regardless");
        assert!(child.try_wait().expect("a status").is_none(), "it goes on regardless");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    let run: Run = child.wait_with_output().expect("an end").into();
    assert!(run.stderr.contains("warning: ") && run.stderr.contains("are free"), "{}", run.stderr);

    // With the limit the same run needs little.
    let mut child = scratch.start("limited", &format!("{flags} --save_total_limit 2"));
    while scratch.checkpoints("limited").is_empty() {
        assert!(child.try_wait().expect("a status").is_none(), "it fits");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("an end");
}

/// Starts a run into the small disk, fills it up to `free` KiB after the third checkpoint, and gives its end and the
/// newest checkpoint left.
fn filled_while_it_trains(scratch: &Scratch, disk: &SmallDisk, flags: &str, free: u64) -> (Run, u64, PathBuf) {
    let mut child = scratch.start("disk/out", flags);
    let began = Instant::now();
    while scratch.checkpoints("disk/out").last().is_none_or(|&step| step < 3) {
        assert!(began.elapsed() < Duration::from_secs(60), "checkpoints");
        if child.try_wait().expect("a status").is_some() {
            let run: Run = child.wait_with_output().expect("an end").into();
            panic!("{}", run.stderr);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let path = disk.0.join("filler");
    let mut filler = fs::File::create(&path).expect("a file");
    while child.try_wait().expect("a status").is_none() {
        assert!(began.elapsed() < Duration::from_secs(120), "the disk is full and the program goes on");
        disk.fill(&mut filler, free);
    }
    let run: Run = child.wait_with_output().expect("an end").into();
    let newest = *scratch.checkpoints("disk/out").last().expect("checkpoints");
    (run, newest, path)
}

const LONG: &str = "--max_steps 400 --save_steps 1 --save_total_limit 1";

#[test]
fn too_little_before_a_save() {
    let scratch = Scratch::new();
    let Some(disk) = SmallDisk::mount(scratch.path("disk"), 90) else { return };
    scratch.run("unbroken", &format!("{LONG} --save_steps 1000")).ok();
    let (run, newest, filler) = filled_while_it_trains(&scratch, &disk, LONG, 9000);
    let message = run.fails(1);
    assert!(message.contains("the next checkpoint needs") && message.contains("are free"), "{message}");
    assert!(message.contains("the earlier checkpoints are intact"), "{message}");
    fs::remove_file(filler).expect("room again");
    let resumed = scratch.run("disk/out", LONG).ok();
    assert!(resumed.stderr.contains(&format!("(step {newest})")), "{}", resumed.stderr);
    scratch.assert_same("unbroken", "disk/out", "a run whose disk was full");
}

#[test]
fn a_disk_that_fills_up_during_a_save() {
    let scratch = Scratch::new();
    let Some(disk) = SmallDisk::mount(scratch.path("disk"), 40) else { return };
    scratch.run("unbroken", &format!("{LONG} --save_steps 1000")).ok();
    let flags = format!("{LONG} --ignore_disk_check");
    let (run, newest, filler) = filled_while_it_trains(&scratch, &disk, &flags, 300);
    let message = run.fails(1);
    assert!(message.contains("No space left on device") && message.contains("the same command goes on"), "{message}");
    assert!(!scratch.names("disk/out").iter().any(|name| name.starts_with("tmp-")), "no half of a checkpoint stays");
    fs::remove_file(filler).expect("room again");
    let resumed = scratch.run("disk/out", LONG).ok();
    assert!(resumed.stderr.contains(&format!("(step {newest})")), "{}", resumed.stderr);
    scratch.assert_same("unbroken", "disk/out", "a run whose disk filled up");
}

/// A save that fails costs no step, and a checkpoint that cannot be removed is no reason to stop.
#[test]
fn a_save_that_failed_is_made_up_for() {
    let scratch = Scratch::new();
    scratch.run("unbroken", &format!("{LONG} --save_steps 1000")).ok();
    let mut child = scratch.start("out", &format!("{LONG} --save_steps 300"));
    let began = Instant::now();
    while !scratch.path("out/report.html").exists() && child.try_wait().expect("a status").is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "the start");
        std::thread::sleep(Duration::from_millis(1));
    }
    // The name of the first checkpoint is taken by what nobody can rename.
    let Some(busy) = SmallDisk::mount(scratch.path("out/checkpoint-300"), 1) else {
        child.kill().expect("killed");
        child.wait().expect("an end");
        return;
    };
    let run: Run = child.wait_with_output().expect("an end").into();
    let run = run.ok();
    assert!(run.stderr.contains("out/checkpoint-300: cannot rename"), "{}", run.stderr);
    assert!(run.stderr.contains("training goes on, and saving is tried again"), "{}", run.stderr);
    assert!(run.stderr.contains("what is left of out/checkpoint-300 stays"), "{}", run.stderr);
    assert_eq!(scratch.checkpoints("out"), [300, 400]);
    drop(busy);
    scratch.assert_same("unbroken", "out", "a run that could not save for a while");
}

/// A store that does not fit is known before, or, if nobody is to look, told of where it stops; no half of it stays.
#[test]
fn a_disk_that_fills_while_text_is_tokenized() {
    let scratch = crate::common::Scratch::prepared();
    let Some(disk) = SmallDisk::mount(scratch.path("disk"), 2) else { return };
    scratch.text("train.txt", 100_000);
    let words =
        "--tokenizer_name bert --train_file train.txt --max_seq_length 32 --preview 1 --data_cache_dir disk/cache";
    scratch.run(words).fails(1, &["the tokenized train split needs about", "MiB are free", "--data_cache_dir"]);
    let run = scratch.run(&format!("{words} --ignore_disk_check"));
    run.fails(1, &["disk/cache/", "No space left on device"]);
    let left = scratch.list("disk/cache");
    assert!(!left.iter().any(|name| name.ends_with(".bin") || name.ends_with(".tmp")), "{left:?}");
    drop(disk);
}

/// The nearest thing to a full disk that works without rights: files may grow to a limit only.
#[test]
fn a_save_that_the_system_refuses() {
    let scratch = Scratch::new();
    scratch.run("unbroken", "--max_steps 6").ok();
    scratch.copy_checkpoint("unbroken", "out", 3);
    let size = |name: &str| {
        fs::metadata(scratch.path(Path::new("unbroken/checkpoint-3").join(name).to_str().expect("a name")))
            .expect("a file")
            .len()
    };
    // The weights fit, the moments, twice as large, do not.
    let kibibytes = (size("model.safetensors") + size("optimizer.pt")) / 2 / 1024;
    let program = scratch.command("out", "--max_steps 6");
    let mut command = Command::new("bash");
    command.args(["-c", &format!("ulimit -f {kibibytes}; exec \"$0\" \"$@\"")]);
    command.arg(program.get_program()).args(program.get_args()).current_dir(scratch.path(""));
    let run: Run = command.output().expect("started").into();
    let message = run.fails(1);
    assert!(message.contains("optimizer.pt") && message.contains("File too large"), "{message}");
    assert_eq!(scratch.checkpoints("out"), [3]);
    assert!(!scratch.names("out").iter().any(|name| name.starts_with("tmp-")));
    // The run went on to its end, and its model, smaller than a checkpoint's moments, is there.
    assert!(message.contains("the trained model is saved in out, but not its last checkpoint"), "{message}");
    assert!(scratch.bytes("out/model.safetensors") == scratch.bytes("unbroken/model.safetensors"));
    scratch.run("out", "--max_steps 6").ok();
    scratch.assert_same("unbroken", "out", "a run that could not save");

    // With room for nothing, an earlier model in the folder is as it was, and no half of the new one is there.
    let before: Vec<_> = scratch.names("out");
    let weights = scratch.bytes("out/model.safetensors");
    let program =
        scratch.command("out", "--max_steps 6 --learning_rate 1e-2 --save_strategy no --overwrite_output_dir");
    let mut command = Command::new("bash");
    command.args(["-c", &format!("ulimit -f {}; exec \"$0\" \"$@\"", size("model.safetensors") / 2 / 1024)]);
    command.arg(program.get_program()).args(program.get_args()).current_dir(scratch.path(""));
    let run: Run = command.output().expect("started").into();
    assert!(run.fails(1).contains("the model is trained, but"), "{}", run.stderr);
    assert!(scratch.bytes("out/model.safetensors") == weights);
    let kept = |name: &&String| !name.contains("checkpoint-");
    assert!(scratch.names("out").iter().filter(kept).eq(before.iter().filter(kept)));
}
