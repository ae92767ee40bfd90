//! Writes what a model folder computes for a fixed small batch, for another program to compare with:
//!
//! ```text
//! cargo run --release -p lm-train --example logits -- FOLDER OUT.safetensors
//! ```
//!
//! OUT.safetensors holds `input_ids` and `attention_mask` (integers, [2, 32], nothing masked) and `logits` (float32,
//! [2, 32, vocab]). XLNet's logits are those of its query stream, which sees every position (Python's `target_mapping`,
//! the identity).

use std::error::Error;
use std::path::Path;

use burn::tensor::Device;
use lm_models::inputs::{HostBatch, Objective, Padding};
use lm_models::ops::Compute;
use lm_models::{Mode, ModelConfig, ModelInputs, pretrained};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const BATCH: usize = 2;
const SEQ: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(folder), Some(out), None) = (words.next(), words.next(), words.next()) else {
        return Err("usage: logits FOLDER OUT.safetensors".into());
    };
    let folder = Path::new(&folder);
    let config = ModelConfig::from_path(folder)?;
    let device = Device::flex();
    let model = pretrained::load(folder, &config, config.vocab_size(), 0, &device)?.model;

    let vocab = config.vocab_size();
    if vocab < 2 {
        return Err("a vocabulary of two tokens at least is needed".into());
    }
    let seq = config.max_positions().map_or(SEQ, |positions| positions.min(SEQ));
    let size = BATCH * seq;
    let pad = config.get("pad_token_id").and_then(|id| id.as_u64()).map(|id| id as usize);
    let ids = (0..).map(|i: usize| i.wrapping_mul(7919) % vocab).filter(|id| Some(*id) != pad);
    let input_ids: Vec<i32> = ids.take(size).map(|id| id as i32).collect();
    let host = HostBatch {
        batch: BATCH,
        seq,
        input_ids: &input_ids,
        attention_mask: &vec![1; size],
        labels: &vec![0; size],
        perm_mask: None,
    };
    let inputs = ModelInputs::new(host, Objective::Masked, Padding::Mask, &device)?;
    let compute = Compute::default();
    let logits = model.decoder().logits(model.forward(&inputs, &Mode::eval(compute)), compute);
    let logits: Vec<f32> = logits.into_data().iter().collect();

    let bytes = |values: &[i32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (input_ids, attention_mask) = (bytes(&input_ids), bytes(&vec![1; size]));
    let logits: Vec<u8> = logits.iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensors = [
        ("input_ids", TensorView::new(Dtype::I32, vec![BATCH, seq], &input_ids)?),
        ("attention_mask", TensorView::new(Dtype::I32, vec![BATCH, seq], &attention_mask)?),
        ("logits", TensorView::new(Dtype::F32, vec![BATCH, seq, vocab], &logits)?),
    ];
    safetensors::serialize_to_file(tensors, None, Path::new(&out))?;
    Ok(())
}
