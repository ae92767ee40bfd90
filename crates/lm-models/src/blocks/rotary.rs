//! Rotary position embeddings: the angles of a pass, which all layers share.

mod frequencies;
mod scaling;
#[cfg(test)]
mod tests;

use burn::tensor::{Int, Tensor, TensorData};

use self::frequencies::Frequencies;
use crate::config::{ConfigError, ModelConfig};
use crate::inputs::Mode;
use crate::ops::{self, Pairs};

/// Which columns of queries and keys turn with the position, and how fast.
#[derive(Clone, Debug)]
pub struct Rotary {
    pairs: Pairs,
    frequencies: Frequencies,
}

impl Rotary {
    /// Turns the first `rotated` columns of a head: pair i by `base^(-2i / rotated)` from position to position.
    pub fn new(base: f64, rotated: usize, pairs: Pairs) -> Self {
        Self { pairs, frequencies: Frequencies::new(base, rotated) }
    }

    /// The same by halves, scaled as config.json says: `rope_scaling` with `max_position_embeddings` and
    /// `original_max_position_embeddings` (`transformers.modeling_rope_utils`).
    ///
    /// # Errors
    /// When it asks for what is not known, or lacks what is needed; when `rotated` is odd.
    pub fn scaled(config: &ModelConfig, base: f64, rotated: usize) -> Result<Self, ConfigError> {
        Ok(Self { pairs: Pairs::Halves, frequencies: scaling::scaled(config, base, rotated)? })
    }

    /// Radians from one position to the next, for each pair, unless a longer sequence changes them.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies.usual
    }

    /// [`Rotary::scaled`] of whole heads.
    ///
    /// # Errors
    /// When config.json asks for a part of them, too.
    pub fn of_heads(config: &ModelConfig, base: f64, head_dim: usize) -> Result<Self, ConfigError> {
        config.require("partial_rotary_factor", &[1.into(), 1.0.into()], "; only 1 is")?;
        Self::scaled(config, base, head_dim)
    }

    /// The angles of a pass, row i being at position `positions[i]`, `[rows]`, and no sequence longer than `longest`,
    /// padding included.
    pub fn angles(&self, positions: Tensor<1, Int>, longest: usize) -> Angles {
        let device = positions.device().inner();
        let of_longest = self.frequencies.at(longest);
        let rows = positions.dims()[0];
        // A table of all positions where many rows share one; a row for each where a text goes on by a few.
        let (table, places): (Vec<i32>, _) = if rows < longest {
            (positions.into_data().iter().collect(), Tensor::arange(0..rows as i64, &device))
        } else {
            ((0..longest as i32).collect(), positions)
        };
        let [cos, sin] = tables(&of_longest, self.frequencies.factor, &table);
        let shape = [table.len(), of_longest.len()];
        let upload = |values| Tensor::from_data(TensorData::new(values, shape), &device);
        Angles { cos: upload(cos), sin: upload(sin), places, pairs: self.pairs }
    }
}

/// Cosines and sines at these positions, [positions, frequencies] each, in float32 as Python computes them.
fn tables(frequencies: &[f32], factor: f64, positions: &[i32]) -> [Vec<f32>; 2] {
    let angles = positions.iter().flat_map(|&position| frequencies.iter().map(move |&f| f * position as f32));
    angles.map(|angle| (angle.cos() * factor as f32, angle.sin() * factor as f32)).unzip().into()
}

/// Cosines and sines of a pass: constants, outside autodiff.
#[derive(Clone, Debug)]
pub struct Angles {
    /// [places, rotated / 2]
    cos: Tensor<2>,
    /// [places, rotated / 2]
    sin: Tensor<2>,
    /// Which of the places each row stands at, `[rows]`.
    places: Tensor<1, Int>,
    pairs: Pairs,
}

impl Angles {
    /// Those of tables that come with the weights, both [positions, rotated / 2], for rows at `positions`, `[rows]`.
    pub fn of_tables([cos, sin]: [Tensor<2>; 2], positions: Tensor<1, Int>, pairs: Pairs) -> Self {
        Self { cos, sin, places: positions, pairs }
    }

    /// Turns each of so many heads by the row's position; [rows, heads · head_dim] → [rows, heads · head_dim].
    pub fn turn(&self, x: Tensor<2>, heads: usize, mode: &Mode) -> Tensor<2> {
        // A model may turn so small a share of its columns that it is none.
        if self.cos.dims()[1] == 0 {
            return x;
        }
        ops::rotary(x, self.cos.clone(), self.sin.clone(), self.places.clone(), heads, self.pairs, mode)
    }
}
