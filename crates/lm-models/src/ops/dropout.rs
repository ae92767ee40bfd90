//! Dropout whose mask is a function of (seed, forward pass, site, element).

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::backend::DispatchDevice;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::tensor::{Device, Distribution};
use burn::tensor::{Tensor, TensorData};
use lm_random::{Purpose, key, philox};
use rayon::prelude::*;

use super::engine::Engine;
use super::precision::widen;
use crate::Mode;
use crate::inputs::DropoutKey;

/// Sets each value to zero with the given probability and scales the others by `1 / (1 - p)` (Srivastava et al., 2014).
/// Nothing happens in evaluation. libtorch and GPUs draw their masks themselves, from a seed that is a function of the
/// same things.
pub fn dropout<const D: usize>(x: Tensor<D>, probability: f64, mode: &Mode) -> Tensor<D> {
    let Some((site, p)) = mode.next_dropout(probability) else { return x };
    match Engine::of(&x, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::dropout::dropout(x, site, p),
        #[cfg(feature = "tch")]
        Engine::Torch => super::torch::dropout::dropout(x, site, p),
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        Engine::Plain if !mode.compute().plain && is_cube(&x.device()) => {
            let device = x.device();
            device.seed(site.seed());
            let kept = Tensor::random(x.dims(), Distribution::Bernoulli(1.0 - p), (&device, x.dtype()));
            x * kept * kept_factor(p)
        }
        Engine::Plain => {
            let shape = x.dims();
            let mask = mask(site, p, shape.iter().product());
            let mask = Tensor::from_data(TensorData::new(mask, shape), (&x.device(), x.dtype()));
            x * mask
        }
    }
}

/// `dropout(x) + residual`, the end of every transformer sublayer.
pub fn dropout_add(x: Tensor<2>, residual: Tensor<2>, probability: f64, mode: &Mode) -> Tensor<2> {
    let (x, residual) = (widen(x), widen(residual));
    match Engine::of(&x, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => match mode.next_dropout(probability) {
            Some((site, p)) => super::fast::dropout::dropout_add(x, residual, site, p),
            None => super::fast::dropout::add(x, residual),
        },
        _ => dropout(x, probability, mode) + residual,
    }
}

/// `x + residual`, the end of a sublayer that drops nothing; float32, whatever they are.
pub fn add(x: Tensor<2>, residual: Tensor<2>, mode: &Mode) -> Tensor<2> {
    let (x, residual) = (widen(x), widen(residual));
    match Engine::of(&x, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::dropout::add(x, residual),
        _ => x + residual,
    }
}

/// Whether this is a GPU by way of CubeCL, to which a mask would have to be sent.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn is_cube(device: &Device) -> bool {
    matches!(device.clone().inner().as_dispatch(), DispatchDevice::Cube(_))
}

fn kept_factor(probability: f64) -> f64 {
    if probability < 1.0 { 1.0 / (1.0 - probability) } else { 0.0 }
}

/// The factors of `len` elements: 0 or `1 / (1 - p)`. Element i takes word `i % 4` of block `i / 4`.
pub fn mask(site: DropoutKey, probability: f64, len: usize) -> Vec<f32> {
    const CHUNK: usize = 1 << 14;
    let key = key(site.seed, Purpose::Dropout);
    let dropped_below = (probability * 2f64.powi(32)) as u64;
    let kept = kept_factor(probability) as f32;
    let mut mask = vec![0.0; len];
    mask.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        for (block, values) in values.chunks_mut(4).enumerate() {
            let counter = (chunk * (CHUNK / 4) + block) as u32;
            let words = philox([counter, site.site, site.micro_batch as u32, (site.micro_batch >> 32) as u32], key);
            for (value, word) in values.iter_mut().zip(words) {
                *value = if u64::from(word) < dropped_below { 0.0 } else { kept };
            }
        }
    });
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mask_keeps_the_mean_and_depends_on_its_key() {
        let site = DropoutKey { seed: 1, micro_batch: 2, site: 3 };
        let n = 400_000;
        let a = mask(site, 0.1, n);
        let dropped = a.iter().filter(|&&v| v == 0.0).count() as f64 / n as f64;
        assert!((dropped - 0.1).abs() < 0.002, "{dropped}");
        let mean = a.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
        assert!((mean - 1.0).abs() < 0.003, "{mean}");
        assert_eq!(a[..1000], mask(site, 0.1, 1000)[..], "a prefix does not depend on the length");
        for other in
            [DropoutKey { seed: 2, ..site }, DropoutKey { micro_batch: 3, ..site }, DropoutKey { site: 4, ..site }]
        {
            assert_ne!(a[..1000], mask(other, 0.1, 1000)[..]);
        }
        assert!(mask(site, 1.0, 100).iter().all(|&v| v == 0.0));
        assert!(mask(site, 0.0, 100).iter().all(|&v| v == 1.0));
    }
}
