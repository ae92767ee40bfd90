//! Examples made while training, from a corpus of any size in constant memory, and going on at the right byte.
//!
//! The examples of an epoch are those of the stored path, in the order of the files. Where a stream stands is a small
//! value: the next row, and the tokens of rows already read that are not in an example yet.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::batch::Batch;
use crate::build::read_chunk;
use crate::collate::Collator;
use crate::example::{Cut, Cutter, EncodedRow, Example, encode_rows};
use crate::prefetch::Prefetch;
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

    /// What identifies the examples: the files, told by their sizes, beginnings and ends, and how rows become examples.
    pub fn key(&self) -> Result<String, DataError> {
        let mut key = Sha256::new();
        key.update(self.files.quick_digest()?);
        key.update(self.tokenizer.fingerprint());
        key.update(format!("{:?} {:?} {}", self.cut, self.first_row, self.most));
        Ok(key.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Where the stream stands.
    pub fn position(&self) -> StreamPosition {
        let (carry, rows_in_group) = self.cutter.state();
        StreamPosition { epoch: self.epoch, examples: self.examples, row: self.row, rows_in_group, carry }
    }

    /// An epoch and the next examples of it with their index in it: `count` of them unless the epoch ends before. After
    /// an epoch's last examples the next call gives those of the next epoch.
    pub fn next_examples(&mut self, count: usize) -> Result<(u64, Vec<(u64, Example)>), DataError> {
        let mut examples = Vec::new();
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
        let first = self.row;
        let mut rows = self.files.rows_from(first);
        read_chunk(&mut rows, &mut texts, ROWS_AHEAD, |position| positions.push(position))?;
        let encoded = self.pool.install(|| encode_rows(&texts, &self.cut, &self.tokenizer));
        let encoded = encoded.map_err(|fault| {
            let place = fault.row.checked_sub(1).map_or(first, |row| positions[row]);
            DataError::row(&self.files, place, fault.error)
        })?;
        self.ahead = encoded.into_iter().zip(positions).collect();
        Ok(())
    }

    fn start_epoch(&mut self) {
        self.cutter.end();
        self.ahead.clear();
        (self.epoch, self.examples, self.row) = (self.epoch + 1, 0, self.first_row);
    }

    /// Batches without end, each with the position after it, built ahead on `workers` threads. An epoch's last batch may be
    /// smaller, or is left out.
    pub fn batches(
        mut self,
        collator: Arc<dyn Collator>,
        batch_size: usize,
        drop_last: bool,
        workers: usize,
        ahead: usize,
    ) -> std::io::Result<Prefetch<Result<(Batch, StreamPosition), DataError>>> {
        let rows = std::iter::from_fn(move || Some(self.next_rows(batch_size.max(1), drop_last)));
        let collate = move |rows: Result<Rows, DataError>| {
            let Rows { epoch, examples, position } = rows?;
            Ok((collator.collate(&examples, epoch)?, position))
        };
        Prefetch::new(rows, collate, workers, ahead)
    }

    fn next_rows(&mut self, batch_size: usize, drop_last: bool) -> Result<Rows, DataError> {
        let (mut epoch, mut examples) = self.next_examples(batch_size)?;
        if drop_last && examples.len() < batch_size {
            (epoch, examples) = self.next_examples(batch_size)?;
            if examples.len() < batch_size {
                return Err(DataError::NoBatch { examples: examples.len(), batch_size });
            }
        }
        Ok(Rows { epoch, examples, position: self.position() })
    }
}

/// The examples of a batch, and the position after them.
struct Rows {
    epoch: u64,
    examples: Vec<(u64, Example)>,
    position: StreamPosition,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collate::{ClmCollator, PadTo, Padding};
    use crate::testing::{fixture, prepare, tokenizer};
    use crate::{Corpus, DataConfig};

    fn config(cache: &std::path::Path, line_by_line: bool, group_batch_size: usize, held_out: bool) -> DataConfig {
        let file = |name: &str| fixture("preprocessing").join(name).display().to_string();
        DataConfig {
            train_files: vec![
                file("unix.txt"),
                file("lines.jsonl"),
                file("../columns/many.parquet"),
                file("rows.csv"),
                file("../columns/stream.arrow"),
                file("strings.json"),
            ],
            validation_files: if held_out { vec![] } else { vec![file("strings.json")] },
            length: 48,
            line_by_line,
            group_batch_size,
            workers: Some(2),
            cache_dir: cache.into(),
            ..DataConfig::default()
        }
    }

    /// A stream gives the examples of the store in their order, epoch after epoch, and goes on after any batch.
    #[test]
    fn equals_the_store_and_goes_on_from_any_position() {
        let cache = tempfile::tempdir().unwrap();
        let tokenizer = Arc::new(tokenizer("roberta-small"));
        let padding = Padding::new(&tokenizer, PadTo::Longest);
        let collator: Arc<dyn Collator> = Arc::new(ClmCollator::new(padding));
        for (line_by_line, group_batch_size, held_out) in
            [(false, 1000, true), (false, 100, false), (false, 0, false), (true, 0, true)]
        {
            let config = config(cache.path(), line_by_line, group_batch_size, held_out);
            let stored = prepare(&config, &tokenizer).unwrap();
            let train = stored.train.unwrap();
            let expected: Vec<Example> = (0..train.len()).map(|i| train.get(i).unwrap().unwrap()).collect();
            let corpus = Corpus::open(&config).unwrap();
            let stream = |position| corpus.stream(&config, &tokenizer, position).unwrap();

            let mut all = stream(StreamPosition::default());
            let (epoch, examples) = all.next_examples(usize::MAX).unwrap();
            assert_eq!((epoch, examples.len()), (0, expected.len()));
            assert!(examples.into_iter().map(|(_, example)| example).eq(expected.iter().cloned()));
            assert_eq!(all.next_examples(1).unwrap(), (1, vec![(0, expected[0].clone())]));

            let batches = |position| stream(position).batches(Arc::clone(&collator), 64, false, 1, 2).unwrap();
            let unbroken: Vec<_> =
                batches(StreamPosition::default()).take(2 * expected.len() / 64 + 4).map(Result::unwrap).collect();
            for at in (0..unbroken.len() - 1).step_by(3) {
                // As a checkpoint keeps it.
                let kept = serde_json::to_string(&unbroken[at].1).unwrap();
                let resumed = batches(serde_json::from_str(&kept).unwrap());
                let resumed: Vec<_> = resumed.take(unbroken.len() - at - 1).take(4).map(Result::unwrap).collect();
                assert_eq!(resumed, unbroken[at + 1..][..resumed.len()], "after batch {at}");
            }
            let workers = stream(StreamPosition::default()).batches(Arc::clone(&collator), 64, false, 3, 3).unwrap();
            assert!(workers.take(5).map(Result::unwrap).eq(unbroken.iter().take(5).cloned()));
            let full = stream(StreamPosition::default()).batches(Arc::clone(&collator), 64, true, 2, 2).unwrap();
            assert!(full.take(3 * expected.len() / 64).all(|batch| batch.unwrap().0.batch_size == 64));
        }
    }

    #[test]
    fn fewer_examples_and_none() {
        let cache = tempfile::tempdir().unwrap();
        let tokenizer = Arc::new(tokenizer("roberta-small"));
        let few = DataConfig { max_train_samples: Some(10), ..config(cache.path(), false, 1000, false) };
        let stream = |config: &DataConfig| {
            Corpus::open(config).unwrap().stream(config, &tokenizer, StreamPosition::default()).unwrap()
        };
        let mut few_examples = stream(&few);
        assert_eq!(few_examples.next_examples(64).unwrap().1.len(), 10);
        assert_eq!(few_examples.next_examples(64).unwrap().0, 1);
        let blank = cache.path().join("blank.txt");
        std::fs::write(&blank, "a b c\n").unwrap();
        let blank = DataConfig { train_files: vec![blank.display().to_string()], ..few };
        let message = stream(&blank).next_examples(1).unwrap_err().to_string();
        assert!(message.contains("make no block of 48"), "{message}");
    }
}
