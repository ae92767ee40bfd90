//! `run_clm`: train or fine-tune a causal language model (GPT, GPT-2) on your own text.

use std::process::ExitCode;

// Keeps freed memory in the process: training frees and takes the same sizes over and over.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    lm_train::cli::main(lm_train::Task::Clm)
}
