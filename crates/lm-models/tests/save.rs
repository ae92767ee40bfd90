//! A model folder that Python wrote, loaded and saved again, is the same folder.

use std::error::Error;
use std::path::Path;

use burn::tensor::Device;
use lm_models::config::GenerationConfig;
use lm_models::parameters::Kind;
use lm_models::weights::{Checkpoint, FloatDtype};
use lm_models::{AutoModel, ModelConfig, pretrained};
use serde_json::Value;

#[test]
fn loaded_and_saved_again() -> Result<(), Box<dyn Error>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let mut count = 0;
    for folder in std::fs::read_dir(fixtures)? {
        let folder = folder?.path();
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
        count += 1;
    }
    assert!(count >= 8);
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

/// A head of its own grows by the mean of its old rows and biases, a tied one's new biases are zero: what
/// `resize_token_embeddings` of transformers 4.57 gives for each of these.
#[test]
fn a_vocabulary_grows_as_in_python() -> Result<(), Box<dyn Error>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    for (name, bias, weight) in [
        ("bert", "cls.predictions.bias", "cls.predictions.decoder.weight"),
        ("roberta", "lm_head.bias", "lm_head.decoder.weight"),
        ("distilbert", "vocab_projector.bias", "vocab_projector.weight"),
        ("xlnet", "lm_loss.bias", "lm_loss.weight"),
    ] {
        for tied in [true, false] {
            let mut config = ModelConfig::from_path(&fixtures.join(name))?;
            config.set("tie_word_embeddings", tied);
            let old = config.vocab_size();
            let model = pretrained::load(&fixtures.join(name), &config, old, 0, &Device::flex())?.model;
            let folder = tempfile::tempdir()?;
            pretrained::save_pretrained(folder.path(), &config, None, &model.snapshot(), FloatDtype::F32)?;
            let before = Checkpoint::open(folder.path())?.read_f32(bias)?;
            let mean = before.iter().map(|&b| f64::from(b)).sum::<f64>() / old as f64;
            assert!(mean != 0.0, "{name}");

            config.set("vocab_size", old + 3);
            let grown = pretrained::load(folder.path(), &config, old, 0, &Device::flex())?.model;
            pretrained::save_pretrained(folder.path(), &config, None, &grown.snapshot(), FloatDtype::F32)?;
            let saved = Checkpoint::open(folder.path())?;
            let after = saved.read_f32(bias)?;
            assert_eq!((after.len(), &after[..old]), (old + 3, &before[..]), "{name}");
            let expected = if tied { 0.0 } else { mean };
            assert!(after[old..].iter().all(|&b| (f64::from(b) - expected).abs() < 1e-6), "{name} {tied}: {after:?}");
            if !tied {
                let rows = saved.read_f32(weight)?;
                let width = rows.len() / (old + 3);
                let mean = (0..old).map(|row| rows[row * width]).sum::<f32>() / old as f32;
                assert!((rows[old * width] - mean).abs() < 1e-6, "{name}");
            }
        }
    }
    Ok(())
}

/// Python's `num_parameters(exclude_embeddings=True)` of each of these folders, with tied embeddings and with untied ones:
/// a head of its own is no embedding.
#[test]
fn embeddings_are_told_from_heads() -> Result<(), Box<dyn Error>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    for (name, pythons) in [
        ("bert", [26792, 33192]),
        ("roberta", [26792, 33192]),
        ("distilbert", [26792, 33192]),
        ("gpt2", [25472, 31872]),
        ("openai-gpt", [25408, 31808]),
        ("xlnet", [27752, 34152]),
    ] {
        let ours = [true, false].map(|tied| -> Result<usize, Box<dyn Error>> {
            let mut config = ModelConfig::from_path(&fixtures.join(name))?;
            config.set("tie_word_embeddings", tied);
            let model = lm_models::AutoModel::from_config(&config, 0, &Device::flex())?;
            Ok(model.parameters().iter().filter(|info| info.kind != Kind::Embedding).map(|info| info.len()).sum())
        });
        let [tied, untied] = ours;
        assert_eq!([tied?, untied?], pythons, "{name}");
    }
    Ok(())
}
