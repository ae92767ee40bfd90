//! Gated activations.

use burn::backend::LibTorch;
use burn::tensor::Tensor;

use super::{Function, Recorded, apply};
use crate::ops::options::Gate;

#[derive(Debug)]
struct Glu(Gate);

impl Glu {
    fn gated(&self, gate: &tch::Tensor, up: &tch::Tensor) -> tch::Tensor {
        let gate = match self.0 {
            Gate::Silu => gate.silu(),
            Gate::Gelu => gate.gelu("none"),
            Gate::GeluTanh => gate.gelu("tanh"),
        };
        gate * up
    }
}

impl Function<2> for Glu {
    fn compute(&self, [gate, up]: [&tch::Tensor; 2]) -> tch::Tensor {
        self.gated(gate, up)
    }
}

impl Function<1> for Glu {
    fn compute(&self, [gate_up]: [&tch::Tensor; 1]) -> tch::Tensor {
        let inner = gate_up.size()[1] / 2;
        self.gated(&gate_up.narrow(1, 0, inner), &gate_up.narrow(1, inner, inner))
    }
}

/// See [`crate::ops::glu()`].
pub fn glu(gate: Tensor<2>, up: Tensor<2>, kind: Gate) -> Tensor<2> {
    apply::<LibTorch, _, 2, 2>(Recorded(Glu(kind)), [gate.into_dispatch(), up.into_dispatch()])
}

/// See [`crate::ops::glu_packed`].
pub fn glu_packed(gate_up: Tensor<2>, kind: Gate) -> Tensor<2> {
    apply::<LibTorch, _, 1, 2>(Recorded(Glu(kind)), [gate_up.into_dispatch()])
}
