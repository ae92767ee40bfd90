//! A run that is killed again and again, also in the middle of a save, ends as the one that never was.

use std::time::{Duration, Instant};

use crate::run::{Moments, Scratch};

/// Kills a run `kills` times, lets it end, and compares it with an unbroken one. Every fourth kill comes while the
/// program starts, the others around saves, of which there is one after every `save_steps` steps.
fn chain(flags: &str, save_steps: u64, kills: usize, seed: u64) {
    let scratch = Scratch::new();
    let flags = format!("{flags} --save_steps {save_steps} --save_total_limit 2 --eval_strategy steps --eval_steps 10");
    let began = Instant::now();
    scratch.run("unbroken", &format!("{flags} --save_steps 1000")).ok();
    let unbroken = began.elapsed();

    let mut moments = Moments(seed);
    let newest = || scratch.checkpoints("killed").last().copied().unwrap_or(0);
    let (mut during_saves, mut while_starting) = (0, 0);
    for kill in 0..kills {
        let before = newest();
        let mut child = scratch.start("killed", &flags);
        let started = Instant::now();
        if kill % 4 == 3 {
            std::thread::sleep(moments.next(Duration::from_millis(250)));
            while_starting += usize::from(newest() == before);
        } else {
            while newest() == before && child.try_wait().expect("a status").is_none() {
                assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint after two minutes");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(moments.next(Duration::from_millis(120)));
        }
        child.kill().expect("killed");
        let output = child.wait_with_output().expect("an end");
        assert_ne!(output.status.code(), Some(0), "the run ended after {kill} kills: give it more steps");
        assert_eq!(output.status.code(), None, "{}", String::from_utf8_lossy(&output.stderr));
        let torn = |name: &String| name.starts_with("tmp-checkpoint-") || name.starts_with("replaced-");
        during_saves += usize::from(scratch.names("killed").iter().any(torn));
    }
    let at = newest();
    let last = scratch.run("killed", &flags).ok();
    assert!(last.stderr.contains(&format!("(step {at})")), "{}", last.stderr);
    scratch.assert_same("unbroken", "killed", &flags);
    let left: Vec<_> = scratch.names("killed").into_iter().filter(|name| name.contains("-checkpoint-")).collect();
    assert!(left.is_empty(), "{left:?} are left over");
    println!(
        "{flags}: {kills} kills up to step {at}, {during_saves} during a save, {while_starting} before the first save; \
         final weights and log equal; {:.0} s, unbroken {:.1} s",
        began.elapsed().as_secs_f64(),
        unbroken.as_secs_f64()
    );
    assert!(during_saves * 10 >= kills, "too few kills hit a save: {during_saves} of {kills}");
}

#[test]
#[ignore = "takes minutes"]
fn fifty_kills_change_nothing() {
    chain("--max_steps 600 --gradient_accumulation_steps 2 --config_name dropout.json", 1, 50, 42);
}

#[test]
#[ignore = "takes a minute"]
fn nor_do_kills_of_a_stream() {
    chain("--max_steps 300 --streaming", 3, 12, 43);
}
