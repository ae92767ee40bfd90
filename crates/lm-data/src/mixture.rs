//! Corpora that are mixed by weights: which example stands at which place of an epoch, at hand at once for any place.

use lm_random::{Purpose, permute};

/// The part of a corpus in an epoch.
#[derive(Clone, Debug)]
struct Share {
    /// Its first example among those of all corpora.
    first: u64,
    examples: u64,
    /// The first place of an epoch that is its, and how many are.
    from: u64,
    places: u64,
}

/// How the examples of corpora make up an epoch. Each corpus has a share of the places by its weight, and is gone through in
/// shuffled rounds of its own, which go on from epoch to epoch: all of its examples come before any comes again.
#[derive(Clone, Debug)]
pub(crate) struct Mixture {
    shares: Vec<Share>,
    seed: u64,
}

impl Mixture {
    /// Of corpora of so many examples each, by their weights, for epochs of so many `places`.
    pub fn new(corpora: &[(u64, f64)], places: u64, seed: u64) -> Self {
        let all: f64 = corpora.iter().map(|(_, weight)| weight).sum();
        let (mut first, mut from, mut sum) = (0, 0, 0.0);
        let share = |&(examples, weight): &(u64, f64)| {
            sum += weight;
            let end = ((sum / all * places as f64).round() as u64).min(places);
            let share = Share { first, examples, from, places: end - from };
            (first, from) = (first + examples, end);
            share
        };
        Self { shares: corpora.iter().map(share).collect(), seed }
    }

    /// The example at a place of an epoch, among those of all corpora.
    pub fn example(&self, place: u64, epoch: u64) -> u64 {
        let share = &self.shares[self.shares.partition_point(|share| share.from <= place).saturating_sub(1)];
        let turn = epoch * share.places + (place - share.from);
        let (round, at) = (turn / share.examples, turn % share.examples);
        share.first + permute(at, share.examples, self.seed, Purpose::Mixture, round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_corpus_has_its_share_and_all_its_turns() {
        let corpora = [(1000, 0.25), (10, 0.5), (500, 0.25)];
        let mixture = Mixture::new(&corpora, 1510, 7);
        let mut seen = vec![0u64; 1510];
        for epoch in 0..8 {
            let mut shares = [0; 3];
            for place in 0..1510 {
                let example = mixture.example(place, epoch);
                seen[example as usize] += 1;
                shares[usize::from(example >= 1000) + usize::from(example >= 1010)] += 1;
            }
            assert_eq!(shares, [378, 755, 377], "epoch {epoch}");
            for corpus in [&seen[..1000], &seen[1000..1010], &seen[1010..]] {
                let (least, most) = (corpus.iter().min().unwrap(), corpus.iter().max().unwrap());
                assert!(most - least <= 1, "none comes again before all have come");
            }
        }
        let order = |seed, epoch| {
            (0..1510).map(|place| Mixture::new(&corpora, 1510, seed).example(place, epoch)).collect::<Vec<_>>()
        };
        assert_ne!(order(7, 0), order(8, 0));
        assert_ne!(order(7, 0), order(7, 1));
    }

    /// A corpus of hardly any weight may have no place at all.
    #[test]
    fn shares_may_be_empty() {
        for corpora in [[(5, 1e-9), (5, 1.0)], [(5, 1.0), (5, 1e-9)]] {
            let mixture = Mixture::new(&corpora, 10, 0);
            let first = if corpora[0].1 < 1.0 { 5..10 } else { 0..5 };
            assert!((0..10).all(|place| first.contains(&mixture.example(place, 3))));
        }
    }
}
