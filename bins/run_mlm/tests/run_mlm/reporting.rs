//! `--report_to`: what a run leaves for Weights & Biases, and a tracking server that is not there.
//! `scripts/trackers_in_python.py` has the services' own programs read it.

use std::net::TcpListener;

use crate::run::{Run, Scratch};

fn run(scratch: &Scratch, output_dir: &str, flags: &str, variables: &[(&str, &str)]) -> Run {
    let mut command = scratch.command(output_dir, flags);
    for name in ["WANDB_MODE", "WANDB_DISABLED", "WANDB_DIR", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).output().expect("the program starts").into()
}

/// The offline runs in this folder.
fn offline_runs(scratch: &Scratch) -> Vec<String> {
    let names = scratch.names("wandb").into_iter();
    names.inspect(|name| assert!(name.starts_with("offline-run-"), "{name}")).collect()
}

#[test]
fn a_run_for_wandb_lies_in_the_working_folder() {
    let scratch = Scratch::new();
    let ran = run(&scratch, "out", "--report_to wandb --run_name first", &[("WANDB_RUN_ID", "abc")]).ok();
    let runs = offline_runs(&scratch);
    let [name] = runs.as_slice() else { panic!("{runs:?}") };
    assert!(name.ends_with("-abc"), "{name}");
    assert!(ran.stderr.contains(&format!("wandb sync wandb/{name}")), "{}", ran.stderr);
    let file = String::from_utf8_lossy(&scratch.bytes(&format!("wandb/{name}/run-abc.wandb"))).into_owned();
    for word in
        ["huggingface", "first", "train/loss", "train/global_step", "train_runtime", "learning_rate", "hidden_size"]
    {
        assert!(file.contains(word), "{word}");
    }
    assert!(!scratch.path("out/runs").exists(), "no event files where none are asked for");

    // An evaluation alone is a run, too; what is switched off is none.
    let eval = "--do_train false --do_eval --model_name_or_path out --report_to wandb";
    run(&scratch, "eval", eval, &[("WANDB_RUN_ID", "def")]).ok();
    let name = offline_runs(&scratch).into_iter().find(|name| name.ends_with("-def")).expect("a second run");
    let file = String::from_utf8_lossy(&scratch.bytes(&format!("wandb/{name}/run-def.wandb"))).into_owned();
    assert!(file.contains("eval/loss") && file.contains("eval/perplexity"));
    let off = run(&scratch, "off", "--report_to wandb tensorboard", &[("WANDB_MODE", "disabled")]).ok();
    assert!(off.stderr.contains("WANDB_MODE or WANDB_DISABLED turns it off"), "{}", off.stderr);
    assert_eq!(offline_runs(&scratch).len(), 2);
    assert!(scratch.path("off/runs").is_dir());
}

#[test]
fn a_place_that_cannot_be_written_is_one_warning() {
    let scratch = Scratch::new();
    let ran = run(&scratch, "out", "--report_to wandb", &[("WANDB_DIR", "train.txt")]).ok();
    let warnings = ran.stderr.lines().filter(|line| line.contains("train.txt/wandb")).count();
    assert_eq!(warnings, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("training goes on without writing there"), "{}", ran.stderr);
}

#[test]
fn a_server_that_is_not_there_is_one_warning() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://user:s3cret@{}", listener.local_addr().expect("an address"));
    drop(listener);
    let ran = run(&scratch, "out", "--report_to mlflow", &[("MLFLOW_TRACKING_URI", &address)]).ok();
    let about: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("mlflow")).collect();
    assert_eq!(about.len(), 2, "{}", ran.stderr);
    assert!(about[0].contains("mlflow: 127.0.0.1: ") && about[0].contains("training goes on"), "{}", about[0]);
    assert!(about[1].contains("did not reach the server"), "{}", about[1]);
    assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);

    let ran = run(&scratch, "none", "--report_to mlflow", &[]);
    assert!(ran.fails(2).contains("--report_to mlflow: set MLFLOW_TRACKING_URI"), "{}", ran.stderr);
    let ran =
        run(&scratch, "none", "--report_to mlflow", &[("MLFLOW_TRACKING_URI", "postgresql://user:s3cret@host/runs")]);
    assert!(ran.fails(2).contains("must be the address of a server"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
    assert!(!scratch.path("none").exists());
}
