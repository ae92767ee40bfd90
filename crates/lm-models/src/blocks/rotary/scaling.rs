//! `rope_scaling`: ways to stretch rotary embeddings over longer texts (`transformers.modeling_rope_utils`).

use std::f64::consts::PI;
use std::sync::Once;

use serde_json::{Map, Value};

use super::frequencies::{Frequencies, Longer, exponents};
use crate::config::{ConfigError, ModelConfig};

/// The field of config.json, and the one that says where the original model ended.
const FIELD: &str = "rope_scaling";
const ORIGINAL: &str = "original_max_position_embeddings";

/// See [`super::Rotary::scaled`].
pub fn scaled(config: &ModelConfig, base: f64, rotated: usize) -> Result<Frequencies, ConfigError> {
    let scaling = Scaling::new(config)?;
    let invalid = |reason: String| ConfigError::Value { model_type: config.model_type().into(), reason };
    if !rotated.is_multiple_of(2) {
        return Err(invalid(format!("rotary embeddings turn pairs of columns, and a head has {rotated} to turn")));
    }
    if !(base > 0.0 && base.is_finite()) {
        return Err(invalid(format!("the base of rotary embeddings, `rope_theta`, is {base} and must be more than 0")));
    }
    let usual = Frequencies::new(base, rotated);
    let Some(rope_type) = scaling.rope_type()? else { return Ok(usual) };
    match rope_type {
        "default" => {
            scaling.expect(&[], &[])?;
            Ok(usual)
        }
        "linear" => {
            scaling.expect(&["factor"], &[])?;
            let factor = scaling.factor()? as f32;
            let slower = usual.usual.iter().map(|frequency| frequency / factor);
            Ok(Frequencies { usual: slower.collect(), ..usual })
        }
        "dynamic" => {
            scaling.expect(&["factor"], &[ORIGINAL])?;
            let (factor, max_positions) = (scaling.factor()?, scaling.max_positions()?);
            if rotated <= 2 {
                return Err(scaling.invalid("`dynamic` needs more than one pair of columns to turn"));
            }
            Ok(Frequencies { longer: Longer::Falling { base, factor, max_positions }, ..usual })
        }
        "yarn" => scaling.yarn(usual, base, rotated),
        "longrope" => scaling.longrope(base, rotated),
        "llama3" => scaling.llama3(usual),
        _ => {
            let known = "; `rope_type` default, linear, dynamic, yarn, longrope and llama3 are";
            let (model_type, value) = (config.model_type().into(), Value::Object(scaling.fields).to_string());
            Err(ConfigError::Unsupported { model_type, field: FIELD, value, hint: known })
        }
    }
}

struct Scaling<'a> {
    config: &'a ModelConfig,
    fields: Map<String, Value>,
}

impl<'a> Scaling<'a> {
    fn new(config: &'a ModelConfig) -> Result<Self, ConfigError> {
        Ok(Self { config, fields: config.field::<Map<_, _>>(FIELD)?.unwrap_or_default() })
    }

    fn invalid(&self, reason: &str) -> ConfigError {
        ConfigError::Value { model_type: self.config.model_type().into(), reason: format!("`{FIELD}`: {reason}") }
    }

    /// The way to scale, by its new name in config.json or the one of before; none where nothing is scaled.
    fn rope_type(&self) -> Result<Option<&str>, ConfigError> {
        if self.config.get(FIELD).is_none_or(Value::is_null) {
            return Ok(None);
        }
        match self.fields.get("type").or_else(|| self.fields.get("rope_type")) {
            Some(Value::String(name)) => Ok(Some(name)),
            _ => Err(self.invalid("`rope_type` is missing")),
        }
    }

    /// Fails unless all `required` fields are there; those that nobody reads are told, as in Python.
    fn expect(&self, required: &[&str], optional: &[&str]) -> Result<(), ConfigError> {
        if let Some(missing) = required.iter().find(|name| self.fields.get(**name).is_none_or(Value::is_null)) {
            return Err(self.invalid(&format!("`{missing}` is missing")));
        }
        let read = |name: &&String| {
            let known = required.iter().chain(optional).chain(&["rope_type", "type"]);
            known.into_iter().any(|known| known == name)
        };
        let unread: Vec<&str> = self.fields.keys().filter(|name| !read(name)).map(String::as_str).collect();
        static TOLD: Once = Once::new();
        if !unread.is_empty() {
            // A model is looked at more than once, before it is built.
            TOLD.call_once(|| {
                tracing::warn!("`{FIELD}` has fields that its `rope_type` does not know: {}", unread.join(", "));
            });
        }
        Ok(())
    }

    fn number(&self, name: &str) -> Result<Option<f64>, ConfigError> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
                Some(number) => Ok(Some(number)),
                None => Err(self.invalid(&format!("`{name}` = {value} is no number"))),
            },
        }
    }

    fn positive(&self, name: &str) -> Result<Option<f64>, ConfigError> {
        match self.number(name)? {
            Some(number) if number <= 0.0 => Err(self.invalid(&format!("`{name}` = {number} must be more than 0"))),
            number => Ok(number),
        }
    }

    fn required(&self, name: &str) -> Result<f64, ConfigError> {
        self.positive(name)?.ok_or_else(|| self.invalid(&format!("`{name}` is missing")))
    }

    fn factor(&self) -> Result<f64, ConfigError> {
        self.required("factor")
    }

    fn max_positions(&self) -> Result<usize, ConfigError> {
        let positions = self.config.size("max_position_embeddings").filter(|&positions| positions > 0);
        positions.ok_or_else(|| self.invalid("`max_position_embeddings` is missing"))
    }

    /// Peng et al., 2023 (`_compute_yarn_parameters`).
    fn yarn(&self, usual: Frequencies, base: f64, rotated: usize) -> Result<Frequencies, ConfigError> {
        let optional = ["attention_factor", "beta_fast", "beta_slow", ORIGINAL, "mscale", "mscale_all_dim", "truncate"];
        self.expect(&["factor"], &optional)?;
        let factor = self.factor()?;
        let of_scale = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
        let nonzero = |name| Ok(self.number(name)?.filter(|&number| number != 0.0));
        let attention_factor = match (self.number("attention_factor")?, nonzero("mscale")?, nonzero("mscale_all_dim")?)
        {
            (Some(given), _, _) => given,
            (None, Some(scale), Some(scale_all)) => of_scale(scale) / of_scale(scale_all),
            _ => of_scale(1.0),
        };
        let original = match nonzero(ORIGINAL)? {
            Some(original) => original,
            None => self.max_positions()? as f64,
        };
        // The column whose pair turns so often within the original length.
        let column = |rotations: f64| rotated as f64 * (original / (rotations * 2.0 * PI)).ln() / (2.0 * base.ln());
        let beta = |name, usual| Ok::<_, ConfigError>(self.positive(name)?.unwrap_or(usual));
        let (low, high) = (column(beta("beta_fast", 32.0)?), column(beta("beta_slow", 1.0)?));
        let truncate = self.fields.get("truncate").and_then(Value::as_bool).unwrap_or(true);
        let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min(rotated as f64 - 1.0));
        let width = if low == high { 0.001 } else { high - low };
        let frequencies = exponents(rotated).enumerate().map(|(index, exponent)| {
            let period = (base as f32).powf(exponent);
            let kept = 1.0 - ((index as f32 - low as f32) / width as f32).clamp(0.0, 1.0);
            1.0 / (factor as f32 * period) * (1.0 - kept) + 1.0 / period * kept
        });
        Ok(Frequencies { usual: frequencies.collect(), factor: attention_factor, ..usual })
    }

    /// Ding et al., 2024 (`_compute_longrope_parameters`).
    fn longrope(&self, base: f64, rotated: usize) -> Result<Frequencies, ConfigError> {
        self.expect(&["short_factor", "long_factor"], &["attention_factor", "factor", ORIGINAL])?;
        let max_positions = self.max_positions()?;
        // Beside `rope_scaling`, not in it.
        let original = self.config.size(ORIGINAL).filter(|&original| original > 0);
        let (limit, factor) = match original {
            Some(original) => (original, Some(max_positions as f64 / original as f64)),
            None => (max_positions, self.positive("factor")?),
        };
        let attention_factor = match (self.number("attention_factor")?, factor) {
            (Some(given), _) => given,
            (None, Some(factor)) if factor <= 1.0 => 1.0,
            (None, Some(factor)) => (1.0 + factor.ln() / (limit as f64).ln()).sqrt(),
            (None, None) => {
                let missing =
                    format!("`longrope` needs `{ORIGINAL}` in config.json, or `factor` or `attention_factor`");
                return Err(self.invalid(&missing));
            }
        };
        let divided = |name: &str| {
            let values = self.fields.get(name).and_then(Value::as_array).into_iter().flatten();
            let factors: Option<Vec<f64>> = values.map(Value::as_f64).collect();
            match factors.filter(|factors| factors.len() == rotated / 2 && factors.iter().all(|&factor| factor > 0.0)) {
                Some(factors) => {
                    let each = factors.into_iter().zip(exponents(rotated));
                    Ok(each.map(|(factor, exponent)| 1.0 / (factor as f32 * (base as f32).powf(exponent))).collect())
                }
                None => Err(self.invalid(&format!("`{name}` must be a list of {} positive numbers", rotated / 2))),
            }
        };
        let longer = Longer::Others { frequencies: divided("long_factor")?, limit };
        Ok(Frequencies { usual: divided("short_factor")?, longer, factor: attention_factor })
    }

    /// `_compute_llama3_parameters`
    fn llama3(&self, usual: Frequencies) -> Result<Frequencies, ConfigError> {
        self.expect(&["factor", ORIGINAL, "low_freq_factor", "high_freq_factor"], &[])?;
        let (factor, original) = (self.factor()? as f32, self.required(ORIGINAL)?);
        let (low, high) = (self.required("low_freq_factor")?, self.required("high_freq_factor")?);
        let (longest, shortest) = ((original / low) as f32, (original / high) as f32);
        let frequencies = usual.usual.iter().map(|&frequency| {
            let wavelength = 2.0 * PI as f32 / frequency;
            match wavelength {
                _ if wavelength > longest => frequency / factor,
                _ if wavelength < shortest => frequency,
                _ => {
                    let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        });
        Ok(Frequencies { usual: frequencies.collect(), ..usual })
    }
}
