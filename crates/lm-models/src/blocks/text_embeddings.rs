//! What a token is before the first layer of an encoder.

use burn::module::Module;
use burn::tensor::{Int, Tensor};

use super::embedding::Embedding;
use super::encoder::EncoderConfig;
use super::norm::LayerNorm;
use crate::inputs::{Mode, ModelInputs};
use crate::ops;
use crate::parameters::Builder;

/// Buffers that old checkpoints of BERT and its relatives hold.
pub const POSITION_BUFFERS: &[&str] = &["*.embeddings.position_ids"];

/// The same where segments are a buffer too.
pub const TEXT_BUFFERS: &[&str] = &["*.embeddings.position_ids", "*.embeddings.token_type_ids"];

/// Words, positions and the (always first) segment, summed and, as a rule, normalised.
#[derive(Module, Debug)]
pub struct TextEmbeddings {
    /// Tied to the head as a rule.
    pub word_embeddings: Embedding,
    /// One for each place.
    pub position_embeddings: Embedding,
    /// One for each segment.
    pub token_type_embeddings: Embedding,
    /// None where each layer normalises what it is given.
    pub layer_norm: Option<LayerNorm>,
    /// Probability of the dropout behind it.
    #[module(skip)]
    pub dropout: f64,
}

impl TextEmbeddings {
    /// New, empty embeddings of `size` values.
    pub fn new(config: &EncoderConfig, size: usize, builder: &Builder) -> Self {
        Self {
            word_embeddings: Embedding::padded(config.vocab_size.get(), size, config.pad_token_id, builder),
            position_embeddings: Embedding::new(config.max_position_embeddings.get(), size, builder),
            token_type_embeddings: Embedding::new(config.type_vocab_size.get(), size, builder),
            layer_norm: Some(LayerNorm::new(size, config.layer_norm_eps, builder)),
            dropout: config.hidden_dropout_prob.get(),
        }
    }

    /// The same with positions that count from behind the padding token's id on, whose row is padding too (RoBERTa).
    pub fn from_padding(config: &EncoderConfig, padding_idx: usize, builder: &Builder) -> Self {
        let (size, positions) = (config.hidden_size.get(), config.max_position_embeddings.get());
        let config = &EncoderConfig { pad_token_id: Some(padding_idx), ..config.clone() };
        Self {
            position_embeddings: Embedding::padded(positions, size, Some(padding_idx), builder),
            ..Self::new(config, size, builder)
        }
    }

    /// [rows, size]; `positions` is `[rows]`.
    pub fn forward(&self, inputs: &ModelInputs, positions: Tensor<1, Int>, mode: &Mode) -> Tensor<2> {
        let words = self.word_embeddings.forward_tokens(inputs, mode);
        self.finish(self.add_places(words, positions, inputs, mode), mode)
    }

    /// Words with their positions and their segment, [rows, size].
    pub fn add_places(
        &self,
        words: Tensor<2>,
        positions: Tensor<1, Int>,
        inputs: &ModelInputs,
        mode: &Mode,
    ) -> Tensor<2> {
        let positions = self.position_embeddings.forward_padded(positions, inputs, mode);
        ops::add(words + self.token_type_embeddings.first(), positions, mode)
    }

    /// What follows the sum: norm and dropout.
    pub fn finish(&self, sum: Tensor<2>, mode: &Mode) -> Tensor<2> {
        ops::dropout(self.normalize(sum, mode), self.dropout, mode)
    }

    /// The norm, where there is one.
    pub fn normalize(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        match &self.layer_norm {
            Some(layer_norm) => layer_norm.forward(x, mode),
            None => x,
        }
    }
}
