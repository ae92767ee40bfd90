//! Examples to batches: one collator per task, each a function of (seed, epoch, example) and never of the other
//! examples of the batch.

mod clm;
mod mlm;
mod plm;

pub use clm::ClmCollator;
pub use mlm::{MlmCollator, MlmOptions};
pub use plm::{PlmCollator, PlmOptions};

use crate::batch::{Batch, IGNORE};
use crate::example::Example;
use crate::tokenizer::{LmTokenizer, Side};

/// Why a collator cannot be made or a batch not be built.
#[derive(Debug, thiserror::Error)]
pub enum CollateError {
    /// Masking needs a mask token.
    #[error("the tokenizer has no mask token, which {0} language modelling needs: choose another tokenizer or task")]
    NoMaskToken(&'static str),
    /// Examples of unequal length need a padding token.
    #[error(
        "the examples differ in length and the tokenizer has no padding token: join the lines into blocks (without --line_by_line), or add a pad_token to the tokenizer"
    )]
    NoPadToken,
    /// A probability out of its range.
    #[error("--{name} {value}: must lie between 0 and 1{but}")]
    Probability {
        /// The option.
        name: &'static str,
        /// Its value.
        value: f64,
        /// A further restriction, or nothing.
        but: &'static str,
    },
    /// Spans of no tokens, or absurdly long ones.
    #[error("--max_span_length {0}: must lie between 1 and 65536")]
    SpanLength(usize),
}

/// Builds a batch of examples, each with its index.
pub trait Collator: Send + Sync {
    /// The batch of these examples in this epoch.
    fn collate(&self, examples: &[(u64, Example)], epoch: u64) -> Result<Batch, CollateError>;
}

/// Which split a collator works on: evaluation draws from its own numbers, the same in every epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Training: new choices every epoch.
    Train,
    /// Evaluation: the same choices every time.
    Eval,
}

/// How long the rows of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadTo {
    /// As long as the longest example.
    Longest,
    /// The same, rounded up to a multiple of this.
    MultipleOf(usize),
    /// This long, whatever the examples.
    Length(usize),
}

/// How examples are padded.
#[derive(Clone, Copy, Debug)]
pub struct Padding {
    to: PadTo,
    side: Side,
    id: Option<u32>,
}

impl Padding {
    /// Padding with the tokenizer's token on the tokenizer's side.
    pub fn new(tokenizer: &LmTokenizer, to: PadTo) -> Self {
        Self { to, side: tokenizer.padding_side(), id: tokenizer.special().pad }
    }

    /// Row length for examples of which the longest has `longest` tokens.
    pub fn target(&self, longest: usize) -> usize {
        match self.to {
            PadTo::Longest => longest,
            PadTo::MultipleOf(n) => longest.next_multiple_of(n.max(1)),
            PadTo::Length(length) => longest.max(length),
        }
    }

    /// Row length of a single example, and where its tokens start in it.
    pub fn place(&self, length: usize, target: usize) -> usize {
        if self.side == Side::Left { target.saturating_sub(length) } else { 0 }
    }

    /// The ids of one example padded by itself, as Python stores them for `pad_to_max_length`.
    pub fn pad(&self, ids: &[u32]) -> Result<Vec<u32>, CollateError> {
        let target = if let PadTo::Length(length) = self.to { length.max(ids.len()) } else { ids.len() };
        let mut padded = vec![if target > ids.len() { self.token()? } else { 0 }; target];
        let start = self.place(ids.len(), target);
        padded[start..start + ids.len()].copy_from_slice(ids);
        Ok(padded)
    }

    fn token(&self) -> Result<u32, CollateError> {
        self.id.ok_or(CollateError::NoPadToken)
    }

    /// A batch of padding into which the examples are to be written, without labels.
    fn blank(&self, examples: &[(u64, Example)], seq_len: usize) -> Result<Batch, CollateError> {
        let full = examples.iter().all(|(_, example)| example.ids.len() == seq_len);
        let pad = if full { 0 } else { self.token()? };
        let cells = examples.len() * seq_len;
        Ok(Batch {
            batch_size: examples.len(),
            seq_len,
            input_ids: vec![pad as i32; cells],
            attention_mask: vec![0; cells],
            labels: vec![IGNORE; cells],
            perm_mask: None,
            example_ids: examples.iter().map(|(index, _)| *index).collect(),
        })
    }
}

fn longest(examples: &[(u64, Example)]) -> usize {
    examples.iter().map(|(_, example)| example.ids.len()).max().unwrap_or(0)
}
