//! How an operation whose backward pass is written by hand enters autodiff's graph, for any backend.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
};
use burn::tensor::Tensor;

/// A backend that has operations of its own.
pub(super) trait Extended: Backend {
    /// A tensor of this backend among those of all backends.
    fn into_kind(tensor: BackendTensor<Self>) -> DispatchTensorKind;

    /// The opposite; the tensor is known to be of this backend.
    fn from_kind(kind: DispatchTensorKind) -> BackendTensor<Self>;

    /// The same values, laid out in order without gaps.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// An operation on `N` tensors with a backward pass written by hand.
pub(super) trait Operation<B: Extended, const N: usize>: Sized + Send + Debug + 'static {
    /// What the backward pass needs to know.
    type Saved: Clone + Send + Debug + 'static;

    /// The result; inputs are contiguous.
    fn forward(&self, inputs: [FloatTensor<B>; N]) -> (FloatTensor<B>, Self::Saved);

    /// The gradients of the inputs that want one, from the gradient of the result, which is contiguous.
    fn backward(self, saved: Self::Saved, gradient: FloatTensor<B>, wanted: [bool; N]) -> [Option<FloatTensor<B>>; N];
}

/// How an [`Operation`] enters autodiff's graph.
#[derive(Debug)]
struct Step<O, const N: usize>(O);

impl<B: Extended, O: Operation<B, N>, const N: usize> Backward<B, N> for Step<O, N> {
    type State = O::Saved;

    fn backward(self, ops: Ops<O::Saved, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = B::contiguous(gradients.consume::<B>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let results = self.0.backward(ops.state, gradient, wanted);
        for (parent, result) in ops.parents.into_iter().zip(results) {
            if let (Some(parent), Some(result)) = (parent, result) {
                gradients.register::<B>(parent.id, result);
            }
        }
    }
}

/// Computes an operation, and records it when one of the inputs belongs to autodiff.
pub(super) fn apply<B: Extended, O: Operation<B, N>, const N: usize, const D: usize>(
    operation: O,
    inputs: [DispatchTensor; N],
) -> Tensor<D> {
    let context = inputs.iter().map(|input| input.autodiff).fold(DispatchAutodiffContext::Disabled, |a, b| a.merge(b));
    let kind = if context == DispatchAutodiffContext::Disabled {
        let (output, _) = operation.forward(inputs.map(|input| B::contiguous(inner::<B>(input))));
        B::into_kind(BackendTensor::Float(output))
    } else {
        let (inputs, nodes) = split(inputs.map(|input| tracked::<B>(input).into_parts()));
        let inputs = inputs.map(B::contiguous);
        let (output, saved) = operation.forward(inputs);
        let output = match Step(operation).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(saved, output),
            OpsKind::UnTracked(step) => step.finish(output),
        };
        DispatchTensorKind::Autodiff(Box::new(B::into_kind(BackendTensor::Autodiff(output))))
    };
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: context })
}

fn split<A, B, const N: usize>(pairs: [(A, B); N]) -> ([A; N], [B; N]) {
    let mut seconds = Vec::with_capacity(N);
    let firsts = pairs.map(|(a, b)| {
        seconds.push(b);
        a
    });
    let Ok(seconds) = seconds.try_into() else { unreachable!("one for each of the N") };
    (firsts, seconds)
}

fn tracked<B: Extended>(input: DispatchTensor) -> FloatTensor<Autodiff<B>> {
    match input.kind {
        DispatchTensorKind::Autodiff(kind) => B::from_kind(*kind).autodiff(),
        kind => <Autodiff<B>>::from_inner(B::from_kind(kind).float()),
    }
}

fn inner<B: Extended>(input: DispatchTensor) -> FloatTensor<B> {
    match input.kind {
        DispatchTensorKind::Autodiff(_) => tracked::<B>(input).into_primitive(),
        kind => B::from_kind(kind).float(),
    }
}

/// The contiguous tensor behind one that is outside autodiff, or that leaves it here.
pub(super) fn primitive<B: Extended, const D: usize>(tensor: Tensor<D>) -> FloatTensor<B> {
    B::contiguous(inner::<B>(tensor.into_dispatch()))
}

/// A tensor outside autodiff.
pub(super) fn wrap<B: Extended, const D: usize>(tensor: FloatTensor<B>) -> Tensor<D> {
    let kind = B::into_kind(BackendTensor::Float(tensor));
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled })
}
