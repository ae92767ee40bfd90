//! Rows of a table.

use burn::tensor::{Int, Tensor};

use super::engine::Engine;
use crate::Mode;

/// Row `ids[i]` of the table for every i; `[rows]` → [rows, dim].
pub fn embedding(table: Tensor<2>, ids: Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
    match Engine::of(&table, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::embedding::embedding(table, ids),
        #[cfg(feature = "tch")]
        Engine::Torch => super::torch::embedding::embedding(table, ids),
        Engine::Plain => table.select(0, ids),
    }
}
