//! AdamW with moments of 8 bits (Dettmers et al., 2022), as bitsandbytes has it.

use burn::tensor::Tensor;

use super::dynamic_map::{SIGNED, UNSIGNED};
use super::engine::{Compute, Engine};
use super::optimizer::plain_adamw;
use super::options::AdamW;
use super::quantized::Quantized;

/// The numbers that bytes stand for: of a mean, and of a mean square.
pub fn dynamic_maps() -> [&'static [f32; 256]; 2] {
    [&SIGNED.values, &UNSIGNED.values]
}

/// [`adamw`](super::adamw) whose mean `m` and mean square `v` are kept in 8 bits and computed in float32. A mean square that
/// is not zero stays above zero: bitsandbytes rounds it off, and where no gradient follows, ε alone is then divided by.
pub fn adamw_8bit(
    p: Tensor<1>,
    m: Quantized,
    v: Quantized,
    g: Tensor<1>,
    options: AdamW,
    compute: Compute,
) -> (Tensor<1>, Quantized, Quantized) {
    match Engine::of(&p, compute) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::adamw_8bit::adamw_8bit(p, m, v, g, options),
        _ => {
            let (p, m, v) = plain_adamw(p, m.values(&SIGNED), v.values(&UNSIGNED), g, options);
            (p, Quantized::of(m, &SIGNED), Quantized::of(v, &UNSIGNED))
        }
    }
}
