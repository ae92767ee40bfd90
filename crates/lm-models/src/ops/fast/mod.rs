//! The operations by hand, for the CPU backend (`flex`): fused, multi-threaded, each with its own backward pass.
//!
//! Every one equals its plain twin in the parent module, which is tested, and its result does not depend on the number
//! of threads: work is cut into pieces of fixed size, and sums are taken piece by piece in order.

pub(super) mod activation;
pub(super) mod adamw;
pub(super) mod attention;
pub(super) mod cross_entropy;
pub(super) mod dropout;
pub(super) mod embedding;
pub(super) mod layer_norm;
pub(super) mod linear;
mod matmul;
mod simd;

use std::fmt::Debug;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, Flex,
};
use burn::tensor::{DType, Tensor, TensorData};

static PLAIN: LazyLock<AtomicBool> =
    LazyLock::new(|| AtomicBool::new(std::env::var_os("LM_PLAIN_OPS").is_some_and(|value| value == "1")));

/// Makes every operation take its plain implementation (`--plain_ops`); the environment's `LM_PLAIN_OPS=1` does too.
pub fn set_plain(plain: bool) {
    PLAIN.store(plain, Ordering::Relaxed);
}

/// Whether operations on this tensor are computed here: 32-bit floats on the CPU backend.
pub(super) fn applies<const D: usize>(x: &Tensor<D>) -> bool {
    !PLAIN.load(Ordering::Relaxed) && x.dtype() == DType::F32 && x.device().inner() == burn::tensor::Device::flex()
}

/// An operation on `N` tensors with a backward pass written by hand.
pub(super) trait Operation<const N: usize>: Sized + Send + Debug + 'static {
    /// What the backward pass needs to know.
    type Saved: Clone + Send + Debug + 'static;

    /// The result; inputs are contiguous.
    fn forward(&self, inputs: [FlexTensor; N]) -> (FlexTensor, Self::Saved);

    /// The gradients of the inputs that want one, from the gradient of the result, which is contiguous.
    fn backward(self, saved: Self::Saved, gradient: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

/// How an [`Operation`] enters autodiff's graph.
#[derive(Debug)]
struct Step<O, const N: usize>(O);

impl<O: Operation<N>, const N: usize> Backward<Flex, N> for Step<O, N> {
    type State = O::Saved;

    fn backward(self, ops: Ops<O::Saved, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = contiguous(gradients.consume::<Flex>(&ops.node));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let results = self.0.backward(ops.state, gradient, wanted);
        for (parent, result) in ops.parents.into_iter().zip(results) {
            if let (Some(parent), Some(result)) = (parent, result) {
                gradients.register::<Flex>(parent.id, result);
            }
        }
    }
}

/// Computes an operation, and records it when one of the inputs belongs to autodiff.
pub(super) fn apply<O: Operation<N>, const N: usize, const D: usize>(
    operation: O,
    inputs: [DispatchTensor; N],
) -> Tensor<D> {
    let context = inputs.iter().map(|input| input.autodiff).fold(DispatchAutodiffContext::Disabled, |a, b| a.merge(b));
    let kind = if context == DispatchAutodiffContext::Disabled {
        let (output, _) = operation.forward(inputs.map(|input| contiguous(inner(input))));
        DispatchTensorKind::Flex(BackendTensor::Float(output))
    } else {
        let (inputs, nodes) = split(inputs.map(|input| tracked(input).into_parts()));
        let inputs = inputs.map(contiguous);
        let (output, saved) = operation.forward(inputs);
        let output = match Step(operation).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(saved, output),
            OpsKind::UnTracked(step) => step.finish(output),
        };
        DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::Flex(BackendTensor::Autodiff(output))))
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

fn tracked(input: DispatchTensor) -> FloatTensor<Autodiff<Flex>> {
    match input.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(tensor)) => <Autodiff<Flex>>::from_inner(tensor),
        DispatchTensorKind::Autodiff(kind) => match *kind {
            DispatchTensorKind::Flex(BackendTensor::Autodiff(tensor)) => tensor,
            other => unreachable!("not on the CPU backend: {other:?}"),
        },
        other => unreachable!("not on the CPU backend: {other:?}"),
    }
}

fn inner(input: DispatchTensor) -> FlexTensor {
    match input.kind {
        DispatchTensorKind::Flex(BackendTensor::Float(tensor)) => tensor,
        _ => tracked(input).into_primitive(),
    }
}

/// The tensor behind one that is outside autodiff, or that leaves it here.
pub(super) fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    contiguous(inner(tensor.into_dispatch()))
}

pub(super) fn wrap<const D: usize>(tensor: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(tensor)
}

fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The values of a contiguous tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    let (start, end) = extent(tensor);
    &tensor.storage()[start..end]
}

/// The values of a contiguous tensor, to be changed: copied first if somebody else holds them too.
fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    let (start, end) = extent(tensor);
    &mut tensor.storage_mut()[start..end]
}

fn extent(tensor: &FlexTensor) -> (usize, usize) {
    tensor.layout().contiguous_offsets().unwrap_or((0, 0))
}

/// A new tensor.
fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Rows and columns; a vector is one row.
fn dims(tensor: &FlexTensor) -> [usize; 2] {
    match tensor.layout().shape()[..] {
        [.., rows, columns] => [rows, columns],
        [columns] => [1, columns],
        [] => [1, 1],
    }
}

/// Values that one thread works on at a time.
const CHUNK: usize = 1 << 14;

/// Rows that one thread works on at a time.
fn chunk_rows(columns: usize) -> usize {
    (CHUNK / columns.max(1)).max(1)
}
