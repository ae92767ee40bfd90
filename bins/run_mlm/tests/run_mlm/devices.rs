//! Several devices, here the processor more than once, gradient checkpointing and plain operations: what the program makes
//! of them.

use crate::run::{Run, Scratch};

const DROPOUT: &str = "--config_name dropout.json";

#[test]
fn two_devices_equal_one_that_accumulates() {
    let scratch = Scratch::new();
    // Six batches an epoch: the last step of each takes two.
    let flags = format!("{DROPOUT} --max_steps 5 --do_eval --eval_strategy epoch");
    scratch.run("one", &format!("{flags} --gradient_accumulation_steps 4")).ok();
    scratch.run("two", &format!("{flags} --gradient_accumulation_steps 2 --devices cpu,cpu")).ok();
    // The gradients of four batches are added up in another order.
    let loss =
        |folder: &str| scratch.json(&format!("{folder}/all_results.json"))["train_loss"].as_f64().expect("a loss");
    assert!((loss("one") - loss("two")).abs() < 1e-5, "{} {}", loss("one"), loss("two"));

    // Those of two are not.
    scratch
        .run("accumulated", &format!("{flags} --gradient_accumulation_steps 2 --average_tokens_across_devices false"))
        .ok();
    scratch.run("shared", &format!("{flags} --devices cpu,cpu")).ok();
    scratch.assert_same("accumulated", "shared", "two devices");
    let card = String::from_utf8(scratch.bytes("shared/README.md")).expect("text");
    for row in ["- train_batch_size: 4\n", "- num_devices: 2\n", "- total_train_batch_size: 8\n"] {
        assert!(card.contains(row), "{row} in {card}");
    }
    assert_eq!(scratch.json("shared/trainer_state.json")["train_batch_size"], 4);
    let epochs: Vec<_> = scratch.history("shared").iter().filter_map(|record| record["epoch"].as_f64()).collect();
    assert!(epochs.contains(&1.0) && epochs.last().is_some_and(|last| (last - 5.0 / 3.0).abs() < 1e-9), "{epochs:?}");
}

#[test]
fn a_run_goes_on_with_another_number_of_devices_if_its_steps_stay_what_they_are() {
    crate::run::resumes_exactly(&format!("{DROPOUT} --devices cpu,cpu --max_steps 5"), &[2, 3]);
    let scratch = Scratch::new();
    scratch.run("out", "--max_steps 3 --gradient_accumulation_steps 2").ok();
    let run = scratch.run("out", "--max_steps 4 --gradient_accumulation_steps 2 --devices cpu,cpu");
    assert!(run.fails(1).contains("--devices is 2, was 1"), "{}", run.stderr);
    scratch.run("out", "--max_steps 4 --devices cpu,cpu").ok();
    assert_eq!(scratch.json("out/trainer_state.json")["global_step"], 4);
}

#[test]
fn devices_that_are_none() {
    let scratch = Scratch::new();
    for (flags, part) in [
        ("--device cpu --devices cpu,cpu", "--device cpu and --devices cpu,cpu contradict each other"),
        ("--use_cpu --devices cpu,wgpu", "--use_cpu and --devices cpu,wgpu contradict each other"),
        ("--devices cpu,nonsense", "nonsense"),
        ("--devices cpu,,cpu", "no such device"),
        ("--devices cpu,cpu --average_tokens_across_devices false", "--average_tokens_across_devices"),
    ] {
        let run = scratch.run("out", flags);
        assert!(run.fails(2).contains(part), "{flags}: {}", run.stderr);
    }
}

#[test]
fn plain_operations_by_flag_and_by_environment() {
    let scratch = Scratch::new();
    let weights = |folder: &str, flags: &str, environment: Option<&str>| {
        let mut command = scratch.command(folder, &format!("--max_steps 3 {flags}"));
        command.env_remove("LM_PLAIN_OPS").envs(environment.map(|value| ("LM_PLAIN_OPS", value)));
        Run::from(command.output().expect("the program starts")).ok();
        scratch.bytes(&format!("{folder}/model.safetensors"))
    };
    let fast = weights("fast", "", None);
    let plain = weights("plain", "--plain_ops", None);
    // Other sums of the same numbers: were the flag not heeded, the bytes would be the same.
    assert!(fast != plain, "--plain_ops changes nothing");
    assert!(plain == weights("environment", "", Some("1")), "LM_PLAIN_OPS=1 is not --plain_ops");
    assert!(fast == weights("other", "", Some("0")), "LM_PLAIN_OPS=0 is not the fast operations");
    let loss =
        |folder: &str| scratch.json(&format!("{folder}/all_results.json"))["train_loss"].as_f64().expect("a loss");
    assert!((loss("fast") - loss("plain")).abs() < 1e-5, "{} {}", loss("fast"), loss("plain"));
}

#[test]
fn plan_counts_the_batches_of_all_devices() {
    let scratch = Scratch::new();
    let run = scratch.run("out", "--devices cpu,cpu --max_steps 3 --plan").ok();
    assert!(run.stdout.contains("3 of 8 examples"), "{}", run.stdout);
}

#[test]
fn gradient_checkpointing_changes_nothing() {
    let scratch = Scratch::new();
    let kept = format!("{DROPOUT} --max_steps 5 --gradient_accumulation_steps 2");
    scratch.run("kept", &kept).ok();
    let flags = r#"--gradient_checkpointing --gradient_checkpointing_kwargs {"use_reentrant":false}"#;
    scratch.run("computed", &format!("{kept} {flags}")).ok();
    scratch.assert_same("kept", "computed", "gradient checkpointing");
}
