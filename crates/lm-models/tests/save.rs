//! A model folder that Python wrote, loaded and saved again, is the same folder.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

use burn::tensor::Device;
use lm_models::config::GenerationConfig;
use lm_models::models::FAMILIES;
use lm_models::weights::{Checkpoint, FloatDtype};
use lm_models::{AutoModel, ModelConfig, pretrained};
use serde_json::Value;

#[test]
fn loaded_and_saved_again() -> Result<(), Box<dyn Error>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let mut seen = BTreeSet::new();
    for folder in std::fs::read_dir(fixtures)? {
        let folder = folder?.path();
        let Some(facts) = json(&folder.join("config.json"))? else { continue };
        let Some(family) = FAMILIES.iter().find(|family| facts["model_type"] == family.model_type) else { continue };
        seen.insert(family.model_type);
        let config = ModelConfig::from_path(&folder)?;
        let model = pretrained::load(&folder, &config, config.vocab_size(), 0, &Device::flex())?.model;
        let saved = tempfile::tempdir()?;
        let generation = GenerationConfig::new(&config, None).map(|generation| generation.to_json());
        let parameters = model.snapshot();
        pretrained::save_pretrained(saved.path(), &config, generation.as_deref(), &parameters, FloatDtype::F32)?;

        let (theirs, ours) = (Checkpoint::open(&folder)?, Checkpoint::open(saved.path())?);
        assert_eq!(sorted(ours.names()), sorted(theirs.names()), "{}", folder.display());
        for name in theirs.names() {
            assert_eq!(ours.info(name).map(|i| &i.shape), theirs.info(name).map(|i| &i.shape), "{name}");
            assert_eq!(ours.read_f32(name)?, theirs.read_f32(name)?, "{name}");
        }
        for file in ["config.json", "generation_config.json"] {
            assert_eq!(json(&saved.path().join(file))?, json(&folder.join(file))?, "{}: {file}", folder.display());
        }
    }
    let without: Vec<_> = FAMILIES.iter().map(|family| family.model_type).filter(|name| !seen.contains(name)).collect();
    assert!(without.is_empty(), "without a folder: {without:?}");
    Ok(())
}

/// `create_sinusoidal_embeddings(n_pos=3, dim=4, out=…)` of transformers.
#[test]
fn positions_that_are_not_trained_begin_as_in_python() -> Result<(), Box<dyn Error>> {
    let settings = "dim=4,hidden_dim=4,n_heads=2,n_layers=1,vocab_size=9,max_position_embeddings=3";
    let mut config = ModelConfig::from_model_type("distilbert")?;
    config.apply_overrides(&format!("{settings},sinusoidal_pos_embds=true"))?;
    let model = AutoModel::from_config(&config, 1, &Device::flex())?;
    let name = "distilbert.embeddings.position_embeddings.weight";
    let ours = model.snapshot().into_iter().find(|parameter| parameter.info.name == name);
    let ours = ours.ok_or("no positions")?.tensor.into_data().iter::<f32>().collect::<Vec<_>>();
    let theirs = [
        [0.0, 1.0, 0.0, 1.0],
        [0.841_471, 0.540_302_3, 0.009_999_834, 0.999_95],
        [0.909_297_4, -0.416_146_84, 0.019_998_666, 0.999_8],
    ];
    assert_eq!(ours.len(), 12);
    for (ours, theirs) in ours.iter().zip(theirs.as_flattened()) {
        assert!((ours - theirs).abs() < 1e-6, "{ours} {theirs}");
    }
    Ok(())
}

/// Without the version of Python's library, which ours does not claim to be; none where there is no such file.
fn json(path: &Path) -> Result<Option<Value>, Box<dyn Error>> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut config: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    config.as_object_mut().map(|fields| fields.remove("transformers_version"));
    Ok(Some(config))
}

fn sorted(names: &[String]) -> Vec<&String> {
    let mut names: Vec<_> = names.iter().collect();
    names.sort();
    names
}

/// What `resize_token_embeddings` of transformers 4.57 does to each parameter of each family, tied and untied: new entries
/// are the mean of the old ones, new biases of a tied head zeros (`tests/fixtures/initial/make.py` wrote which).
#[test]
fn a_vocabulary_grows_as_in_python() -> Result<(), Box<dyn Error>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/initial/initial.json");
    let expected: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    for model in expected["models"].as_array().ok_or("models")? {
        let Some(family) = FAMILIES.iter().find(|family| model["model_type"] == family.model_type) else { continue };
        let mut config = ModelConfig::new(family, model["config"].as_object().cloned().unwrap_or_default());
        let about = format!("{} {}", family.model_type, model["config"]);
        // A variant that is not supported says so elsewhere.
        let Ok(new) = AutoModel::from_config(&config, 0, &Device::flex()) else { continue };
        let folder = tempfile::tempdir()?;
        // New biases are zero, and so would be their mean.
        let parameters = new.map(|_, values| values + 0.25).snapshot();
        pretrained::save_pretrained(folder.path(), &config, None, &parameters, FloatDtype::F32)?;
        let old = config.vocab_size();
        config.set("vocab_size", old + 3);
        let grown = pretrained::load(folder.path(), &config, old, 0, &Device::flex())?.model.snapshot();
        let mut longer = 0;
        for (before, after) in parameters.iter().zip(&grown) {
            let name = &after.info.name;
            let (from, to) = (&before.info.shape, &after.info.shape);
            let Some(axis) = (0..to.len()).find(|&axis| from[axis] != to[axis]) else { continue };
            let added = match model["grown"][name].as_str() {
                Some("mean") => true,
                Some("zeros") => false,
                // ESM's bias, which Python forgets: its model fails then.
                _ if name == "lm_head.bias" => continue,
                other => return Err(format!("{about}: {name} is longer, in Python {other:?}").into()),
            };
            longer += 1;
            let width: usize = to[axis + 1..].iter().product();
            let [before, after] =
                [before, after].map(|p| p.tensor.clone().into_data().iter::<f32>().collect::<Vec<_>>());
            for (before, after) in before.chunks(old * width).zip(after.chunks((old + 3) * width)) {
                assert_eq!(before, &after[..old * width], "{about}: {name}");
                for (index, value) in after.iter().enumerate().skip(old * width) {
                    let column: Vec<f32> = before.iter().skip(index % width).step_by(width).copied().collect();
                    let expected = if added { column.iter().sum::<f32>() / old as f32 } else { 0.0 };
                    assert!((value - expected).abs() < 1e-5, "{about}: {name} grows by {value}, not {expected}");
                }
            }
        }
        assert_eq!(Some(longer), model["grown"].as_object().map(|grown| grown.len()), "{about}");
    }
    Ok(())
}
