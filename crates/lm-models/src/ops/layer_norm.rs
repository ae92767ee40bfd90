//! Layer normalisation.

use burn::tensor::Tensor;

use super::engine::Engine;
use super::precision::widen;
use crate::Mode;

/// `(x - mean) / sqrt(variance + ε) · weight + bias` over each row (Ba et al., 2016), the variance being the biased one.
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64, mode: &Mode) -> Tensor<2> {
    let x = widen(x);
    match Engine::of(&x, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::layer_norm::layer_norm(x, weight, bias, epsilon, mode.compute().narrow_saved),
        #[cfg(feature = "tch")]
        Engine::Torch => super::torch::layer_norm::layer_norm(x, weight, bias, epsilon),
        Engine::Plain => {
            let centred = x.clone() - x.mean_dim(1);
            let variance = (centred.clone() * centred.clone()).mean_dim(1);
            let normal = centred / (variance + epsilon).sqrt();
            normal * weight.unsqueeze() + bias.unsqueeze()
        }
    }
}
