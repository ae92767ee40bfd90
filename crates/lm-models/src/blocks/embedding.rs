//! Tables of vectors: words, positions, segments.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData};

use crate::inputs::{Mode, ModelInputs};
use crate::low_rank::LowRank;
use crate::ops;
use crate::parameters::{Builder, Initial, Kind};

/// A table of vectors, as torch's `nn.Embedding`.
#[derive(Module, Debug)]
pub struct Embedding {
    /// [count, dim]
    pub weight: Param<Tensor<2>>,
    #[module(skip)]
    padding_idx: Option<usize>,
    #[module(skip)]
    scale: Option<f64>,
}

impl Embedding {
    /// A table of `count` vectors of `dim` values.
    pub fn new(count: usize, dim: usize, builder: &Builder) -> Self {
        Self::padded(count, dim, None, builder)
    }

    /// A table whose row `padding_idx` starts at zero and gets no gradient from tokens (torch's `padding_idx`).
    pub fn padded(count: usize, dim: usize, padding_idx: Option<usize>, builder: &Builder) -> Self {
        let initial = padding_idx.map_or(builder.normal(), |row| builder.normal_except_row(row));
        Self::starting(count, dim, padding_idx, initial, builder)
    }

    /// The same with a start of its own.
    pub fn starting(count: usize, dim: usize, padding_idx: Option<usize>, initial: Initial, builder: &Builder) -> Self {
        Self { weight: builder.parameter([count, dim], Kind::Embedding, initial), padding_idx, scale: None }
    }

    /// A table of positions that start as sinusoids.
    pub fn sinusoidal(count: usize, dim: usize, builder: &Builder) -> Self {
        Self::starting(count, dim, None, Initial::Sinusoidal, builder)
    }

    /// The same table, whose vectors are multiplied by `scale` when they are looked up.
    pub fn scaled(self, scale: f64) -> Self {
        Self { scale: Some(scale), ..self }
    }

    /// The first vector, for every row alike; [1, dim].
    pub fn first(&self) -> Tensor<2> {
        self.vectors(0..1)
    }

    /// Neighbouring vectors as they stand in the table; [rows, dim], float32.
    pub fn vectors(&self, rows: Range<usize>) -> Tensor<2> {
        ops::widen(self.weight.val().narrow(0, rows.start, rows.len()))
    }

    /// `[rows]` → [rows, dim]
    pub fn forward(&self, ids: Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        let look_up = |ids| ops::embedding(self.weight.base(), ids, mode);
        let embedded = match LowRank::of(&self.weight) {
            None => look_up(ids),
            Some(pair) => pair.add_looked_up(look_up(ids.clone()), ids, mode),
        };
        match self.scale {
            Some(scale) => embedded * scale,
            None => embedded,
        }
    }

    /// The embeddings of the batch's tokens, [rows, dim]. The padding token's row gets no gradient from here, should it
    /// occur in the text. Training may add NEFTune's noise.
    pub fn forward_tokens(&self, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let embedded = self.forward_padded(inputs.input_ids.clone(), inputs, mode);
        mode.neftune(embedded, &inputs.sequences)
    }

    /// The vectors of the batch's tokens or of their positions, `[rows]`; [rows, dim]. A table with padding gets no gradient
    /// where the batch has the padding token.
    pub fn forward_padded(&self, ids: Tensor<1, Int>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let embedded = self.forward(ids, mode);
        let is_padding = |&id: &i32| self.padding_idx.is_some_and(|padding| id as usize == padding);
        if !inputs.host_ids.iter().any(is_padding) {
            return embedded;
        }
        let padding: Vec<bool> = inputs.host_ids.iter().map(is_padding).collect();
        let mask = Tensor::<2, Bool>::from_data(TensorData::new(padding, [inputs.host_ids.len(), 1]), &inputs.device);
        embedded.clone().mask_where(mask.expand(embedded.dims()), embedded.detach())
    }
}
