//! The configurations of checkpoints that people have: no field of theirs is refused, and the models have as many parameters
//! as Python's (`AutoModel….from_config` of transformers 4.57).

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::family;
use crate::config::{ConfigError, ModelConfig};
use crate::sizes::Sizes;

const CHECKPOINTS: &str = include_str!("../../tests/fixtures/checkpoints.json");

#[derive(Deserialize)]
struct Checkpoint {
    /// On the Hub.
    name: String,
    /// Values in all of them.
    parameters: u64,
    /// config.json
    config: Map<String, Value>,
}

#[test]
fn configurations_of_real_checkpoints_are_understood() -> Result<(), ConfigError> {
    let checkpoints: Vec<Checkpoint> = serde_json::from_str(CHECKPOINTS).expect("a list");
    for Checkpoint { name, parameters, config } in checkpoints {
        let family = family(config["model_type"].as_str().expect("a model_type"))?;
        let config = ModelConfig::new(family, config);
        let sizes = Sizes::of(&config, &Device::flex()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(sizes.values(), parameters, "{name}");
        // What is written is understood as well, and is the same model.
        let written = serde_json::from_str(&config.to_json()).expect("an object");
        let again = Sizes::of(&ModelConfig::new(family, written), &Device::flex())?;
        assert_eq!(again, sizes, "{name}");
    }
    Ok(())
}
