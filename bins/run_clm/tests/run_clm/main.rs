//! The tests of `run_clm`: one program, since each links all of Burn.

#[path = "../../../run_mlm/tests/run_mlm/common.rs"]
mod common;
#[path = "../../../run_mlm/tests/run_mlm/families.rs"]
mod families;
mod generate;
#[path = "../../../run_mlm/tests/run_mlm/hub.rs"]
mod hub;
#[path = "../../../run_mlm/tests/run_mlm/inference.rs"]
mod inference;
mod program;
mod python_checkpoint;
#[cfg(any(feature = "mpi", feature = "gloo"))]
#[path = "../../../run_mlm/tests/run_mlm/ranks.rs"]
mod ranks;
mod resume;
#[path = "../../../run_mlm/tests/run_mlm/run.rs"]
mod run;

const PROGRAM: &str = env!("CARGO_BIN_EXE_run_clm");
/// What the runs of [`run`] train, unless flags say otherwise.
const MODEL: &str = "--model_type gpt2 --config_overrides n_embd=32,n_layer=2,n_head=4,n_positions=64 --tokenizer_name \
     TOKENIZERS/roberta-small --block_size 32";
