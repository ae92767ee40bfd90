//! Examples made while training, from a corpus of any size in constant memory, and going on at the right byte.
//!
//! The examples of an epoch are those of the stored path, in the order of the files. Where a stream stands is a small
//! value: the next row, and the tokens of rows already read that are not in an example yet.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::batch::Batch;
use crate::collate::Collator;
use crate::example::{Cut, Cutter, EncodedRow, Example, encode_rows, read_chunk};
use crate::source::{RowPosition, TextFiles};
use crate::tokenizer::LmTokenizer;

/// Where a stream stands; saved with a checkpoint and given back to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Examples given out in this epoch.
    pub examples: u64,
    /// The next row to read.
    pub row: RowPosition,
    /// Rows read since rows were last joined anew.
    pub rows_in_group: usize,
    /// Tokens of these rows that are in no example yet; bit 31 marks special tokens.
    pub carry: Vec<u32>,
}

/// Examples of a corpus, read and tokenized as they are asked for, epoch after epoch.
pub struct ExampleStream {
    files: TextFiles,
    tokenizer: Arc<LmTokenizer>,
    pool: Arc<rayon::ThreadPool>,
    cut: Cut,
    first_row: RowPosition,
    most: u64,
    epoch: u64,
    examples: u64,
    cutter: Cutter,
    /// Rows read ahead and tokenized, each with the position after it.
    ahead: VecDeque<(Option<EncodedRow>, RowPosition)>,
    /// After the last row given to the cutter.
    row: RowPosition,
}

/// Rows tokenized at a time.
const ROWS_AHEAD: u64 = 512;

impl ExampleStream {
    /// A stream over `files` from `first_row` on, `most` examples per epoch at the most, that goes on at `position`.
    pub(crate) fn new(
        files: TextFiles,
        tokenizer: Arc<LmTokenizer>,
        pool: Arc<rayon::ThreadPool>,
        cut: Cut,
        first_row: RowPosition,
        most: u64,
        position: StreamPosition,
    ) -> Self {
        let row = if position == StreamPosition::default() { first_row } else { position.row };
        let cutter = Cutter::new(cut, position.carry, position.rows_in_group);
        let (epoch, examples) = (position.epoch, position.examples);
        Self { files, tokenizer, pool, cut, first_row, most, epoch, examples, cutter, ahead: VecDeque::new(), row }
    }

    /// Where the stream stands.
    pub fn position(&self) -> StreamPosition {
        let (carry, rows_in_group) = self.cutter.state();
        StreamPosition { epoch: self.epoch, examples: self.examples, row: self.row, rows_in_group, carry }
    }

    /// An epoch and the next examples of it with their index in it: `count` of them unless the epoch ends before. After
    /// an epoch's last examples the next call gives those of the next epoch.
    pub fn next_examples(&mut self, count: usize) -> Result<(u64, Vec<(u64, Example)>), DataError> {
        let mut examples = Vec::with_capacity(count);
        loop {
            while examples.len() < count
                && let Some(packed) = self.next_packed()?
            {
                examples.push((self.examples, Example::from_packed(&packed)));
                self.examples += 1;
            }
            if !examples.is_empty() || count == 0 {
                return Ok((self.epoch, examples));
            }
            if self.examples == 0 {
                return Err(DataError::no_example(&self.files, &self.cut, self.cutter.left_over()));
            }
            self.start_epoch();
        }
    }

    fn next_packed(&mut self) -> Result<Option<Vec<u32>>, DataError> {
        if self.examples == self.most {
            return Ok(None);
        }
        loop {
            if let Some(example) = self.cutter.next() {
                return Ok(Some(example));
            }
            if self.ahead.is_empty() {
                self.read_ahead()?;
            }
            let Some((row, after)) = self.ahead.pop_front() else { return Ok(None) };
            self.row = after;
            if let Some(row) = row {
                self.cutter.push(&row.tokens);
            }
        }
    }

    fn read_ahead(&mut self) -> Result<(), DataError> {
        let (mut texts, mut positions) = (Vec::new(), Vec::new());
        let mut rows = self.files.rows_from(self.row);
        read_chunk(&mut rows, &mut texts, ROWS_AHEAD, |position| positions.push(position))?;
        let encoded = self.pool.install(|| encode_rows(&texts, &self.cut, &self.tokenizer))?;
        self.ahead = encoded.into_iter().zip(positions).collect();
        Ok(())
    }

    fn start_epoch(&mut self) {
        self.cutter.end();
        self.ahead.clear();
        (self.epoch, self.examples, self.row) = (self.epoch + 1, 0, self.first_row);
    }

    /// Batches without end, each with the position after it. An epoch's last batch may be smaller, or is left out.
    pub fn batches(
        mut self,
        collator: Arc<dyn Collator>,
        batch_size: usize,
        drop_last: bool,
    ) -> impl Iterator<Item = Result<(Batch, StreamPosition), DataError>> + Send + 'static {
        std::iter::from_fn(move || Some(self.next_batch(&*collator, batch_size.max(1), drop_last)))
    }

    fn next_batch(
        &mut self,
        collator: &dyn Collator,
        batch_size: usize,
        drop_last: bool,
    ) -> Result<(Batch, StreamPosition), DataError> {
        let (mut epoch, mut examples) = self.next_examples(batch_size)?;
        if drop_last && examples.len() < batch_size {
            (epoch, examples) = self.next_examples(batch_size)?;
            if examples.len() < batch_size {
                return Err(DataError::NoBatch { examples: examples.len(), batch_size });
            }
        }
        Ok((collator.collate(&examples, epoch)?, self.position()))
    }
}
