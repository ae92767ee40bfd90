//! Models that read from left to right, whatever their layers are: a batch, or texts that go on.

use std::rc::Rc;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Int, Tensor};

use crate::blocks::{Angles, Embedding, LmHead, Norm, Rotary};
use crate::cache::{Cache, Causal, Context};
use crate::inputs::{Mode, ModelInputs};
use crate::model::Architecture;
use crate::ops::Decoder;
use crate::stages::Stages;

/// A decoder-only transformer. A family says what its parts do with rows; how they follow each other in a batch, and how
/// they go on with texts whose keys and values are kept, comes from that.
pub(crate) trait CausalTransformer: Module + Sync + 'static {
    /// See [`Architecture::RENAMES`].
    const RENAMES: &'static [(&'static str, &'static str)] = &[];

    /// One layer.
    type Layer: 'static;
    /// What all layers are told of the rows' positions: the positions, or angles of rotary embeddings. It has no gradient.
    type Places: 'static;

    /// The most tokens of a sequence.
    fn max_positions(&self) -> usize;

    /// What layers are told of a pass in which row i is at position `positions[i]` of its sequence, and no sequence is longer
    /// than `longest`, padding included.
    fn places(&self, positions: Tensor<1, Int>, longest: usize) -> Self::Places;

    /// The table of words.
    fn words(&self) -> &Embedding;

    /// From embedded words to what the first layer is given, as a rule themselves; [rows, dim] → [rows, hidden].
    fn embed(&self, words: Tensor<2>, _: &Self::Places, _: &Mode) -> Tensor<2> {
        words
    }

    /// The layers in order.
    fn layers(&self) -> &[Self::Layer];

    /// One of them; [rows, hidden] → [rows, hidden].
    fn layer(
        &self,
        layer: &Self::Layer,
        x: Tensor<2>,
        places: &Self::Places,
        context: &mut Context,
        mode: &Mode,
    ) -> Tensor<2>;

    /// From the last layer to the rows to decode, [rows, hidden] → [rows, dim].
    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2>;

    /// The projection to the vocabulary.
    fn decoder(&self) -> Decoder;

    /// The positions of a batch's rows, `[rows]`: their columns, unless a family counts in another way.
    fn positions(&self, inputs: &ModelInputs) -> Tensor<1, Int> {
        inputs.positions()
    }
}

impl<M: CausalTransformer> Architecture for M {
    const RENAMES: &'static [(&'static str, &'static str)] = M::RENAMES;

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let places = Rc::new(self.places(self.positions(inputs), inputs.sequences.seq));
        let layers = self.layers().iter().map({
            let places = Rc::clone(&places);
            move |layer| {
                let places = Rc::clone(&places);
                move |[x]: [Tensor<2>; 1], mode: &Mode| {
                    [self.layer(layer, x, &places, &mut Context::Batch(&inputs.sequences), mode)]
                }
            }
        });
        let embed = move |mode: &Mode| [self.embed(self.words().forward_tokens(inputs, mode), &places, mode)];
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| self.norm(x.select(0, inputs.predicted.clone()), mode);
        Stages::new(embed, layers, head)
    }

    fn decoder(&self) -> Decoder {
        CausalTransformer::decoder(self)
    }

    fn causal(&self) -> Option<&dyn Causal> {
        Some(self)
    }
}

impl<M: CausalTransformer> Causal for M {
    fn max_positions(&self) -> usize {
        CausalTransformer::max_positions(self)
    }

    fn extend(&self, ids: Tensor<1, Int>, positions: Tensor<1, Int>, cache: &mut Cache, mode: &Mode) -> Tensor<2> {
        let places = self.places(positions, cache.longest());
        let x = self.embed(self.words().forward(ids, mode), &places, mode);
        let read = |x, layer| self.layer(layer, x, &places, &mut Context::Cache(cache), mode);
        let x = self.layers().iter().fold(x, read);
        self.norm(cache.last_rows(x), mode)
    }
}

/// A layer that is told positions by angles.
pub(crate) trait RotaryLayer: Module + ModuleDisplay + Sync + 'static {
    /// [rows, hidden] → [rows, hidden]
    fn forward(&self, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2>;
}

/// What Llama and those built like it are but for their layers and their last normalisation.
#[derive(Module, Debug)]
pub(crate) struct RotaryModel<L: Module, N: Module> {
    pub(crate) embed_tokens: Embedding,
    pub(crate) layers: Vec<L>,
    pub(crate) norm: N,
}

/// The same with the head.
#[derive(Module, Debug)]
pub(crate) struct RotaryForCausalLM<L: Module, N: Module> {
    pub(crate) model: RotaryModel<L, N>,
    pub(crate) lm_head: LmHead,
    #[module(skip)]
    pub(crate) rotary: Rotary,
    #[module(skip)]
    pub(crate) max_positions: usize,
}

impl<L: RotaryLayer, N: Norm> CausalTransformer for RotaryForCausalLM<L, N> {
    type Layer = L;
    type Places = Angles;

    fn max_positions(&self) -> usize {
        self.max_positions
    }

    fn places(&self, positions: Tensor<1, Int>, longest: usize) -> Angles {
        self.rotary.angles(positions, longest)
    }

    fn words(&self) -> &Embedding {
        &self.model.embed_tokens
    }

    fn layers(&self) -> &[L] {
        &self.model.layers
    }

    fn layer(&self, layer: &L, x: Tensor<2>, angles: &Angles, context: &mut Context, mode: &Mode) -> Tensor<2> {
        layer.forward(x, angles, context, mode)
    }

    fn norm(&self, x: Tensor<2>, mode: &Mode) -> Tensor<2> {
        self.model.norm.norm(x, mode)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.model.embed_tokens)
    }
}
