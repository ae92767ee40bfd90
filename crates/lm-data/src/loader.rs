//! Which examples make up which batch: a pure function of (seed, epoch, batch index), so any place of a run is at hand
//! at once, after a restart and in any thread.

use std::sync::Arc;

use lm_random::{Purpose, permute};
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::batch::Batch;
use crate::collate::Collator;
use crate::example::ExampleStore;
use crate::mixture::Mixture;
use crate::prefetch::Prefetch;

/// The order of the examples in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As stored, in every epoch.
    Sequential,
    /// Shuffled anew in every epoch.
    Shuffled,
    /// Shuffled, then sorted by falling length within runs of at most 50 batches, so that a batch needs little padding;
    /// the longest example comes first of all. As Python's `LengthGroupedSampler`.
    GroupedByLength,
}

/// How batches are formed.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// Examples per batch; at least 1.
    pub batch_size: usize,
    /// Order of the examples.
    pub order: Order,
    /// Leave out the last batch of an epoch if it is not full.
    pub drop_last: bool,
    /// Seed of the order.
    pub seed: u64,
}

/// A place in a run: the next batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Batch within the epoch, from 0.
    pub index: u64,
}

/// Batches of a store.
#[derive(Clone)]
pub struct Loader {
    store: ExampleStore,
    collator: Arc<dyn Collator>,
    options: LoaderOptions,
    longest: usize,
    mixture: Option<Mixture>,
}

impl Loader {
    /// A loader; fails if the store holds no full batch, or the batch size is 0.
    pub fn new(store: ExampleStore, collator: Arc<dyn Collator>, options: LoaderOptions) -> Result<Self, DataError> {
        let longest = match options.order {
            // Of several the first, as argmax has it.
            Order::GroupedByLength => store.longest()?,
            Order::Sequential | Order::Shuffled => 0,
        };
        let corpora = store.corpora();
        let mixture = (!corpora.is_empty()).then(|| Mixture::new(corpora, store.len() as u64, options.seed));
        let loader = Self { store, collator, options, longest, mixture };
        if options.batch_size == 0 {
            return Err(DataError::Option { name: "per_device_batch_size", reason: "must be at least 1".into() });
        }
        if loader.store.is_empty() {
            return Err(DataError::NothingHeldOut);
        }
        if loader.batches_per_epoch() == 0 {
            return Err(DataError::NoBatch { examples: loader.store.len(), batch_size: options.batch_size });
        }
        Ok(loader)
    }

    /// Number of batches of an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        let (examples, size) = (self.store.len(), self.options.batch_size);
        (if self.options.drop_last { examples / size } else { examples.div_ceil(size) }) as u64
    }

    /// The examples.
    pub fn store(&self) -> &ExampleStore {
        &self.store
    }

    /// The place after so many batches from the start of the run.
    pub fn position(&self, batches: u64) -> Position {
        let per_epoch = self.batches_per_epoch();
        Position { epoch: batches / per_epoch, index: batches % per_epoch }
    }

    /// Indices of the examples of a batch; none past the end of the epoch.
    ///
    /// # Errors
    /// If the lengths of the examples cannot be read.
    pub fn indices(&self, epoch: u64, index: u64) -> Result<Vec<u64>, DataError> {
        if index >= self.batches_per_epoch() {
            return Ok(Vec::new());
        }
        let (examples, size) = (self.store.len() as u64, self.options.batch_size as u64);
        let range = index * size..((index + 1) * size).min(examples);
        match self.options.order {
            Order::Sequential => Ok(range.map(|place| self.example(place, epoch)).collect()),
            Order::Shuffled => {
                let place = |at| permute(at, examples, self.options.seed, Purpose::Shuffle, epoch);
                Ok(range.map(|at| self.example(place(at), epoch)).collect())
            }
            Order::GroupedByLength => {
                let run = size * (examples / (4 * size)).clamp(1, 50);
                let start = range.start / run * run;
                let members = (start..(start + run).min(examples)).map(|at| self.shuffled_longest_first(at, epoch));
                let mut members: Vec<(u64, usize)> = members
                    .map(|member| Ok((member, self.store.length(member as usize)?)))
                    .collect::<Result<_, DataError>>()?;
                members.sort_by_key(|&(_, length)| std::cmp::Reverse(length));
                let batch = &members[(range.start - start) as usize..(range.end - start) as usize];
                Ok(batch.iter().map(|&(member, _)| member).collect())
            }
        }
    }

    /// The example at a place of an epoch before it is shuffled.
    fn example(&self, place: u64, epoch: u64) -> u64 {
        self.mixture.as_ref().map_or(place, |mixture| mixture.example(place, epoch))
    }

    /// The shuffled order with the longest example and whatever came first swapped.
    fn shuffled_longest_first(&self, at: u64, epoch: u64) -> u64 {
        let member = |at| permute(at, self.store.len() as u64, self.options.seed, Purpose::GroupByLength, epoch);
        let longest = self.longest as u64;
        match member(at) {
            _ if at == 0 => longest,
            found if found == longest => member(0),
            found => found,
        }
    }

    /// One batch.
    pub fn batch(&self, epoch: u64, index: u64) -> Result<Batch, DataError> {
        let mut examples = Vec::new();
        for member in self.indices(epoch, index)? {
            examples.extend(self.store.get(member as usize)?.map(|example| (member, example)));
        }
        Ok(self.collator.collate(&examples, epoch)?)
    }

    /// The batches with these numbers, counted from the start of the run over all epochs, built ahead on `workers` threads.
    pub fn batches_at(
        &self,
        numbers: impl Iterator<Item = u64> + Send + 'static,
        workers: usize,
        ahead: usize,
    ) -> std::io::Result<Prefetch<Result<Batch, DataError>>> {
        let loader = self.clone();
        let batch = move |number| {
            let Position { epoch, index } = loader.position(number);
            loader.batch(epoch, index)
        };
        Prefetch::new(numbers, batch, workers, ahead)
    }

    /// Share of the positions of the first epoch's batches that are padding, `pad` telling the row length; estimated from
    /// a sample if there are many.
    ///
    /// # Errors
    /// If the lengths of the examples cannot be read.
    pub fn padding_share(&self, padding: &crate::collate::Padding) -> Result<f64, DataError> {
        const MOST: u64 = 256;
        // Multiples of the golden ratio's fraction lie evenly, and in step with nothing in the order of the batches.
        const EVENLY: f64 = 0.618_033_988_749_895;
        let batches = self.batches_per_epoch();
        let (mut tokens, mut cells) = (0usize, 0usize);
        for at in 0..batches.min(MOST) {
            let index = if batches <= MOST { at } else { ((at as f64 * EVENLY).fract() * batches as f64) as u64 };
            let mut longest = 0;
            let members = self.indices(0, index)?;
            for member in &members {
                let length = self.store.length(*member as usize)?;
                tokens += length;
                longest = longest.max(length);
            }
            cells += members.len() * padding.target(longest);
        }
        Ok(if cells > 0 { 1.0 - tokens as f64 / cells as f64 } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::collate::{ClmCollator, PadTo, Padding};
    use crate::testing::{store, tokenizer};

    fn loader(lengths: &[usize], options: LoaderOptions) -> Loader {
        let padding = Padding::new(&tokenizer("bert-cased-small"), PadTo::Longest);
        Loader::new(store(lengths), Arc::new(ClmCollator::new(padding)), options).unwrap()
    }

    fn orders() -> impl Strategy<Value = Order> {
        prop_oneof![Just(Order::Sequential), Just(Order::Shuffled), Just(Order::GroupedByLength)]
    }

    proptest! {
        #[test]
        fn every_example_once_an_epoch(
            lengths in proptest::collection::vec(1usize..9, 1..120), batch_size in 1usize..9, order in orders(), epoch in 0u64..3) {
            let loader = loader(&lengths, LoaderOptions { batch_size, order, drop_last: false, seed: 1 });
            let batches: Vec<Vec<u64>> = (0..loader.batches_per_epoch()).map(|i| loader.indices(epoch, i).unwrap()).collect();
            prop_assert!(batches[..batches.len() - 1].iter().all(|batch| batch.len() == batch_size));
            let mut seen = batches.concat();
            if order == Order::Sequential {
                prop_assert!(seen.is_sorted());
            }
            if order == Order::GroupedByLength {
                let longest = *lengths.iter().max().unwrap();
                prop_assert_eq!(lengths[seen[0] as usize], longest);
            }
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..lengths.len() as u64));
            prop_assert!(loader.indices(epoch, loader.batches_per_epoch()).unwrap().is_empty());
            let dropping = LoaderOptions { batch_size, order, drop_last: true, seed: 1 };
            prop_assert_eq!(Loader { options: dropping, ..loader }.batches_per_epoch(), (lengths.len() / batch_size) as u64);
        }
    }

    #[test]
    fn epochs_are_shuffled_differently_and_any_place_is_at_hand() {
        let loader =
            loader(&[3; 100], LoaderOptions { batch_size: 8, order: Order::Shuffled, drop_last: false, seed: 1 });
        assert_ne!(loader.indices(0, 0).unwrap(), loader.indices(1, 0).unwrap());
        let place = loader.position(1_000_000);
        assert_eq!(place, Position { epoch: 1_000_000 / 13, index: 1_000_000 % 13 });
        let mut batches = loader.batches_at(place.epoch * 13 + 12.., 3, 4).unwrap();
        for (epoch, index) in [(place.epoch, 12), (place.epoch + 1, 0), (place.epoch + 1, 1)] {
            let batch = batches.next().unwrap().unwrap();
            assert_eq!(batch.example_ids, loader.indices(epoch, index).unwrap());
            assert_eq!(batch, loader.batch(epoch, index).unwrap());
        }
        let epoch = |workers| loader.batches_at(39..52, workers, 2).unwrap().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(epoch(1).len(), 13);
        assert_eq!(epoch(1), epoch(4));
        let every_third = loader.batches_at((40..52).step_by(3), 2, 2).unwrap().map(Result::unwrap);
        assert!(every_third.eq(epoch(1).into_iter().skip(1).step_by(3)));
    }

    #[test]
    fn grouping_by_length_saves_padding() {
        let lengths: Vec<usize> = (0..1000).map(|i| 1 + i * 7919 % 97).collect();
        let share = |order| {
            let loader = loader(&lengths, LoaderOptions { batch_size: 8, order, drop_last: false, seed: 1 });
            loader.padding_share(&Padding::new(&tokenizer("bert-cased-small"), PadTo::Longest)).unwrap()
        };
        assert!(share(Order::Shuffled) > 0.3 && share(Order::GroupedByLength) < 0.05);
    }

    /// Of more batches than are looked at, the share is that of all within a hundredth.
    #[test]
    fn the_padding_of_many_batches_is_estimated() {
        let lengths: Vec<usize> = (0..8000).map(|i| 1 + i * 7919 % 97).collect();
        let padding = Padding::new(&tokenizer("bert-cased-small"), PadTo::Longest);
        for order in [Order::Sequential, Order::Shuffled, Order::GroupedByLength] {
            let loader = loader(&lengths, LoaderOptions { batch_size: 4, order, drop_last: false, seed: 1 });
            let cells: usize = (0..loader.batches_per_epoch())
                .map(|index| {
                    let members = loader.indices(0, index).unwrap();
                    let longest = members.iter().map(|&member| lengths[member as usize]).max().unwrap();
                    members.len() * padding.target(longest)
                })
                .sum();
            let whole = 1.0 - lengths.iter().sum::<usize>() as f64 / cells as f64;
            let estimated = loader.padding_share(&padding).unwrap();
            assert!((whole - estimated).abs() < 0.01, "{order:?}: {whole} {estimated}");
        }
    }

    #[test]
    fn too_few_examples_are_refused() {
        let padding = Padding::new(&tokenizer("bert-cased-small"), PadTo::Longest);
        for (batch_size, drop_last) in [(0, false), (4, true)] {
            let options = LoaderOptions { batch_size, order: Order::Shuffled, drop_last, seed: 0 };
            assert!(Loader::new(store(&[1, 2, 3]), Arc::new(ClmCollator::new(padding)), options).is_err());
        }
    }
}
