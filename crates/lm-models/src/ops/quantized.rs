//! Tensors of 8 bits, block-wise as bitsandbytes has them (Dettmers et al., 2022).

use burn::tensor::{DType, Device, Int, IntDType, Tensor, TensorData};

use super::dynamic_map::DynamicMap;

/// Values that share one maximum.
pub(super) const BLOCK: usize = 256;

/// Values of 8 bits: each a number between −1 and 1 times the largest of its block, outside autodiff.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// Indices of the numbers, unsigned bytes, `[values]`.
    pub codes: Tensor<1, Int>,
    /// The largest absolute value of each block of 256, `[blocks]`.
    pub absmax: Tensor<1>,
}

impl Quantized {
    /// Zeros to begin with.
    pub fn zeros(len: usize, device: &Device) -> Self {
        Self {
            codes: Tensor::from_data(TensorData::new(vec![0u8; len], [len]), (device, DType::U8)),
            absmax: Tensor::zeros([Self::blocks(len)], device),
        }
    }

    /// Blocks of so many values.
    pub fn blocks(len: usize) -> usize {
        len.div_ceil(BLOCK)
    }

    /// In float32.
    pub(super) fn values(self, map: &DynamicMap) -> Tensor<1> {
        let (len, device) = (self.codes.dims()[0], self.codes.device());
        let numbers = Tensor::<1>::from_data(TensorData::from(map.values), &device);
        // As an index, libtorch takes a byte for a mask.
        let numbers = numbers.select(0, self.codes.cast(IntDType::I32));
        let absmax = self.absmax.unsqueeze_dim::<2>(1).repeat_dim(1, BLOCK).flatten::<1>(0, 1);
        numbers * absmax.narrow(0, 0, len)
    }

    /// Rounded to the nearest.
    pub(super) fn of(values: Tensor<1>, map: &DynamicMap) -> Self {
        let (len, device) = (values.dims()[0], values.device());
        let blocks = Self::blocks(len);
        let padding = Tensor::zeros([blocks * BLOCK - len], &device);
        let values = Tensor::cat(vec![values, padding], 0).reshape([blocks, BLOCK]);
        let absmax = values.clone().abs().max_dim(1);
        // As in bitsandbytes, a block of zeros has the maximum 1.
        let absmax = absmax.clone().mask_fill(absmax.equal_elem(0), 1);
        let values = (values / absmax.clone()).flatten::<1>(0, 1).narrow(0, 0, len);
        let midpoints = Tensor::<1>::from_data(TensorData::from(map.midpoints), &device);
        // A binary search for the number of midpoints below.
        let mut codes = Tensor::<1, Int>::zeros([len], &device);
        for half in (0..8).rev().map(|bit| 1 << bit) {
            let midpoint = midpoints.clone().select(0, codes.clone() + (half - 1));
            codes = codes + values.clone().greater(midpoint).int() * half;
        }
        if map.keeps_positive {
            codes = codes.max_pair(values.greater_elem(0).int());
        }
        Self { codes: codes.cast(IntDType::U8), absmax: absmax.flatten(0, 1) }
    }
}
