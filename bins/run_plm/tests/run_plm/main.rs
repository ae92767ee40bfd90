//! The tests of `run_plm`: one program, since each links all of Burn.

#[path = "../../../run_mlm/tests/run_mlm/common.rs"]
mod common;
#[path = "../../../run_mlm/tests/run_mlm/families.rs"]
mod families;
#[path = "../../../run_mlm/tests/run_mlm/hub.rs"]
mod hub;
#[path = "../../../run_mlm/tests/run_mlm/inference.rs"]
mod inference;
mod program;
#[cfg(any(feature = "mpi", feature = "gloo"))]
#[path = "../../../run_mlm/tests/run_mlm/ranks.rs"]
mod ranks;
mod resume;
#[path = "../../../run_mlm/tests/run_mlm/run.rs"]
mod run;

const PROGRAM: &str = env!("CARGO_BIN_EXE_run_plm");
/// What the runs of [`run`] train, unless flags say otherwise.
const MODEL: &str = "--model_type xlnet --config_overrides d_model=32,n_layer=2,n_head=4,d_inner=64 --tokenizer_name \
     TOKENIZERS/xlnet-small --max_seq_length 32";
