//! ModernBERT (Warner et al., 2024): `ModernBertForMaskedLM`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::blocks::{Angles, Embedding, LayerNorm, LayerType, Linear, LmHead, Rotary};
use crate::config::{ConfigError, Count, Family, ModelConfig, Probability, Size};
use crate::inputs::{Mode, ModelInputs};
use crate::model::{Architecture, AutoModel, Task};
use crate::ops::{self, Activation, Attention, AttentionMask, Decoder};
use crate::parameters::Builder;
use crate::stages::Stages;

/// The fields of config.json that the computation depends on.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.ModernBertConfig
pub struct ModernBertConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub intermediate_size: Size,
    pub num_hidden_layers: Count,
    pub num_attention_heads: Size,
    pub hidden_activation: Activation,
    pub initializer_range: f64,
    pub initializer_cutoff_factor: Option<f64>,
    pub norm_eps: f64,
    pub norm_bias: bool,
    pub pad_token_id: Option<usize>,
    pub global_rope_theta: f64,
    pub attention_bias: bool,
    pub attention_dropout: Probability,
    pub global_attn_every_n_layers: Size,
    pub local_attention: Count,
    pub local_rope_theta: Option<f64>,
    pub embedding_dropout: Probability,
    pub mlp_bias: bool,
    pub mlp_dropout: Probability,
    pub decoder_bias: bool,
    pub classifier_bias: bool,
    pub classifier_activation: Activation,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
}

/// `transformers.ModernBertConfig()`
fn defaults() -> Value {
    json!({
        "vocab_size": 50368, "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22,
        "num_attention_heads": 12, "hidden_activation": "gelu", "max_position_embeddings": 8192,
        "initializer_range": 0.02, "initializer_cutoff_factor": 2.0, "norm_eps": 1e-5, "norm_bias": false,
        "pad_token_id": 50283, "eos_token_id": 50282, "bos_token_id": 50281, "cls_token_id": 50281,
        "sep_token_id": 50282, "global_rope_theta": 160000.0, "attention_bias": false, "attention_dropout": 0.0,
        "global_attn_every_n_layers": 3, "local_attention": 128, "local_rope_theta": 10000.0,
        "embedding_dropout": 0.0, "mlp_bias": false, "mlp_dropout": 0.0, "decoder_bias": true,
        "classifier_pooling": "cls", "classifier_dropout": 0.0, "classifier_bias": false,
        "classifier_activation": "gelu", "deterministic_flash_attn": false, "sparse_prediction": false,
        "sparse_pred_ignore_index": -100, "repad_logits_with_grad": false,
    })
}

/// The entry of the list.
pub static MODERNBERT: Family = Family {
    model_type: "modernbert",
    class: "ModernBertForMaskedLM",
    base_model_prefix: "model",
    ties: &[("decoder.weight", "model.embeddings.tok_embeddings.weight")],
    aliases: &[("rope_theta", "global_rope_theta")],
    derived: |config| {
        let every = every_n_layers(config).ok().flatten();
        every.map(|every| ("global_attn_every_n_layers", every.into())).into_iter().collect()
    },
    // Rotary embeddings are computed for any length.
    max_positions: |_| None,
    ..Family::new(Task::Mlm, defaults, build)
};

/// Which layers see the whole text, the first and then every so many, where config.json lists it as transformers 5 does.
fn every_n_layers(config: &ModelConfig) -> Result<Option<usize>, ConfigError> {
    let Some(types) = config.field::<Vec<LayerType>>("layer_types")?.filter(|types| !types.is_empty()) else {
        return Ok(None);
    };
    let fits = |every: &usize| {
        let is_global = |layer: usize| types[layer] == LayerType::FullAttention;
        (0..types.len()).all(|layer| is_global(layer) == layer.is_multiple_of(*every))
    };
    let every = (1..=types.len()).find(fits).ok_or_else(|| ConfigError::Unsupported {
        model_type: config.model_type().into(),
        field: "layer_types",
        value: LayerType::written(&types).to_string(),
        hint: "; only `full_attention` in the first layer and every so many after it is",
    })?;
    Ok(Some(every))
}

impl ModernBertConfig {
    fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        // A loss that looks at predicted rows alone is what all models here have, if it tells them by the label.
        if config.field("sparse_prediction")? == Some(true) {
            config.require(
                "sparse_pred_ignore_index",
                &[(-100).into()],
                " with `sparse_prediction`; only `-100` is",
            )?;
        }
        let mut config = config.clone();
        if let Some(every) = every_n_layers(&config)? {
            config.set("global_attn_every_n_layers", every);
        }
        let parsed: Self = config.parse()?;
        let (size, heads) = (parsed.hidden_size, parsed.num_attention_heads);
        config.expect_divisible("hidden_size", size, "num_attention_heads", heads)?;
        // Values are drawn until they lie within.
        const SMALLEST_CUTOFF: f64 = 0.01;
        let cutoff = parsed.cutoff();
        if cutoff.is_nan() || cutoff < SMALLEST_CUTOFF {
            let reason = format!("`initializer_cutoff_factor` ({cutoff}) must be at least {SMALLEST_CUTOFF}");
            return Err(ConfigError::Value { model_type: config.model_type().into(), reason });
        }
        Ok(parsed)
    }

    fn cutoff(&self) -> f64 {
        self.initializer_cutoff_factor.unwrap_or(3.0)
    }

    fn norm(&self, builder: &Builder) -> LayerNorm {
        LayerNorm::with_bias(self.hidden_size.get(), self.norm_eps, self.norm_bias, builder)
    }

    /// Whether a layer sees the whole text; the others see half a window to each side.
    fn is_global(&self, layer: usize) -> bool {
        layer.is_multiple_of(self.global_attn_every_n_layers.get())
    }
}

#[derive(Module, Debug)]
struct Embeddings {
    tok_embeddings: Embedding,
    norm: LayerNorm,
}

#[derive(Module, Debug)]
struct SelfAttention {
    wqkv: Linear,
    wo: Linear,
}

/// The gated half of a layer: of what `wi` makes, the first columns are the gate.
#[derive(Module, Debug)]
struct Mlp {
    wi: Linear,
    wo: Linear,
}

impl Mlp {
    fn forward(&self, x: Tensor<2>, config: &ModernBertConfig, mode: &Mode) -> Tensor<2> {
        let wide = self.wi.forward(x, mode);
        let gated = match config.hidden_activation.gate() {
            Some(kind) => ops::glu_packed(wide, kind, mode),
            None => {
                let [gate, up] = ops::columns(wide, 1, [config.intermediate_size.get(); 2], mode);
                config.hidden_activation.forward(gate, mode) * up
            }
        };
        self.wo.forward(ops::dropout(gated, config.mlp_dropout.get(), mode), mode)
    }
}

#[derive(Module, Debug)]
struct Layer {
    /// None in the first layer, as the embeddings are normalised.
    attn_norm: Option<LayerNorm>,
    attn: SelfAttention,
    mlp_norm: LayerNorm,
    mlp: Mlp,
    #[module(skip)]
    options: Attention,
}

impl Layer {
    /// `residual` makes the projections onto the residual stream.
    fn new(config: &ModernBertConfig, layer: usize, builder: &Builder, residual: &Builder) -> Self {
        let (size, inner, heads) =
            (config.hidden_size.get(), config.intermediate_size.get(), config.num_attention_heads.get());
        let half = config.local_attention.get() / 2;
        let mask = if config.is_global(layer) {
            AttentionMask::Full
        } else {
            AttentionMask::Window { left: half, right: half }
        };
        Self {
            attn_norm: (layer > 0).then(|| config.norm(builder)),
            attn: SelfAttention {
                wqkv: Linear::with_bias(size, 3 * size, config.attention_bias, builder),
                wo: Linear::with_bias(size, size, config.attention_bias, residual),
            },
            mlp_norm: config.norm(builder),
            mlp: Mlp {
                wi: Linear::with_bias(size, 2 * inner, config.mlp_bias, builder),
                wo: Linear::with_bias(inner, size, config.mlp_bias, residual),
            },
            options: Attention::new(heads, size / heads, mask, config.attention_dropout.get()),
        }
    }

    fn forward(
        &self,
        x: Tensor<2>,
        angles: &Angles,
        inputs: &ModelInputs,
        config: &ModernBertConfig,
        mode: &Mode,
    ) -> Tensor<2> {
        let (heads, size) = (self.options.heads, config.hidden_size.get());
        let normal = match &self.attn_norm {
            Some(norm) => norm.forward(x.clone(), mode),
            None => x.clone(),
        };
        let [q, k, v] = ops::columns(self.attn.wqkv.forward(normal, mode), 1, [size; 3], mode);
        let [q, k] = [q, k].map(|x| angles.turn(x, heads, mode));
        let context = ops::attention(q, k, v, &inputs.sequences, &inputs.sequences, &self.options, mode);
        let attended = self.attn.wo.forward(context, mode);
        let attended = ops::dropout_add(attended, x, config.attention_dropout.get(), mode);
        let output = self.mlp.forward(self.mlp_norm.forward(attended.clone(), mode), config, mode);
        ops::add(output, attended, mode)
    }
}

#[derive(Module, Debug)]
struct ModernBertModel {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct PredictionHead {
    dense: Linear,
    norm: LayerNorm,
}

/// `transformers.ModernBertForMaskedLM`
#[derive(Module, Debug)]
pub struct ModernBertForMaskedLM {
    model: ModernBertModel,
    head: PredictionHead,
    decoder: LmHead,
    #[module(skip)]
    config: ModernBertConfig,
    /// Of layers that see the whole text, and of the others.
    #[module(skip)]
    rotary: [Rotary; 2],
}

fn build(model_config: &ModelConfig, device: &Device) -> Result<AutoModel, ConfigError> {
    let config = ModernBertConfig::new(model_config)?;
    let (vocab, size, layers) = (config.vocab_size.get(), config.hidden_size.get(), config.num_hidden_layers.get());
    let head_dim = size / config.num_attention_heads.get();
    let local_theta = config.local_rope_theta.unwrap_or(config.global_rope_theta);
    let rotary = |theta| Rotary::scaled(model_config, theta, head_dim);
    let builder = &Builder::new(device, config.initializer_range).with_cutoff(config.cutoff());
    // The projections onto the residual stream and those of the head start smaller, there being two a layer.
    let residual = &builder.with_std(config.initializer_range / (2.0 * layers.max(1) as f64).sqrt());
    let model = ModernBertForMaskedLM {
        model: ModernBertModel {
            embeddings: Embeddings {
                // Python's code fills the padding token's row like all others.
                tok_embeddings: Embedding::starting(vocab, size, config.pad_token_id, builder.normal(), builder),
                norm: config.norm(builder),
            },
            layers: (0..layers).map(|layer| Layer::new(&config, layer, builder, residual)).collect(),
            final_norm: config.norm(builder),
        },
        head: PredictionHead {
            dense: Linear::with_bias(size, size, config.classifier_bias, residual),
            norm: config.norm(builder),
        },
        decoder: match config.decoder_bias {
            true => LmHead::with_bias(vocab, size, config.tie_word_embeddings, residual),
            false => LmHead::new(vocab, size, config.tie_word_embeddings, residual),
        },
        rotary: [rotary(config.global_rope_theta)?, rotary(local_theta)?],
        config,
    };
    Ok(AutoModel::new(model, builder))
}

impl Architecture for ModernBertForMaskedLM {
    const RENAMES: &'static [(&'static str, &'static str)] = &[("wqkv", "Wqkv"), ("wi", "Wi"), ("wo", "Wo")];

    fn stages<'a>(&'a self, inputs: &'a ModelInputs, _: &Mode) -> Stages<'a> {
        let (config, ModernBertModel { embeddings, layers, final_norm }) = (&self.config, &self.model);
        let embed = |mode: &Mode| {
            let words = embeddings.tok_embeddings.forward_tokens(inputs, mode);
            [ops::dropout(embeddings.norm.forward(words, mode), config.embedding_dropout.get(), mode)]
        };
        let angles = self.rotary.each_ref().map(|rotary| rotary.angles(inputs.positions(), inputs.sequences.seq));
        let layers = layers.iter().enumerate().map(move |(index, layer)| {
            let angles = angles[usize::from(!config.is_global(index))].clone();
            move |[x]: [Tensor<2>; 1], mode: &Mode| [layer.forward(x, &angles, inputs, config, mode)]
        });
        let head = |[x]: [Tensor<2>; 1], mode: &Mode| {
            let predicted = final_norm.forward(x.select(0, inputs.predicted.clone()), mode);
            let wide = config.classifier_activation.forward(self.head.dense.forward(predicted, mode), mode);
            self.head.norm.forward(wide, mode)
        };
        Stages::new(embed, layers, head)
    }

    fn decoder(&self) -> Decoder {
        self.decoder.decoder(&self.model.embeddings.tok_embeddings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As transformers 5 writes it.
    #[test]
    fn layers_may_be_listed_by_what_they_see() {
        let with = |types: [&str; 4]| {
            let mut config = ModelConfig::from_model_type("modernbert").expect("a known type");
            config.set("layer_types", types.to_vec());
            config
        };
        let (full, sliding) = ("full_attention", "sliding_attention");
        for (types, every) in
            [([full, sliding, full, sliding], 2), ([full; 4], 1), ([full, sliding, sliding, sliding], 4)]
        {
            let config = with(types);
            let parsed = ModernBertConfig::new(&config).expect("a pattern");
            assert_eq!(parsed.global_attn_every_n_layers.get(), every);
            assert!(config.to_json().contains(&format!("\"global_attn_every_n_layers\": {every}")));
        }
        let error = ModernBertConfig::new(&with([full, full, sliding, full])).expect_err("no pattern").to_string();
        assert!(error.contains("`layer_types`"), "{error}");
    }
}
