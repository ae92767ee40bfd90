//! A model folder that Python wrote, loaded and saved again, is the same folder.

use std::error::Error;
use std::path::Path;

use burn::tensor::Device;
use lm_models::generation_config::GenerationConfig;
use lm_models::weights::{Checkpoint, FloatDtype};
use lm_models::{ModelConfig, load, params};
use serde_json::Value;

#[test]
fn loaded_and_saved_again() -> Result<(), Box<dyn Error>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let mut count = 0;
    for folder in std::fs::read_dir(fixtures)? {
        let folder = folder?.path();
        let config = ModelConfig::from_path(&folder)?;
        let model = load::load(&folder, &config, config.vocab_size(), 0, &Device::flex())?.model;
        let saved = tempfile::tempdir()?;
        let generation = GenerationConfig::new(&config, None).map(|generation| generation.to_json());
        let parameters = params::snapshot(&model);
        load::save_pretrained(saved.path(), &config, generation.as_deref(), &parameters, FloatDtype::F32)?;

        let (theirs, ours) = (Checkpoint::open(&folder)?, Checkpoint::open(saved.path())?);
        assert_eq!(sorted(ours.names()), sorted(theirs.names()), "{}", folder.display());
        for name in theirs.names() {
            assert_eq!(ours.info(name).map(|i| &i.shape), theirs.info(name).map(|i| &i.shape), "{name}");
            assert_eq!(ours.read_f32(name)?, theirs.read_f32(name)?, "{name}");
        }
        for file in ["config.json", "generation_config.json"] {
            assert_eq!(json(&saved.path().join(file))?, json(&folder.join(file))?, "{}: {file}", folder.display());
        }
        count += 1;
    }
    assert!(count >= 8);
    Ok(())
}

/// None where there is no such file.
fn json(path: &Path) -> Result<Option<Value>, Box<dyn Error>> {
    Ok(if path.is_file() { Some(serde_json::from_slice(&std::fs::read(path)?)?) } else { None })
}

fn sorted(names: &[String]) -> Vec<&String> {
    let mut names: Vec<_> = names.iter().collect();
    names.sort();
    names
}
