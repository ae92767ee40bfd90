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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::IGNORE;
    use crate::collate::PadTo;
    use crate::testing::{example, tokenizer};

    #[test]
    fn labels_are_the_ids_and_padding_is_not_predicted() {
        let xlnet = tokenizer("xlnet-small");
        let collator = ClmCollator::new(Padding::new(&xlnet, PadTo::Longest));
        let batch = collator.collate(&[(3, example([7, 8, 9])), (1, example([5]))], 0).unwrap();
        let pad = xlnet.special().pad.unwrap() as i32;
        assert_eq!(batch.input_ids, [7, 8, 9, pad, pad, 5], "this tokenizer pads on the left");
        assert_eq!(batch.labels, [7, 8, 9, IGNORE, IGNORE, 5]);
        assert_eq!(batch.attention_mask, [1, 1, 1, 0, 0, 1]);
        assert_eq!(batch.example_ids, [3, 1]);
    }

    #[test]
    fn a_tokenizer_without_padding_serves_blocks_only() {
        let gpt = tokenizer("openai-gpt-small");
        assert_eq!(gpt.special().pad, None);
        let collator = ClmCollator::new(Padding::new(&gpt, PadTo::Longest));
        assert_eq!(collator.collate(&[(0, example([7, 8])), (1, example([5, 6]))], 0).unwrap().labels, [7, 8, 5, 6]);
        let error = collator.collate(&[(0, example([7, 8])), (1, example([5]))], 0).unwrap_err();
        assert!(error.to_string().contains("no padding token"));
    }
}
