//! Rotary position embeddings.

use burn::tensor::{Int, Tensor};

use super::engine::Engine;
use super::options::Pairs;
use super::precision::widen;
use crate::Mode;

/// Turns pairs of columns of each head by angles that grow with the position (Su et al., 2021):
/// `(a, b) → (a cos - b sin, b cos + a sin)`. `x` is [rows, heads · head_dim]; `cos` and `sin` are
/// [positions, rotated / 2], where the first `rotated` columns of a head are turned and the others stay. They are made by
/// the caller, its scaling included, and have no gradients. `positions`, `[rows]`, says which row of them belongs to which
/// row of x.
pub fn rotary(
    x: Tensor<2>,
    cos: Tensor<2>,
    sin: Tensor<2>,
    positions: Tensor<1, Int>,
    heads: usize,
    pairs: Pairs,
    mode: &Mode,
) -> Tensor<2> {
    match Engine::of(&x, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::rotary::rotary(x, [cos, sin], positions, heads, pairs),
        #[cfg(feature = "tch")]
        Engine::Torch => super::torch::rotary::rotary(x, [cos, sin], positions, heads, pairs),
        Engine::Plain => plain(x, [cos, sin], positions, heads, pairs),
    }
}

fn plain(x: Tensor<2>, tables: [Tensor<2>; 2], positions: Tensor<1, Int>, heads: usize, pairs: Pairs) -> Tensor<2> {
    let ([rows, width], [_, half]) = (x.dims(), tables[0].dims());
    let (dim, dtype) = (width / heads, x.dtype());
    let x = widen(x).reshape([rows, heads, dim]);
    let [cos, sin] = tables.map(|table| table.select(0, positions.clone()).reshape([rows, 1, half]));
    let (a, b) = match pairs {
        Pairs::Halves => (x.clone().narrow(2, 0, half), x.clone().narrow(2, half, half)),
        Pairs::Interleaved => {
            let pairs = x.clone().narrow(2, 0, 2 * half).reshape([rows, heads, half, 2]);
            let side = |which| pairs.clone().narrow(3, which, 1).reshape([rows, heads, half]);
            (side(0), side(1))
        }
    };
    let sides = [a.clone() * cos.clone() - b.clone() * sin.clone(), b * cos + a * sin];
    let mut parts = match pairs {
        Pairs::Halves => sides.to_vec(),
        Pairs::Interleaved => {
            let sides = sides.map(|side| side.reshape([rows, heads, half, 1]));
            vec![Tensor::cat(sides.to_vec(), 3).reshape([rows, heads, 2 * half])]
        }
    };
    if dim > 2 * half {
        parts.push(x.narrow(2, 2 * half, dim - 2 * half));
    }
    Tensor::cat(parts, 2).reshape([rows, width]).cast(dtype)
}
