//! Rows of a table.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::{Int, Tensor};

use super::{Operation, apply, ints};

#[derive(Debug)]
struct Embedding {
    ids: tch::Tensor,
}

impl Operation<LibTorch, 1> for Embedding {
    /// Rows of the table.
    type Saved = i64;

    fn forward(&self, [table]: [TchTensor; 1]) -> (TchTensor, i64) {
        (TchTensor::new(table.tensor.index_select(0, &self.ids)), table.tensor.size()[0])
    }

    fn backward(self, rows: i64, gradient: TchTensor, _: [bool; 1]) -> [Option<TchTensor>; 1] {
        let no_padding = -1;
        let table = tch::Tensor::embedding_dense_backward(&gradient.tensor, &self.ids, rows, no_padding, false);
        [Some(TchTensor::new(table))]
    }
}

/// See [`crate::ops::embedding`].
pub fn embedding(table: Tensor<2>, ids: Tensor<1, Int>) -> Tensor<2> {
    apply(Embedding { ids: ints(ids) }, [table.into_dispatch()])
}
