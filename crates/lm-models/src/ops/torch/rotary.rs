//! Rotary position embeddings; the backward pass turns the other way.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::{Int, Tensor};
use tch::Kind;

use super::{Operation, apply, ints, primitive};
use crate::ops::options::Pairs;

#[derive(Debug)]
struct Rotary {
    heads: i64,
    pairs: Pairs,
    /// Of each row, [rows, 1, rotated / 2].
    cos: tch::Tensor,
    sin: tch::Tensor,
}

impl Rotary {
    /// By the angles, or with `direction` -1 against them.
    fn turn(&self, x: &tch::Tensor, direction: f64) -> TchTensor {
        let (rows, width, half) = (x.size()[0], x.size()[1], self.cos.size()[2]);
        let dim = width / self.heads;
        let (cos, sin) = (&self.cos, &self.sin * direction);
        let kind = x.kind();
        let x = x.view([rows, self.heads, dim]).to_kind(Kind::Float);
        let turned = x.narrow(2, 0, 2 * half);
        // Which dimension the two columns of a pair lie along.
        let (pairs, along) = match self.pairs {
            Pairs::Halves => (turned.reshape([rows, self.heads, 2, half]), 2),
            Pairs::Interleaved => (turned.reshape([rows, self.heads, half, 2]), 3),
        };
        let (a, b) = (pairs.select(along, 0), pairs.select(along, 1));
        let sides = [&a * cos - &b * &sin, &b * cos + &a * &sin];
        let turned = tch::Tensor::stack(&sides, along).reshape([rows, self.heads, 2 * half]);
        let rest = x.narrow(2, 2 * half, dim - 2 * half);
        TchTensor::new(tch::Tensor::cat(&[turned, rest], 2).reshape([rows, width]).to_kind(kind))
    }
}

impl Operation<LibTorch, 1> for Rotary {
    type Saved = ();

    fn forward(&self, [x]: [TchTensor; 1]) -> (TchTensor, ()) {
        (self.turn(&x.tensor, 1.0), ())
    }

    fn backward(self, (): (), gradient: TchTensor, _: [bool; 1]) -> [Option<TchTensor>; 1] {
        [Some(self.turn(&gradient.tensor, -1.0))]
    }
}

/// See [`crate::ops::rotary()`].
pub fn rotary(
    x: Tensor<2>,
    tables: [Tensor<2>; 2],
    positions: Tensor<1, Int>,
    heads: usize,
    pairs: Pairs,
) -> Tensor<2> {
    let positions = ints(positions);
    let [cos, sin] = tables.map(|table| primitive(table).tensor.index_select(0, &positions).unsqueeze(1));
    apply(Rotary { heads: heads as i64, pairs, cos, sin }, [x.into_dispatch()])
}
