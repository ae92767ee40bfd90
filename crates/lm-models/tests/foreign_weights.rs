//! Models from weights that other frameworks wrote: the logits that Python computes from them.

use std::error::Error;
use std::path::Path;

use burn::tensor::Device;
use lm_models::inputs::{HostBatch, Objective, Padding};
use lm_models::ops::Compute;
use lm_models::{Mode, ModelConfig, ModelInputs, pretrained};
use safetensors::{Dtype, SafeTensors};

/// The folders of real files that TensorFlow wrote.
#[test]
fn reference_files_of_tensorflow_give_their_logits() -> Result<(), Box<dyn Error>> {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/tensorflow");
    let Ok(folders) = std::fs::read_dir(&reference) else { return Ok(()) };
    for folder in folders {
        let folder = folder?.path();
        let config = ModelConfig::from_path(&folder)?;
        let loaded = pretrained::load(&folder, &config, config.vocab_size(), 0, &Device::flex())?;
        assert!(loaded.report.missing.is_empty(), "{}: {:?}", folder.display(), loaded.report);
        let left: Vec<&String> = loaded.report.unexpected.iter().filter(|name| !name.contains("pooler")).collect();
        assert!(left.is_empty(), "{}: {left:?}", folder.display());

        let bytes = std::fs::read(folder.join("expected.safetensors"))?;
        let expected = SafeTensors::deserialize(&bytes)?;
        let numbers = |name: &str| expected.tensor(name).map(|tensor| floats(tensor.dtype(), tensor.data()));
        let (ids, theirs) = (numbers("input_ids")?, numbers("logits")?);
        let [batch, seq] = <[usize; 2]>::try_from(expected.tensor("input_ids")?.shape())?;
        let attention_mask: Vec<u8> = match numbers("attention_mask") {
            Ok(mask) => mask.into_iter().map(|mask| mask as u8).collect(),
            Err(_) => vec![1; batch * seq],
        };
        let perm_mask: Option<Vec<u8>> =
            numbers("perm_mask").ok().map(|mask| mask.into_iter().map(|m| m as u8).collect());
        let host = HostBatch {
            batch,
            seq,
            input_ids: &ids.iter().map(|&id| id as i32).collect::<Vec<_>>(),
            attention_mask: &attention_mask,
            labels: &vec![0; batch * seq],
            perm_mask: perm_mask.as_deref(),
        };
        let inputs = ModelInputs::new(host, Objective::Masked, Padding::Mask, &Device::flex())?;
        let compute = Compute::default();
        let model = loaded.model;
        let ours = model.decoder().logits(model.forward(&inputs, &Mode::eval(compute)), compute).into_data();
        assert_eq!(ours.num_elements(), theirs.len());
        let width = theirs.len() / (batch * seq);
        let mut worst = 0f64;
        for (at, (ours, theirs)) in ours.iter::<f64>().zip(theirs).enumerate() {
            // Of padding, TensorFlow has logits of its own.
            if attention_mask[at / width] == 1 {
                worst = worst.max((ours - theirs).abs());
            }
        }
        println!("{}: logits within {worst:.1e}", folder.display());
        assert!(worst < 1e-4, "{}: logits are off by {worst:e}", folder.display());
    }
    Ok(())
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|value| f64::from(f32::from_le_bytes(*value))).collect(),
        Dtype::I64 => bytes.as_chunks().0.iter().map(|value| i64::from_le_bytes(*value) as f64).collect(),
        Dtype::I32 => bytes.as_chunks().0.iter().map(|value| f64::from(i32::from_le_bytes(*value))).collect(),
        other => panic!("{other}"),
    }
}
