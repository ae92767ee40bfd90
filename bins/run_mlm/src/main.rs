//! `run_mlm`: train or fine-tune a masked language model (BERT, RoBERTa, DistilBERT, …) on your own text.

use std::process::ExitCode;

fn main() -> ExitCode {
    lm_train::cli::main(lm_train::Task::Mlm)
}
