//! How fast the pairs of columns of a head turn.

use std::borrow::Cow;

/// The frequencies of all pairs, by the length of what is read.
#[derive(Clone, Debug)]
pub struct Frequencies {
    /// Radians from one position to the next, for each pair; `[rotated / 2]`.
    pub usual: Vec<f32>,
    /// Where a sequence is longer than those of the original model were.
    pub longer: Longer,
    /// Factor on cosines and sines, and by that on queries and keys.
    pub factor: f64,
}

/// What becomes of the frequencies then.
#[derive(Clone, Debug)]
pub enum Longer {
    /// Nothing.
    Same,
    /// They fall with the length of the longest sequence beyond `max_positions`.
    Falling { base: f64, factor: f64, max_positions: usize },
    /// Others take their place when the longest sequence has more than `limit` tokens.
    Others { frequencies: Vec<f32>, limit: usize },
}

impl Frequencies {
    /// Those of `rotated` columns that nothing scales.
    pub fn new(base: f64, rotated: usize) -> Self {
        Self { usual: unscaled(base as f32, rotated), longer: Longer::Same, factor: 1.0 }
    }

    /// Those for a batch whose longest sequence has so many tokens, padding included.
    pub fn at(&self, longest: usize) -> Cow<'_, [f32]> {
        match &self.longer {
            Longer::Others { frequencies, limit } if longest > *limit => Cow::Borrowed(frequencies),
            &Longer::Falling { base, factor, max_positions } if longest > max_positions => {
                Cow::Owned(falling(base, factor, max_positions, longest, 2 * self.usual.len()))
            }
            _ => Cow::Borrowed(&self.usual),
        }
    }
}

/// The share of all columns that lies before each pair's.
pub fn exponents(rotated: usize) -> impl Iterator<Item = f32> {
    (0..rotated).step_by(2).map(move |column| column as f32 / rotated as f32)
}

fn unscaled(base: f32, rotated: usize) -> Vec<f32> {
    exponents(rotated).map(|exponent| 1.0 / base.powf(exponent)).collect()
}

/// Those of a base that grows with the length (NTK-aware scaling, `_compute_dynamic_ntk_parameters`).
fn falling(base: f64, factor: f64, max_positions: usize, longest: usize, rotated: usize) -> Vec<f32> {
    let stretch = (factor as f32 * longest as f32 / max_positions as f32) - (factor - 1.0) as f32;
    let power = rotated as f64 / (rotated as f64 - 2.0);
    unscaled(base as f32 * stretch.powf(power as f32), rotated)
}
