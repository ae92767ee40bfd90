//! AdamW in place: six kernels per parameter. ATen's fused one works on lists of tensors, which `tch` does not pass on.

use burn::tensor::Tensor;

use super::{primitive, wrap};
use crate::ops::options::AdamW;

/// See [`crate::ops::adamw`].
pub fn adamw(
    p: Tensor<1>,
    m: Tensor<1>,
    v: Tensor<1>,
    g: Tensor<1>,
    options: AdamW,
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let [mut p, mut m, mut v] = [p, m, v].map(own);
    let mut g = primitive(g).tensor;
    if options.factor != 1.0 {
        g = g * options.factor;
    }
    let _ = m.lerp_(&g, 1.0 - options.beta1);
    let _ = v.lerp_(&g.square(), 1.0 - options.beta2);
    let rate = options.learning_rate / (1.0 - options.beta1.powi(options.step));
    if options.weight_decay != 0.0 {
        let _ = p.g_mul_scalar_(1.0 - options.learning_rate * options.weight_decay);
    }
    // Warm-up begins with a rate of 0.
    if rate != 0.0 {
        // -(√v / root + ε) / rate, so that adding m / denominator is the whole update.
        let root = (1.0 - options.beta2.powi(options.step)).sqrt();
        let mut denominator = v.sqrt();
        let _ = denominator.g_mul_scalar_(-1.0 / (root * rate));
        let _ = denominator.g_sub_scalar_(options.epsilon / rate);
        let _ = p.addcdiv_(&m, &denominator);
    }
    (wrap(p), wrap(m), wrap(v))
}

/// Memory that nobody else holds: a copy if somebody does.
fn own(tensor: Tensor<1>) -> tch::Tensor {
    let tensor = primitive(tensor);
    if tensor.can_mut() { tensor.tensor } else { tensor.tensor.copy() }
}
