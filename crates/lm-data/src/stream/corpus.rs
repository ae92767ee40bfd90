//! The examples of one corpus, in the order of its files or mixed in blocks.

use lm_random::{Purpose, Stream};
use sha2::{Digest, Sha256};

use super::ordered::{Ordered, Source};
use super::position::StreamPosition;
use crate::DataError;
use crate::example::Example;

/// How the examples of a corpus are mixed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixing {
    /// Examples of a block.
    pub block: usize,
    pub seed: u64,
}

/// Examples of a corpus, read and tokenized as they are asked for, epoch after epoch.
pub(super) struct CorpusStream {
    ordered: Ordered,
    mixing: Option<Mixing>,
    /// What is left of the block, the next example last; where it begins, and how many of it are taken.
    block: Vec<(u64, Vec<u32>)>,
    block_start: StreamPosition,
    taken: u64,
}

impl CorpusStream {
    /// A stream that goes on at `position`.
    pub fn new(source: Source, mixing: Option<Mixing>, position: StreamPosition) -> Self {
        let taken = position.taken;
        let start = StreamPosition { taken: 0, ..position };
        let ordered = Ordered::new(source, mixing.map(|mixing| mixing.seed), start.clone());
        Self { ordered, mixing, block: Vec::new(), block_start: start, taken }
    }

    /// What identifies the examples: the files, told by their sizes, beginnings and ends, and how rows become examples.
    pub fn key(&self) -> Result<[u8; 32], DataError> {
        let Source { files, tokenizer, cut, first_row, most, .. } = &self.ordered.source;
        let mut key = Sha256::new();
        key.update(files.quick_digest()?);
        key.update(tokenizer.fingerprint());
        key.update(format!("{cut:?} {first_row:?} {most} {:?}", self.mixing));
        Ok(key.finalize().into())
    }

    /// Where the stream stands.
    pub fn position(&self) -> StreamPosition {
        match self.taken {
            0 => self.ordered.position(),
            taken => StreamPosition { taken, ..self.block_start.clone() },
        }
    }

    /// An epoch and the next examples of it with their index in it: `count` of them unless the epoch ends before. After
    /// an epoch's last examples the next call gives those of the next epoch.
    pub fn next_examples(&mut self, count: usize) -> Result<(u64, Vec<(u64, Example)>), DataError> {
        let mut examples = Vec::new();
        loop {
            while examples.len() < count
                && let Some((index, packed)) = self.next()?
            {
                examples.push((index, Example::from_packed(&packed)));
            }
            if !examples.is_empty() || count == 0 {
                return Ok((self.ordered.epoch, examples));
            }
            if self.ordered.examples == 0 {
                let Source { files, cut, .. } = &self.ordered.source;
                return Err(DataError::no_example(files, cut, self.ordered.cutter.left_over()));
            }
            self.ordered.start_epoch();
        }
    }

    /// The next example of the epoch; none at the end of it.
    fn next(&mut self) -> Result<Option<(u64, Vec<u32>)>, DataError> {
        let Some(mixing) = self.mixing else { return self.ordered.next() };
        if self.block.is_empty() {
            self.block_start = self.ordered.position();
            while self.block.len() < mixing.block
                && let Some(example) = self.ordered.next()?
            {
                self.block.push(example);
            }
            let StreamPosition { epoch, examples, .. } = self.block_start;
            Stream::new(mixing.seed, Purpose::ShuffleBuffer, epoch, examples).shuffle(&mut self.block);
            // Where the stream was saved, some of the block were taken.
            self.block.truncate(self.block.len().saturating_sub(self.taken as usize));
        }
        let example = self.block.pop();
        self.taken = if self.block.is_empty() { 0 } else { self.taken + 1 };
        Ok(example)
    }
}
