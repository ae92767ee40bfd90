//! What can go wrong with a graphics adapter.
use crate::run::Scratch;

#[test]
fn wgpu_is_listed_by_name() {
    let scratch = Scratch::new();
    let run = scratch.run("out", "--device list").ok();
    let line = run.stdout.lines().find(|line| line.trim_start().starts_with("wgpu:0 ")).expect("an adapter");
    assert!(line.contains(" by Vulkan") || line.contains(" by Metal") || line.contains(" by DirectX 12"), "{line}");
}

#[test]
fn wgpu_adapters_that_are_not_there() {
    let scratch = Scratch::new();
    let line = scratch.run("out", "--device wgpu:99").fails(2).to_owned();
    assert!(line.contains("--device wgpu:99") && line.contains("wgpu:0"), "{line}");
}

/// WGSL has no such type.
#[test]
fn wgpu_has_no_bfloat16() {
    let scratch = Scratch::new();
    let line = scratch.run("out", "--device wgpu --bf16").fails(2).to_owned();
    assert!(line.contains("--bf16") && line.contains("bfloat16"), "{line}");
}

/// What the backend can't report but by a panic.
#[test]
fn wgpu_without_memory() {
    crate::run::without_memory("wgpu", 20_000);
}

#[test]
fn wgpu_twice_equals_once() {
    crate::run::two_ranks_equal_one("wgpu");
}
