//! The operations by hand, for the CPU backend (`flex`): fused, multi-threaded, each with its own backward pass.
//!
//! Every one equals its plain twin in the parent module, which is tested, and its result does not depend on the number
//! of threads: work is cut into pieces of fixed size, and sums are taken piece by piece in order.

pub(super) mod activation;
pub(super) mod adamw;
pub(super) mod attention;
mod blocked;
mod buffer;
pub(super) mod cross_entropy;
pub(super) mod dropout;
pub(super) mod embedding;
mod few_rows;
mod heads;
pub(super) mod layer_norm;
pub(super) mod linear;
mod matmul;
mod panels;
pub(super) mod relative_attention;
mod simd;

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind, Flex};
use burn::tensor::{Tensor, TensorData};

use super::extension::{self, Extended, Operation, apply};
use buffer::build;

impl Extended for Flex {
    fn into_kind(tensor: BackendTensor<Self>) -> DispatchTensorKind {
        DispatchTensorKind::Flex(tensor)
    }

    fn from_kind(kind: DispatchTensorKind) -> BackendTensor<Self> {
        match kind {
            DispatchTensorKind::Flex(tensor) => tensor,
            other => unreachable!("not on the CPU backend: {other:?}"),
        }
    }

    fn contiguous(tensor: FlexTensor) -> FlexTensor {
        if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
    }
}

/// The contiguous tensor behind one that is outside autodiff, or that leaves it here.
pub(super) fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    extension::primitive::<Flex, D>(tensor)
}

/// A tensor outside autodiff.
pub(super) fn wrap<const D: usize>(tensor: FlexTensor) -> Tensor<D> {
    extension::wrap::<Flex, D>(tensor)
}

/// The values of a contiguous tensor.
fn values(tensor: &FlexTensor) -> &[f32] {
    let (start, end) = extent(tensor);
    &tensor.storage()[start..end]
}

/// The values of a contiguous tensor, to be changed: copied first if somebody else holds them too.
fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    if !tensor.is_unique() {
        let old = values(tensor);
        let copy = build(old.len(), CHUNK, |start, new| new.copy_from_slice(&old[start..start + new.len()]));
        *tensor = tensor_like(copy, tensor);
    }
    let (start, end) = extent(tensor);
    &mut tensor.storage_mut()[start..end]
}

/// A new tensor of zeros.
pub(super) fn zeros(len: usize) -> Tensor<1> {
    wrap(tensor(buffer::zeros(len), [len]))
}

fn extent(tensor: &FlexTensor) -> (usize, usize) {
    tensor.layout().contiguous_offsets().unwrap_or((0, 0))
}

/// A new tensor.
fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// A new tensor of the shape of another.
fn tensor_like(values: Vec<f32>, other: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, other.layout().shape().clone()))
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
