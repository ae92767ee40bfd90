//! From hidden states to the vocabulary.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::embedding::Embedding;
use crate::low_rank::LowRank;
use crate::ops::Decoder;
use crate::parameters::{Builder, Kind};

/// The projection to the vocabulary, which holds only what it has of its own.
#[derive(Module, Debug)]
pub struct LmHead {
    /// [vocab, dim]; none when the word embeddings are used.
    weight: Option<Param<Tensor<2>>>,
    /// `[vocab]`
    bias: Option<Param<Tensor<1>>>,
}

impl LmHead {
    /// A head for vectors of `dim` values, without a bias.
    pub fn new(vocab: usize, dim: usize, tied: bool, builder: &Builder) -> Self {
        let weight = (!tied).then(|| builder.parameter([vocab, dim], Kind::Head, builder.normal()));
        Self { weight, bias: None }
    }

    /// A head with a bias.
    pub fn with_bias(vocab: usize, dim: usize, tied: bool, builder: &Builder) -> Self {
        Self { bias: Some(builder.bias(vocab)), ..Self::new(vocab, dim, tied, builder) }
    }

    /// The projection, by the word embeddings where the head is tied to them.
    pub fn decoder(&self, word_embeddings: &Embedding) -> Decoder {
        // An adapter of the embeddings is not the head's, as in peft.
        let (weight, adapts) = match &self.weight {
            Some(weight) => (weight.val(), LowRank::of(weight).is_some()),
            None => (word_embeddings.weight.base(), false),
        };
        let own = self.weight.as_ref().unwrap_or(&word_embeddings.weight);
        let frozen = !adapts && !own.base().is_require_grad();
        Decoder { frozen, ..Decoder::new(weight, self.bias.as_ref().map(Param::val)) }
    }
}
