//! What a causal model keeps of the texts that it goes on with: their keys and values, so that it reads each token once.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::inputs::{Mode, Sequences};
use crate::ops::{self, Attention};

/// Keys and values of what a model has read of several texts so far.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Rows kept of each text; none of one that has ended.
    lengths: Vec<usize>,
    /// Of each text that goes on, its rows among those kept so far and among those that are being read.
    parts: Vec<(Range<usize>, Range<usize>)>,
    /// The rows that are being read, and all that they see: those of each text that goes on, end to end.
    queries: Sequences,
    keys: Sequences,
    /// Keys and values of each layer, [rows kept, kv_heads · head_dim].
    layers: Vec<[Tensor<2>; 2]>,
}

impl Cache {
    /// Nothing of so many texts.
    pub(crate) fn new(texts: usize, device: &Device) -> Self {
        let none = Sequences::end_to_end(Vec::new(), device);
        let (queries, keys) = (none.clone(), none);
        Self { lengths: vec![0; texts], parts: Vec::new(), queries, keys, layers: Vec::new() }
    }

    /// Goes on to the next tokens, so many of each text; a text that has none is forgotten.
    pub(crate) fn read(&mut self, counts: &[usize], device: &Device) {
        let (mut kept, mut new) = (0, 0);
        self.parts.clear();
        for (length, &count) in self.lengths.iter_mut().zip(counts) {
            if count > 0 {
                self.parts.push((kept..kept + *length, new..new + count));
            }
            kept += *length;
            new += count;
            *length = if count > 0 { *length + count } else { 0 };
        }
        let going_on = |lengths: &[usize]| lengths.iter().copied().filter(|&length| length > 0).collect();
        self.queries = Sequences::end_to_end(going_on(counts), device);
        self.keys = Sequences::end_to_end(going_on(&self.lengths), device);
    }

    /// A layer's attention of the new rows to all that was read of their own text; q is [rows, heads · head_dim], k and v
    /// are [rows, kv_heads · head_dim].
    fn attend(&mut self, layer: usize, [q, k, v]: [Tensor<2>; 3], options: &Attention, mode: &Mode) -> Tensor<2> {
        let [k, v] = match self.layers.get(layer) {
            Some([keys, values]) => [self.merged(keys, &k), self.merged(values, &v)],
            None => [k, v],
        };
        let kept = [k.clone(), v.clone()];
        match self.layers.get_mut(layer) {
            Some(layer) => *layer = kept,
            None => self.layers.push(kept),
        }
        ops::attention(q, k, v, &self.queries, &self.keys, options, mode)
    }

    /// What was kept of each text that goes on, followed by what is new of it.
    fn merged(&self, kept: &Tensor<2>, new: &Tensor<2>) -> Tensor<2> {
        let rows = |x: &Tensor<2>, rows: &Range<usize>| x.clone().narrow(0, rows.start, rows.len());
        let parts = self.parts.iter().flat_map(|(old, read)| [rows(kept, old), rows(new, read)]);
        Tensor::cat(parts.collect(), 0)
    }

    /// Length of the longest text, the tokens that are being read included.
    pub(crate) fn longest(&self) -> usize {
        self.keys.seq
    }

    /// The last new row of each text that has one; [rows, hidden] → [texts, hidden].
    pub(crate) fn last_rows(&self, x: Tensor<2>) -> Tensor<2> {
        let last = self.parts.iter().map(|(_, new)| new.end as i32 - 1);
        x.clone().select(0, ints(last, &x.device()))
    }
}

/// Whose keys and values the rows of a forward pass attend to.
#[derive(Debug)]
pub(crate) enum Context<'a> {
    /// Those of the rows themselves, each of its own sequence.
    Batch(&'a Sequences),
    /// The rows continue the texts whose keys and values are kept here.
    Cache(&'a mut Cache),
}

impl Context<'_> {
    /// A layer's attention; q is [rows, heads · head_dim], k and v are [rows, kv_heads · head_dim].
    pub(crate) fn attend(
        &mut self,
        layer: usize,
        [q, k, v]: [Tensor<2>; 3],
        options: &Attention,
        mode: &Mode,
    ) -> Tensor<2> {
        match self {
            Self::Batch(sequences) => ops::attention(q, k, v, sequences, sequences, options, mode),
            Self::Cache(cache) => cache.attend(layer, [q, k, v], options, mode),
        }
    }
}

/// A model that reads from left to right and can go on where it stopped.
pub trait Causal {
    /// The most tokens of a sequence.
    fn max_positions(&self) -> usize;

    /// Reads the cache's new tokens; returns the row to decode for what follows the last one of each text that has any,
    /// [texts, hidden]. Both arguments are `[tokens]`.
    fn extend(&self, ids: Tensor<1, Int>, positions: Tensor<1, Int>, cache: &mut Cache, mode: &Mode) -> Tensor<2>;
}

pub(crate) fn ints(values: impl Iterator<Item = i32>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}
