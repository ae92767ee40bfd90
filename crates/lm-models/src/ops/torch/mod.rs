//! The operations on libtorch, by ATen's fused functions and their own backward passes; every tensor may have 32 or 16
//! bits.
//!
//! Where ATen's backward function can be called, an operation is an [`Operation`] that calls it. Where `tch` does not
//! pass it on, the operation is a [`Function`]: libtorch records it, and walks back through what it recorded.

pub(super) mod activation;
pub(super) mod adamw;
pub(super) mod attention;
pub(super) mod cast;
pub(super) mod cross_entropy;
pub(super) mod dropout;
pub(super) mod embedding;
pub(super) mod glu;
pub(super) mod layer_norm;
pub(super) mod linear;
pub(super) mod rms_norm;
pub(super) mod rotary;

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use burn::backend::libtorch::TchTensor;
use burn::backend::{BackendTensor, DispatchTensorKind, LibTorch};
use burn::tensor::{Bool, Int, Tensor};

use super::extension::{self, Extended, Operation, apply};
use crate::inputs::DropoutKey;

impl Extended for LibTorch {
    fn into_kind(tensor: BackendTensor<Self>) -> DispatchTensorKind {
        DispatchTensorKind::LibTorch(tensor)
    }

    fn from_kind(kind: DispatchTensorKind) -> BackendTensor<Self> {
        match kind {
            DispatchTensorKind::LibTorch(tensor) => tensor,
            other => unreachable!("not on libtorch: {other:?}"),
        }
    }

    fn contiguous(tensor: TchTensor) -> TchTensor {
        if tensor.tensor.is_contiguous() { tensor } else { TchTensor::new(tensor.tensor.contiguous()) }
    }
}

/// An operation that libtorch differentiates.
trait Function<const N: usize>: Send + Debug + 'static {
    /// The result, in new memory.
    fn compute(&self, inputs: [&tch::Tensor; N]) -> tch::Tensor;
}

/// A [`Function`] as an [`Operation`].
#[derive(Debug)]
struct Recorded<F>(F);

/// What libtorch recorded of one function: its inputs, outside any other graph, and its result.
#[derive(Clone, Debug)]
struct Graph<const N: usize> {
    inputs: [TchTensor; N],
    output: TchTensor,
}

impl<F: Function<N>, const N: usize> Operation<LibTorch, N> for Recorded<F> {
    type Saved = Graph<N>;

    fn forward(&self, inputs: [TchTensor; N]) -> (TchTensor, Graph<N>) {
        let inputs = inputs.map(|TchTensor { tensor, storage }| TchTensor {
            tensor: tensor.detach().set_requires_grad(true),
            storage,
        });
        let recorded = tch::with_grad(|| self.0.compute(inputs.each_ref().map(|input| &input.tensor)));
        let result = TchTensor::new(recorded.detach());
        // One storage, so that nobody overwrites the values that the graph refers to.
        let output = TchTensor { tensor: recorded, storage: result.storage.clone() };
        (result, Graph { inputs, output })
    }

    fn backward(self, graph: Graph<N>, gradient: TchTensor, wanted: [bool; N]) -> [Option<TchTensor>; N] {
        let inputs = graph.inputs.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(input, _)| &input.tensor);
        let inputs: Vec<_> = inputs.collect();
        let gradients = lm_aten::gradients(&graph.output.tensor, &gradient.tensor, &inputs);
        // As every function of `tch` does.
        let mut gradients = gradients.unwrap_or_else(|error| panic!("{error}")).into_iter();
        wanted.map(|wanted| wanted.then(|| gradients.next().map(TchTensor::new)).flatten())
    }
}

/// The contiguous tensor behind one that is outside autodiff, or that leaves it here.
fn primitive<const D: usize>(tensor: Tensor<D>) -> TchTensor {
    extension::primitive::<LibTorch, D>(tensor)
}

/// A new tensor, outside autodiff.
fn wrap<const D: usize>(tensor: tch::Tensor) -> Tensor<D> {
    extension::wrap::<LibTorch, D>(TchTensor::new(tensor))
}

/// Integers, on the device.
fn ints<const D: usize>(tensor: Tensor<D, Int>) -> tch::Tensor {
    LibTorch::from_kind(tensor.into_dispatch().kind).int().tensor
}

/// Truth values, on the device.
fn bools<const D: usize>(tensor: Tensor<D, Bool>) -> tch::Tensor {
    LibTorch::from_kind(tensor.into_dispatch().kind).bool().tensor
}

/// Lets `draw` use torch's generator, set to numbers that only this dropout gets: they do not depend on what was drawn
/// before, so a resumed run drops what an unbroken one drops.
fn seeded<T>(site: DropoutKey, draw: impl FnOnce() -> T) -> T {
    /// There is one generator per device, and setting the seed sets them all.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _turn = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(site.seed() as i64);
    draw()
}
