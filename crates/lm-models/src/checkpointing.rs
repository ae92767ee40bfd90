//! Gradient checkpointing: the backward pass walks the stages one at a time, and only what passes between them is kept.

use burn::tensor::{Gradients, Tensor};

use crate::inputs::{Mode, ModelInputs};
use crate::model::AutoModel;
use crate::ops::Loss;
use crate::stages::Hidden;

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
    let (hidden, kept) = forward(&model.valid(), inputs, mode);

    let leaves = leaves(hidden);
    let Loss { value, carrier } = loss((stages.head)(leaves.clone(), mode));
    let mut gradients = backward(carrier, leaves, &mut take);
    for (layer, (hidden, mode)) in stages.layers.iter().zip(kept).rev() {
        let leaves = self::leaves(hidden);
        let results = layer(leaves.clone(), &mode).into_iter().zip(gradients);
        // Σ y·∂y has the gradients that the layers above ask for.
        let carriers = results.filter_map(|(y, gradient)| Some((y * Tensor::from_inner(gradient?)).sum()));
        let Some(carrier) = carriers.reduce(|a, b| a + b) else { break };
        gradients = backward(carrier, leaves, &mut take);
    }
    value
}

/// The hidden states before the head, and what each layer was given, without autodiff; `mode` stands before the head's
/// dropout then.
fn forward(model: &AutoModel, inputs: &ModelInputs, mode: &Mode) -> (Hidden, Vec<(Hidden, Mode)>) {
    let mut kept = Vec::new();
    let hidden = model.stages(inputs, mode).layers.iter().fold(Hidden::new(), |hidden, layer| {
        kept.push((hidden.clone(), mode.clone()));
        layer(hidden, mode)
    });
    (hidden, kept)
}

fn leaves(hidden: Hidden) -> Hidden {
    hidden.into_iter().map(|x| Tensor::from_inner(x).require_grad()).collect()
}

/// Goes back through one stage; the gradients of what it was given.
fn backward(carrier: Tensor<1>, leaves: Hidden, take: &mut impl FnMut(Gradients)) -> Vec<Option<Tensor<2>>> {
    let mut gradients = carrier.backward();
    let of_leaves = leaves.iter().map(|leaf| leaf.grad_remove(&mut gradients)).collect();
    take(gradients);
    of_leaves
}
