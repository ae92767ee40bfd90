//! Causal layers that see all that lies before them, and others that see a window of it.

use serde::Deserialize;
use serde_json::Value;

use crate::config::{ConfigError, ModelConfig, Size};
use crate::ops::AttentionMask;

/// What the attention of a layer sees, as `layer_types` of config.json calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerType {
    /// All up to its own token.
    FullAttention,
    /// The last `sliding_window` of these.
    SlidingAttention,
}

impl LayerType {
    /// Sliding where that is so.
    pub fn sliding(sliding: bool) -> Self {
        if sliding { Self::SlidingAttention } else { Self::FullAttention }
    }

    /// Those of the first layers: `layer_types`, where config.json has it, else by the rule for the layer of an index.
    ///
    /// # Errors
    /// When there are fewer than layers, or others than these.
    pub fn of_layers(config: &ModelConfig, rule: impl Fn(usize) -> Self) -> Result<Vec<Self>, ConfigError> {
        let layers = config.size("num_hidden_layers").unwrap_or(0);
        let Some(mut given) = config.field::<Vec<Self>>("layer_types")? else {
            return Ok((0..layers).map(rule).collect());
        };
        if given.len() < layers {
            let reason =
                format!("`layer_types` has {} entries, one is needed for each of {layers} layers", given.len());
            return Err(ConfigError::Value { model_type: config.model_type().into(), reason });
        }
        given.truncate(layers);
        Ok(given)
    }

    /// The same as they stand in config.json.
    pub fn written(types: &[Self]) -> Value {
        let name = |layer: &Self| match layer {
            Self::FullAttention => "full_attention",
            Self::SlidingAttention => "sliding_attention",
        };
        types.iter().map(name).collect()
    }

    /// The mask of a layer of this type.
    ///
    /// # Errors
    /// When there is no window to slide.
    pub fn mask(self, config: &ModelConfig, window: Option<Size>) -> Result<AttentionMask, ConfigError> {
        match (self, window) {
            (Self::FullAttention, _) => Ok(AttentionMask::Causal),
            (Self::SlidingAttention, Some(window)) => Ok(causal_window(window)),
            (Self::SlidingAttention, None) => {
                let reason = "`layer_types` has a `sliding_attention`, but there is no `sliding_window`".into();
                Err(ConfigError::Value { model_type: config.model_type().into(), reason })
            }
        }
    }
}

/// Of the last so many tokens, a token's own included.
pub fn causal_window(window: Size) -> AttentionMask {
    AttentionMask::Window { left: window.get() - 1, right: 0 }
}
