//! XLNet (Yang et al., 2019) with its language-model head: `XLNetLMHeadModel`.
//!
//! Two streams run through the layers. The content stream has a row per token, which sees itself. The query stream has
//! a row per *predicted* token, which starts as a mask vector and sees neither its token nor those after it in the
//! order of factorisation; its last hidden states are decoded. Python runs the query stream for every position, and the
//! content stream through the last layer, where nothing reads it any more; loss and gradients are the same.
//!
//! Segment recurrence: Python's `run_plm` never passes `mems` to the model, so `mem_len`, `reuse_len` and `use_mems_*`
//! change nothing there nor here; they are kept in config.json.

use std::rc::Rc;

use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Embedding, LayerNorm, Linear, LmHead};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::{Mode, ModelInputs, Sequences};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Decoder, RelativeKeys, RelativeQueries};
use crate::parameters::{Builder, Kind};
use crate::stages::Stages;
use crate::weights::{Form, Variable};

/// Which tokens one sees apart from `perm_mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AttnType {
    /// All.
    Bi,
    /// Only those before and itself.
    Uni,
}

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.XLNetConfig
pub struct XLNetConfig {
    pub vocab_size: Size,
    pub d_model: Size,
    pub n_layer: Count,
    pub n_head: Size,
    pub d_head: Option<Size>,
    pub d_inner: Size,
    pub ff_activation: Activation,
    pub attn_type: AttnType,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub dropout: Probability,
    pub clamp_len: i64,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.XLNetConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 32000, "d_model": 1024, "n_layer": 24, "n_head": 16, "d_head": null, "d_inner": 4096,
        "ff_activation": "gelu", "untie_r": true, "attn_type": "bi", "initializer_range": 0.02,
        "layer_norm_eps": 1e-12, "dropout": 0.1, "mem_len": 512, "reuse_len": null, "use_mems_eval": true,
        "use_mems_train": false, "bi_data": false, "clamp_len": -1, "same_length": false, "summary_type": "last",
        "summary_use_proj": true, "summary_activation": "tanh", "summary_last_dropout": 0.1, "start_n_top": 5,
        "end_n_top": 5, "pad_token_id": 5, "bos_token_id": 1, "eos_token_id": 2,
    })
}

/// A variable of XLNet's program (`build_tf_xlnet_to_pytorch_map`): what is learned of relative positions and segments has
/// an axis of layers, products of the attention lie as they do here, the others the other way round.
fn variable(name: &str) -> Variable {
    let name = name.strip_prefix("model/").unwrap_or(name);
    let layer = name.strip_prefix("transformer/layer_").and_then(|rest| rest.split_once('/'));
    let Some((module, last)) = layer.and_then(|(_, rest)| rest.rsplit_once('/')) else {
        return match name {
            "transformer/word_embedding/lookup_table" => Variable::same("transformer.word_embedding.weight"),
            "transformer/mask_emb/mask_emb" => Variable::same("transformer.mask_emb"),
            "transformer/r_r_bias" | "transformer/r_w_bias" | "transformer/r_s_bias" | "transformer/seg_embed" => {
                Variable { name: name.replace("former/", "former.layer.*.rel_attn."), form: Form::PerLayer }
            }
            _ => Variable::same(&name.replace('/', ".")),
        };
    };
    let layer = layer.map_or("", |(number, _)| number);
    let module = module.replace("LayerNorm", "layer_norm").replace('/', ".");
    let (last, form) = match last {
        "kernel" if module.starts_with("rel_attn") => ("", Form::Same),
        "kernel" => (".weight", Form::Transposed),
        "gamma" => (".weight", Form::Same),
        _ => (".bias", Form::Same),
    };
    Variable { name: format!("transformer.layer.{layer}.{module}{last}"), form }
}

/// The entry of the list.
pub static XLNET: Family = Family {
    model_type: "xlnet",
    class: "XLNetLMHeadModel",
    base_model_prefix: "transformer",
    ties: &[("lm_loss.weight", "transformer.word_embedding.weight")],
    derived,
    aliases: &[
        ("n_token", "vocab_size"),
        ("hidden_size", "d_model"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
    ],
    max_positions: |_| None,
    tensorflow1: Some(variable),
    ..Family::new(Task::Plm, defaults, build)
};

/// `d_head`, which Python computes and writes.
fn derived(config: &ModelConfig) -> Vec<(&'static str, Value)> {
    let d_head = |size: usize| size.checked_div(config.size("n_head")?);
    config.size("d_model").and_then(d_head).map(|d_head| ("d_head", d_head.into())).into_iter().collect()
}

impl XLNetConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        config.require("bi_data", &[false.into()], "; only `false` is")?;
        let parsed: Self = config.parse()?;
        if parsed.attn_type == AttnType::Uni {
            config.require("same_length", &[false.into()], " with `attn_type` = \"uni\"; only `false` is")?;
        }
        config.expect_divisible("d_model", parsed.d_model, "n_head", parsed.n_head)?;
        let d_model = parsed.d_model.get();
        let d_head = d_model / parsed.n_head.get();
        let reason = match parsed.d_head.map(Size::get) {
            Some(given) if given != d_head => {
                format!("`d_head` ({given}) must be d_model / n_head ({d_head}); leave it out to have it computed")
            }
            _ if !d_model.is_multiple_of(2) => format!("`d_model` ({d_model}) must be even"),
            _ => return Ok(parsed),
        };
        Err(ConfigError::Value { model_type: config.model_type().into(), reason })
    }
}

/// Projections are [d_model, n_head, d_head], as stored; `o` maps back.
#[derive(Module, Debug)]
struct XLNetRelativeAttention {
    q: Param<Tensor<3>>,
    k: Param<Tensor<3>>,
    v: Param<Tensor<3>>,
    o: Param<Tensor<3>>,
    r: Param<Tensor<3>>,
    r_r_bias: Param<Tensor<2>>,
    /// Belongs to the segments, which `run_plm` does not use: no gradient.
    r_s_bias: Param<Tensor<2>>,
    r_w_bias: Param<Tensor<2>>,
    /// Likewise.
    seg_embed: Param<Tensor<3>>,
    layer_norm: LayerNorm,
}

/// [rows, d_model] → [rows, n_head · d_head]
fn project(x: Tensor<2>, weight: &Param<Tensor<3>>, mode: &Mode) -> Tensor<2> {
    let [size, heads, dim] = weight.shape().dims();
    ops::linear_in_out(x, weight.val().reshape([size, heads * dim]), None, mode)
}

impl XLNetRelativeAttention {
    fn new(config: &XLNetConfig, builder: &Builder) -> Self {
        let (size, heads) = (config.d_model.get(), config.n_head.get());
        let projection = || builder.weight([size, heads, size / heads]);
        // Biases to weight decay, which goes by their names, and weights at the start.
        let bias = || builder.parameter([heads, size / heads], Kind::Bias, builder.normal());
        Self {
            q: projection(),
            k: projection(),
            v: projection(),
            o: projection(),
            r: projection(),
            r_r_bias: bias(),
            r_s_bias: bias(),
            r_w_bias: bias(),
            seg_embed: builder.weight([2, heads, size / heads]),
            layer_norm: LayerNorm::new(size, config.layer_norm_eps, builder),
        }
    }

    /// What both streams attend to: the content, and the distances to it.
    fn keys<'a>(
        &self,
        content: &Tensor<2>,
        distances: &Tensor<2>,
        sequences: &'a Sequences,
        mode: &Mode,
    ) -> RelativeKeys<'a> {
        RelativeKeys {
            sequences,
            k: project(content.clone(), &self.k, mode),
            v: project(content.clone(), &self.v, mode),
            r: project(distances.clone(), &self.r, mode),
            r_w_bias: self.r_w_bias.val(),
            r_r_bias: self.r_r_bias.val(),
        }
    }

    fn forward(&self, x: Tensor<2>, keys: &RelativeKeys, queries: &RelativeQueries, p: f64, mode: &Mode) -> Tensor<2> {
        let attended = ops::relative_attention(project(x.clone(), &self.q, mode), queries, keys, p, mode);
        let [size, heads, dim] = self.o.shape().dims();
        let output = ops::linear(attended, self.o.val().reshape([size, heads * dim]), None, mode);
        self.layer_norm.forward(ops::dropout_add(output, x, p, mode), mode)
    }
}

#[derive(Module, Debug)]
struct XLNetFeedForward {
    layer_norm: LayerNorm,
    layer_1: Linear,
    layer_2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl XLNetFeedForward {
    fn forward(&self, x: Tensor<2>, p: f64, mode: &Mode) -> Tensor<2> {
        let wide = ops::dropout(self.activation.forward(self.layer_1.forward(x.clone(), mode), mode), p, mode);
        self.layer_norm.forward(ops::dropout_add(self.layer_2.forward(wide, mode), x, p, mode), mode)
    }
}

#[derive(Module, Debug)]
struct XLNetLayer {
    rel_attn: XLNetRelativeAttention,
    ff: XLNetFeedForward,
}

impl XLNetLayer {
    fn new(config: &XLNetConfig, builder: &Builder) -> Self {
        let (size, inner) = (config.d_model.get(), config.d_inner.get());
        Self {
            rel_attn: XLNetRelativeAttention::new(config, builder),
            ff: XLNetFeedForward {
                layer_norm: LayerNorm::new(size, config.layer_norm_eps, builder),
                layer_1: Linear::new(size, inner, builder),
                layer_2: Linear::new(inner, size, builder),
                activation: config.ff_activation,
            },
        }
    }

    /// One stream through the layer.
    fn forward(&self, x: Tensor<2>, keys: &RelativeKeys, queries: &RelativeQueries, p: f64, mode: &Mode) -> Tensor<2> {
        self.ff.forward(self.rel_attn.forward(x, keys, queries, p, mode), p, mode)
    }
}

#[derive(Module, Debug)]
struct XLNetModel {
    word_embedding: Embedding,
    mask_emb: Param<Tensor<3>>,
    layer: Vec<XLNetLayer>,
}

/// `transformers.XLNetLMHeadModel`
#[derive(Module, Debug)]
pub struct XLNetLMHeadModel {
    transformer: XLNetModel,
    lm_loss: LmHead,
    #[module(skip)]
    config: XLNetConfig,
}

fn build(config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = XLNetConfig::new(config)?;
    let builder = &Builder::new(device, config.initializer_range);
    let (vocab, size) = (config.vocab_size.get(), config.d_model.get());
    let model = XLNetLMHeadModel {
        transformer: XLNetModel {
            word_embedding: Embedding::new(vocab, size, builder),
            mask_emb: builder.weight([1, 1, size]),
            layer: (0..config.n_layer.get()).map(|_| XLNetLayer::new(&config, builder)).collect(),
        },
        lm_loss: LmHead::with_bias(vocab, size, config.tie_word_embeddings, builder),
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl XLNetLMHeadModel {
    /// Sinusoids of the distances seq, seq - 1, …, 1 - seq, [2 · seq, d_model]: sines, then cosines
    /// (`relative_positional_encoding`, computed in float32 as there).
    fn distances(&self, seq: usize, device: &Device) -> Tensor<2> {
        let size = self.config.d_model.get();
        let frequencies: Vec<f32> = (0..size).step_by(2).map(|i| 1.0 / 10000f32.powf(i as f32 / size as f32)).collect();
        let mut table = Vec::with_capacity(2 * seq * size);
        for place in 0..2 * seq as i64 {
            let distance = seq as i64 - place;
            let limit = self.config.clamp_len;
            let distance = if limit > 0 { distance.clamp(-limit, limit) } else { distance } as f32;
            table.extend(frequencies.iter().map(|frequency| (distance * frequency).sin()));
            table.extend(frequencies.iter().map(|frequency| (distance * frequency).cos()));
        }
        Tensor::from_data(TensorData::new(table, [2 * seq, size]), device)
    }

    /// True where a position may not see another, itself not excepted, [batch, seq, seq]; none when all see all.
    fn mask(&self, inputs: &ModelInputs) -> Option<Tensor<3, Bool>> {
        let Sequences { batch, seq, .. } = inputs.sequences;
        let shape = [batch, seq, seq];
        let permutation = inputs.permutation.as_ref().map(|permutation| permutation.perm_mask.clone());
        let padding = inputs.sequences.key_padding.clone().map(|mask| mask.reshape([batch, 1, seq]).expand(shape));
        let future = (self.config.attn_type == AttnType::Uni)
            .then(|| Tensor::<2, Bool>::tril_mask([seq, seq], 0, &inputs.device).reshape([1, seq, seq]).expand(shape));
        [permutation, padding, future].into_iter().flatten().reduce(Tensor::bool_or)
    }

    /// The queries of both streams: of all rows, and of the predicted ones.
    fn queries(&self, inputs: &ModelInputs) -> (RelativeQueries, RelativeQueries) {
        let Sequences { batch, seq, .. } = inputs.sequences;
        let additive = |mask: Tensor<3, Bool>| mask.float() * -1e30;
        let mask = self.mask(inputs);

        let content = RelativeQueries {
            sequences: inputs.sequences.clone(),
            distances: None,
            mask: mask.clone().map(|mask| {
                let others = Tensor::<2, Bool>::diag_mask([seq, seq], 0, &inputs.device).reshape([1, seq, seq]);
                additive(mask.bool_and(others.expand([batch, seq, seq]))).reshape([batch, 1, seq, seq])
            }),
        };

        let rows = PredictedRows::new(inputs);
        let heads = self.config.n_head.get();
        let count = rows.sequences.seq;
        let distances = rows.places.iter().flat_map(|place| {
            let first = (seq - place % seq) as i32;
            first..first + seq as i32
        });
        let distances: Vec<i32> = distances.collect();
        let distances = ints(distances, &inputs.device).reshape([batch, 1, count, seq]);
        let distances = distances.expand([batch, heads, count, seq]).reshape([batch * heads * count, seq]);
        let places: Vec<i32> = rows.places.iter().map(|&place| place as i32).collect();
        let query = RelativeQueries {
            distances: Some(distances),
            mask: mask.map(|mask| {
                let all = additive(mask).reshape([batch * seq, seq]);
                all.select(0, ints(places, &inputs.device)).reshape([batch, 1, count, seq])
            }),
            sequences: rows.sequences,
        };
        (content, query)
    }
}

fn ints(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// The predicted rows as sequences of their own, as long as the longest of them.
struct PredictedRows {
    sequences: Sequences,
    /// Place in the batch of text, sequence · seq + position, for each place here; the first position's where no row is.
    places: Vec<usize>,
}

impl PredictedRows {
    fn new(inputs: &ModelInputs) -> Self {
        let Sequences { batch, seq, lengths, columns, .. } = &inputs.sequences;
        // (sequence, position) of every predicted row; both it and the predicted rows are in order.
        let sequence_of_row =
            lengths.iter().enumerate().flat_map(|(sequence, &length)| std::iter::repeat_n(sequence, length));
        let rows: Vec<(usize, i32)> = sequence_of_row.zip(columns.iter().copied()).collect();
        let predicted: Vec<(usize, i32)> = inputs.host_predicted.iter().map(|&row| rows[row as usize]).collect();

        let mut counts = vec![0; *batch];
        for &(sequence, _) in &predicted {
            counts[sequence] += 1;
        }
        let longest = counts.iter().copied().max().unwrap_or(0).max(1);
        let mut places: Vec<usize> = (0..batch * longest).map(|place| place / longest * seq).collect();
        let mut row_of_place = vec![0i32; batch * longest];
        let mut place_of_row = Vec::with_capacity(predicted.len());
        let mut filled = vec![0; *batch];
        for (row, &(sequence, position)) in predicted.iter().enumerate() {
            let place = sequence * longest + filled[sequence];
            filled[sequence] += 1;
            places[place] = sequence * seq + position as usize;
            row_of_place[place] = row as i32;
            place_of_row.push(place as i32);
        }
        let ints = |values| ints(values, &inputs.device);
        let sequences = Sequences {
            batch: *batch,
            seq: longest,
            packing: counts.iter().any(|&count| count != longest).then(|| (ints(row_of_place), ints(place_of_row))),
            lengths: counts,
            columns: predicted.iter().map(|&(_, position)| position).collect(),
            key_padding: None,
        };
        Self { sequences, places }
    }
}

impl Architecture for XLNetLMHeadModel {
    fn stages<'a>(&'a self, inputs: &'a ModelInputs, mode: &Mode) -> Stages<'a> {
        let (size, p) = (self.config.d_model.get(), self.config.dropout.get());
        let sequences = &inputs.sequences;
        let mut distances = self.distances(sequences.seq, &inputs.device);
        if mode.is_training() && p > 0.0 {
            // Python's dropout falls on a copy for each sequence.
            distances = ops::dropout(distances.repeat_dim(0, sequences.batch), p, mode);
        }
        let embed = move |mode: &Mode| {
            let content = self.transformer.word_embedding.forward_tokens(inputs, mode);
            let mask_emb = self.transformer.mask_emb.val().reshape([1, size]);
            let query = mask_emb.expand([inputs.host_predicted.len(), size]);
            [ops::dropout(content, p, mode), ops::dropout(query, p, mode)]
        };
        let shared = Rc::new((self.queries(inputs), distances));
        let last = self.transformer.layer.len().saturating_sub(1);
        let layers = self.transformer.layer.iter().enumerate().map(move |(index, layer)| {
            let shared = Rc::clone(&shared);
            move |[content, query]: [Tensor<2>; 2], mode: &Mode| {
                let ((content_queries, queries), distances) = &*shared;
                let keys = layer.rel_attn.keys(&content, distances, sequences, mode);
                let query = layer.forward(query, &keys, queries, p, mode);
                let content =
                    if index < last { layer.forward(content, &keys, content_queries, p, mode) } else { content };
                [content, query]
            }
        });
        Stages::new(embed, layers, move |[_, query], mode| ops::dropout(query, p, mode))
    }

    fn decoder(&self) -> Decoder {
        self.lm_loss.decoder(&self.transformer.word_embedding)
    }
}
