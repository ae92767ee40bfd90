//! Examples made while training, from a corpus of any size in constant memory, and going on at the right byte.
//!
//! The examples of an epoch are those of the stored path, in the order of the files; or mixed: the files in an order of each
//! epoch's own, and the examples in blocks of `--shuffle_buffer_size`, each block in an order of its own. Orders come from the
//! counter-based generator, so that where a stream stands is a small value: the next row, the tokens of rows already read
//! that are in no example yet, and how many examples of its block are taken.

mod corpus;
mod ordered;
mod position;

use std::sync::Arc;

use lm_random::{Purpose, Stream};
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::batch::Batch;
use crate::collate::Collator;
use crate::example::Example;
use crate::prefetch::Prefetch;
use corpus::CorpusStream;
pub(crate) use corpus::Mixing;
pub(crate) use ordered::Source;
pub use position::StreamPosition;

/// Examples of a corpus, or of several that are mixed by weights, read and tokenized as they are asked for, without end.
pub struct ExampleStream {
    corpora: Vec<(CorpusStream, f64)>,
    seed: u64,
    /// Examples given out, if corpora are mixed.
    drawn: u64,
}

impl ExampleStream {
    /// A stream over corpora with their weights, which goes on at `position`. Of several, each is gone through epoch after epoch
    /// at its own pace; the counter-based generator says which an example comes from.
    pub(crate) fn new(
        corpora: Vec<(Source, f64)>,
        mixing: Option<Mixing>,
        seed: u64,
        position: StreamPosition,
    ) -> Self {
        let drawn = if corpora.len() > 1 { position.examples } else { 0 };
        let positions = if corpora.len() > 1 { position.corpora } else { vec![position] };
        let mut positions = positions.into_iter();
        let stream =
            |(source, weight)| (CorpusStream::new(source, mixing, positions.next().unwrap_or_default()), weight);
        Self { corpora: corpora.into_iter().map(stream).collect(), seed, drawn }
    }

    /// What identifies the examples: the files, told by their sizes, beginnings and ends, and how rows become examples.
    pub fn key(&self) -> Result<String, DataError> {
        let mut key = Sha256::new();
        for (corpus, weight) in &self.corpora {
            key.update(corpus.key()?);
            key.update(weight.to_le_bytes());
        }
        Ok(key.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Where the stream stands.
    pub fn position(&self) -> StreamPosition {
        match &self.corpora[..] {
            [(corpus, _)] => corpus.position(),
            several => StreamPosition {
                examples: self.drawn,
                corpora: several.iter().map(|(corpus, _)| corpus.position()).collect(),
                ..StreamPosition::default()
            },
        }
    }

    /// An epoch and the next examples of it with their index in it: `count` of them unless the epoch ends before. After
    /// an epoch's last examples the next call gives those of the next epoch. Mixed corpora have one epoch without end.
    pub fn next_examples(&mut self, count: usize) -> Result<(u64, Vec<(u64, Example)>), DataError> {
        if let [(corpus, _)] = &mut self.corpora[..] {
            return corpus.next_examples(count);
        }
        let all: f64 = self.corpora.iter().map(|(_, weight)| weight).sum();
        let mut examples = Vec::new();
        while examples.len() < count {
            let mut draw = all * Stream::new(self.seed, Purpose::Draw, 0, self.drawn).next_f64();
            let last = self.corpora.len() - 1;
            let drawn = self.corpora.iter().position(|(_, weight)| {
                draw -= weight;
                draw < 0.0
            });
            let (corpus, _) = &mut self.corpora[drawn.unwrap_or(last)];
            for (_, example) in corpus.next_examples(1)?.1 {
                examples.push((self.drawn, example));
                self.drawn += 1;
            }
        }
        Ok((0, examples))
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
    use crate::source::{RowOptions, SampleBy};
    use crate::testing::{fixture, prepare, tokenizer};
    use crate::{Corpus, DataConfig};

    /// Mixed, every epoch has all examples, in blocks, and goes on after any example.
    #[test]
    fn mixed_streams_go_on_from_any_position() {
        let cache = tempfile::tempdir().unwrap();
        let tokenizer = Arc::new(tokenizer("roberta-small"));
        for (block, held_out, most) in [(1, true, None), (7, true, None), (64, false, Some(100)), (100_000, true, None)]
        {
            let config = DataConfig {
                shuffle_buffer_size: block,
                order_seed: 3,
                max_train_samples: most,
                ..config(cache.path(), true, 0, held_out)
            };
            let corpus = Corpus::open(&config).unwrap();
            let stream = |position| corpus.stream(&config, &tokenizer, position).unwrap();
            let mut all = stream(StreamPosition::default());
            let epochs: Vec<Vec<(u64, Example)>> = (0..3).map(|_| all.next_examples(usize::MAX).unwrap().1).collect();
            let count = epochs[0].len();
            assert!(count > 64 && most.is_none_or(|most| most == count));
            for epoch in &epochs {
                let mut indices: Vec<u64> = epoch.iter().map(|(index, _)| *index).collect();
                for part in indices.chunks(block) {
                    let (least, most) = (part.iter().min().unwrap(), part.iter().max().unwrap());
                    assert_eq!(most - least + 1, part.len() as u64, "a block of neighbours");
                }
                indices.sort_unstable();
                assert!(indices.into_iter().eq(0..count as u64), "each once");
            }
            assert_ne!(epochs[0], epochs[1], "an order of its own");
            let in_order = |example: &(u64, Example)| example.1.ids.clone();
            if most.is_none() {
                let mut sets = [&epochs[0], &epochs[1]].map(|epoch| epoch.iter().map(in_order).collect::<Vec<_>>());
                sets.iter_mut().for_each(|set| set.sort());
                assert_eq!(sets[0], sets[1], "the same examples in both epochs");
            }

            // Ended after every example, as a checkpoint keeps it.
            let mut position = StreamPosition::default();
            let steps = if block > 64 { count / 40 } else { 1 };
            for (at, expected) in epochs.concat().chunks(steps).enumerate().take(2 * count / steps + 3) {
                if expected.iter().any(|(index, _)| *index == 0) && steps > 1 {
                    break;
                }
                let mut resumed = stream(position);
                assert_eq!(resumed.next_examples(steps).unwrap().1, expected, "block {block}, step {at}");
                let kept = serde_json::to_string(&resumed.position()).unwrap();
                position = serde_json::from_str(&kept).unwrap();
            }
        }
    }

    /// Files come in another order in every epoch, and what is held out of them in none.
    #[test]
    fn files_are_mixed() {
        let cache = tempfile::tempdir().unwrap();
        let tokenizer = Arc::new(tokenizer("roberta-small"));
        let write = |i: u32| {
            let path = cache.path().join(format!("{i}.txt"));
            std::fs::write(&path, format!("file {i}\n").repeat(3)).unwrap();
            path.display().to_string()
        };
        let config = DataConfig {
            train_files: (10..50).map(write).collect(),
            shuffle_buffer_size: 1,
            ..config(cache.path(), true, 0, true)
        };
        let corpus = Corpus::open(&config).unwrap();
        let mut stream = corpus.stream(&config, &tokenizer, StreamPosition::default()).unwrap();
        let mut epoch = || -> Vec<String> {
            let examples = stream.next_examples(usize::MAX).unwrap().1;
            examples.iter().map(|(_, example)| tokenizer.decode(&example.ids)).collect()
        };
        let (first, second) = (epoch(), epoch());
        assert_ne!(first, second);
        for rows in [first, second] {
            assert_eq!(rows.len(), 114, "without the first six of 120");
            assert!(rows.chunks(3).all(|file| file.iter().all(|row| *row == file[0])), "file by file");
            assert!(!rows.is_sorted() && !rows.iter().any(|row| row.contains("file 10") || row.contains("file 11")));
        }
    }

    /// Corpora come by their weights, each whole before it comes again, and going on from any example changes nothing.
    #[test]
    fn corpora_are_mixed() {
        let cache = tempfile::tempdir().unwrap();
        let tokenizer = Arc::new(tokenizer("roberta-small"));
        let write = |name: &str, rows: usize| {
            let path = cache.path().join(format!("{name}.txt"));
            std::fs::write(&path, (0..rows).map(|i| format!("{name} {i}\n")).collect::<String>()).unwrap();
            path.display().to_string()
        };
        let config = DataConfig {
            train_files: vec![write("a", 300), write("b", 20), write("c", 50)],
            train_weights: vec![6.0, 3.0, 1.0],
            shuffle_buffer_size: 7,
            ..config(cache.path(), true, 0, false)
        };
        let corpus = Corpus::open(&config).unwrap();
        let stream = |position| corpus.stream(&config, &tokenizer, position).unwrap();
        let mut all = stream(StreamPosition::default());
        let (epoch, examples) = all.next_examples(2000).unwrap();
        assert!(epoch == 0 && examples.iter().map(|(index, _)| *index).eq(0..2000));
        let texts: Vec<String> = examples.iter().map(|(_, example)| tokenizer.decode(&example.ids)).collect();
        for (name, share, rows) in [("a", 1200, 300), ("b", 600, 20), ("c", 200, 50)] {
            let of: Vec<&String> = texts.iter().filter(|text| text.contains(&format!("{name} "))).collect();
            assert!(of.len().abs_diff(share) < 90, "{} of {name}", of.len());
            let first: std::collections::HashSet<_> = of[..rows].iter().collect();
            assert_eq!(first.len(), rows, "all of {name} before any comes again");
        }
        let mut position = StreamPosition::default();
        for expected in examples.chunks(1).take(150) {
            let mut resumed = stream(position);
            assert_eq!(resumed.next_examples(1).unwrap().1, expected);
            position = serde_json::from_str(&serde_json::to_string(&resumed.position()).unwrap()).unwrap();
        }
        assert_ne!(all.key().unwrap(), {
            let other = DataConfig { train_weights: vec![6.0, 3.0, 2.0], ..config.clone() };
            Corpus::open(&other).unwrap().stream(&other, &tokenizer, StreamPosition::default()).unwrap().key().unwrap()
        });
    }

    /// Of a document that makes many examples a position keeps no tokens, and goes on in the middle of it.
    #[test]
    fn positions_in_a_document_are_small() {
        let cache = tempfile::tempdir().unwrap();
        let tokenizer = Arc::new(tokenizer("roberta-small"));
        let write = |name: &str, lines: usize| {
            let path = cache.path().join(name);
            std::fs::write(&path, (0..lines).map(|i| format!("{name} line {i}\n")).collect::<String>()).unwrap();
            path.display().to_string()
        };
        let rows = RowOptions { sample_by: SampleBy::Document, ..RowOptions::default() };
        let files = vec![write("a.txt", 300), write("b.txt", 1), write("c.txt", 200)];
        for (block, group_batch_size, most) in [(0, 0, None), (0, 2, None), (7, 0, None), (0, 0, Some(90))] {
            let config = DataConfig {
                train_files: files.clone(),
                rows: rows.clone(),
                shuffle_buffer_size: block,
                max_train_samples: most,
                ..config(cache.path(), false, group_batch_size, false)
            };
            let corpus = Corpus::open(&config).unwrap();
            let stream = |position| corpus.stream(&config, &tokenizer, position).unwrap();
            let mut all = stream(StreamPosition::default());
            let epochs: Vec<(u64, Example)> = (0..2).flat_map(|_| all.next_examples(usize::MAX).unwrap().1).collect();
            assert!(epochs.len() > 150, "{}", epochs.len());
            let (mut position, mut within) = (StreamPosition::default(), 0);
            for (at, expected) in epochs.chunks(1).enumerate() {
                let mut resumed = stream(position);
                assert_eq!(resumed.next_examples(1).unwrap().1, expected, "block {block}, example {at}");
                position = resumed.position();
                within += u64::from(position.given > 0);
                assert!(position.carry.len() < config.length, "{position:?}");
                let kept = serde_json::to_string(&position).unwrap();
                position = serde_json::from_str(&kept).unwrap();
                assert_eq!(stream(position.clone()).position(), position, "before anything is read");
            }
            assert!(within > 20, "{within}");
        }
    }

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
