//! How large a model of a configuration will be, known before anything of it is built.

use burn::tensor::Device;
use serde_json::Value;

use crate::config::{ConfigError, Count, ModelConfig};
use crate::model::AutoModel;
use crate::parameters::ParameterInfo;

/// The field that says how many layers there are, by its own name or as an alias.
const LAYERS: &str = "num_hidden_layers";

/// Shapes of a model's parameters, each with how many parameters have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(Vec<(Vec<usize>, u64)>);

impl Sizes {
    /// The parameters of a model of this configuration, which is checked as if it were built: layers behind the first are
    /// all alike, so one of them is looked at, and no parameter gets a value. What is there once and grows with the number
    /// of layers grows by as much with each.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn of(config: &ModelConfig, device: &Device) -> Result<Self, ConfigError> {
        let layers = config.field::<Count>(LAYERS)?.map_or(0, Count::get) as u64;
        let with = |layers: u64| {
            let mut config = config.clone();
            config.set(LAYERS, layers);
            Ok::<_, ConfigError>(AutoModel::empty(&config, device)?.parameters())
        };
        // The first layer may have more or fewer parameters than the others.
        let first = with(layers.min(1))?;
        let second = if layers > 1 { with(2)? } else { Vec::new() };
        let mut shapes = Vec::new();
        for ParameterInfo { name, shape, .. } in &first {
            let then = second.iter().find(|info| info.name == *name).map_or(shape, |info| &info.shape);
            let grown = shape.iter().zip(then).map(|(&one, &two)| {
                let growth = (two.saturating_sub(one) as u64).saturating_mul(layers.saturating_sub(1));
                one.saturating_add(usize::try_from(growth).unwrap_or(usize::MAX))
            });
            shapes.push((grown.collect(), 1));
        }
        let others = second.into_iter().filter(|info| first.iter().all(|other| other.name != info.name));
        shapes.extend(others.map(|info| (info.shape, layers - 1)));
        Ok(Self(shapes))
    }

    /// The sum over all parameters of what `count` says of a shape; the largest number for anything above it.
    pub fn sum(&self, count: impl Fn(&[usize]) -> u64) -> u64 {
        self.0.iter().fold(0, |sum: u64, (shape, times)| sum.saturating_add(count(shape).saturating_mul(*times)))
    }

    /// Number of values in all parameters.
    pub fn values(&self) -> u64 {
        self.sum(values)
    }

    /// The size in config.json that makes a model of this configuration large, with its value: the one without which, were
    /// it the architecture's default, the fewest values would be left.
    pub fn cause(config: &ModelConfig, device: &Device) -> Option<(String, Value)> {
        let Value::Object(defaults) = (config.family().defaults)() else { return None };
        let all = Self::of(config, device).ok()?.values();
        let without = |name: &str, default: &Value| {
            let mut config = config.clone();
            config.set(name, default.clone());
            Some(Self::of(&config, device).ok()?.values())
        };
        let fields = defaults.iter().filter(|(_, default)| default.is_null() || default.as_u64().is_some());
        let fields = fields.filter_map(|(name, default)| Some((without(name, default)?, name)));
        let (left, name) = fields.min_by_key(|(left, _)| *left)?;
        (left < all).then(|| (name.clone(), config.get(name).cloned().unwrap_or_default()))
    }
}

/// Number of values of a shape.
pub fn values(shape: &[usize]) -> u64 {
    shape.iter().fold(1, |product: u64, &size| product.saturating_mul(size as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::FAMILIES;

    #[test]
    fn sizes_are_those_of_the_model_that_is_built() {
        let device = Device::flex();
        for family in FAMILIES {
            let mut config = ModelConfig::from_model_type(family.model_type).expect("known");
            // The last four must go with the others in some families. ESM has no padding token by default, and can't be built
            // without one.
            for (name, value) in [
                ("vocab_size", 50),
                ("hidden_size", 16),
                ("num_attention_heads", 2),
                ("num_key_value_heads", 2),
                ("rotary_dim", 2),
                ("embedding_size", 8),
                ("pad_token_id", 0),
                ("num_key_value_heads", 2),
            ] {
                config.set(name, value);
            }
            for layers in [0, 1, 3] {
                config.set(LAYERS, layers);
                let built: u64 = (family.build)(&config, &device)
                    .expect("built")
                    .parameters()
                    .iter()
                    .map(|info| info.len() as u64)
                    .sum();
                let sizes = Sizes::of(&config, &device).expect("sizes");
                assert_eq!(sizes.values(), built, "{} with {layers} layers", family.model_type);
            }
        }
    }

    #[test]
    fn sizes_beyond_everything_are_counted_or_refused_by_name() {
        let device = Device::flex();
        let with = |name: &str, value: u64| {
            let mut config = ModelConfig::from_model_type("bert").expect("known");
            config.set(name, value);
            config
        };
        for name in ["vocab_size", "num_hidden_layers", "max_position_embeddings", "type_vocab_size"] {
            let error = Sizes::of(&with(name, 1 << 40), &device).expect_err("too large").to_string();
            assert!(error.contains(&format!("`{name}` = 1099511627776")), "{error}");
            let config = with(name, 2_000_000_000);
            assert!(Sizes::of(&config, &device).expect("counted").values() > 1_000_000_000_000);
            assert_eq!(Sizes::cause(&config, &device), Some((name.to_owned(), 2_000_000_000_u64.into())));
        }
        let mut gpt2 = ModelConfig::from_model_type("gpt2").expect("known");
        gpt2.set("n_inner", 2_000_000_000_u64);
        assert_eq!(Sizes::cause(&gpt2, &device), Some(("n_inner".to_owned(), 2_000_000_000_u64.into())));
        let config = with("hidden_size", 12 << 24);
        assert_eq!(Sizes::cause(&config, &device), Some(("hidden_size".to_owned(), (12_u64 << 24).into())));
        assert_eq!(Sizes::of(&with("hidden_size", 12 << 24), &device).expect("counted").values(), {
            let size = 12_u64 << 24;
            let layer = 4 * (size * size + size) + 2 * (size * 3072) + 3072 + size + 4 * size;
            let head = size * size + size + 2 * size + 30522;
            (30522 + 512 + 2) * size + 2 * size + 12 * layer + head
        });
    }
}
