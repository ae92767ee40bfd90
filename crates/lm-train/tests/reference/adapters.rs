//! LoRA adapters that Python's peft wrote: logits, loss, every gradient of the adapter, merged weights.
//!
//! Folders are those of lm-models' fixtures (`adapters/make.py` wrote them) and of `../shared/reference/peft`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use lm_models::adapter::{self, LoraConfig, base_of};
use lm_models::inputs::{Objective, Padding};
use lm_models::ops::Compute;
use lm_models::parameters::ParameterInfo;
use lm_models::{ModelConfig, Task, pretrained};
use safetensors::SafeTensors;
use serde_json::Value;

use super::{Deviation, Expected, OwnedBatch, has_kinks, limits, logits, loss_and_gradients, relative};

/// How far a merged weight may be off, absolutely.
const MERGED: f64 = 1e-6;

/// Checks all adapters; how many failed.
pub fn check_all(device: &Device, compute: Compute) -> Result<usize> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut failed = 0;
    let mut checked = 0;
    for root in [root.join("crates/lm-models/tests/fixtures/adapters"), root.join("../shared/reference/peft")] {
        let Ok(entries) = std::fs::read_dir(&root) else { continue };
        let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        folders.retain(|folder| folder.join("expected.json").is_file());
        folders.sort();
        for folder in folders {
            let deviations = check(&folder, device, compute).with_context(|| folder.display().to_string())?;
            let excess = deviations.iter().any(|d| d.value.is_nan() || d.value > d.limit);
            let columns: Vec<String> = deviations.iter().map(Deviation::to_string).collect();
            println!("{} {}: {}", if excess { "FAILED" } else { "ok    " }, folder.display(), columns.join("  "));
            checked += 1;
            failed += usize::from(excess);
        }
    }
    ensure!(checked > 0, "no adapters found");
    println!("{} adapters passed, {failed} failed\n", checked - failed);
    Ok(failed)
}

fn check(folder: &Path, device: &Device, compute: Compute) -> Result<Vec<Deviation>> {
    let facts: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json"))?)?;
    let bytes = std::fs::read(folder.join("expected.safetensors"))?;
    let expected = Expected(SafeTensors::deserialize(&bytes)?);
    let lora = LoraConfig::from_folder(folder)?;
    let base = base_of(folder, lora.base_model_name_or_path.as_deref().context("base_model_name_or_path")?);
    let config = ModelConfig::from_path(&base)?;
    let model = pretrained::load(&base, &config, config.vocab_size(), 0, device)?.model;
    let model = adapter::load(adapter::attach(model, &lora, &config, 0)?, folder, &config)?;

    let batch = expected.batch("", 0)?;
    let mut deviations = vec![first_logits(&model, &batch, &expected, device, compute)?];
    let objective = if config.family().task == Task::Clm { Objective::Causal } else { Objective::Masked };
    let inputs = batch.inputs(objective, Padding::Drop, device)?;
    let (loss, gradients) = loss_and_gradients(&model, &inputs, compute);
    let mut of_loss = Deviation::new("loss", limits(compute).loss);
    of_loss.see((loss - facts["loss"].as_f64().context("loss")?).abs(), "training");
    deviations.push(of_loss);

    let mut of_gradients = Deviation::new("gradients", limits(compute).gradient);
    let mut ours: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for (info, gradient) in model.parameters().into_iter().zip(gradients.into_inner()) {
        ensure!(info.trainable || gradient.is_none(), "{} is frozen and has a gradient", info.name);
        if let Some(gradient) = gradient {
            let gradient = gradient / limits(compute).loss_scale;
            ours.insert(info.name, gradient.into_data().iter().collect());
        }
    }
    // Where units come and go with the precision, only all gradients together are near.
    let together = has_kinks(&base, compute)?;
    let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
    let (mut count, mut expected_count) = (0, 0);
    for name in expected.0.names() {
        let Some(key) = name.strip_prefix("grad.base_model.model.") else { continue };
        let theirs = expected.floats(name)?;
        // A tied head has the same gradient under another name.
        if config.family().ties.iter().any(|(alias, name)| *alias == key && ours.contains_key(*name)) {
            continue;
        }
        let zero = vec![0.0; theirs.len()];
        let own = ours.get(&key.replace(".base_layer.", "."));
        expected_count += 1;
        count += usize::from(own.is_some());
        let own = own.unwrap_or(&zero);
        if together {
            all_ours.extend_from_slice(own);
            all_theirs.extend(theirs);
        } else {
            of_gradients.see(relative(own, &theirs, limits(compute).floor), key);
        }
    }
    of_gradients.see(relative(&all_ours, &all_theirs, limits(compute).floor), "all together");
    ensure!(count == ours.len() && count <= expected_count, "{count} gradients of ours, {expected_count} of peft's");
    deviations.push(of_gradients);

    let merged = model.valid().merge().snapshot();
    ensure!(merged.iter().all(|parameter| !parameter.info.name.contains("lora_")), "a pair is left after merging");
    let mut of_merged = Deviation::new("merged", MERGED);
    for name in expected.0.names() {
        let Some(key) = name.strip_prefix("merged.") else { continue };
        let theirs = expected.floats(name)?;
        let found = merged.iter().find(|parameter| parameter.info.name == key);
        let own: Vec<f32> = found.with_context(|| format!("no parameter {key}"))?.tensor.to_data().iter().collect();
        ensure!(own.len() == theirs.len(), "{key} has {} values, peft's {}", own.len(), theirs.len());
        own.iter().zip(&theirs).for_each(|(a, b)| of_merged.see(f64::from((a - b).abs()), key));
    }
    deviations.push(of_merged);
    saved_again(folder, &lora, &config, &model)?;
    Ok(deviations)
}

/// The logits that are expected: of the first texts or of all.
fn first_logits(
    model: &lm_models::AutoModel,
    batch: &OwnedBatch,
    expected: &Expected,
    device: &Device,
    compute: Compute,
) -> Result<Deviation> {
    let texts = expected.0.tensor("logits")?.shape()[0];
    let first = |values: &[i32]| values[..texts * batch.seq].to_vec();
    let part = OwnedBatch {
        batch: texts,
        seq: batch.seq,
        input_ids: first(&batch.input_ids),
        attention_mask: first(&batch.attention_mask),
        labels: first(&batch.labels),
        perm_mask: None,
    };
    logits(model, &part, expected, device, compute)
}

/// What is read and saved again holds the same tensors.
fn saved_again(folder: &Path, lora: &LoraConfig, config: &ModelConfig, model: &lm_models::AutoModel) -> Result<()> {
    let dir = tempfile::tempdir()?;
    adapter::save(dir.path(), lora, config, false, &model.snapshot(), lm_models::weights::FloatDtype::F32)?;
    let read = |folder: &Path| -> Result<BTreeMap<String, Vec<u8>>> {
        let bytes = std::fs::read(folder.join(adapter::WEIGHTS_NAME))?;
        let tensors = SafeTensors::deserialize(&bytes)?;
        Ok(tensors.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect())
    };
    let (ours, theirs) = (read(dir.path())?, read(folder)?);
    for (name, bytes) in &ours {
        ensure!(theirs.get(name) == Some(bytes), "{name} is not what was read");
    }
    let trained: Vec<ParameterInfo> = model.parameters().into_iter().filter(|info| info.trainable).collect();
    ensure!(ours.len() == trained.len(), "{} tensors saved, {} are trained", ours.len(), trained.len());
    let again = LoraConfig::from_folder(dir.path())?;
    ensure!((again.r, again.scale()) == (lora.r, lora.scale()), "saved with another rank or scale");
    Ok(())
}
