//! Normalisation by the root of the mean square.

use burn::tensor::Tensor;

use super::engine::Engine;
use super::precision::widen;
use crate::Mode;

/// `x / sqrt(mean(x²) + ε) · (offset + weight)` over each row (Zhang and Sennrich, 2019): `offset` is 0 in Llama and 1 in
/// Gemma, whose weights start from zero.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, offset: f64, epsilon: f64, mode: &Mode) -> Tensor<2> {
    let x = widen(x);
    match Engine::of(&x, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::rms_norm::rms_norm(x, weight, offset, epsilon, mode.compute().narrow_saved),
        #[cfg(feature = "tch")]
        Engine::Torch => super::torch::rms_norm::rms_norm(x, weight, offset, epsilon),
        Engine::Plain => {
            let square = x.clone().powi_scalar(2).mean_dim(1);
            x / (square + epsilon).sqrt() * (weight + offset).unsqueeze()
        }
    }
}
