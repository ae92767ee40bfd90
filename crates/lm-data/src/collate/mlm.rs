//! Masked language modelling (Devlin et al., 2019), as Python's `DataCollatorForLanguageModeling` does it: of the
//! tokens chosen for prediction 80 % become the mask token, 10 % a random one, 10 % stay.

use std::collections::HashSet;
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
    /// Predict special tokens too where the text itself has them: an unknown word, a literal `[MASK]`. Python does so only
    /// with `--remove_unused_columns False`, when its collator gets to see which tokens were put around the text.
    pub special_in_text: bool,
}

impl Default for MlmOptions {
    fn default() -> Self {
        Self { mlm_probability: 0.15, whole_word_mask: false, special_in_text: false }
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
    /// Ids that are never predicted.
    never: Arc<HashSet<u32>>,
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
        let never: &[u32] = if options.special_in_text { &[] } else { &tokenizer.special().all_special_ids };
        Ok(Self {
            padding,
            probability: value as f32,
            mask: tokenizer.special().mask.ok_or(CollateError::NoMaskToken("masked"))?,
            vocabulary,
            word_start: options.whole_word_mask.then(word_start),
            never: Arc::new(never.iter().copied().collect()),
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
            if special || self.never.contains(&id) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::IGNORE;
    use crate::collate::PadTo;
    use crate::testing::{chi_square, example, tokenizer};

    fn collator(tokenizer: &LmTokenizer, options: MlmOptions, to: PadTo) -> MlmCollator {
        MlmCollator::new(tokenizer, options, Padding::new(tokenizer, to), 42, Split::Train).unwrap()
    }

    /// Shares over two million tokens, each within the 99.9 % quantile of chi-square.
    #[test]
    fn shares_are_those_of_the_paper() {
        let tokenizer = tokenizer("bert-cased-small");
        let collator = collator(&tokenizer, MlmOptions::default(), PadTo::Longest);
        let (length, rows, token) = (500u64, 4000u64, 100u32);
        let vocabulary = tokenizer.len() as u32;
        let mask = tokenizer.special().mask.unwrap();
        let mut seen = vec![0f64; vocabulary as usize];
        let mut chosen = 0f64;
        for index in 0..rows {
            let batch = collator.collate(&[(index, example(vec![token; length as usize]))], 3).unwrap();
            for (&id, _) in batch.input_ids.iter().zip(&batch.labels).filter(|(_, label)| **label != IGNORE) {
                chosen += 1.0;
                seen[id as usize] += 1.0;
            }
        }
        let total = (length * rows) as f64;
        let choice = chi_square(&[chosen, total - chosen], &[0.15 * total, 0.85 * total]);
        assert!(choice < 10.8, "chosen {chosen} of {total}: {choice}");

        let (masked, kept) = (seen[mask as usize], seen[token as usize]);
        let stray = 0.1 / f64::from(vocabulary);
        let expected = [0.8 + stray, 0.1 + stray, 0.1 - 2.0 * stray].map(|share| share * chosen);
        let fate = chi_square(&[masked, kept, chosen - masked - kept], &expected);
        assert!(fate < 13.8, "masked {masked}, kept {kept} of {chosen}: {fate}");

        let drawn: Vec<f64> =
            (0..vocabulary).filter(|&id| id != mask && id != token).map(|id| seen[id as usize]).collect();
        let cells = drawn.len() as f64;
        let uniform = chi_square(&drawn, &vec![drawn.iter().sum::<f64>() / cells; drawn.len()]);
        assert!(uniform < cells + 3.1 * (2.0 * cells).sqrt() + 7.0, "over {cells} ids: {uniform}");
    }

    #[test]
    fn nothing_to_mask_is_no_label() {
        let tokenizer = tokenizer("bert-cased-small");
        let collator =
            collator(&tokenizer, MlmOptions { mlm_probability: 1.0, ..Default::default() }, PadTo::Length(4));
        let special = Example { ids: vec![7, 8], special: vec![true, true] };
        let batch = collator.collate(&[(0, special), (1, example([])), (2, example([9]))], 0).unwrap();
        let pad = tokenizer.special().pad.unwrap() as i32;
        assert_eq!((batch.batch_size, batch.seq_len), (3, 4));
        assert_eq!(batch.input_ids[..8], [7, 8, pad, pad, pad, pad, pad, pad]);
        assert_eq!(batch.labels, [vec![IGNORE; 8], vec![9, IGNORE, IGNORE, IGNORE]].concat());
        assert_eq!(batch.attention_mask, [1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(collator.collate(&[], 0).unwrap().batch_size, 0);
    }

    /// Python's collator knows no mask of its own (`remove_unused_columns`): it asks the tokenizer, for which every special
    /// token is special, wherever it stands.
    #[test]
    fn special_tokens_in_the_text_are_not_predicted() {
        let tokenizer = tokenizer("bert-cased-small");
        let special = &tokenizer.special().all_special_ids;
        let ids: Vec<u32> = special.iter().copied().chain([100, 101]).collect();
        for split in [Split::Train, Split::Eval] {
            let predicted = |special_in_text| {
                let options = MlmOptions { mlm_probability: 1.0, special_in_text, ..Default::default() };
                let padding = Padding::new(&tokenizer, PadTo::Longest);
                let collator = MlmCollator::new(&tokenizer, options, padding, 42, split).unwrap();
                let batch = collator.collate(&[(0, example(ids.clone()))], 0).unwrap();
                batch.labels.into_iter().filter(|&label| label != IGNORE).map(|id| id as u32).collect::<Vec<_>>()
            };
            assert!(special.len() >= 5, "{special:?}");
            assert_eq!(predicted(false), [100, 101]);
            assert_eq!(predicted(true), ids);
        }
    }

    #[test]
    fn words_are_masked_whole() {
        let tokenizer = tokenizer("bert-cased-small");
        let text = "photosynthesis unbelievable lanterns walked quietly";
        let encoded = tokenizer.encode_batch(&[text], None).unwrap().remove(0);
        let special: Vec<bool> = encoded.special_tokens_mask.iter().map(|&special| special == 1).collect();
        let example = Example { ids: encoded.ids.clone(), special };
        let options = MlmOptions { mlm_probability: 0.5, whole_word_mask: true, ..Default::default() };
        let collator = collator(&tokenizer, options, PadTo::Longest);
        let (mut partly, mut differ) = (0, false);
        for index in 0..200 {
            let labels = collator.collate(&[(index, example.clone())], 0).unwrap().labels;
            assert_eq!((labels[0], labels[labels.len() - 1]), (IGNORE, IGNORE));
            for i in 1..labels.len() - 1 {
                let starts = tokenizer.is_word_start(encoded.ids[i]);
                differ |= starts && i > 1 && (labels[i] == IGNORE) != (labels[i - 1] == IGNORE);
                partly += usize::from(!starts && (labels[i] == IGNORE) != (labels[i - 1] == IGNORE));
            }
        }
        assert!(differ && partly == 0 && encoded.ids.len() > 7, "{partly} words torn in {:?}", encoded.ids);
    }

    #[test]
    fn wrong_options_are_refused() {
        let bert = tokenizer("bert-cased-small");
        let padding = Padding::new(&bert, PadTo::Longest);
        for mlm_probability in [-0.1, 1.5, f64::NAN] {
            let options = MlmOptions { mlm_probability, ..Default::default() };
            assert!(MlmCollator::new(&bert, options, padding, 0, Split::Train).is_err());
        }
        let gpt = tokenizer("openai-gpt-small");
        let error = MlmCollator::new(&gpt, MlmOptions::default(), padding, 0, Split::Train).err().unwrap();
        assert!(error.to_string().contains("no mask token"));
    }

    proptest! {
        /// An example is corrupted alike whatever its neighbours, and labels, padding and special tokens are right.
        #[test]
        fn an_example_depends_on_itself_alone(
            lengths in proptest::collection::vec(0usize..20, 1..6), multiple in 1usize..9, epoch in 0u64..3) {
            let tokenizer = tokenizer_once();
            let collator = collator(tokenizer, MlmOptions { mlm_probability: 0.4, ..Default::default() }, PadTo::MultipleOf(multiple));
            let examples: Vec<(u64, Example)> = lengths.iter().enumerate().map(|(i, &length)| {
                let mut example = example((0..length as u32).map(|at| 50 + at));
                example.special.iter_mut().step_by(5).for_each(|special| *special = true);
                (10 + i as u64, example)
            }).collect();
            let batch = collator.collate(&examples, epoch).unwrap();
            prop_assert_eq!(batch.seq_len % multiple, 0);
            prop_assert_eq!(batch.seq_len, lengths.iter().max().unwrap().next_multiple_of(multiple));
            for (row, (index, example)) in examples.iter().enumerate() {
                let alone = collator.collate(&[(*index, example.clone())], epoch).unwrap();
                let (length, start) = (example.ids.len(), row * batch.seq_len);
                prop_assert_eq!(&batch.input_ids[start..start + length], &alone.input_ids[..length]);
                prop_assert_eq!(&batch.labels[start..start + length], &alone.labels[..length]);
                for i in 0..length {
                    let label = batch.labels[start + i];
                    prop_assert!(label == IGNORE || (label == example.ids[i] as i32 && !example.special[i]));
                    prop_assert!(label != IGNORE || batch.input_ids[start + i] == example.ids[i] as i32);
                    prop_assert_eq!(batch.attention_mask[start + i], 1);
                }
                for i in length..batch.seq_len {
                    prop_assert_eq!((batch.attention_mask[start + i], batch.labels[start + i]), (0, IGNORE));
                }
            }
        }
    }

    fn tokenizer_once() -> &'static LmTokenizer {
        static TOKENIZER: std::sync::OnceLock<LmTokenizer> = std::sync::OnceLock::new();
        TOKENIZER.get_or_init(|| tokenizer("bert-cased-small"))
    }

    #[test]
    fn epochs_and_seeds_differ_and_evaluation_does_not() {
        let tokenizer = tokenizer("bert-cased-small");
        let padding = Padding::new(&tokenizer, PadTo::Longest);
        let labels = |seed, split, epoch| {
            let collator = MlmCollator::new(&tokenizer, MlmOptions::default(), padding, seed, split).unwrap();
            collator.collate(&[(5, example(0..200))], epoch).unwrap().labels
        };
        assert_eq!(labels(1, Split::Train, 2), labels(1, Split::Train, 2));
        assert_ne!(labels(1, Split::Train, 2), labels(1, Split::Train, 3));
        assert_ne!(labels(1, Split::Train, 2), labels(2, Split::Train, 2));
        assert_eq!(labels(1, Split::Eval, 2), labels(1, Split::Eval, 3));
        assert_ne!(labels(1, Split::Eval, 0), labels(1, Split::Train, 0));
    }
}
