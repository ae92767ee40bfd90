//! Dynamic loss scaling for `--fp16`, as `torch.amp.GradScaler` with its defaults (Micikevicius et al., 2018).

use serde::{Deserialize, Serialize};

const INIT_SCALE: f32 = 65536.0;
const GROWTH_FACTOR: f32 = 2.0;
const BACKOFF_FACTOR: f32 = 0.5;
const GROWTH_INTERVAL: u32 = 2000;

/// The factor on the loss that brings the gradients into float16's range: halved when one of them overflows, which
/// skips the step, and doubled after 2000 steps without.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradScaler {
    /// The factor.
    pub scale: f32,
    /// Steps since it last changed.
    pub growth_tracker: u32,
}

impl Default for GradScaler {
    fn default() -> Self {
        Self { scale: INIT_SCALE, growth_tracker: 0 }
    }
}

impl GradScaler {
    /// Takes note of a step, and whether a gradient of it was infinite or no number.
    pub fn update(&mut self, found_inf: bool) {
        if found_inf {
            *self = Self { scale: self.scale * BACKOFF_FACTOR, growth_tracker: 0 };
            return;
        }
        self.growth_tracker += 1;
        if self.growth_tracker == GROWTH_INTERVAL {
            let grown = self.scale * GROWTH_FACTOR;
            *self = Self { scale: if grown.is_finite() { grown } else { self.scale }, growth_tracker: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `torch.amp.GradScaler(device="cpu")` of torch 2.9.1 has after so many steps, some of them with an infinite
    /// gradient.
    #[test]
    fn equals_torch() {
        let steps = [
            (false, 1999, 65536.0, 1999),
            (false, 1, 131072.0, 0),
            (false, 3, 131072.0, 3),
            (true, 1, 65536.0, 0),
            (true, 2, 16384.0, 0),
            (false, 2000, 32768.0, 0),
            (false, 1, 32768.0, 1),
            (true, 20, 0.03125, 0),
            (false, 4000, 0.125, 0),
        ];
        let mut scaler = GradScaler::default();
        for (found_inf, times, scale, growth_tracker) in steps {
            (0..times).for_each(|_| scaler.update(found_inf));
            assert_eq!(scaler, GradScaler { scale, growth_tracker });
        }
    }

    #[test]
    fn stops_growing_at_the_end_of_float32() {
        let mut scaler = GradScaler { scale: f32::MAX, growth_tracker: GROWTH_INTERVAL - 1 };
        scaler.update(false);
        assert_eq!(scaler, GradScaler { scale: f32::MAX, growth_tracker: 0 });
    }
}
