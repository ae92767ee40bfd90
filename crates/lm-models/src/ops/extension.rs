//! How an operation whose backward pass is written by hand enters autodiff's graph, for any backend.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::retro_forward::RetroForward;
use burn::backend::autodiff::checkpoint::state::BackwardStates;
use burn::backend::autodiff::checkpoint::strategy::BalancedCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
};
use burn::tensor::Tensor;

use super::arrivals;

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

    /// What of it the backward pass needs where only these inputs want a gradient: a frozen weight lets go of what it was
    /// multiplied with.
    fn needed(&self, saved: Self::Saved, _wanted: [bool; N]) -> Self::Saved {
        saved
    }

    /// Whether the backward pass needs the first input as it is. Autodiff then keeps it, once for all operations that need
    /// it, or computes it [again](Self::again).
    fn needs_first(&self, _wanted: [bool; N]) -> bool {
        false
    }

    /// Adds the first input to what was saved without it.
    fn give_first(_saved: &mut Self::Saved, _first: FloatTensor<B>) {}

    /// A copy of an operation so cheap that others, whose backward pass needs its result, have it computed again from its
    /// inputs, which it keeps for its own.
    fn again(&self) -> Option<Self> {
        None
    }

    /// The gradients of the inputs that want one, from the gradient of the result, which is contiguous.
    fn backward(self, saved: Self::Saved, gradient: FloatTensor<B>, wanted: [bool; N]) -> [Option<FloatTensor<B>>; N];

    /// The same, with `left` added to the gradient of the first input, which is wanted.
    fn backward_onto(
        self,
        saved: Self::Saved,
        gradient: FloatTensor<B>,
        wanted: [bool; N],
        left: FloatTensor<B>,
    ) -> [Option<FloatTensor<B>>; N] {
        let mut left = Some(left);
        self.backward(saved, gradient, wanted).map(|own| match (own, left.take()) {
            (Some(own), Some(left)) => Some(B::float_add(own, left)),
            (own, left) => own.or(left),
        })
    }
}

thread_local! {
    /// The nodes for which operations of this file have left a gradient in the backward pass that runs on this thread, and
    /// that nobody has taken up: who adds to it can take it out and use its memory. Autodiff would add the two by one thread,
    /// and cannot be asked what it has.
    static LEFT: RefCell<HashSet<NodeId>> = RefCell::default();
}

/// Of a node that is no leaf, from which alone a gradient can be taken out by its node.
fn is_left(node: NodeId) -> bool {
    LEFT.with_borrow(|left| left.contains(&node))
}

fn leave(node: NodeId) {
    // Nodes that Burn's own operations take up stay here. What is forgotten is added by autodiff.
    const MOST: usize = 10_000;
    LEFT.with_borrow_mut(|left| {
        if left.len() == MOST {
            left.clear();
        }
        left.insert(node)
    });
}

fn take_up(node: NodeId) {
    LEFT.with_borrow_mut(|left| left.remove(&node));
}

/// How an [`Operation`] enters autodiff's graph.
#[derive(Debug)]
struct Step<B: Extended, O, const N: usize> {
    operation: O,
    /// The inputs that are leaves: by them what is left of their gradients is taken out.
    leaves: [Option<FloatTensor<Autodiff<B>>>; N],
}

impl<B: Extended, O: Operation<B, N>, const N: usize> Backward<B, N> for Step<B, O, N> {
    /// What is saved, and the node whose values are its first input.
    type State = (O::Saved, Option<NodeId>);

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (mut saved, first) = ops.state;
        if let Some(first) = first {
            O::give_first(&mut saved, B::contiguous(checkpointer.retrieve_node_output(first)));
        }
        let gradient = B::contiguous(gradients.consume::<B>(&ops.node));
        take_up(ops.node.id);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let left = match (self.leaves.first(), ops.parents.first()) {
            (Some(Some(leaf)), Some(Some(_))) => leaf.grad_remove(gradients),
            (Some(None), Some(Some(first))) => is_left(first.id).then(|| gradients.consume::<B>(first)),
            _ => None,
        };
        let results = match left.map(B::contiguous) {
            Some(left) => self.operation.backward_onto(saved, gradient, wanted, left),
            None => self.operation.backward(saved, gradient, wanted),
        };
        for ((parent, result), leaf) in ops.parents.into_iter().zip(results).zip(self.leaves) {
            let (Some(parent), Some(result)) = (parent, result) else { continue };
            gradients.register::<B>(parent.id, result);
            match leaf {
                Some(leaf) => arrivals::done(parent.id, |len| {
                    let gradient = leaf.grad_remove(gradients)?;
                    Some(wrap::<B, 1>(B::float_reshape(gradient, [len].into())))
                }),
                None => leave(parent.id),
            }
        }
    }
}

/// Computes an operation's result once more in the backward pass.
#[derive(Debug)]
struct Again<B, O, const N: usize> {
    operation: O,
    inputs: [NodeId; N],
    backend: PhantomData<B>,
}

impl<B: Extended, O: Operation<B, N>, const N: usize> RetroForward for Again<B, O, N> {
    fn forward(&self, states: &mut BackwardStates, node: NodeId) {
        let inputs = self.inputs.each_ref().map(|input| B::contiguous(states.get_state(input)));
        states.save(node, self.operation.forward(inputs).0);
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
        let inputs = inputs.map(tracked::<B>);
        let wanted = inputs.each_ref().map(|input| input.is_tracked());
        // A node that is no leaf would be kept alive by it.
        let leaf =
            |input: &FloatTensor<Autodiff<B>>| <Autodiff<B>>::float_is_require_grad(input).then(|| input.clone());
        let leaves = inputs.each_ref().map(leaf);
        let again = operation.again().map(|operation| (operation, inputs.clone()));
        let first = operation.needs_first(wanted).then(|| inputs[0].clone());
        let (inputs, nodes) = split(inputs.map(|input| input.into_parts()));
        leaves.iter().zip(&nodes).filter(|(leaf, _)| leaf.is_some()).for_each(|(_, node)| arrivals::used(node.id()));
        let inputs = inputs.map(B::contiguous);
        let (output, saved) = operation.forward(inputs);
        let saved = operation.needed(saved, wanted);
        let step = (Step { operation, leaves }).prepare::<BalancedCheckpointing>(nodes);
        let step = match again {
            Some((operation, inputs)) => {
                let nodes = inputs.each_ref().map(|input| input.node().id());
                let again = Again { operation, inputs: nodes, backend: PhantomData::<B> };
                step.memory_bound().retro_forward(again).parents(&inputs)
            }
            None => step.compute_bound(),
        };
        let output = match step.stateful() {
            OpsKind::Tracked(mut step) => {
                let first = first.map(|first| step.checkpoint(&first));
                step.finish((saved, first), output)
            }
            OpsKind::UnTracked(step) => step.finish(output),
        };
        DispatchTensorKind::Autodiff(Box::new(B::into_kind(BackendTensor::Autodiff(output))))
    };
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: context })
}

/// One of several parts of a matrix.
#[cfg(feature = "flex")]
pub(super) trait Part<B: Extended>: Send + Debug + 'static {
    /// The part, of a contiguous whole.
    fn take(&self, whole: &FloatTensor<B>) -> FloatTensor<B>;

    /// Adds the gradient of the part, which is contiguous, to that of the whole, [rows, columns]: what other parts have
    /// left there, or nothing yet.
    fn put(&self, part: FloatTensor<B>, others: Option<FloatTensor<B>>, shape: [usize; 2]) -> FloatTensor<B>;
}

/// How a [`Part`] enters autodiff's graph.
#[cfg(feature = "flex")]
#[derive(Debug)]
struct PartStep<P> {
    part: P,
    shape: [usize; 2],
}

#[cfg(feature = "flex")]
impl<B: Extended, P: Part<B>> Backward<B, 1> for PartStep<P> {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = B::contiguous(gradients.consume::<B>(&ops.node));
        take_up(ops.node.id);
        let [Some(whole)] = ops.parents else { return };
        let others = is_left(whole.id).then(|| gradients.consume::<B>(&whole)).map(B::contiguous);
        gradients.register::<B>(whole.id, self.part.put(gradient, others, self.shape));
        if !whole.parents.is_empty() {
            leave(whole.id);
        }
    }
}

/// Takes a matrix of this shape apart.
#[cfg(feature = "flex")]
pub(super) fn parts<B: Extended, P: Part<B>, const N: usize>(
    whole: DispatchTensor,
    parts: [P; N],
    shape: [usize; 2],
) -> [Tensor<2>; N] {
    let context = whole.autodiff;
    if context == DispatchAutodiffContext::Disabled {
        let whole = B::contiguous(inner::<B>(whole));
        return parts.map(|part| wrap::<B, 2>(part.take(&whole)));
    }
    let tracked = tracked::<B>(whole);
    let whole = B::contiguous(tracked.primitive().clone());
    parts.map(|part| {
        let taken = part.take(&whole);
        let (_, node) = tracked.clone().into_parts();
        let step = PartStep { part, shape };
        let taken = match step.prepare::<BalancedCheckpointing>([node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish((), taken),
            OpsKind::UnTracked(step) => step.finish(taken),
        };
        let kind = DispatchTensorKind::Autodiff(Box::new(B::into_kind(BackendTensor::Autodiff(taken))));
        Tensor::from_dispatch(DispatchTensor { kind, autodiff: context })
    })
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

/// The node of a tensor that autodiff knows.
pub(super) fn node<B: Extended>(tensor: DispatchTensor) -> NodeId {
    tracked::<B>(tensor).into_parts().1.id()
}

/// A tensor outside autodiff.
pub(super) fn wrap<B: Extended, const D: usize>(tensor: FloatTensor<B>) -> Tensor<D> {
    let kind = B::into_kind(BackendTensor::Float(tensor));
    Tensor::from_dispatch(DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled })
}
