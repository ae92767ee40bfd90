//! Encoded rows to training examples, as `run_mlm.py`, `run_clm.py` and `run_plm.py` of transformers 4.57 cut them.

mod store;

use std::collections::VecDeque;

use rayon::prelude::*;

use crate::tokenizer::{LmTokenizer, TokenizerError};

pub(crate) use store::{Check, Codes, Part, PartWriter};
pub use store::{ExampleStore, Statistics, StoreError};

/// Bit of a stored token that says: added by the tokenizer around the text ([CLS], [SEP], …), never to be masked.
pub(crate) const SPECIAL: u32 = 1 << 31;

/// One training example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether the tokenizer added the token around the text; as long as `ids`.
    pub special: Vec<bool>,
}

impl Example {
    pub(crate) fn from_packed(packed: &[u32]) -> Self {
        Self {
            ids: packed.iter().map(|token| token & !SPECIAL).collect(),
            special: packed.iter().map(|token| token & SPECIAL != 0).collect(),
        }
    }
}

/// How rows become examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Tokens of a block, or the most tokens of a line.
    pub length: usize,
    /// Each row that is not blank is one example, truncated. Otherwise rows are joined and cut into blocks.
    pub line_by_line: bool,
    /// Rows joined at a time: what is left after the last full block of each such group is dropped. 0 joins all rows.
    pub group_batch_size: usize,
}

/// One row as packed tokens ([`SPECIAL`] marks the added ones).
pub(crate) struct EncodedRow {
    pub tokens: Vec<u32>,
    pub truncated: bool,
}

/// A row that cannot be encoded.
pub(crate) struct RowFault {
    /// Its place among the rows that were given.
    pub row: usize,
    pub error: TokenizerError,
}

/// Encodes rows in parallel on the current rayon pool; blank rows give None where lines are examples.
pub(crate) fn encode_rows(
    rows: &[String],
    cut: &Cut,
    tokenizer: &LmTokenizer,
) -> Result<Vec<Option<EncodedRow>>, RowFault> {
    const ROWS_PER_CALL: usize = 64;
    let encoded: Result<Vec<Vec<_>>, _> = rows
        .par_chunks(ROWS_PER_CALL)
        .enumerate()
        .map(|(chunk, rows)| {
            encode_chunk(rows, cut, tokenizer).map_err(|error| {
                let index = match &error {
                    TokenizerError::Encode { index, .. } | TokenizerError::Stopped { index, .. } => *index,
                    _ => 0,
                };
                let mut used = (0..rows.len()).filter(|row| !cut.line_by_line || !is_blank(&rows[*row]));
                RowFault { row: chunk * ROWS_PER_CALL + used.nth(index).unwrap_or(0), error }
            })
        })
        .collect();
    Ok(encoded?.into_iter().flatten().collect())
}

fn encode_chunk(
    rows: &[String],
    cut: &Cut,
    tokenizer: &LmTokenizer,
) -> Result<Vec<Option<EncodedRow>>, TokenizerError> {
    let used = |row: &&String| !cut.line_by_line || !is_blank(row);
    let texts: Vec<&str> = rows.iter().filter(used).map(String::as_str).collect();
    let mut encodings = tokenizer.encode_batch(&texts, cut.line_by_line.then_some(cut.length))?.into_iter();
    let encode = |row: &String| {
        let encoding = if used(&row) { encodings.next()? } else { return None };
        let mut tokens = encoding.ids;
        for (token, special) in tokens.iter_mut().zip(&encoding.special_tokens_mask) {
            *token |= u32::from(*special) << 31;
        }
        Some(EncodedRow { tokens, truncated: encoding.truncated })
    };
    Ok(rows.iter().map(encode).collect())
}

/// Python's `len(line) == 0 or line.isspace()`.
pub(crate) fn is_blank(row: &str) -> bool {
    row.chars().all(|c| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}

/// Joins encoded rows and gives out examples; its state between rows is all that a stream needs to go on.
pub(crate) struct Cutter {
    cut: Cut,
    carry: VecDeque<u32>,
    rows: usize,
    dropped: u64,
}

impl Cutter {
    /// `carry` and `rows`: the tokens not given out yet and the rows of the group they belong to.
    pub fn new(cut: Cut, carry: Vec<u32>, rows: usize) -> Self {
        Self { cut, carry: carry.into(), rows, dropped: 0 }
    }

    /// Adds a row. All examples must have been taken with [`Cutter::next`] before.
    pub fn push(&mut self, row: Vec<u32>) {
        // What is less is moved to what is more.
        if row.len() > self.carry.len() {
            let before = std::mem::replace(&mut self.carry, row.into());
            before.into_iter().rev().for_each(|token| self.carry.push_front(token));
        } else {
            self.carry.extend(row);
        }
        self.rows += 1;
    }

    /// Whether another whole example is there.
    pub fn is_ahead(&self) -> bool {
        !self.cut.line_by_line && self.carry.len() >= self.cut.length
    }

    /// The next complete example, packed.
    pub fn next(&mut self) -> Option<Vec<u32>> {
        if self.cut.line_by_line {
            let row = (self.rows > 0).then(|| std::mem::take(&mut self.carry).into());
            self.rows = 0;
            return row;
        }
        if self.is_ahead() {
            return Some(self.carry.drain(..self.cut.length).collect());
        }
        if self.cut.group_batch_size > 0 && self.rows == self.cut.group_batch_size {
            self.end();
        }
        None
    }

    /// Ends the group of rows: what is left is dropped.
    pub fn end(&mut self) {
        self.dropped += self.carry.len() as u64;
        self.carry.clear();
        self.rows = 0;
    }

    /// Tokens dropped since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Tokens of all rows so far that are in no example.
    pub fn left_over(&self) -> u64 {
        self.dropped + self.carry.len() as u64
    }

    /// Tokens not given out yet, and the rows of their group.
    pub fn state(&self) -> (Vec<u32>, usize) {
        (self.carry.iter().copied().collect(), self.rows)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn examples(rows: &[Vec<u32>], cut: Cut) -> (Vec<Vec<u32>>, u64) {
        let mut cutter = Cutter::new(cut, Vec::new(), 0);
        let mut examples = Vec::new();
        for row in rows {
            cutter.push(row.clone());
            examples.extend(std::iter::from_fn(|| cutter.next()));
            // Going on from the state is the same as going on.
            let (carry, rows) = cutter.state();
            cutter = Cutter { dropped: cutter.dropped, ..Cutter::new(cut, carry, rows) };
        }
        (examples, cutter.left_over())
    }

    /// `group_texts` of the Python scripts, on each batch of rows that `datasets.map` hands it.
    fn group_texts(rows: &[Vec<u32>], cut: Cut) -> Vec<Vec<u32>> {
        let size = if cut.group_batch_size == 0 { rows.len().max(1) } else { cut.group_batch_size };
        let blocks = |rows: &[Vec<u32>]| -> Vec<Vec<u32>> {
            rows.concat().chunks_exact(cut.length).map(<[u32]>::to_vec).collect()
        };
        rows.chunks(size).flat_map(blocks).collect()
    }

    proptest! {
        #[test]
        fn blocks_are_those_of_group_texts(
            lengths in proptest::collection::vec(0usize..30, 0..40),
            length in 1usize..20,
            group_batch_size in 0usize..12,
        ) {
            let mut id = 0;
            let rows: Vec<Vec<u32>> = lengths.iter().map(|&n| (0..n).map(|_| { id += 1; id }).collect()).collect();
            let cut = Cut { length, line_by_line: false, group_batch_size };
            let (blocks, left_over) = examples(&rows, cut);
            prop_assert_eq!(blocks.len() as u64 * length as u64 + left_over, u64::from(id));
            prop_assert_eq!(blocks, group_texts(&rows, cut));
            let lines = examples(&rows, Cut { line_by_line: true, ..cut }).0;
            prop_assert_eq!(lines, rows);
        }
    }

    #[test]
    fn blank_is_what_python_calls_blank() {
        for blank in ["", " ", "\t\n\x0b\x0c\r", "\x1c\x1d\x1e\x1f", "\u{85}\u{a0}\u{2028}\u{3000}"] {
            assert!(is_blank(blank), "{blank:?}");
        }
        for text in ["a", " a ", "\u{200b}", "\u{feff}", "\0", "\x1b"] {
            assert!(!is_blank(text), "{text:?}");
        }
    }
}
