//! A tensor in a file: its type, its shape, and its bytes as float32.

use burn::tensor::Bytes;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Element type and shape of a tensor in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type in the file.
    pub dtype: Dtype,
    /// Sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
}

/// Little-endian bytes of a floating-point type as float32, on all threads. The error says why it cannot be.
pub(super) fn decode_f32(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>, String> {
    Ok(match dtype {
        Dtype::F32 => decode(bytes, f32::from_le_bytes),
        Dtype::F64 => decode(bytes, |value| f64::from_le_bytes(value) as f32),
        Dtype::F16 => decode(bytes, |value| f16::from_le_bytes(value).to_f32()),
        Dtype::BF16 => decode(bytes, |value| bf16::from_le_bytes(value).to_f32()),
        other => return Err(format!("holds {other}, which is not a floating-point type that a model is loaded from")),
    })
}

/// Values in bfloat16, the nearest, on all threads.
pub(crate) fn to_bf16(values: Vec<f32>) -> Bytes {
    Bytes::from_elems(values.into_par_iter().map(bf16::from_f32).collect::<Vec<_>>())
}

/// A tensor as another framework than PyTorch keeps it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// Its type, and the shape that it has in PyTorch.
    pub info: TensorInfo,
    /// Its shape in the file, where its axes are the other way round.
    reversed: Option<Vec<usize>>,
}

impl Stored {
    /// The values are in the order of PyTorch.
    pub fn plain(dtype: Dtype, shape: Vec<usize>) -> Self {
        Self { info: TensorInfo { dtype, shape }, reversed: None }
    }

    /// The axes are the other way round: a product is `[in, out]`, a convolution `[width, in, out]`.
    pub fn reversed(dtype: Dtype, shape: Vec<usize>) -> Self {
        let info = TensorInfo { dtype, shape: shape.iter().rev().copied().collect() };
        Self { info, reversed: Some(shape) }
    }

    /// The same values in PyTorch's order, by another shape.
    pub fn shaped(mut self, shape: Vec<usize>) -> Self {
        self.info.shape = shape;
        self
    }

    /// The values of the file in the order of PyTorch.
    pub fn arrange(&self, values: Vec<f32>) -> Vec<f32> {
        match &self.reversed {
            Some(shape) if !values.is_empty() => reverse_axes(&values, shape),
            _ => values,
        }
    }
}

/// The axes of `values` the other way round, from row-major to row-major; none of `shape` is zero.
fn reverse_axes<T: Copy + Default + Send + Sync>(values: &[T], shape: &[usize]) -> Vec<T> {
    let Some((&columns, leading)) = shape.split_last() else { return values.to_vec() };
    let rows: usize = leading.iter().product();
    let order: Vec<usize> = match leading {
        [] | [_] => (0..rows).collect(),
        _ => reverse_axes(&(0..rows).collect::<Vec<_>>(), leading),
    };
    let mut reversed = vec![T::default(); values.len()];
    reversed.par_chunks_mut(rows).enumerate().for_each(|(column, reversed)| {
        for (value, row) in reversed.iter_mut().zip(&order) {
            *value = values[row * columns + column];
        }
    });
    reversed
}

fn decode<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32 + Sync) -> Vec<f32> {
    const AT_LEAST: usize = 1 << 16; // values for which a second thread pays
    bytes.as_chunks::<N>().0.par_iter().with_min_len(AT_LEAST).map(|bytes| value(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_reversed() {
        let count = |n: u8| (0..n).map(f32::from).collect::<Vec<_>>();
        let of = |shape: &[usize]| {
            let stored = Stored::reversed(Dtype::F32, shape.to_vec());
            (stored.arrange(count(shape.iter().product::<usize>() as u8)), stored.info.shape)
        };
        assert_eq!(of(&[2, 3]), (vec![0., 3., 1., 4., 2., 5.], vec![3, 2]));
        assert_eq!(of(&[3]), (count(3), vec![3]));
        assert_eq!(of(&[]), (count(1), vec![]));
        assert_eq!(of(&[0, 3]), (vec![], vec![3, 0]));
        // [width, in, out] = [2, 3, 2]: value (w, i, o) is 6 w + 2 i + o.
        let expected = vec![0., 6., 2., 8., 4., 10., 1., 7., 3., 9., 5., 11.];
        assert_eq!(of(&[2, 3, 2]), (expected, vec![2, 3, 2]));
    }
}
