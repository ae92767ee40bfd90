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
