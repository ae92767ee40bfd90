//! `run_plm`: train or fine-tune a permutation language model (XLNet) on your own text.

use std::process::ExitCode;

fn main() -> ExitCode {
    lm_train::cli::main(lm_train::Task::Plm)
}
