//! Frequencies and angles against those that transformers 4.57 computes for a Llama of 4 heads of 8 columns, 64 positions and
//! `rope_theta` 500 (`LlamaRotaryEmbedding.inv_freq`, `attention_scaling`).

use burn::tensor::{Device, Int, Tensor};
use serde_json::{Map, Value, json};

use super::Rotary;
use crate::cache::ints;
use crate::config::{ConfigError, ModelConfig};

const BASE: f64 = 500.0;
const ROTATED: usize = 8;

fn rotary(scaling: Value, original: Option<usize>) -> Result<Rotary, ConfigError> {
    let mut given = Map::from_iter([("max_position_embeddings".to_owned(), 64.into())]);
    given.insert("rope_scaling".into(), scaling);
    given.extend(original.map(|original| ("original_max_position_embeddings".to_owned(), original.into())));
    Rotary::scaled(&ModelConfig::new(crate::models::family("llama")?, given), BASE, ROTATED)
}

fn assert_close(ours: &[f32], theirs: &[f64], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((f64::from(*ours) - theirs).abs() <= 1e-6 * theirs.abs(), "{what}: {ours}, Python's {theirs}");
    }
}

#[test]
fn frequencies_are_pythons() {
    let short = json!([1.0, 1.05, 1.5, 2.0]);
    let long = json!([1.5, 3.0, 10.0, 40.5]);
    let (unscaled, usual) =
        ([1.0, 0.21147424, 0.0447213612, 0.0094574159], [1.0, 0.201404035, 0.0298142396, 0.00472870795]);
    let yarn = json!({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 4.0,
        "beta_slow": 0.5, "mscale": 0.7, "mscale_all_dim": 1.3, "truncate": false});
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 20});
    for (scaling, original, longest, frequencies, factor) in [
        (json!(null), None, 9, unscaled, 1.0),
        (json!({"rope_type": "default"}), None, 9, unscaled, 1.0),
        (
            json!({"rope_type": "linear", "factor": 2.5}),
            None,
            9,
            [0.400000006, 0.0845896974, 0.0178885441, 0.00378296641],
            1.0,
        ),
        (json!({"rope_type": "dynamic", "factor": 4.0}), None, 64, unscaled, 1.0),
        (json!({"type": "dynamic", "factor": 4.0}), None, 100, [1.0, 0.142767623, 0.0203825925, 0.0029099742], 1.0),
        (
            json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}),
            None,
            9,
            [1.0, 0.05286856, 0.0111803403, 0.00236435398],
            1.13862944,
        ),
        (yarn, None, 9, [1.0, 0.094717592, 0.00559017016, 0.00118217699], 0.901783987),
        (
            json!({"rope_type": "yarn", "factor": 8.0, "attention_factor": 0.9}),
            None,
            9,
            [1.0, 0.118954256, 0.00559017016, 0.00118217699],
            0.9,
        ),
        (
            json!({"rope_type": "longrope", "short_factor": short, "long_factor": long, "factor": 8.0}),
            None,
            9,
            usual,
            1.22474487,
        ),
        (
            json!({"rope_type": "longrope", "short_factor": short, "long_factor": long}),
            Some(16),
            17,
            [0.666666687, 0.0704914108, 0.00447213603, 0.000233516446],
            1.22474487,
        ),
        (
            json!({"rope_type": "longrope", "short_factor": short, "long_factor": long, "attention_factor": 1.25}),
            None,
            64,
            usual,
            1.25,
        ),
        (llama3, None, 9, [0.761737108, 0.02643428, 0.00559017016, 0.00118217699], 1.0),
    ] {
        let what = format!("{scaling} of {longest}");
        let rotary = rotary(scaling, original).expect(&what);
        assert_close(&rotary.frequencies.at(longest), &frequencies, &what);
        assert_close(&[rotary.frequencies.factor as f32], &[factor], &what);
    }
}

#[test]
fn angles_are_pythons_wherever_a_row_stands() -> Result<(), ConfigError> {
    let yarn = json!({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 4.0,
        "beta_slow": 0.5, "mscale": 0.7, "mscale_all_dim": 1.3, "truncate": false});
    let rotary = rotary(yarn, None)?;
    let cos = [-0.131209596991539, 0.6550474166870117, 0.900882363319397, 0.9017437100410461];
    let sin = [0.8921874165534973, 0.6197800040245056, 0.04031556844711304, 0.008528419770300388];
    // As one row that goes on with a text, and as the last of a batch of short and long ones.
    for positions in [vec![8], (0..3).chain(0..9).collect()] {
        let angles = rotary.angles(ints(positions.into_iter(), &Device::flex()), 9);
        let at = |table: Tensor<2>| -> Vec<f32> {
            let places: Tensor<1, Int> = angles.places.clone();
            let rows = places.dims()[0];
            table.select(0, places.narrow(0, rows - 1, 1)).into_data().iter().collect()
        };
        // Position 8's cosine is near its zero: as far as float32 knows the angle.
        for (ours, theirs) in [(at(angles.cos.clone()), cos), (at(angles.sin.clone()), sin)] {
            let close = ours.iter().zip(theirs).all(|(ours, theirs)| (f64::from(*ours) - theirs).abs() < 2e-6);
            assert!(close, "{ours:?}, Python's {theirs:?}");
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_is_told_by_name() {
    for (scaling, message) in [
        (json!({"factor": 2.0}), "`rope_scaling`: `rope_type` is missing"),
        (json!({"rope_type": "linear"}), "`rope_scaling`: `factor` is missing"),
        (json!({"rope_type": "linear", "factor": 0.0}), "`factor` = 0 must be more than 0"),
        (json!({"rope_type": "linear", "factor": "2"}), "`factor` = \"2\" is no number"),
        (json!({"type": "mrope", "mrope_section": [1, 1, 2]}), "not supported; `rope_type` default, linear"),
        (json!({"rope_type": "llama3", "factor": 8.0}), "`original_max_position_embeddings` is missing"),
        (
            json!({"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0], "long_factor": [1.0, 1.0, 1.0, 1.0]}),
            "`short_factor` must be a list of 4 positive numbers",
        ),
        (
            json!({"rope_type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [1, 1, 1, 1]}),
            "needs `original_max_position_embeddings`",
        ),
        (json!("yarn"), "`rope_scaling` = \"yarn\": invalid type"),
    ] {
        let error = rotary(scaling, None).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
    let config = ModelConfig::from_model_type("llama").expect("known");
    let odd = Rotary::scaled(&config, BASE, 7).expect_err("odd").to_string();
    assert!(odd.contains("a head has 7 to turn"), "{odd}");
    let base = Rotary::scaled(&config, 0.0, ROTATED).expect_err("no base").to_string();
    assert!(base.contains("`rope_theta`, is 0 and must be more"), "{base}");
}
