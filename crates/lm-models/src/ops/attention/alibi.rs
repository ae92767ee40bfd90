//! The slopes of linear biases.

/// The slope of each head: powers of `2^(-8 / n)` for the largest power of two `n` that is not above `heads`, then every
/// other power of `2^(-4 / n)` (Press et al., 2022), as `build_alibi_tensor` of BLOOM and Falcon has them. Falcon adds the
/// bias before it scales the scores: its slopes are these times the scale.
pub fn alibi_slopes(heads: usize) -> Vec<f32> {
    let whole = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    let base = 2f64.powf(-8.0 / whole as f64);
    let extra = 2f64.powf(-4.0 / whole as f64);
    let first = (1..=whole).map(|power| base.powi(power as i32));
    let rest = (0..heads - whole).map(|index| extra.powi(2 * index as i32 + 1));
    first.chain(rest).map(|slope| slope as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `transformers.models.bloom.modeling_bloom.build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]`
    #[test]
    fn slopes_are_those_of_bloom() {
        let close = |heads: usize, expected: &[f32]| {
            let slopes = alibi_slopes(heads);
            assert_eq!(slopes.len(), heads);
            assert!(slopes.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{slopes:?}, not {expected:?}");
        };
        close(1, &[0.003_906_25]);
        close(4, &[0.25, 0.0625, 0.015_625, 0.003_906_25]);
        close(6, &[0.25, 0.0625, 0.015_625, 0.003_906_25, 0.5, 0.125]);
        close(8, &[0.5, 0.25, 0.125, 0.0625, 0.031_25, 0.015_625, 0.007_812_5, 0.003_906_25]);
    }
}
