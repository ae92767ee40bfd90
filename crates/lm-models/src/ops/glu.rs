//! The gated half of a feed-forward layer.

use burn::tensor::Tensor;

use super::activation::Activation;
use super::engine::Engine;
use super::options::Gate;
use crate::Mode;

/// `f(gate) · up`, f being the gate's activation function; all [rows, inner] (Shazeer, 2020).
pub fn glu(gate: Tensor<2>, up: Tensor<2>, kind: Gate, mode: &Mode) -> Tensor<2> {
    match Engine::of(&gate, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::glu::glu(gate, up, kind, mode.compute().narrow_saved),
        #[cfg(feature = "tch")]
        Engine::Torch => super::torch::glu::glu(gate, up, kind),
        Engine::Plain => plain(gate, up, kind),
    }
}

/// [`glu`] of a gate and what it gates that lie side by side, the gate first; [rows, 2 · inner] → [rows, inner].
pub fn glu_packed(gate_up: Tensor<2>, kind: Gate, mode: &Mode) -> Tensor<2> {
    match Engine::of(&gate_up, mode.compute()) {
        #[cfg(feature = "flex")]
        Engine::Flex => super::fast::glu::glu_packed(gate_up, kind, mode.compute().narrow_saved),
        #[cfg(feature = "tch")]
        Engine::Torch => super::torch::glu::glu_packed(gate_up, kind),
        Engine::Plain => {
            let inner = gate_up.dims()[1] / 2;
            plain(gate_up.clone().narrow(1, 0, inner), gate_up.narrow(1, inner, inner), kind)
        }
    }
}

fn plain(gate: Tensor<2>, up: Tensor<2>, kind: Gate) -> Tensor<2> {
    let activation = match kind {
        Gate::Silu => Activation::Silu,
        Gate::Gelu => Activation::Gelu,
        Gate::GeluTanh => Activation::GeluNew,
    };
    activation.plain(gate) * up
}
