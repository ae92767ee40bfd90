//! The tests of `run_mlm`: one program, since each links all of Burn.

mod arguments;
mod bad_input;
mod common;
mod dataset_hub;
mod datasets;
mod devices;
#[cfg(target_os = "linux")]
mod disk;
mod end_to_end;
mod families;
mod fill;
mod hub;
mod inference;
mod kill_chain;
#[cfg(feature = "tch")]
mod libtorch;
mod lora;
#[cfg(target_os = "linux")]
mod memory;
mod push;
#[cfg(any(feature = "mpi", feature = "gloo"))]
mod ranks;
mod report;
mod reporting;
mod resume;
mod run;
#[cfg(unix)]
mod signals;
mod stores;
mod terminal;
#[cfg(feature = "wgpu")]
mod wgpu;

use run::not_tested;

const PROGRAM: &str = env!("CARGO_BIN_EXE_run_mlm");
/// What the runs of [`run`] train, unless flags say otherwise.
const MODEL: &str =
    "--config_name config.json --tokenizer_name TOKENIZERS/bert-cased-small --line_by_line --max_seq_length 32";
