//! Text to token ids to training examples to batches.
pub mod tokenizer;
