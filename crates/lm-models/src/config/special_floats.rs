//! NaN and the infinities in a config.json: `NaN` as 4.57 writes them, `{"__float__": "NaN"}` as 5 does. Among the fields they
//! are the stand-ins of [`lm_files::json`], and are written as `NaN`, which both versions read.

use lm_files::json::{number, stand_in, to_string};
use serde_json::{Value, json};

/// The fields of a config.json with stand-ins for what 5 writes (`_decode_special_floats`).
pub fn decoded(value: Value) -> Value {
    let tagged =
        value.as_object().filter(|object| object.len() == 1).and_then(|object| object.get("__float__")?.as_str());
    let tagged = tagged.and_then(|name| name.parse().ok()).and_then(|number: f64| stand_in(number));
    tagged.map_or_else(|| inside(value, decoded), Value::String)
}

/// What is computed with: what is infinite is the largest number, which is infinite in float32; NaN stays no number.
pub fn numbers(value: Value) -> Value {
    match value.as_str().and_then(number).filter(|number| number.is_infinite()) {
        Some(number) => json!(f64::MAX.copysign(number)),
        None => inside(value, numbers),
    }
}

/// The value with what `change` makes of the values in it.
fn inside(value: Value, change: fn(Value) -> Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, change(value))).collect(),
        Value::Array(values) => values.into_iter().map(change).collect(),
        value => value,
    }
}

/// Whether a value is NaN or a list with it.
pub fn has_nan(value: &Value) -> bool {
    match value {
        Value::String(text) => number(text).is_some_and(f64::is_nan),
        Value::Array(values) => values.iter().any(has_nan),
        _ => false,
    }
}

/// A value as Python writes it.
pub fn shown(value: &Value) -> String {
    to_string(value, "").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use crate::config::ModelConfig;
    use crate::model::AutoModel;

    fn config(more: &str) -> ModelConfig {
        let folder = tempfile::tempdir().expect("a folder");
        let sizes =
            r#""model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 9, "n_positions": 4"#;
        std::fs::write(folder.path().join("config.json"), format!("{{{sizes}, {more}}}")).expect("a file");
        ModelConfig::from_path(folder.path()).expect("a configuration")
    }

    /// As `json.dumps` of 4.57 writes them, whichever version wrote the file.
    #[test]
    fn what_no_model_reads_is_kept() {
        let given = r#""a": NaN, "b": [0.0, Infinity], "c": {"__float__": "-Infinity"}, "d": {"e": {"__float__": "NaN"}},
            "f": {"__float__": "x"}, "g": 1e999, "h": "NaN""#;
        let config = config(given);
        AutoModel::from_config(&config, 0, &Device::flex()).expect("a model");
        let text = config.to_json();
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in [
            r#""a": NaN,"#,
            r#""b": [ 0.0, Infinity ],"#,
            r#""c": -Infinity,"#,
            r#""d": { "e": NaN },"#,
            r#""f": { "__float__": "x" },"#,
            r#""g": Infinity,"#,
            r#""h": "NaN","#,
        ] {
            assert!(flat.contains(expected), "{expected} is not in {text}");
        }
    }

    #[test]
    fn what_a_model_reads_is_a_number_or_an_error() {
        let build = |given: &str| AutoModel::from_config(&config(given), 0, &Device::flex()).map(|_| ());
        assert!(build(r#""layer_norm_epsilon": Infinity"#).is_ok());
        for (given, told) in [
            (r#""layer_norm_epsilon": NaN"#, "`layer_norm_epsilon` = NaN: nothing can be computed with that"),
            (r#""attn_pdrop": {"__float__": "NaN"}"#, "`attn_pdrop` = NaN: nothing"),
            (r#""attn_pdrop": -Infinity"#, "`attn_pdrop` = -Infinity: must lie in 0 to 1"),
            (r#""n_positions": Infinity"#, "`n_positions` = Infinity: invalid type"),
            (r#""activation_function": NaN"#, "NaN"),
        ] {
            let error = build(given).expect_err(given).to_string();
            assert!(error.contains(told), "{given}: {error}");
        }
    }
}
