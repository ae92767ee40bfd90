//! Masked language modelling (Devlin et al., 2019), as Python's `DataCollatorForLanguageModeling` does it: of the
//! tokens chosen for prediction 80 % become the mask token, 10 % a random one, 10 % stay.

use std::sync::Arc;

use lm_random::{Purpose, Stream};

use super::{CollateError, Collator, Padding, Split, longest};
use crate::batch::Batch;
use crate::example::Example;
use crate::tokenizer::LmTokenizer;

/// Of the chosen tokens, the share that becomes the mask token.
const MASKED: f32 = 0.8;
/// Of the chosen tokens, the share that becomes a random token.
const RANDOM: f32 = 0.1;

/// What the user chooses.
#[derive(Clone, Copy, Debug)]
pub struct MlmOptions {
    /// Share of the tokens that are predicted.
    pub mlm_probability: f64,
    /// Choose whole words instead of single tokens.
    pub whole_word_mask: bool,
}

impl Default for MlmOptions {
    fn default() -> Self {
        Self { mlm_probability: 0.15, whole_word_mask: false }
    }
}

/// Chooses and corrupts tokens; a function of (seed, epoch, example).
#[derive(Clone)]
pub struct MlmCollator {
    padding: Padding,
    probability: f32,
    mask: u32,
    vocabulary: u32,
    /// For whole words: whether the token of each id starts a word.
    word_start: Option<Arc<[bool]>>,
    seed: u64,
    split: Split,
}

impl MlmCollator {
    /// Fails without a mask token, or if the probability is none.
    pub fn new(
        tokenizer: &LmTokenizer,
        options: MlmOptions,
        padding: Padding,
        seed: u64,
        split: Split,
    ) -> Result<Self, CollateError> {
        let value = options.mlm_probability;
        if !(0.0..=1.0).contains(&value) {
            return Err(CollateError::Probability { name: "mlm_probability", value, but: "" });
        }
        let vocabulary = tokenizer.len() as u32;
        let word_start = || (0..vocabulary).map(|id| tokenizer.is_word_start(id)).collect();
        Ok(Self {
            padding,
            probability: value as f32,
            mask: tokenizer.special().mask.ok_or(CollateError::NoMaskToken("masked"))?,
            vocabulary,
            word_start: options.whole_word_mask.then(word_start),
            seed,
            split,
        })
    }

    /// What becomes of each token that is predicted; None for the others.
    fn corrupt(&self, example: &Example, index: u64, epoch: u64) -> Vec<Option<u32>> {
        let mut random = match self.split {
            Split::Train => Stream::new(self.seed, Purpose::MaskTrain, epoch, index),
            Split::Eval => Stream::new(self.seed, Purpose::MaskEval, 0, index),
        };
        let mut chosen = false;
        let mut in_word = false;
        let mut corrupted = Vec::with_capacity(example.ids.len());
        for (&id, &special) in example.ids.iter().zip(&example.special) {
            let starts =
                self.word_start.as_ref().is_none_or(|starts| starts.get(id as usize).is_none_or(|start| *start));
            if special {
                (chosen, in_word) = (false, false);
            } else if starts || !in_word {
                (chosen, in_word) = (random.next_f32() < self.probability, true);
            }
            corrupted.push(chosen.then(|| match random.next_f32() {
                draw if draw < MASKED => self.mask,
                draw if draw < MASKED + RANDOM => random.below(self.vocabulary),
                _ => id,
            }));
        }
        corrupted
    }
}

impl Collator for MlmCollator {
    fn collate(&self, examples: &[(u64, Example)], epoch: u64) -> Result<Batch, CollateError> {
        let seq_len = self.padding.target(longest(examples));
        let mut batch = self.padding.blank(examples, seq_len)?;
        for (row, (index, example)) in examples.iter().enumerate() {
            let start = row * seq_len + self.padding.place(example.ids.len(), seq_len);
            let corrupted = self.corrupt(example, *index, epoch);
            for (i, (&id, replacement)) in example.ids.iter().zip(corrupted).enumerate() {
                batch.input_ids[start + i] = replacement.unwrap_or(id) as i32;
                batch.attention_mask[start + i] = 1;
                if replacement.is_some() {
                    batch.labels[start + i] = id as i32;
                }
            }
        }
        Ok(batch)
    }
}
