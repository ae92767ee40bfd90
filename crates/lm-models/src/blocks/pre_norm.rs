//! Encoders whose layers normalise what each half is given: the residual stream itself is normalised once, at the end.

use burn::module::Module;
use burn::tensor::{Int, Tensor};

use super::encoder::{Dense, EncoderConfig, SelfAttention};
use super::norm::LayerNorm;
use super::text_embeddings::TextEmbeddings;
use crate::inputs::{Mode, ModelInputs};
use crate::ops::{self, Activation, Attention, AttentionMask};
use crate::parameters::Builder;
use crate::stages::Stages;

#[derive(Module, Debug)]
struct PreNormAttention {
    attention_norm: LayerNorm,
    self_attention: SelfAttention,
    output: Dense,
}

#[derive(Module, Debug)]
struct PreNormLayer {
    attention: PreNormAttention,
    feed_forward_norm: LayerNorm,
    intermediate: Dense,
    output: Dense,
    #[module(skip)]
    options: Attention,
    #[module(skip)]
    activation: Activation,
    /// Of both halves.
    #[module(skip)]
    dropout: [f64; 2],
}

impl PreNormLayer {
    fn new(config: &EncoderConfig, dropout: [f64; 2], builder: &Builder) -> Self {
        let (size, inner) = (config.hidden_size.get(), config.intermediate_size.get());
        let norm = || LayerNorm::new(size, config.layer_norm_eps, builder);
        Self {
            attention: PreNormAttention {
                attention_norm: norm(),
                self_attention: SelfAttention::new(size, size, builder),
                output: Dense::new(size, size, builder),
            },
            feed_forward_norm: norm(),
            intermediate: Dense::new(size, inner, builder),
            output: Dense::new(inner, size, builder),
            options: config.attention(AttentionMask::Full),
            activation: config.hidden_act,
            dropout,
        }
    }

    fn forward(&self, x: Tensor<2>, inputs: &ModelInputs, mode: &Mode) -> Tensor<2> {
        let PreNormAttention { attention_norm, self_attention, output } = &self.attention;
        let [q, k, v] = self_attention.forward(attention_norm.forward(x.clone(), mode), mode);
        let context = ops::attention(q, k, v, &inputs.sequences, &inputs.sequences, &self.options, mode);
        let x = ops::dropout_add(output.dense.forward(context, mode), x, self.dropout[0], mode);
        let normal = self.feed_forward_norm.forward(x.clone(), mode);
        let wide = self.intermediate.dense.forward(normal, mode);
        let narrow = self.output.dense.forward_activated(wide, self.activation, mode);
        ops::dropout_add(narrow, x, self.dropout[1], mode)
    }
}

/// Embeddings, layers and the last norm, from which the files call everything differently.
#[derive(Module, Debug)]
pub struct PreNormModel {
    /// What the first layer is given.
    pub embeddings: TextEmbeddings,
    layer: Vec<PreNormLayer>,
    final_norm: LayerNorm,
}

impl PreNormModel {
    /// New, empty layers behind `embeddings`; `dropout`: of attention's half of a layer and of the other.
    pub fn new(embeddings: TextEmbeddings, config: &EncoderConfig, dropout: [f64; 2], builder: &Builder) -> Self {
        let layers = config.num_hidden_layers.get();
        Self {
            embeddings,
            layer: (0..layers).map(|_| PreNormLayer::new(config, dropout, builder)).collect(),
            final_norm: LayerNorm::new(config.hidden_size.get(), config.layer_norm_eps, builder),
        }
    }

    /// The stages up to `head`, which is given the rows to decode, normalised; `positions` makes `[rows]`.
    pub fn stages<'a>(
        &'a self,
        inputs: &'a ModelInputs,
        positions: impl Fn() -> Tensor<1, Int> + 'a,
        head: impl Fn(Tensor<2>, &Mode) -> Tensor<2> + 'a,
    ) -> Stages<'a> {
        let embed = move |mode: &Mode| [self.embeddings.forward(inputs, positions(), mode)];
        let layers = self.layer.iter();
        let layers = layers.map(move |layer| move |[x]: [Tensor<2>; 1], mode: &Mode| [layer.forward(x, inputs, mode)]);
        let head =
            move |[x]: [Tensor<2>; 1], mode: &Mode| head(self.final_norm.forward(inputs.take_predicted(x), mode), mode);
        Stages::new(embed, layers, head)
    }
}
