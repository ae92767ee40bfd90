//! DeBERTa, its second version and, by another config.json, the third (He et al., 2021): `DebertaForMaskedLM`,
//! `DebertaV2ForMaskedLM`.

mod attention;
mod config;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

use attention::{Attend, Projections, ProjectionsV2};
use config::{DebertaConfig, PosAttType};

use crate::blocks::{
    BertHead, Dense, Embedding, FlatHead, HeadTransform, LayerNorm, Linear, POSITION_BUFFERS, PostNorm, SequenceConv,
};
use crate::config::{ConfigError, Family, ModelConfig};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionBias, AttentionMask, Blind, Decoder, Disentangled};
use crate::parameters::Builder;
use crate::stages::Stages;

/// `transformers.DebertaConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 0,
        "initializer_range": 0.02, "layer_norm_eps": 1e-7, "relative_attention": false, "max_relative_positions": -1,
        "pad_token_id": 0, "position_biased_input": true, "pos_att_type": null, "pooler_dropout": 0,
        "pooler_hidden_act": "gelu", "legacy": true,
    })
}

/// `transformers.DebertaV2Config()`
fn defaults_v2() -> Value {
    let mut defaults = defaults();
    for (name, value) in [
        ("vocab_size", 128100),
        ("hidden_size", 1536),
        ("num_hidden_layers", 24),
        ("num_attention_heads", 24),
        ("intermediate_size", 6144),
    ] {
        defaults[name] = value.into();
    }
    defaults
}

/// The entry of the list.
pub static DEBERTA: Family = Family {
    model_type: "deberta",
    class: "DebertaForMaskedLM",
    defaults,
    build: build_v1,
    ignore_unexpected: &["position_embeddings"],
    ..VERSION
};

/// Its second version, and the third.
pub static DEBERTA_V2: Family = Family {
    model_type: "deberta-v2",
    class: "DebertaV2ForMaskedLM",
    ignore_unexpected: &["mask_predictions"],
    ..VERSION
};

const VERSION: Family = Family {
    base_model_prefix: "deberta",
    ties: &[
        ("cls.predictions.decoder.weight", "deberta.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ],
    buffers: POSITION_BUFFERS,
    // The head of Microsoft's own checkpoints; Python's code leaves it and makes a new one unless `legacy` is false.
    old_names: &[
        ("lm_predictions.lm_head.dense.", "cls.predictions.transform.dense."),
        ("lm_predictions.lm_head.LayerNorm.", "cls.predictions.transform.LayerNorm."),
        ("lm_predictions.lm_head.bias", "cls.predictions.bias"),
    ],
    derived,
    max_positions,
    ..Family::new(Task::Mlm, defaults_v2, build_v2)
};

/// What Python's class makes of a joined `pos_att_type`, and a size that it writes.
fn derived(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let list = config.field::<PosAttType>("pos_att_type").ok().flatten().map(|kinds| kinds.list());
    let pooler = ["pooler_hidden_size", "hidden_size"].into_iter().find_map(|name| config.size(name));
    let list = list.map(|list| ("pos_att_type", list.into()));
    list.into_iter().chain(pooler.map(|size| ("pooler_hidden_size", size.into()))).collect()
}

/// None without absolute positions: distances may be any.
fn max_positions(config: &ModelConfig) -> Option<usize> {
    let absolute = config.get("position_biased_input").is_none_or(|biased| *biased == Value::Bool(true));
    config.size("max_position_embeddings").filter(|_| absolute)
}

/// Words, where it is wished positions and the (always first) segment, summed and normalised.
#[derive(Module, Debug)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Option<Embedding>,
    token_type_embeddings: Option<Embedding>,
    embed_proj: Option<Linear>,
    layer_norm: LayerNorm,
}

impl Embeddings {
    fn new(config: &DebertaConfig, builder: &Builder) -> Self {
        let (dim, size, positions) =
            (config.embedding_size(), config.hidden_size.get(), config.max_position_embeddings.get());
        let types = config.type_vocab_size.get();
        Self {
            word_embeddings: Embedding::padded(config.vocab_size.get(), dim, config.pad_token_id, builder),
            position_embeddings: config.position_biased_input.then(|| Embedding::new(positions, dim, builder)),
            token_type_embeddings: (types > 0).then(|| Embedding::new(types, dim, builder)),
            embed_proj: (dim != size).then(|| Linear::without_bias(dim, size, builder)),
            layer_norm: LayerNorm::new(size, config.layer_norm_eps, builder),
        }
    }

    fn forward(&self, inputs: &ModelInputs, dropout: f64, mode: &Mode) -> Tensor<2> {
        let mut x = self.word_embeddings.forward_tokens(inputs, mode);
        if let Some(positions) = &self.position_embeddings {
            x = x + positions.forward(inputs.positions(), mode);
        }
        if let Some(types) = &self.token_type_embeddings {
            x = x + types.first();
        }
        if let Some(embed_proj) = &self.embed_proj {
            x = embed_proj.forward(x, mode);
        }
        let x = inputs.sequences.zero_padding(self.layer_norm.forward(x, mode));
        ops::dropout(x, dropout, mode)
    }
}

#[derive(Module, Debug)]
struct AttentionHalf<A: Module> {
    self_attention: A,
    output: PostNorm,
}

#[derive(Module, Debug)]
struct Layer<A: Module> {
    attention: AttentionHalf<A>,
    intermediate: Dense,
    output: PostNorm,
}

impl<A: Attend> Layer<A> {
    fn new(config: &DebertaConfig, builder: &Builder) -> Self {
        let (size, inner, epsilon) = (config.hidden_size.get(), config.intermediate_size.get(), config.layer_norm_eps);
        Self {
            attention: AttentionHalf {
                self_attention: A::new(config, builder),
                output: PostNorm::onto(size, size, epsilon, builder),
            },
            intermediate: Dense::new(size, inner, builder),
            output: PostNorm::onto(size, inner, epsilon, builder),
        }
    }

    fn forward(
        &self,
        x: Tensor<2>,
        distances: Option<(Tensor<2>, Vec<usize>)>,
        inputs: &ModelInputs,
        config: &DebertaConfig,
        mode: &Mode,
    ) -> Tensor<2> {
        let (heads, dropout) = (config.num_attention_heads.get(), config.hidden_dropout_prob.get());
        let scale = 1.0 / ((config.hidden_size.get() / heads * A::terms(config)) as f64).sqrt();
        let AttentionHalf { self_attention, output } = &self.attention;
        let [q, k, v] = self_attention.queries_keys_values(x.clone(), heads, mode);
        let bias = distances.map(|(table, buckets)| {
            let table = ops::dropout(table, dropout, mode);
            let [pos_key, pos_query] = self_attention.distances(table, config, mode);
            let relative = Disentangled { pos_key, pos_query, buckets, scale };
            ops::disentangled_bias(q.clone(), k.clone(), relative, &inputs.sequences, heads, mode)
        });
        let options = Attention {
            heads,
            kv_heads: heads,
            scale,
            softcap: None,
            dropout: config.attention_probs_dropout_prob.get(),
            mask: AttentionMask::Full,
            bias: bias.map_or(AttentionBias::None, AttentionBias::PerHead),
            blind: Blind::Mean,
        };
        let context = ops::attention(q, k, v.clone(), &inputs.sequences, &inputs.sequences, &options, mode);
        // Padding that is kept sees all alike.
        let context = inputs.sequences.mean_for_padding(context, v);
        let attended = output.forward(context, x, dropout, mode);
        let wide = self.intermediate.dense.forward(attended.clone(), mode);
        self.output.forward_activated(wide, config.hidden_act, attended, dropout, mode)
    }
}

/// What a text's neighbours add to what the first layer gives.
#[derive(Module, Debug)]
struct ConvLayer {
    conv: SequenceConv,
    layer_norm: LayerNorm,
}

impl ConvLayer {
    fn forward(
        &self,
        x: Tensor<2>,
        residual: Tensor<2>,
        inputs: &ModelInputs,
        config: &DebertaConfig,
        mode: &Mode,
    ) -> Tensor<2> {
        let x = ops::dropout(self.conv.forward(x, &inputs.sequences, mode), config.hidden_dropout_prob.get(), mode);
        let x = ops::add(config.conv_act.unwrap_or(Activation::Tanh).forward(x, mode), residual, mode);
        inputs.sequences.zero_padding(self.layer_norm.forward(x, mode))
    }
}

#[derive(Module, Debug)]
struct Encoder<A: Module> {
    layer: Vec<Layer<A>>,
    rel_embeddings: Option<Embedding>,
    layer_norm: Option<LayerNorm>,
    conv: Option<ConvLayer>,
}

impl<A: Attend> Encoder<A> {
    fn new(config: &DebertaConfig, builder: &Builder) -> Self {
        let size = config.hidden_size.get();
        let norm = || LayerNorm::new(size, config.layer_norm_eps, builder);
        Self {
            layer: (0..config.num_hidden_layers.get()).map(|_| Layer::new(config, builder)).collect(),
            rel_embeddings: config.relative_attention.then(|| Embedding::new(2 * config.span(), size, builder)),
            layer_norm: config.norms_distances().then(norm),
            conv: config
                .conv_kernel_size()
                .map(|kernel| ConvLayer { conv: SequenceConv::new(size, size, kernel, builder), layer_norm: norm() }),
        }
    }

    /// The vectors of the distances that occur, [distances, hidden], and which of them belongs to each; computed in each
    /// layer, for they have a gradient.
    fn distances(&self, config: &DebertaConfig, seq: usize, mode: &Mode) -> Option<(Tensor<2>, Vec<usize>)> {
        let table = self.rel_embeddings.as_ref().filter(|_| config.has("c2p") || config.has("p2c"))?;
        let rows = config.rows(seq.max(1));
        let (&first, &last) = rows.first().zip(rows.last())?;
        let table = table.vectors(first..last + 1);
        let table = match &self.layer_norm {
            Some(norm) => norm.forward(table, mode),
            None => table,
        };
        Some((table, rows.into_iter().map(|row| row - first).collect()))
    }
}

#[derive(Module, Debug)]
struct DebertaModel<A: Module> {
    embeddings: Embeddings,
    encoder: Encoder<A>,
}

/// The head of Microsoft's own code.
#[derive(Module, Debug)]
struct LmPredictions {
    lm_head: FlatHead,
}

/// `transformers.DebertaForMaskedLM` and `transformers.DebertaV2ForMaskedLM`
#[derive(Module, Debug)]
pub struct DebertaForMaskedLM<A: Module> {
    deberta: DebertaModel<A>,
    /// Where `legacy` says so, else the other.
    cls: Option<BertHead>,
    lm_predictions: Option<LmPredictions>,
    #[module(skip)]
    config: DebertaConfig,
}

fn build_v1(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    config.require("talking_head", &[false.into()], "; only `false` is")?;
    let ours = DebertaConfig {
        position_buckets: None,
        share_att_key: false,
        norm_rel_ebd: None,
        conv_kernel_size: None,
        ..DebertaConfig::new(config)?
    };
    build::<Projections>(ours, device)
}

fn build_v2(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    config.require("conv_groups", &[1.into()], "; only `1` is")?;
    let ours = DebertaConfig::new(config)?;
    let head_dim = ours.hidden_size.get() / ours.num_attention_heads.get();
    config.require("attention_head_size", &[head_dim.into()], "; only hidden_size / num_attention_heads is")?;
    build::<ProjectionsV2>(ours, device)
}

fn build<A: Attend>(config: DebertaConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size, dim) = (config.vocab_size.get(), config.hidden_size.get(), config.embedding_size());
    let (activation, epsilon) = (config.hidden_act, config.layer_norm_eps);
    let legacy = || {
        let transform = HeadTransform::new(size, dim, activation, epsilon, builder);
        BertHead::new(transform, dim, vocab, config.tie_word_embeddings, builder)
    };
    // Of the other head, the words' vectors are part in any case.
    let other = || LmPredictions { lm_head: FlatHead::new([size, size, vocab], activation, epsilon, true, builder) };
    let model = DebertaForMaskedLM::<A> {
        deberta: DebertaModel {
            embeddings: Embeddings::new(&config, builder),
            encoder: Encoder::new(&config, builder),
        },
        cls: config.legacy.then(legacy),
        lm_predictions: (!config.legacy).then(other),
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl<A: Attend> Architecture for DebertaForMaskedLM<A> {
    const RENAMES: &'static [(&'static str, &'static str)] =
        &[("self_attention", "self"), ("layer_norm", "LayerNorm"), ("head_norm", "LayerNorm"), ("head_bias", "bias")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let (config, DebertaModel { embeddings, encoder }) = (&self.config, &self.deberta);
        let embed = |mode: &Mode| [embeddings.forward(inputs, config.hidden_dropout_prob.get(), mode)];
        let layers = encoder.layer.iter().enumerate().map(move |(index, layer)| {
            let conv = encoder.conv.as_ref().filter(|_| index == 0);
            move |[x]: [Tensor<2>; 1], mode: &Mode| {
                let distances = encoder.distances(config, inputs.sequences.seq, mode);
                let output = layer.forward(x.clone(), distances, inputs, config, mode);
                [match conv {
                    Some(conv) => conv.forward(x, output, inputs, config, mode),
                    None => output,
                }]
            }
        });
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| {
            let predicted = x.select(0, inputs.predicted.clone());
            match (&self.cls, &self.lm_predictions) {
                (Some(cls), _) => cls.forward(predicted, mode),
                (None, Some(predictions)) => predictions.lm_head.forward(predicted, mode),
                (None, None) => unreachable!("one of the two heads is made"),
            }
        };
        Stages::new(embed, layers, head)
    }

    fn decoder(&self) -> Decoder {
        let words = &self.deberta.embeddings.word_embeddings;
        match (&self.cls, &self.lm_predictions) {
            (Some(cls), _) => cls.decoder(words),
            (None, Some(predictions)) => predictions.lm_head.decoder(words),
            (None, None) => unreachable!("one of the two heads is made"),
        }
    }
}
