//! Causal language modelling: the labels are the ids themselves; the model shifts them.

use super::{CollateError, Collator, Padding, longest};
use crate::batch::Batch;
use crate::example::Example;

/// `default_collator` of `run_clm.py`; should examples differ in length, padding is not predicted.
#[derive(Clone, Debug)]
pub struct ClmCollator {
    padding: Padding,
}

impl ClmCollator {
    /// A collator that pads where it must.
    pub fn new(padding: Padding) -> Self {
        Self { padding }
    }
}

impl Collator for ClmCollator {
    fn collate(&self, examples: &[(u64, Example)], _epoch: u64) -> Result<Batch, CollateError> {
        let seq_len = self.padding.target(longest(examples));
        let mut batch = self.padding.blank(examples, seq_len)?;
        for (row, (_, example)) in examples.iter().enumerate() {
            let start = row * seq_len + self.padding.place(example.ids.len(), seq_len);
            for (i, &id) in example.ids.iter().enumerate() {
                batch.input_ids[start + i] = id as i32;
                batch.labels[start + i] = id as i32;
                batch.attention_mask[start + i] = 1;
            }
        }
        Ok(batch)
    }
}
