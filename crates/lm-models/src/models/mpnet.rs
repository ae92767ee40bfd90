//! MPNet (Song et al., 2020): `MPNetForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Dense, Embedding, FlatHead, LayerNorm, Linear, POSITION_BUFFERS, PostNorm, projections};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionBias, AttentionMask, Decoder};
use crate::parameters::Builder;
use crate::stages::Stages;

/// The row of the padding token, whatever config.json says; positions count from behind it.
const PADDING_IDX: usize = 1;

/// Kinds of distances that Python's code tells apart, whatever config.json says, half of them to each side.
const BUCKETS: usize = 32;

/// The distance from which on all are of one kind.
const MAX_DISTANCE: f32 = 128.0;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.MPNetConfig
pub struct MPNetConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub num_hidden_layers: Count,
    pub num_attention_heads: Size,
    pub intermediate_size: Size,
    pub hidden_act: Activation,
    pub hidden_dropout_prob: Probability,
    pub attention_probs_dropout_prob: Probability,
    pub max_position_embeddings: Size,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub relative_attention_num_buckets: Size,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.MPNetConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 30527, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "initializer_range": 0.02,
        "layer_norm_eps": 1e-12, "relative_attention_num_buckets": 32, "pad_token_id": 1, "bos_token_id": 0,
        "eos_token_id": 2,
    })
}

/// The entry of the list.
pub static MPNET: Family = Family {
    model_type: "mpnet",
    class: "MPNetForMaskedLM",
    base_model_prefix: "mpnet",
    ties: &[
        ("lm_head.decoder.weight", "mpnet.embeddings.word_embeddings.weight"),
        ("lm_head.decoder.bias", "lm_head.bias"),
    ],
    buffers: POSITION_BUFFERS,
    max_positions: |config| Some(config.size("max_position_embeddings")?.saturating_sub(PADDING_IDX + 1)),
    ..Family::new(Task::Mlm, defaults, build)
};

impl MPNetConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let parsed: Self = config.parse()?;
        let (size, heads) = (parsed.hidden_size, parsed.num_attention_heads);
        config.expect_divisible("hidden_size", size, "num_attention_heads", heads)?;
        let buckets = parsed.relative_attention_num_buckets.get();
        if buckets < BUCKETS {
            let reason = format!("`relative_attention_num_buckets` ({buckets}) must be at least {BUCKETS}");
            return Err(ConfigError::Value { model_type: config.model_type().into(), reason });
        }
        Ok(parsed)
    }
}

#[derive(Module, Debug)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct SelfAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
}

#[derive(Module, Debug)]
struct AttentionHalf {
    attn: SelfAttention,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct Layer {
    attention: AttentionHalf,
    intermediate: Dense,
    output: PostNorm,
}

impl Layer {
    fn new(config: &MPNetConfig, builder: &Builder) -> Self {
        let (size, inner) = (config.hidden_size.get(), config.intermediate_size.get());
        let linear = || Linear::new(size, size, builder);
        Self {
            attention: AttentionHalf {
                attn: SelfAttention { q: linear(), k: linear(), v: linear(), o: linear() },
                layer_norm: LayerNorm::new(size, config.layer_norm_eps, builder),
            },
            intermediate: Dense::new(size, inner, builder),
            output: PostNorm::onto(size, inner, config.layer_norm_eps, builder),
        }
    }

    fn forward(
        &self,
        x: Tensor<2>,
        bias: AttentionBias,
        inputs: &ModelInputs,
        config: &MPNetConfig,
        mode: &Mode,
    ) -> Tensor<2> {
        let (heads, dropout) = (config.num_attention_heads.get(), config.hidden_dropout_prob.get());
        let head_dim = config.hidden_size.get() / heads;
        let options = Attention {
            bias,
            ..Attention::new(heads, head_dim, AttentionMask::Full, config.attention_probs_dropout_prob.get())
        };
        let AttentionHalf { attn, layer_norm } = &self.attention;
        let [q, k, v] = projections([&attn.q, &attn.k, &attn.v], x.clone(), mode);
        let context = ops::attention(q, k, v, &inputs.sequences, &inputs.sequences, &options, mode);
        let attended = ops::dropout_add(attn.o.forward(context, mode), x, dropout, mode);
        let attended = layer_norm.forward(attended, mode);
        let wide = self.intermediate.dense.forward(attended.clone(), mode);
        self.output.forward_activated(wide, config.hidden_act, attended, dropout, mode)
    }
}

#[derive(Module, Debug)]
struct Encoder {
    layer: Vec<Layer>,
    /// One bias per head for each kind of distance.
    relative_attention_bias: Embedding,
}

impl Encoder {
    /// What is added to the scores of all layers; computed in each of them, for it has a gradient.
    fn bias(&self, seq: usize) -> AttentionBias {
        let longest = seq as i64 - 1;
        let buckets = (-longest..=longest).map(bucket).collect();
        AttentionBias::Table { values: ops::widen(self.relative_attention_bias.weight.val()).transpose(), buckets }
    }
}

/// The kind of a distance from query to key: each one on its own up to a fourth of the kinds, then ever larger groups
/// (`relative_position_bucket`, computed in float32 as there).
fn bucket(distance: i64) -> usize {
    let side = BUCKETS / 2;
    let (exact, far) = ((side / 2) as f32, distance.unsigned_abs() as f32);
    let bucket = if far < exact {
        far as usize
    } else {
        // As precise as float32 gets, whatever the platform's own logarithm of one is.
        let logarithm = f64::from(far / exact).ln() as f32 / f64::from(MAX_DISTANCE / exact).ln() as f32;
        ((exact + (logarithm * exact).trunc()) as usize).min(side - 1)
    };
    bucket + if distance > 0 { side } else { 0 }
}

#[derive(Module, Debug)]
struct MPNetModel {
    embeddings: Embeddings,
    encoder: Encoder,
}

/// `transformers.MPNetForMaskedLM`
#[derive(Module, Debug)]
pub struct MPNetForMaskedLM {
    mpnet: MPNetModel,
    lm_head: FlatHead,
    #[module(skip)]
    config: MPNetConfig,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = MPNetConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size, epsilon) = (config.vocab_size.get(), config.hidden_size.get(), config.layer_norm_eps);
    let embedding = |count| Embedding::padded(count, size, Some(PADDING_IDX), builder);
    let (buckets, heads) = (config.relative_attention_num_buckets.get(), config.num_attention_heads.get());
    let model = MPNetForMaskedLM {
        mpnet: MPNetModel {
            embeddings: Embeddings {
                word_embeddings: embedding(vocab),
                position_embeddings: embedding(config.max_position_embeddings.get()),
                layer_norm: LayerNorm::new(size, epsilon, builder),
            },
            encoder: Encoder {
                layer: (0..config.num_hidden_layers.get()).map(|_| Layer::new(&config, builder)).collect(),
                relative_attention_bias: Embedding::new(buckets, heads, &builder.without_decay()),
            },
        },
        // Python's head says gelu whatever `hidden_act` is.
        lm_head: FlatHead::new([size, size, vocab], Activation::Gelu, epsilon, config.tie_word_embeddings, builder),
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for MPNetForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] =
        &[("layer_norm", "LayerNorm"), ("head_norm", "layer_norm"), ("head_bias", "bias")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let (config, MPNetModel { embeddings, encoder }) = (&self.config, &self.mpnet);
        let embed = |mode: &Mode| {
            let positions = inputs.positions_from_padding(PADDING_IDX);
            let words = embeddings.word_embeddings.forward_tokens(inputs, mode);
            let x = words + embeddings.position_embeddings.forward_padded(positions, inputs, mode);
            [ops::dropout(embeddings.layer_norm.forward(x, mode), config.hidden_dropout_prob.get(), mode)]
        };
        let layers = encoder.layer.iter().map(|layer| {
            |[x]: [Tensor<2>; 1], mode: &Mode| {
                let bias = encoder.bias(inputs.sequences.seq);
                [layer.forward(x, bias, inputs, config, mode)]
            }
        });
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| self.lm_head.forward(x.select(0, inputs.predicted.clone()), mode);
        Stages::new(embed, layers, head)
    }

    fn decoder(&self) -> Decoder {
        self.lm_head.decoder(&self.mpnet.embeddings.word_embeddings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distances at which `relative_position_bucket` of transformers 4.57 goes on to the next kind.
    #[test]
    fn kinds_of_distances_are_pythons() {
        let firsts = [(1, 17), (7, 23), (8, 24), (12, 25), (16, 26), (23, 27), (32, 28), (46, 29), (64, 30), (91, 31)];
        for (first, kind) in firsts {
            assert_eq!([bucket(first), bucket(-first)], [kind, kind - 16], "{first}");
            assert_eq!(bucket(first - 1), if first == 1 { 0 } else { kind - 1 }, "{first}");
        }
        assert_eq!([bucket(0), bucket(10_000), bucket(-10_000)], [0, 31, 15]);
    }
}
