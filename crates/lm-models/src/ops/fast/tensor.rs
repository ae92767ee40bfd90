//! Tensors of the CPU backend as slices, and slices as tensors.

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind, Flex};
use burn::tensor::{DType, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;

use super::buffer::{CHUNK, build, zeros as zeroed};
use super::matrix::{Matrix, Right};
use super::simd::{add, simd};
use crate::ops::extension::{self, Extended};

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
pub fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    extension::primitive::<Flex, D>(tensor)
}

/// A tensor outside autodiff.
pub fn wrap<const D: usize>(tensor: FlexTensor) -> Tensor<D> {
    extension::wrap::<Flex, D>(tensor)
}

/// The values of a contiguous tensor.
pub fn values(tensor: &FlexTensor) -> &[f32] {
    let (start, end) = extent(tensor);
    &tensor.storage()[start..end]
}

/// The same of a tensor in bfloat16.
pub fn values_in_16_bits(tensor: &FlexTensor) -> &[bf16] {
    let (start, end) = extent(tensor);
    &tensor.storage()[start..end]
}

/// Whether a tensor lies in bfloat16, as frozen weights may.
pub fn is_in_16_bits(tensor: &FlexTensor) -> bool {
    tensor.dtype() == DType::BF16
}

/// A contiguous weight as the right side of a product.
pub fn right(weight: &FlexTensor) -> Right<'_> {
    let [rows, columns] = dims(weight);
    match is_in_16_bits(weight) {
        true => Right::BFloat16(Matrix::new(values_in_16_bits(weight), rows, columns)),
        false => Right::Float32(Matrix::new(values(weight), rows, columns)),
    }
}

/// The values of a contiguous tensor, to be changed: copied first if somebody else holds them too.
pub fn values_mut(tensor: &mut FlexTensor) -> &mut [f32] {
    if !tensor.is_unique() {
        let old = values(tensor);
        let copy = build(old.len(), CHUNK, |start, new| new.copy_from_slice(&old[start..start + new.len()]));
        *tensor = tensor_like(copy, tensor);
    }
    let (start, end) = extent(tensor);
    &mut tensor.storage_mut()[start..end]
}

/// `sum += new`
pub fn add_to(sum: &mut FlexTensor, new: &FlexTensor) {
    let chunks = values_mut(sum).par_chunks_mut(CHUNK).zip(values(new).par_chunks(CHUNK));
    chunks.for_each(|(sum, new)| {
        simd(
            #[inline(always)]
            || add(sum, new),
        )
    });
}

/// A new tensor of zeros.
pub fn zeros(len: usize) -> Tensor<1> {
    wrap(tensor(zeroed(len), [len]))
}

fn extent(tensor: &FlexTensor) -> (usize, usize) {
    tensor.layout().contiguous_offsets().unwrap_or((0, 0))
}

/// A new tensor.
pub fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// A new tensor of the shape of another.
pub fn tensor_like(values: Vec<f32>, other: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, other.layout().shape().clone()))
}

/// Rows and columns; a vector is one row.
pub fn dims(tensor: &FlexTensor) -> [usize; 2] {
    match tensor.layout().shape()[..] {
        [.., rows, columns] => [rows, columns],
        [columns] => [1, columns],
        [] => [1, 1],
    }
}

/// Rows that one thread works on at a time.
pub fn chunk_rows(columns: usize) -> usize {
    (CHUNK / columns.max(1)).max(1)
}
