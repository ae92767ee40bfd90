//! What a collator produces and a model consumes.

/// A batch, row-major, as plain vectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Number of examples.
    pub batch_size: usize,
    /// Number of positions of each, padding included.
    pub seq_len: usize,
    /// Token ids, `[batch, seq]`.
    pub input_ids: Vec<i32>,
    /// `[batch, seq]`: 1 for a token, 0 for padding.
    pub attention_mask: Vec<u8>,
    /// `[batch, seq]`: the id to predict, or [`IGNORE`]. For causal models not shifted, as in Python.
    pub labels: Vec<i32>,
    /// Permutation language modelling only, `[batch, seq, seq]`: 1 where position i (row) may not see position j. The
    /// target mapping of XLNet is the rows with a label.
    pub perm_mask: Option<Vec<u8>>,
    /// Which examples these are.
    pub example_ids: Vec<u64>,
}

/// Label of a position that is not predicted.
pub const IGNORE: i32 = -100;

impl Batch {
    /// Number of predicted positions.
    pub fn predicted(&self) -> usize {
        self.labels.iter().filter(|&&label| label != IGNORE).count()
    }
}
