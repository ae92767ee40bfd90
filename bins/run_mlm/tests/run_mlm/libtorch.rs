//! What can go wrong with libtorch.
use crate::run::Scratch;

#[test]
fn libtorch_devices_that_are_not_there() {
    let scratch = Scratch::new();
    let line = scratch.run("out", "--device libtorch:cuda:99").fails(2).to_owned();
    assert!(line.contains("--device libtorch:cuda:99") && line.contains("--device list"), "{line}");
}

/// What the backend can't report but by a panic.
#[test]
fn libtorch_without_memory() {
    crate::run::without_memory("libtorch:cpu", 400_000);
}

#[test]
fn libtorch_twice_equals_once() {
    crate::run::two_ranks_equal_one("libtorch:cpu");
}
