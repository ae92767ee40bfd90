//! DeBERTa's configuration, of all versions.

use serde::Deserialize;

use crate::config::{ConfigError, Count, ModelConfig, Probability, Size};
use crate::ops::Activation;

/// The fields of config.json that the computation depends on; the last ones are those of the second version.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)] // Python documents them: transformers.DebertaConfig, transformers.DebertaV2Config
pub struct DebertaConfig {
    pub vocab_size: Size,
    pub hidden_size: Size,
    pub embedding_size: Option<Size>,
    pub num_hidden_layers: Count,
    pub num_attention_heads: Size,
    pub intermediate_size: Size,
    pub hidden_act: Activation,
    pub hidden_dropout_prob: Probability,
    pub attention_probs_dropout_prob: Probability,
    pub max_position_embeddings: Size,
    pub type_vocab_size: Count,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub pad_token_id: Option<usize>,
    pub position_biased_input: bool,
    pub relative_attention: bool,
    pub max_relative_positions: i32,
    pub pos_att_type: Option<PosAttType>,
    pub legacy: bool,
    #[serde(default = "crate::config::yes")]
    pub tie_word_embeddings: bool,
    pub position_buckets: Option<i32>,
    #[serde(default)]
    pub share_att_key: bool,
    pub norm_rel_ebd: Option<String>,
    pub conv_kernel_size: Option<Count>,
    pub conv_act: Option<Activation>,
}

/// What of content and position meets what; `c2p|p2c` in old files.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum PosAttType {
    List(Vec<String>),
    Joined(String),
}

impl PosAttType {
    pub fn list(&self) -> Vec<String> {
        match self {
            Self::List(list) => list.clone(),
            Self::Joined(joined) => joined.to_lowercase().split('|').map(|word| word.trim().to_owned()).collect(),
        }
    }
}

impl DebertaConfig {
    pub fn new(config: &ModelConfig) -> Result<Self, ConfigError> {
        let parsed: Self = config.parse()?;
        let (size, heads) = (parsed.hidden_size, parsed.num_attention_heads);
        config.expect_divisible("hidden_size", size, "num_attention_heads", heads)?;
        let span = parsed.max_relative();
        let reason = match parsed.position_buckets() {
            _ if !parsed.legacy && parsed.embedding_size.is_some_and(|embedding| embedding != size) => {
                "`embedding_size` must be `hidden_size` where `legacy` is false".to_owned()
            }
            Some(buckets) if parsed.relative_attention && (buckets < 2 || span < buckets / 2 + 2) => {
                format!(
                    "`position_buckets` ({buckets}) must be at least 2, and its half less than the farthest of the \
                     {span} relative positions"
                )
            }
            _ if parsed.conv_kernel_size().is_some_and(|size| size.is_multiple_of(2)) => {
                "`conv_kernel_size` must be odd, for a text to keep its length".to_owned()
            }
            _ => return Ok(parsed),
        };
        Err(ConfigError::Value { model_type: config.model_type().into(), reason })
    }

    /// How many distances to each side are told apart, before they are put together in buckets.
    fn max_relative(&self) -> usize {
        usize::try_from(self.max_relative_positions)
            .ok()
            .filter(|&most| most > 0)
            .unwrap_or(self.max_position_embeddings.get())
    }

    fn position_buckets(&self) -> Option<usize> {
        self.position_buckets.and_then(|buckets| usize::try_from(buckets).ok()).filter(|&buckets| buckets > 0)
    }

    /// How many rows there are for distances to each side.
    pub fn span(&self) -> usize {
        self.position_buckets().unwrap_or(self.max_relative())
    }

    pub fn conv_kernel_size(&self) -> Option<usize> {
        self.conv_kernel_size.map(Count::get).filter(|&size| size > 0)
    }

    pub fn embedding_size(&self) -> usize {
        self.embedding_size.unwrap_or(self.hidden_size).get()
    }

    pub fn kinds(&self) -> Vec<String> {
        self.pos_att_type.as_ref().map(PosAttType::list).unwrap_or_default()
    }

    pub fn has(&self, kind: &str) -> bool {
        self.kinds().iter().any(|other| other == kind)
    }

    pub fn norms_distances(&self) -> bool {
        self.norm_rel_ebd
            .as_ref()
            .is_some_and(|norms| norms.to_lowercase().split('|').any(|norm| norm.trim() == "layer_norm"))
    }

    /// The row of the table for each distance from key to query, from `1 - seq` to `seq - 1`: they grow with the distance.
    pub fn rows(&self, seq: usize) -> Vec<usize> {
        let (longest, span) = (seq as i64 - 1, self.span() as i64);
        let place = |distance| match self.position_buckets() {
            Some(buckets) => log_bucket(distance, buckets, self.max_relative()),
            None => distance,
        };
        (-longest..=longest).map(|distance| (place(distance) + span).clamp(0, 2 * span - 1) as usize).collect()
    }
}

/// Near distances each on its own, farther ones in ever larger groups (`make_log_bucket_position`, in float32 as there).
fn log_bucket(distance: i64, buckets: usize, max_relative: usize) -> i64 {
    let (middle, far) = ((buckets / 2) as f32, distance.unsigned_abs() as f32);
    if far <= middle {
        return distance;
    }
    // As precise as float32 gets, whatever the platform's own logarithm of one is.
    let logarithm = |ratio: f32| f64::from(ratio).ln() as f32;
    let last = ((max_relative as f64 - 1.0) / f64::from(middle)) as f32;
    let steps = (logarithm(far / middle) / logarithm(last) * (middle - 1.0)).ceil();
    (steps + middle) as i64 * distance.signum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `make_log_bucket_position` of transformers 4.57 with 256 buckets for 512 distances.
    #[test]
    fn buckets_are_pythons() {
        for (distance, bucket) in [
            (0, 0),
            (127, 127),
            (130, 130),
            (131, 131),
            (132, 131),
            (133, 132),
            (364, 224),
            (365, 225),
            (444, 243),
            (505, 254),
            (506, 255),
            (657, 279),
            (699, 284),
        ] {
            assert_eq!(log_bucket(distance, 256, 512), bucket, "{distance}");
            assert_eq!(log_bucket(-distance, 256, 512), -bucket, "-{distance}");
        }
    }
}
