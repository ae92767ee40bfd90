//! The 256 numbers of bitsandbytes' dynamic 8-bit types (Dettmers, 2015; Dettmers et al., 2022): a decimal exponent, and the
//! more bits of a fraction the larger the number is.

use std::sync::LazyLock;

/// A byte stands for one of these numbers between −1 and 1.
pub(super) struct DynamicMap {
    /// In ascending order; the byte is the index.
    pub values: [f32; 256],
    /// Half-way between each and the next: what is above goes up.
    pub midpoints: [f32; 255],
    /// A byte that [`DynamicMap::nearest`] begins with, by the number's first 16 bits.
    #[cfg_attr(not(feature = "flex"), allow(dead_code))]
    near: Vec<u8>,
    /// Whether what is above zero stays above it.
    pub keeps_positive: bool,
}

/// For numbers of either sign.
pub(super) static SIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(true));
/// For numbers that are not negative.
pub(super) static UNSIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(false));

impl DynamicMap {
    /// As bitsandbytes' `functional.create_dynamic_map`, to the last bit.
    fn new(signed: bool) -> Self {
        const EXPONENTS: i32 = 7;
        let mut numbers = vec![0.0, 1.0];
        for exponent in 0..EXPONENTS {
            let pieces = 1usize << (exponent + i32::from(!signed));
            // torch computes this power in float64 and multiplies in float32.
            let power = 10f64.powi(exponent + 1 - EXPONENTS) as f32;
            for piece in 0..pieces {
                let mean = (tenth_to_one(piece, pieces) + tenth_to_one(piece + 1, pieces)) / 2.0;
                numbers.push(power * mean);
                if signed {
                    numbers.push(-power * mean);
                }
            }
        }
        numbers.sort_by(f32::total_cmp);
        let values: [f32; 256] = std::array::from_fn(|index| numbers[index]);
        let midpoints = std::array::from_fn(|index| (values[index] + values[index + 1]) / 2.0);
        let below = |x: f32| midpoints.partition_point(|midpoint| *midpoint < x) as u8;
        // Numbers that share 16 bits have at most one midpoint between them; the one nearest to −∞ is first in a negative group.
        let near = (0..=u16::MAX).map(|bits| {
            let first = if bits < 0x8000 { 0 } else { 0xffff };
            let x = f32::from_bits((u32::from(bits) << 16) | first);
            if x.is_nan() { 0 } else { below(x) }
        });
        Self { values, midpoints, near: near.collect(), keeps_positive: !signed }
    }

    /// The byte of the nearest number, for one between −1 and 1; the lower of two that are as near.
    #[cfg_attr(not(feature = "flex"), allow(dead_code))]
    #[inline(always)]
    pub fn nearest(&self, x: f32) -> u8 {
        let near = self.near[(x.to_bits() >> 16) as usize];
        near + u8::from(near < 255 && x > self.midpoints[usize::from(near.min(254))])
    }
}

/// One of the ends of `pieces` equal pieces of the way from 0.1 to 1, as `torch.linspace` rounds them: once.
fn tenth_to_one(index: usize, pieces: usize) -> f32 {
    let step = (1.0 - 0.1f32) / pieces as f32;
    match index < pieces.div_ceil(2) {
        true => step.mul_add(index as f32, 0.1),
        false => step.mul_add(-((pieces - index) as f32), 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that `bitsandbytes.functional.create_dynamic_map` of 0.50 gives, by their CRC-32C.
    #[test]
    fn numbers_are_those_of_bitsandbytes() {
        for (map, crc) in [(&*SIGNED, 0x28f6_b49c), (&*UNSIGNED, 0xaa33_e64b)] {
            let bytes: Vec<u8> = map.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(crc32c::crc32c(&bytes), crc);
        }
    }

    /// A table of 16 bits finds what a search finds, for every midpoint, what is beside it, and much between.
    #[test]
    fn nearest_is_what_a_search_finds() {
        for map in [&*SIGNED, &*UNSIGNED] {
            let search = |x: f32| map.midpoints.partition_point(|midpoint| *midpoint < x) as u8;
            let beside = map.midpoints.iter().flat_map(|m| [m.next_down(), *m, m.next_up()]);
            let many = (0..400_000u32).map(|i| (i as f32 - 200_000.0) / 200_000.0);
            let small = (0..0x3f81u32).flat_map(|bits| [bits << 16, (bits << 16) | 0xffff].map(f32::from_bits));
            let small = small.filter(|x| *x <= 1.0).flat_map(|x| [x, -x]);
            for x in beside.chain(many).chain(small).chain([0.0, -0.0, 1.0, -1.0]) {
                assert_eq!(map.nearest(x), search(x), "{x:e}");
            }
            for (byte, value) in map.values.iter().enumerate() {
                assert_eq!(usize::from(map.nearest(*value)), byte);
            }
        }
    }
}
