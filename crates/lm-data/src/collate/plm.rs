//! Permutation language modelling (Yang et al., 2019), as Python's `DataCollatorForPermutationLanguageModeling` does it.
//!
//! Spans of tokens are chosen, each within its own stretch of context, and replaced by the mask token. A random
//! factorisation order then says which chosen token may see which: only those earlier in the order. All tokens that were
//! not chosen are seen by everyone.
//!
//! Python draws for the padded row of the whole batch and refuses an odd length. Here an example's choices depend on
//! itself alone: they are drawn for its own length made even (or for the fixed length of `pad_to_max_length`, which is
//! Python's case exactly), and a batch whose longest example is odd gets one position of padding more.

use std::collections::HashSet;
use std::sync::Arc;

use lm_random::{Purpose, Stream};

use super::{CollateError, Collator, PadTo, Padding, Split, longest};
use crate::batch::Batch;
use crate::example::Example;
use crate::tokenizer::LmTokenizer;

/// What the user chooses.
#[derive(Clone, Copy, Debug)]
pub struct PlmOptions {
    /// Share of the tokens that are predicted: a span of n tokens is given n / plm_probability tokens of room.
    pub plm_probability: f64,
    /// Most tokens of a span.
    pub max_span_length: usize,
}

impl Default for PlmOptions {
    fn default() -> Self {
        Self { plm_probability: 1.0 / 6.0, max_span_length: 5 }
    }
}

/// Chooses spans and orders; a function of (seed, epoch, example).
#[derive(Clone)]
pub struct PlmCollator {
    padding: Padding,
    options: PlmOptions,
    mask: u32,
    functional: Arc<HashSet<u32>>,
    seed: u64,
    split: Split,
}

impl PlmCollator {
    /// Fails without a mask token, or if an option makes no sense.
    pub fn new(
        tokenizer: &LmTokenizer,
        options: PlmOptions,
        padding: Padding,
        seed: u64,
        split: Split,
    ) -> Result<Self, CollateError> {
        let value = options.plm_probability;
        if !(value > 0.0 && value <= 1.0) {
            return Err(CollateError::Probability { name: "plm_probability", value, but: ", and not be 0" });
        }
        if !(1..=1 << 16).contains(&options.max_span_length) {
            return Err(CollateError::SpanLength(options.max_span_length));
        }
        Ok(Self {
            padding,
            options,
            mask: tokenizer.special().mask.ok_or(CollateError::NoMaskToken("permutation"))?,
            functional: Arc::new(tokenizer.special().all_special_ids.iter().copied().collect()),
            seed,
            split,
        })
    }

    /// The positions an example occupies by itself: an even number.
    fn own_length(&self, example: &Example) -> usize {
        let length = if let PadTo::Length(length) = self.padding.to { length } else { 0 };
        example.ids.len().max(length).next_multiple_of(2)
    }

    /// Chosen positions and the factorisation order, for an example that starts at `start` of `length` positions.
    fn draw(&self, example: &Example, start: usize, length: usize, index: u64, epoch: u64) -> (Vec<bool>, Vec<usize>) {
        let mut random = match self.split {
            Split::Train => Stream::new(self.seed, Purpose::PermuteTrain, epoch, index),
            Split::Eval => Stream::new(self.seed, Purpose::PermuteEval, 0, index),
        };
        let mut chosen = vec![false; length];
        let mut reached = 0;
        while reached < length {
            let span = 1 + random.below(self.options.max_span_length as u32) as usize;
            let context = (span as f64 / self.options.plm_probability) as usize;
            let room = u32::try_from(context - span + 1).unwrap_or(u32::MAX);
            let first = reached + random.below(room) as usize;
            chosen.iter_mut().skip(first).take(span).for_each(|chosen| *chosen = true);
            reached = reached.saturating_add(context);
        }
        for (position, chosen) in chosen.iter_mut().enumerate() {
            let id = position.checked_sub(start).and_then(|i| example.ids.get(i));
            *chosen &= id.is_some_and(|id| !self.functional.contains(id));
        }
        // Both halves are shuffled alike, and the second stays behind the first.
        let mut order: Vec<usize> = (0..length / 2).collect();
        random.shuffle(&mut order);
        order.extend_from_within(..);
        order.iter_mut().skip(length / 2).for_each(|rank| *rank += length / 2);
        (chosen, order)
    }
}

impl Collator for PlmCollator {
    fn collate(&self, examples: &[(u64, Example)], epoch: u64) -> Result<Batch, CollateError> {
        let seq_len = self.padding.target(longest(examples)).next_multiple_of(2);
        let mut batch = self.padding.blank(examples, seq_len)?;
        let mut perm_mask = vec![0u8; examples.len() * seq_len * seq_len];
        for (row, (index, example)) in examples.iter().enumerate() {
            let length = self.own_length(example).min(seq_len);
            let first = self.padding.place(length, seq_len);
            let start = self.padding.place(example.ids.len(), length);
            let (chosen, order) = self.draw(example, start, length, *index, epoch);
            for (i, &id) in example.ids.iter().enumerate() {
                let cell = row * seq_len + first + start + i;
                batch.attention_mask[cell] = 1;
                batch.input_ids[cell] = if chosen[start + i] { self.mask } else { id } as i32;
                if chosen[start + i] {
                    batch.labels[cell] = id as i32;
                }
            }
            // A regular token that was not chosen sees no chosen one; functional tokens keep their place in the order.
            let functional = |i: usize| {
                let id = i.checked_sub(start).and_then(|i| example.ids.get(i));
                id.is_none_or(|id| self.functional.contains(id))
            };
            let mask = &mut perm_mask[row * seq_len * seq_len..][..seq_len * seq_len];
            for (i, hidden_from) in mask.chunks_exact_mut(seq_len.max(1)).enumerate() {
                let rank =
                    i.checked_sub(first).filter(|&i| i < length && (chosen[i] || functional(i))).map(|i| order[i]);
                for (j, hidden) in hidden_from[first..first + length].iter_mut().enumerate() {
                    *hidden = u8::from(chosen[j] && rank.is_none_or(|rank| rank <= order[j]));
                }
            }
        }
        batch.perm_mask = Some(perm_mask);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::IGNORE;
    use crate::testing::{example, fixture, tokenizer};

    fn collator(tokenizer: &LmTokenizer, plm_probability: f64, max_span_length: usize, to: PadTo) -> PlmCollator {
        let options = PlmOptions { plm_probability, max_span_length };
        PlmCollator::new(tokenizer, options, Padding::new(tokenizer, to), 42, Split::Train).unwrap()
    }

    /// The share of predicted tokens as Python's procedure has it (exact expectation; the collator of transformers 4.57
    /// gave 0.1666, 0.1665, 0.1671, 0.1680, 0.1555, 0.2499 and 0.3082 over 400,000 tokens), and the share of pairs
    /// hidden from one another, measured there.
    #[test]
    fn shares_are_those_of_python() {
        let tokenizer = tokenizer("xlnet-small");
        for (length, probability, span, predicted, hidden) in [
            (512u64, 1.0 / 6.0, 5, 0.16665, 0.1529),
            (128, 1.0 / 6.0, 5, 0.16659, 0.1532),
            (64, 1.0 / 6.0, 5, 0.16677, 0.1542),
            (20, 1.0 / 6.0, 5, 0.16770, 0.1555),
            (8, 1.0 / 6.0, 5, 0.15696, 0.1381),
            (128, 0.25, 3, 0.25, 0.2196),
            (128, 0.3, 7, 0.30783, 0.2618),
        ] {
            let collator = collator(&tokenizer, probability, span, PadTo::Longest);
            let rows = 400_000 / length;
            let (mut labels, mut pairs) = (0usize, 0usize);
            for index in 0..rows {
                let batch = collator.collate(&[(index, example(vec![100; length as usize]))], 0).unwrap();
                labels += batch.predicted();
                pairs += batch.perm_mask.unwrap().iter().map(|&hidden| usize::from(hidden)).sum::<usize>();
            }
            let tokens = (rows * length) as f64;
            let (labels, pairs) = (labels as f64 / tokens, pairs as f64 / tokens / length as f64);
            assert!((labels / predicted - 1.0).abs() < 0.01, "length {length}: {labels} predicted, Python {predicted}");
            assert!((pairs / hidden - 1.0).abs() < 0.02, "length {length}: {pairs} hidden, Python {hidden}");
        }
    }

    /// Lines of text, padded to the longest or to a fixed length.
    fn real_lines(tokenizer: &LmTokenizer) -> Vec<(u64, Example)> {
        let text = std::fs::read_to_string(fixture("preprocessing/unix.txt")).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(120).collect();
        let encoded = tokenizer.encode_batch(&lines, Some(61)).unwrap();
        let example = |ids: Vec<u32>| Example { special: vec![false; ids.len()], ids };
        encoded.into_iter().enumerate().map(|(i, encoded)| (i as u64, example(encoded.ids))).collect()
    }

    #[test]
    fn invariants_hold_on_real_text() {
        let tokenizer = tokenizer("xlnet-small");
        let functional = &tokenizer.special().all_special_ids;
        let mask = tokenizer.special().mask.unwrap() as i32;
        let lines = real_lines(&tokenizer);
        let (mut predicted, mut tokens) = (0f64, 0f64);
        for (to, expected_length) in [(PadTo::Longest, 62), (PadTo::Length(64), 64), (PadTo::Length(65), 66)] {
            let collator = collator(&tokenizer, 1.0 / 6.0, 5, to);
            for epoch in 0..10 {
                let batch = collator.collate(&lines, epoch).unwrap();
                let n = batch.seq_len;
                assert_eq!(n, expected_length, "odd lengths become even");
                let perm_mask = batch.perm_mask.as_ref().unwrap();
                for (row, (_, line)) in lines.iter().enumerate() {
                    let start = row * n + n - line.ids.len();
                    let labels = &batch.labels[row * n..(row + 1) * n];
                    let hidden = |i: usize, j: usize| perm_mask[(row * n + i) * n + j] == 1;
                    let chosen: Vec<usize> = (0..n).filter(|&i| labels[i] != IGNORE).collect();
                    for (i, &id) in line.ids.iter().enumerate() {
                        let (input, label) = (batch.input_ids[start + i], batch.labels[start + i]);
                        assert_eq!(batch.attention_mask[start + i], 1);
                        assert!(if label == IGNORE { input == id as i32 } else { input == mask && label == id as i32 });
                        assert!(label == IGNORE || !functional.contains(&id), "functional tokens are not predicted");
                        predicted += f64::from(u8::from(label != IGNORE));
                        tokens += f64::from(u8::from(!functional.contains(&id)));
                    }
                    for &i in &chosen {
                        assert!(hidden(i, i), "a predicted token does not see itself");
                        for &j in chosen.iter().filter(|&&j| j != i) {
                            assert!(hidden(i, j) != hidden(j, i), "of two predicted tokens one sees the other");
                            for &k in &chosen {
                                assert!(hidden(i, k) || !hidden(i, j) || !hidden(j, k), "the order is transitive");
                            }
                        }
                    }
                    for i in 0..n {
                        let regular =
                            i >= n - line.ids.len() && !functional.contains(&line.ids[i + line.ids.len() - n]);
                        for j in 0..n {
                            let is_chosen = labels[j] != IGNORE;
                            assert!(is_chosen || !hidden(i, j), "what is not predicted is seen by everyone");
                            let context = regular && labels[i] == IGNORE;
                            assert!(!(context && is_chosen) || hidden(i, j), "context sees no predicted token");
                        }
                    }
                }
            }
        }
        assert!((predicted / tokens * 6.0 - 1.0).abs() < 0.05, "{predicted} of {tokens}");
    }

    #[test]
    fn halves_do_not_cross() {
        let tokenizer = tokenizer("xlnet-small");
        let collator = collator(&tokenizer, 1.0, 4, PadTo::Longest);
        let batch = collator.collate(&[(0, example(vec![100; 32]))], 0).unwrap();
        assert_eq!(batch.predicted(), 32, "with probability 1 everything is predicted");
        let hidden = batch.perm_mask.unwrap();
        let before = |i: usize, j: usize| hidden[i * 32 + j] == 1 && hidden[j * 32 + i] == 0;
        for i in 0..16 {
            for j in 0..16 {
                assert!(before(i, 16 + j), "the first half comes first");
                assert_eq!(before(i, j), before(16 + i, 16 + j), "both halves are in the same order");
            }
        }
    }

    #[test]
    fn wrong_options_are_refused() {
        let xlnet = tokenizer("xlnet-small");
        let padding = Padding::new(&xlnet, PadTo::Longest);
        let new = |tokenizer, plm_probability, max_span_length| {
            PlmCollator::new(tokenizer, PlmOptions { plm_probability, max_span_length }, padding, 0, Split::Train)
        };
        assert!(new(&xlnet, 0.0, 5).is_err() && new(&xlnet, 1.1, 5).is_err() && new(&xlnet, f64::NAN, 5).is_err());
        assert!(new(&xlnet, 0.2, 0).is_err() && new(&xlnet, 0.2, usize::MAX).is_err());
        let gpt = tokenizer("openai-gpt-small");
        assert!(new(&gpt, 0.2, 5).is_err());
        let rare = new(&xlnet, f64::MIN_POSITIVE, 5).unwrap();
        assert_eq!(rare.collate(&[(0, example(vec![100; 50]))], 0).unwrap().predicted(), 0);
    }

    proptest! {
        #[test]
        fn an_example_depends_on_itself_alone(lengths in proptest::collection::vec(0usize..24, 1..5), epoch in 0u64..3) {
            let tokenizer = tokenizer("xlnet-small");
            let collator = collator(&tokenizer, 0.4, 3, PadTo::Longest);
            let examples: Vec<(u64, Example)> =
                lengths.iter().enumerate().map(|(i, &n)| (i as u64, example((0..n as u32).map(|at| 50 + at)))).collect();
            let batch = collator.collate(&examples, epoch).unwrap();
            let n = batch.seq_len;
            for (row, (index, example)) in examples.iter().enumerate() {
                let alone = collator.collate(&[(*index, example.clone())], epoch).unwrap();
                let (m, first) = (alone.seq_len, n - alone.seq_len);
                prop_assert_eq!(m, example.ids.len().next_multiple_of(2));
                prop_assert_eq!(&batch.labels[row * n + first..(row + 1) * n], &alone.labels[..]);
                prop_assert_eq!(&batch.input_ids[row * n + first..(row + 1) * n], &alone.input_ids[..]);
                for i in 0..m {
                    let of_batch = &batch.perm_mask.as_ref().unwrap()[(row * n + first + i) * n + first..][..m];
                    prop_assert_eq!(of_batch, &alone.perm_mask.as_ref().unwrap()[i * m..(i + 1) * m]);
                }
            }
        }
    }
}
