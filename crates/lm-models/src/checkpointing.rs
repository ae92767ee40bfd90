//! Gradient checkpointing: the backward pass walks the stages one at a time, and only what passes between them is kept.

use burn::tensor::{Gradients, Tensor};

use crate::inputs::{Mode, ModelInputs};
use crate::model::AutoModel;
use crate::ops::Loss;
use crate::stages::{Hidden, Stages};

/// Forward and backward pass with gradient checkpointing (Chen et al., 2016): the forward pass keeps what each stage was
/// given and nothing else; the backward pass computes a stage again, dropout included, before it goes through it.
/// `loss` judges the rows to decode; `take` gets the gradients that each stage leaves for its parameters, to be added up
/// where stages share some (tied embeddings). Returns the loss, `[1]`, outside autodiff.
pub fn checkpointed(
    model: &AutoModel,
    inputs: &ModelInputs,
    mode: &Mode,
    loss: impl FnOnce(Tensor<2>) -> Loss,
    mut take: impl FnMut(Gradients),
) -> Tensor<1> {
    let stages = model.stages(inputs, &mode.clone());
    let (hidden, kept) = forward(&stages, &model.valid(), inputs, mode);

    let leaves = leaves(hidden);
    let (value, gradients) = loss((stages.head)(leaves.clone(), mode)).backward();
    let mut gradients = share_out(gradients, leaves, &mut take);
    let trained = stages.layers.iter().skip(stages.layers.len() - kept.len());
    for (index, (layer, (hidden, mode))) in trained.zip(kept).enumerate().rev() {
        // Nothing before the first of them wants a gradient.
        let leaves = if index == 0 { constants(hidden) } else { self::leaves(hidden) };
        let results = layer(leaves.clone(), &mode).into_iter().zip(gradients);
        // Σ y·∂y has the gradients that the layers above ask for.
        let carriers = results.filter_map(|(y, gradient)| Some((y * Tensor::from_inner(gradient?)).sum()));
        let Some(carrier) = carriers.reduce(|a, b| a + b) else { break };
        // Where all that a stage has is frozen, and nothing was given to it, there would be no graph to walk.
        let nothing = Tensor::zeros([1], &carrier.device()).require_grad();
        gradients = share_out((carrier + nothing).backward(), leaves, &mut take);
    }
    value
}

/// The hidden states before the head, and what each layer from the first that is trained was given, without autodiff; `mode`
/// stands before the head's dropout then. `stages` are those of the model with autodiff, `model` has none.
fn forward(stages: &Stages, model: &AutoModel, inputs: &ModelInputs, mode: &Mode) -> (Hidden, Vec<(Hidden, Mode)>) {
    let mut kept = Vec::new();
    let layers = stages.layers.iter().zip(model.stages(inputs, mode).layers);
    let hidden = layers.fold(Hidden::new(), |hidden, (trained, plain)| {
        let before = (hidden.clone(), mode.clone());
        if !kept.is_empty() {
            kept.push(before);
            return plain(hidden, mode);
        }
        // Where all is frozen so far, autodiff has nothing to keep.
        let results = trained(constants(hidden), mode);
        if results.iter().any(Tensor::is_tracked) {
            kept.push(before);
        }
        results.into_iter().map(Tensor::inner).collect()
    });
    (hidden, kept)
}

/// The same values in autodiff's graph, where they want no gradient.
fn constants(hidden: Hidden) -> Hidden {
    hidden.into_iter().map(Tensor::from_inner).collect()
}

fn leaves(hidden: Hidden) -> Hidden {
    hidden.into_iter().map(|x| Tensor::from_inner(x).require_grad()).collect()
}

/// Of the gradients of one stage, gives away those of its parameters; what is left are those of what it was given.
fn share_out(mut gradients: Gradients, leaves: Hidden, take: &mut impl FnMut(Gradients)) -> Vec<Option<Tensor<2>>> {
    let of_leaves = leaves.iter().map(|leaf| leaf.grad_remove(&mut gradients)).collect();
    take(gradients);
    of_leaves
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, Param};
    use burn::tensor::Device;

    use super::*;
    use crate::blocks::{Embedding, Linear};
    use crate::model::Architecture;
    use crate::ops::{self, Compute, Decoder};
    use crate::parameters::Builder;
    use crate::stages::Stages;
    use crate::testing::{fixtures, inputs};

    /// Layers that all scale their hidden states by one learned vector, as MPNet's and DeBERTa's share their relative
    /// positions.
    #[derive(Module, Debug)]
    struct Toy {
        words: Embedding,
        shared: Param<Tensor<2>>,
        layers: Vec<Linear>,
        /// Whether what the layers share goes from one to the next, or each computes it from the parameter.
        #[module(skip)]
        as_stream: bool,
    }

    fn scales(shared: &Param<Tensor<2>>) -> Tensor<2> {
        shared.val().tanh() * 2.0
    }

    fn forward(layer: &Linear, x: Tensor<2>, scales: Tensor<2>, mode: &Mode) -> Tensor<2> {
        let scaled = x.clone() * scales.expand(x.dims());
        ops::dropout_add(layer.forward(scaled, mode), x, 0.2, mode)
    }

    impl Architecture for Toy {
        fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
            let words = |mode: &Mode| self.words.forward_tokens(inputs, mode);
            let predicted = |x: Tensor<2>| x.select(0, inputs.predicted.clone());
            let layers = self.layers.iter();
            if self.as_stream {
                let layers = layers.map(|layer| {
                    |[x, scales]: [Tensor<2>; 2], mode: &Mode| [forward(layer, x, scales.clone(), mode), scales]
                });
                Stages::new(move |mode| [words(mode), scales(&self.shared)], layers, move |[x, _], _| predicted(x))
            } else {
                let layers = layers
                    .map(|layer| |[x]: [Tensor<2>; 1], mode: &Mode| [forward(layer, x, scales(&self.shared), mode)]);
                Stages::new(move |mode| [words(mode)], layers, move |[x], _| predicted(x))
            }
        }

        fn decoder(&self) -> Decoder {
            Decoder::new(self.words.weight.val(), None)
        }
    }

    fn toy(as_stream: bool) -> AutoModel {
        const DIM: usize = 8;
        let builder = &Builder::new(&Device::flex().autodiff(), 0.5);
        let toy = Toy {
            words: Embedding::new(20, DIM, builder),
            shared: builder.weight([1, DIM]),
            layers: (0..3).map(|_| Linear::new(DIM, DIM, builder)).collect(),
            as_stream,
        };
        let filled = AutoModel::new(toy, builder)
            .fill(|info| Ok::<_, std::convert::Infallible>(info.data(info.initial_values(1))));
        filled.unwrap_or_else(|never| match never {})
    }

    /// Adds to the gradient of each parameter what a backward pass left for it.
    fn add(model: &AutoModel, mut gradients: Gradients, sums: &mut Vec<Vec<f32>>) {
        let mut index = 0;
        model.visit(&mut |parameter| {
            if sums.len() == index {
                sums.push(vec![0.0; parameter.info().len()]);
            }
            if let Some(gradient) = parameter.take_gradient(&mut gradients) {
                sums[index].iter_mut().zip(gradient.into_data().iter::<f32>()).for_each(|(sum, value)| *sum += value);
            }
            index += 1;
        });
    }

    #[test]
    fn a_tensor_that_all_layers_share_gets_the_same_gradient() {
        let (inputs, compute) = (inputs(), Compute::default());
        let mut of_shared = Vec::new();
        for as_stream in [true, false] {
            let model = toy(as_stream);
            let mode = || Mode::train(compute, 3, 5, None);
            let loss = |rows| ops::cross_entropy(rows, &model.decoder(), inputs.targets.clone(), 0.0, 0.25, compute);
            let (mut kept, mut computed) = (Vec::new(), Vec::new());
            let (whole, gradients) = loss(model.forward(&inputs, &mode())).backward();
            add(&model, gradients, &mut kept);
            let value = checkpointed(&model, &inputs, &mode(), loss, |gradients| add(&model, gradients, &mut computed));
            assert_eq!(value.into_data(), whole.into_data());
            for (info, (kept, computed)) in model.parameters().iter().zip(kept.iter().zip(&computed)) {
                let largest = kept.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                assert!(largest > 1e-3, "{}: {kept:?}", info.name);
                let apart = kept.iter().zip(computed).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart <= 1e-6 * largest.max(1.0), "{}, as a stream: {as_stream}: {apart}", info.name);
            }
            of_shared.push(computed.swap_remove(1));
        }
        // Both ways are the same model.
        assert!(of_shared[0].iter().zip(&of_shared[1]).all(|(a, b)| (a - b).abs() < 1e-6), "{of_shared:?}");
    }

    #[test]
    fn what_lies_below_the_first_trained_layer_is_not_walked() {
        let (inputs, compute) = (inputs(), Compute::default());
        let mode = || Mode::train(compute, 3, 5, None);
        // The embeddings and so many layers are frozen; of what all layers share, the gradient would go down to the first.
        for frozen in 0..=3 {
            let model = toy(false).freeze(|info| {
                let layer = info.name.strip_prefix("layers.").and_then(|rest| rest[..1].parse::<usize>().ok());
                layer.is_some_and(|layer| layer >= frozen)
            });
            let loss = |rows| ops::cross_entropy(rows, &model.decoder(), inputs.targets.clone(), 0.0, 0.25, compute);
            let (mut kept, mut computed, mut walked) = (Vec::new(), Vec::new(), 0);
            let whole = loss(model.forward(&inputs, &mode()));
            let expected = whole.value.clone();
            if frozen < 3 {
                add(&model, whole.backward().1, &mut kept);
            }
            let value = checkpointed(&model, &inputs, &mode(), loss, |gradients| {
                walked += 1;
                add(&model, gradients, &mut computed);
            });
            assert_eq!(value.into_data(), expected.into_data());
            // The head, and the layers that are trained.
            assert_eq!(walked, 1 + 3 - frozen);
            assert!(frozen == 3 || kept == computed, "{frozen} frozen: {kept:?} and {computed:?}");
        }
    }

    /// Those of the fixtures; dropout where a family has it.
    #[test]
    fn every_family_gets_the_same_gradients() {
        for (name, model) in fixtures() {
            let (mut kept, mut computed) = (Vec::new(), Vec::new());
            let (inputs, compute) = (inputs(), Compute::default());
            let mode = || Mode::train(compute, 3, 5, None);
            let loss = |rows| ops::cross_entropy(rows, &model.decoder(), inputs.targets.clone(), 0.0, 0.25, compute);
            let (whole, gradients) = loss(model.forward(&inputs, &mode())).backward();
            add(&model, gradients, &mut kept);
            let value = checkpointed(&model, &inputs, &mode(), loss, |gradients| add(&model, gradients, &mut computed));
            assert_eq!(value.into_data(), whole.into_data(), "{name}");
            for (info, (kept, computed)) in model.parameters().iter().zip(kept.iter().zip(&computed)) {
                let largest = kept.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                let apart = kept.iter().zip(computed).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart <= 1e-5 * largest.max(1e-2), "{name} {}: {apart} of {largest}", info.name);
            }
        }
    }
}
