//! `run_clm`: train or fine-tune a causal language model (GPT, GPT-2) on your own text.

use std::process::ExitCode;

fn main() -> ExitCode {
    lm_train::cli::main(lm_train::Task::Clm)
}
