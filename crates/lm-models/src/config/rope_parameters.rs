//! `rope_parameters`, which transformers 5 writes, as the fields that 4.57 has for the same.

use serde_json::{Map, Value};

/// Takes it out of the fields of a config.json, and puts in its place what a family with these fields by default reads.
pub fn into_fields(given: &mut Map<String, Value>, defaults: &Map<String, Value>) {
    let Some(Value::Object(mut parameters)) = given.remove("rope_parameters") else { return };
    // By the type of layer, or for all layers alike.
    if let Some(Value::Object(mut sliding)) = parameters.remove("sliding_attention") {
        set(given, defaults, &["rope_local_base_freq", "local_rope_theta"], sliding.remove("rope_theta"));
    }
    if let Some(Value::Object(full)) = parameters.remove("full_attention") {
        parameters = full;
    }
    set(given, defaults, &["rope_theta", "rotary_emb_base", "global_rope_theta"], parameters.remove("rope_theta"));
    let share = parameters.remove("partial_rotary_factor");
    set(given, defaults, &["partial_rotary_factor", "rotary_pct"], share);
    let (older, newer) = (parameters.remove("type"), parameters.remove("rope_type"));
    let rope_type = older.or(newer).unwrap_or_else(|| "default".into());
    if rope_type == "default" {
        return;
    }
    // 4.57 has it beside the others there, and the name that all its classes know is the older one.
    if rope_type == "longrope"
        && let Some(original) = parameters.remove("original_max_position_embeddings")
    {
        given.entry("original_max_position_embeddings").or_insert(original);
    }
    parameters.insert("type".into(), rope_type);
    given.insert("rope_scaling".into(), parameters.into());
}

/// Under the name that the family has for it.
fn set(given: &mut Map<String, Value>, defaults: &Map<String, Value>, names: &[&str], value: Option<Value>) {
    let name = names.iter().find(|name| defaults.contains_key(**name)).or_else(|| names.first());
    if let (Some(name), Some(value)) = (name, value) {
        given.insert((*name).to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As `to_dict` of transformers 5.24's configurations has it.
    #[test]
    fn what_version_5_writes_means_the_same() {
        for (given, defaults, expected) in [
            (
                json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}),
                json!({"rope_theta": 1e4}),
                json!({"rope_theta": 5e5}),
            ),
            (
                json!({"rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}}),
                json!({"rope_theta": 1e4}),
                json!({"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}}),
            ),
            (
                json!({"rope_parameters": {"partial_rotary_factor": 0.25, "rope_theta": 1e4, "rope_type": "default"}}),
                json!({"rotary_pct": 1.0, "rotary_emb_base": 1}),
                json!({"rotary_pct": 0.25, "rotary_emb_base": 1e4}),
            ),
            (
                json!({"rope_parameters": {
                    "full_attention": {"factor": 8.0, "rope_theta": 1e6, "rope_type": "linear"},
                    "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
                }}),
                json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4}),
                json!({"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"type": "linear", "factor": 8.0}}),
            ),
            (
                json!({"rope_parameters": {"long_factor": [2.0], "short_factor": [1.0], "partial_rotary_factor": 0.75,
                    "original_max_position_embeddings": 16, "rope_theta": 1e4, "rope_type": "longrope", "type": "longrope"}}),
                json!({"rope_theta": 1e4, "partial_rotary_factor": 1.0}),
                json!({"rope_theta": 1e4, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 16,
                    "rope_scaling": {"type": "longrope", "long_factor": [2.0], "short_factor": [1.0]}}),
            ),
            (json!({"hidden_size": 8}), json!({"rope_theta": 1e4}), json!({"hidden_size": 8})),
        ] {
            let (Value::Object(mut fields), Value::Object(defaults)) = (given, defaults) else { unreachable!() };
            into_fields(&mut fields, &defaults);
            assert_eq!(Value::Object(fields), expected);
        }
    }
}
