//! Rows of a table.

use burn::tensor::{DType, Int, Tensor};

use super::engine::Engine;
use super::precision::widen;
use crate::Mode;

/// Row `ids[i]` of the table for every i, in float32 whatever the table is; `[rows]` → [rows, dim].
pub fn embedding(table: Tensor<2>, ids: Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
    match Engine::on(table.device(), DType::F32, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::embedding::embedding(table, ids),
        #[cfg(feature = "tch")]
        Engine::Torch => widen(super::torch::embedding::embedding(table, ids)),
        Engine::Plain => widen(table.select(0, ids)),
    }
}
