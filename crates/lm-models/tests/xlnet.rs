//! What the reference files do not cover of XLNet: padding, dropout, and configurations.

use std::error::Error;

use burn::tensor::Device;
use lm_models::inputs::{HostBatch, Objective, Padding};
use lm_models::ops::Compute;
use lm_models::{AutoModel, Mode, ModelConfig, ModelInputs};

const SIZES: &str = "vocab_size=30,d_model=16,n_layer=2,n_head=2,d_inner=20,initializer_range=0.2";

fn config(overrides: &str) -> Result<ModelConfig, Box<dyn Error>> {
    let mut config = ModelConfig::from_model_type("xlnet")?;
    config.apply_overrides(SIZES)?;
    if !overrides.is_empty() {
        config.apply_overrides(overrides)?;
    }
    Ok(config)
}

/// Two sequences, the second two tokens shorter; tokens 1 and 2 of the first and 0 of the second are predicted, in this
/// order and none seeing itself.
fn inputs(padding: Padding, device: &Device) -> Result<ModelInputs, Box<dyn Error>> {
    let (batch, seq) = (2, 6);
    let mut perm_mask = vec![0u8; batch * seq * seq];
    for query in 0..seq {
        perm_mask[query * seq + 2] = 1;
        perm_mask[seq * seq + query * seq] = 1;
    }
    perm_mask[seq + 1] = 1;
    let mut labels = vec![-100; batch * seq];
    (labels[1], labels[2], labels[seq]) = (3, 4, 5);
    let host = HostBatch {
        batch,
        seq,
        input_ids: &[7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 5, 5],
        attention_mask: &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
        labels: &labels,
        perm_mask: Some(&perm_mask),
    };
    Ok(ModelInputs::new(host, Objective::Masked, padding, device)?)
}

fn logits(model: &AutoModel, inputs: &ModelInputs, mode: &Mode) -> Vec<f32> {
    model.decoder().logits(model.forward(inputs, mode), mode.compute()).into_data().iter().collect()
}

#[test]
fn padding_that_is_dropped_was_never_seen() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let model = AutoModel::from_config(&config("")?, 1, &device)?;
    let [dropped, masked, seen] = [Padding::Drop, Padding::Mask, Padding::See];
    let run =
        |padding| Ok::<_, Box<dyn Error>>(logits(&model, &inputs(padding, &device)?, &Mode::eval(Compute::default())));
    let (dropped, masked, seen) = (run(dropped)?, run(masked)?, run(seen)?);
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert_eq!(dropped.len(), 3 * 30);
    assert!(apart(&dropped, &masked) < 1e-5);
    assert!(apart(&seen[..60], &masked[..60]) < 1e-5, "the first sequence has no padding");
    assert!(apart(&seen[60..], &masked[60..]) > 1e-3, "the second does");
    Ok(())
}

#[test]
fn dropout_trains_and_is_a_function_of_seed_and_pass() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let model = AutoModel::from_config(&config("dropout=0.3")?, 1, &device)?;
    let inputs = inputs(Padding::See, &device)?;
    let train = |seed, pass| logits(&model, &inputs, &Mode::train(Compute::default(), seed, pass, None));
    assert_eq!(train(1, 1), train(1, 1));
    assert_ne!(train(1, 1), train(1, 2));
    assert_ne!(train(1, 1), train(2, 1));
    assert!(train(1, 1).iter().all(|logit| logit.is_finite()));
    // Every use of dropout has a backward pass.
    model.forward(&inputs, &Mode::train(Compute::default(), 1, 1, None)).sum().backward();
    Ok(())
}

#[test]
fn configurations() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    assert!(config("")?.to_json().contains("\"d_head\": 8"));
    assert!(AutoModel::from_config(&config("d_head=8,mem_len=3,reuse_len=2,use_mems_train=true")?, 0, &device).is_ok());
    for (overrides, part) in [
        ("d_head=7", "`d_head` (7) must be d_model / n_head (8)"),
        ("d_model=15,n_head=3", "`d_model` (15) must be even"),
        ("n_head=3", "`d_model` (16) must be a multiple of `n_head` (3)"),
        ("n_head=0", "`n_head` = 0: must be at least 1"),
        ("bi_data=true", "`bi_data` = true is not supported"),
        ("dropout=0.1,n_layer=-1", "`n_layer` = -1: invalid value"),
        ("attn_type=uni,same_length=true", "`same_length` = true is not supported with `attn_type` = \"uni\""),
        ("attn_type=both", "`attn_type` = \"both\": unknown variant"),
    ] {
        let error = AutoModel::from_config(&config(overrides)?, 0, &device).err().ok_or(overrides)?.to_string();
        assert!(error.contains(part), "{overrides}: {error}");
    }
    Ok(())
}
