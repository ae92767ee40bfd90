//! Every family against the numbers of Python's `transformers` (see tests/fixtures/models): logits at all positions,
//! the loss, its gradients, and a save that Python's names and layout survive.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use lm_models::inputs::{HostBatch, IGNORE, Objective, Padding};
use lm_models::params::{self, ParameterInfo, Visit};
use lm_models::weights::Checkpoint;
use lm_models::{AutoModel, Mode, ModelConfig, ModelInputs, Task, load, ops};
use safetensors::SafeTensors;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A batch of the reference files, as a collator would make it.
struct Batch {
    batch: usize,
    seq: usize,
    input_ids: Vec<i32>,
    attention_mask: Vec<u8>,
    labels: Vec<i32>,
    perm_mask: Option<Vec<u8>>,
}

impl Batch {
    fn inputs(&self, labels: &[i32], objective: Objective, padding: Padding, device: &Device) -> Outcome<ModelInputs> {
        let host = HostBatch {
            batch: self.batch,
            seq: self.seq,
            input_ids: &self.input_ids,
            attention_mask: &self.attention_mask,
            labels,
            perm_mask: self.perm_mask.as_deref(),
        };
        Ok(ModelInputs::new(host, objective, padding, device)?)
    }
}

fn read_batch(expected: &SafeTensors) -> Outcome<Batch> {
    let ints = |name: &str| -> Outcome<Vec<i32>> {
        let bytes = expected.tensor(name)?.data();
        Ok(bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as i32).collect())
    };
    let shape = expected.tensor("input_ids")?.shape().to_vec();
    let input_ids = ints("input_ids")?;
    let attention_mask = match ints("attention_mask") {
        Ok(mask) => mask.iter().map(|&m| m as u8).collect(),
        Err(_) => vec![1; input_ids.len()],
    };
    let perm_mask = expected.tensor("perm_mask").ok().map(|mask| floats(mask.data()).map(|m| m as u8).collect());
    Ok(Batch { batch: shape[0], seq: shape[1], input_ids, attention_mask, labels: ints("labels")?, perm_mask })
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b))
}

/// Compares each gradient with the file's by ‖difference‖ / ‖expected‖.
struct Gradients<'a> {
    gradients: burn::tensor::Gradients,
    expected: &'a SafeTensors<'a>,
    seen: HashMap<String, Result<(), String>>,
}

impl Visit for Gradients<'_> {
    fn visit<const D: usize>(&mut self, info: ParameterInfo, tensor: Tensor<D>) {
        let ours = tensor.grad(&self.gradients).map(|gradient| gradient.into_data());
        let theirs = self.expected.tensor(&format!("grad.{}", info.name));
        let outcome = match (ours, theirs) {
            (None, Err(_)) => Ok(()),
            (None, Ok(_)) => Err("has no gradient".into()),
            (Some(_), Err(_)) => Err("has a gradient, Python's has none".into()),
            (Some(ours), Ok(theirs)) => {
                let (mut difference, mut norm) = (0.0, 0.0);
                for (a, b) in ours.iter::<f64>().zip(floats(theirs.data())) {
                    difference += (a - f64::from(b)).powi(2);
                    norm += f64::from(b).powi(2);
                }
                let relative = difference.sqrt() / norm.sqrt().max(1e-6);
                if relative < 1e-3 { Ok(()) } else { Err(format!("differs by {relative:.1e} of its norm")) }
            }
        };
        self.seen.insert(info.name, outcome);
    }
}

fn check(folder: &Path) -> Outcome {
    let bytes = std::fs::read(folder.join("expected.safetensors"))?;
    let expected = SafeTensors::deserialize(&bytes)?;
    let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json"))?)?;
    let batch = read_batch(&expected)?;
    let device = Device::flex().autodiff();
    let config = ModelConfig::from_path(folder)?;
    let model = load::load(folder, &config, config.vocab_size(), 0, &device)?.model;
    let (objective, paddings) = match config.family().task {
        Task::Mlm => (Objective::Masked, [Padding::Drop, Padding::Mask].as_slice()),
        Task::Clm => (Objective::Causal, [Padding::Drop, Padding::Mask].as_slice()),
        Task::Plm => (Objective::Masked, [Padding::See, Padding::Drop].as_slice()),
    };
    for &padding in paddings {
        // The logits of all tokens: label every one.
        let token = |place: usize| if batch.attention_mask[place] == 0 { IGNORE } else { 0 };
        let all: Vec<i32> = (0..batch.labels.len()).map(token).collect();
        let inputs = batch.inputs(&all, Objective::Masked, padding, &device)?;
        let logits = model.decoder().logits(model.forward(&inputs, &Mode::eval())).into_data();
        let theirs: Vec<f32> = floats(expected.tensor("logits")?.data()).collect();
        let rows = theirs.chunks(config.vocab_size()).zip(&all).filter(|(_, label)| **label != IGNORE);
        let mut ours = logits.iter::<f32>();
        for (place, (row, _)) in rows.enumerate() {
            for expected in row {
                let found = ours.next().ok_or("too few logits")?;
                assert!((found - expected).abs() < 1e-4, "{padding:?}, token {place}: logit {found}, not {expected}");
            }
        }
        assert_eq!(ours.next(), None, "too many logits");

        let inputs = batch.inputs(&batch.labels, objective, padding, &device)?;
        let count = inputs.host_predicted.len() as f64;
        let rows = model.forward(&inputs, &Mode::eval());
        let sum = ops::cross_entropy(rows, &model.decoder(), inputs.targets.clone(), 0.0);
        let loss = sum.value.into_data().iter::<f64>().sum::<f64>() / count;
        let theirs = facts["loss"].as_f64().ok_or("no loss")?;
        assert!((loss - theirs).abs() < 1e-5, "{padding:?}: loss {loss}, not {theirs}");
        let gradients = (sum.carrier / count).backward();
        let mut gradients = Gradients { gradients, expected: &expected, seen: HashMap::new() };
        params::visit(&model, &mut gradients);
        for name in expected.names().into_iter().filter_map(|name| name.strip_prefix("grad.")) {
            assert!(gradients.seen.contains_key(name), "no parameter {name}");
        }
        for (name, outcome) in gradients.seen {
            outcome.map_err(|why| format!("{padding:?}: {name} {why}"))?;
        }
    }
    save_keeps_everything(folder, &config, &model)
}

/// What is saved has the names, shapes and values of what Python saved, and the same configuration.
fn save_keeps_everything(folder: &Path, config: &ModelConfig, model: &AutoModel) -> Outcome {
    let saved = tempfile::tempdir()?;
    let generation = lm_models::generation_config::generation_config(config, None);
    let dtype = lm_models::weights::FloatDtype::F32;
    load::save_pretrained(saved.path(), config, generation.as_deref(), &params::snapshot(model), dtype)?;
    let (theirs, ours) = (Checkpoint::open(folder)?, Checkpoint::open(saved.path())?);
    assert_eq!(sorted(theirs.names()), sorted(ours.names()));
    for name in theirs.names() {
        assert_eq!(theirs.info(name).map(|info| &info.shape), ours.info(name).map(|info| &info.shape), "{name}");
        assert_eq!(theirs.read_f32(name)?, ours.read_f32(name)?, "{name}");
    }
    for file in ["config.json", "generation_config.json"] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).ok();
        let parse = |bytes: Option<Vec<u8>>| bytes.map(|b| serde_json::from_slice::<serde_json::Value>(&b)).transpose();
        assert_eq!(parse(read(saved.path()))?, parse(read(folder))?, "{file}");
    }
    Ok(())
}

fn sorted(names: &[String]) -> Vec<&String> {
    let mut names: Vec<_> = names.iter().collect();
    names.sort();
    names
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(name)
}

#[test]
fn openai_gpt() -> Outcome {
    check(&folder("openai-gpt"))
}

#[test]
fn gpt2() -> Outcome {
    check(&folder("gpt2"))
}

/// Where every row is predicted the query stream is the full one of Python; the loss looks at a part of them.
#[test]
fn xlnet() -> Outcome {
    check(&folder("xlnet"))
}
