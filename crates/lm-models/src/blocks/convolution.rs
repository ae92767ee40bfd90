//! Convolutions along texts.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, TensorData};

use crate::inputs::{Mode, Sequences};
use crate::ops;
use crate::parameters::{Builder, Kind};

/// A convolution over the rows of each sequence, which keeps its length: torch's `nn.Conv1d` with as much padding.
#[derive(Module, Debug)]
pub struct SequenceConv {
    /// [out, in, kernel], the kernel being odd.
    pub weight: Param<Tensor<3>>,
    /// `[out]`
    pub bias: Param<Tensor<1>>,
}

impl SequenceConv {
    /// A convolution that starts as torch's layers do, which `_init_weights` leaves alone.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, builder: &Builder) -> Self {
        let initial = builder.uniform_by_inputs(inputs * kernel);
        Self {
            weight: builder.parameter([outputs, inputs, kernel], Kind::Weight, initial),
            bias: builder.parameter([outputs], Kind::Bias, initial),
        }
    }

    /// [rows, in] → [rows, out]
    pub fn forward(&self, x: Tensor<2>, sequences: &Sequences, mode: &Mode) -> Tensor<2> {
        let ([rows, inputs], [outputs, _, kernel]) = (x.dims(), self.weight.shape().dims());
        // The neighbours of each row side by side; beyond the ends of a sequence stands a row of zeros.
        let mut neighbours = Vec::with_capacity(rows * kernel);
        for range in sequences.ranges() {
            let neighbour = |row: usize, tap: usize| {
                let place = (row + tap).checked_sub(kernel / 2).filter(|place| range.contains(place));
                place.unwrap_or(rows) as i32
            };
            neighbours.extend(range.clone().flat_map(|row| (0..kernel).map(move |tap| neighbour(row, tap))));
        }
        let device = x.device();
        let neighbours =
            Tensor::<1, Int>::from_data(TensorData::new(neighbours, [rows * kernel]), &device.clone().inner());
        let x = Tensor::cat(vec![x, Tensor::zeros([1, inputs], &device)], 0).select(0, neighbours);
        let weight = self.weight.val().swap_dims(1, 2).reshape([outputs, kernel * inputs]);
        ops::linear(x.reshape([rows, kernel * inputs]), weight, Some(self.bias.val()), mode)
    }
}
