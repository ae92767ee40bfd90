//! Where a stream stands.

use serde::{Deserialize, Serialize};

use crate::source::RowPosition;

/// Where a stream stands; saved with a checkpoint and given back to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Examples of this epoch before it.
    pub examples: u64,
    /// The next row to read.
    pub row: RowPosition,
    /// Of the examples before it, those that this row and the tokens before it make: tokens of a row that makes several, which
    /// may be a whole document, are not kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub given: u64,
    /// Rows read since rows were last joined anew.
    pub rows_in_group: usize,
    /// Tokens of these rows that are in no example yet; bit 31 marks special tokens.
    pub carry: Vec<u32>,
    /// Examples taken of the block that begins here.
    #[serde(default)]
    pub taken: u64,
    /// Where each of several corpora stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corpora: Vec<StreamPosition>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
