//! From the products of a query with its keys to attention weights: scale, soft cap, bias, mask; and back.

use std::ops::Range;

use super::heads::softmax;
use super::simd::tanh;

/// What is added to the scores.
#[derive(Clone, Debug)]
pub enum Added {
    Nothing,
    /// A slope for each head, times the distance.
    Slopes(Vec<f32>),
    /// A value for the key's position.
    Keys,
    /// A value for the bucket of the distance.
    Buckets(Vec<usize>),
    /// A value for each place of a query and a key.
    Places,
}

/// How scores become weights.
#[derive(Clone, Debug)]
pub struct Scores {
    pub scale: f32,
    pub softcap: Option<f32>,
    /// How far a query sees back and ahead; none for all the way.
    pub reach: (Option<usize>, Option<usize>),
    pub added: Added,
}

impl Scores {
    /// The keys of `count` that the queries at positions `first` to `last` look at: all if one of them sees none.
    pub fn seen(&self, first: isize, last: isize, count: usize) -> Range<usize> {
        let (of_first, of_last) = (self.sees(first, 0, count), self.sees(last, 0, count));
        if of_first.is_empty() || of_last.is_empty() { 0..count } else { of_first.start..of_last.end }
    }

    /// Which of the `count` keys from `start` on a query sees.
    #[inline(always)]
    fn sees(&self, position: isize, start: usize, count: usize) -> Range<usize> {
        let place = position - start as isize;
        let within = |place: isize| place.clamp(0, count as isize) as usize;
        let begin = self.reach.0.map_or(0, |left| within(place - left as isize));
        let end = self.reach.1.map_or(count, |right| within(place + right as isize + 1));
        begin..end.max(begin)
    }

    /// Products become scores; with the slope of the soft cap at each, if it is asked for.
    #[inline(always)]
    pub fn scale(&self, scores: &mut [f32], slopes: Option<&mut [f32]>) {
        let Some(cap) = self.softcap else {
            for score in scores.iter_mut() {
                *score *= self.scale;
            }
            return;
        };
        let factor = self.scale / cap;
        for score in scores.iter_mut() {
            *score = tanh(*score * factor);
        }
        if let Some(slopes) = slopes {
            for (slope, score) in slopes.iter_mut().zip(&*scores) {
                *slope = 1.0 - score * score;
            }
        }
        for score in scores.iter_mut() {
            *score *= cap;
        }
    }

    /// The gradients of scores become those of products.
    #[inline(always)]
    pub fn scale_back(&self, changes: &mut [f32], slopes: Option<&[f32]>) {
        for change in changes.iter_mut() {
            *change *= self.scale;
        }
        if let Some(slopes) = slopes {
            for (change, slope) in changes.iter_mut().zip(slopes) {
                *change *= slope;
            }
        }
    }

    /// Adds the bias of one query; `row` holds the values of its places, with the columns of all keys, or those of the keys'
    /// positions or of the buckets.
    #[inline(always)]
    pub fn add_bias(
        &self,
        head: usize,
        position: isize,
        keys: &Range<usize>,
        (row, columns): (&[f32], &[usize]),
        scores: &mut [f32],
    ) {
        match &self.added {
            Added::Nothing => {}
            Added::Slopes(slopes) => {
                let (slope, first) = (slopes[head], keys.start as isize - position);
                for (i, score) in scores.iter_mut().enumerate() {
                    *score += slope * (first + i as isize) as f32;
                }
            }
            Added::Keys => {
                for (score, value) in scores.iter_mut().zip(&row[keys.clone()]) {
                    *score += value;
                }
            }
            Added::Buckets(buckets) => {
                let first = Self::distance_place(buckets, position, keys.start);
                for (score, &bucket) in scores.iter_mut().zip(&buckets[first..]) {
                    *score += row[bucket];
                }
            }
            Added::Places => {
                for (score, &column) in scores.iter_mut().zip(&columns[keys.clone()]) {
                    *score += row[column];
                }
            }
        }
    }

    /// Where among all distances that from a query to a key lies.
    #[inline(always)]
    pub fn distance_place(buckets: &[usize], position: isize, key: usize) -> usize {
        let longest = buckets.len().div_ceil(2) as isize;
        let place = key as isize - position + longest - 1;
        assert!(place >= 0, "a table of buckets for longer sequences");
        place as usize
    }

    /// The scores of one query become weights that add up to 1.
    #[inline(always)]
    pub fn weigh(&self, position: isize, start: usize, hidden: &[bool], scores: &mut [f32]) {
        self.hide(position, start, hidden, scores, f32::MIN);
        softmax(scores);
    }

    /// Overwrites what belongs to keys that the query may not look at.
    #[inline(always)]
    pub fn hide(&self, position: isize, start: usize, hidden: &[bool], values: &mut [f32], with: f32) {
        let sees = self.sees(position, start, values.len());
        values[..sees.start].fill(with);
        values[sees.end..].fill(with);
        for (value, &hidden) in values.iter_mut().zip(hidden) {
            *value = if hidden { with } else { *value };
        }
    }
}
