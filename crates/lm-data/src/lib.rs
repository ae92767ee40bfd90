//! Text to token ids to training examples to batches.
