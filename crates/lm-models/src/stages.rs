//! A forward pass in stages: embeddings, layers, head. What passes between them is all that gradient checkpointing keeps.

use burn::tensor::Tensor;

use crate::inputs::Mode;

/// What one stage hands to the next: [rows, hidden] for each stream.
pub(crate) type Hidden = Vec<Tensor<2>>;

/// What a stage does.
pub(crate) type Stage<'a, T> = Box<dyn Fn(Hidden, &Mode) -> T + 'a>;

/// The forward pass of a model over one batch.
pub struct Stages<'a> {
    /// Embeddings and layers; the first is given nothing.
    pub(crate) layers: Vec<Stage<'a, Hidden>>,
    pub(crate) head: Stage<'a, Tensor<2>>,
}

impl<'a> Stages<'a> {
    /// The stages of a model whose layers pass on `N` streams of hidden states: one, or XLNet's two. `head` makes the rows
    /// to decode, [predicted, dim]. Whatever several stages need and has a gradient is such a stream, or each of them
    /// computes it from the parameters: a backward pass goes through one stage at a time.
    pub fn new<const N: usize>(
        embed: impl Fn(&Mode) -> [Tensor<2>; N] + 'a,
        layers: impl Iterator<Item = impl Fn([Tensor<2>; N], &Mode) -> [Tensor<2>; N] + 'a>,
        head: impl Fn([Tensor<2>; N], &Mode) -> Tensor<2> + 'a,
    ) -> Self {
        fn streams<const N: usize>(hidden: Hidden) -> [Tensor<2>; N] {
            let Ok(streams) = hidden.try_into() else { unreachable!("every stage hands over {N}") };
            streams
        }
        let mut stages = Self {
            layers: vec![Box::new(move |_, mode| embed(mode).into())],
            head: Box::new(move |hidden, mode| head(streams(hidden), mode)),
        };
        for layer in layers {
            stages.layers.push(Box::new(move |hidden, mode| layer(streams(hidden), mode).into()));
        }
        stages
    }

    /// The rows to decode, [predicted, dim].
    pub fn forward(&self, mode: &Mode) -> Tensor<2> {
        let hidden = self.layers.iter().fold(Hidden::new(), |hidden, layer| layer(hidden, mode));
        (self.head)(hidden, mode)
    }
}
