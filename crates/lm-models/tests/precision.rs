//! Matrix products in 16 bits: every architecture computes what it does in float32, to rounding.

use std::error::Error;

use burn::tensor::{DType, Device};
use lm_models::generate::{Sampling, generate};
use lm_models::inputs::{HostBatch, Objective, Padding};
use lm_models::ops::{self, Compute, Precision};
use lm_models::{AutoModel, Mode, ModelConfig, ModelInputs};

const MODELS: &[(&str, &str)] = &[
    ("bert", "vocab_size=40,hidden_size=32,num_hidden_layers=2,num_attention_heads=4,intermediate_size=48"),
    ("distilbert", "vocab_size=40,dim=32,n_layers=2,n_heads=4,hidden_dim=48"),
    ("openai-gpt", "vocab_size=40,n_embd=32,n_layer=2,n_head=4"),
    ("gpt2", "vocab_size=40,n_embd=32,n_layer=2,n_head=4"),
    ("xlnet", "vocab_size=40,d_model=32,n_layer=2,n_head=4,d_inner=48"),
];

fn model(model_type: &str, sizes: &str, device: &Device) -> Result<AutoModel, Box<dyn Error>> {
    let mut config = ModelConfig::from_model_type(model_type)?;
    config.apply_overrides(&format!("{sizes},initializer_range=0.1"))?;
    Ok(AutoModel::from_config(&config, 1, device)?)
}

/// Two sequences of 9 and 6 tokens, a third of them predicted.
fn inputs(model_type: &str, device: &Device) -> Result<ModelInputs, Box<dyn Error>> {
    let (batch, seq) = (2, 9);
    let places = 0..batch * seq;
    let attention_mask: Vec<u8> = places.clone().map(|place| u8::from(place < seq + 6)).collect();
    let labels: Vec<i32> =
        places.clone().map(|place| if place % 3 == 1 && place < seq + 6 { place as i32 } else { -100 }).collect();
    let perm_mask: Vec<u8> = (0..batch * seq * seq).map(|place| u8::from(place % 4 == 0)).collect();
    let host = HostBatch {
        batch,
        seq,
        input_ids: &places.map(|place| (place * 7 % 40) as i32).collect::<Vec<_>>(),
        attention_mask: &attention_mask,
        labels: &labels,
        perm_mask: (model_type == "xlnet").then_some(&perm_mask),
    };
    let objective = if model_type.contains("gpt") { Objective::Causal } else { Objective::Masked };
    Ok(ModelInputs::new(host, objective, Padding::Drop, device)?)
}

struct Run {
    loss: f32,
    gradients: Vec<f32>,
}

/// The loss in training, dropout included, and the gradients of `factor` times it; all float32.
fn run(model: &AutoModel, inputs: &ModelInputs, precision: Precision, factor: f64) -> Run {
    let compute = Compute { precision, ..Compute::default() };
    let rows = model.forward(inputs, &Mode::train(compute, 1, 2, None));
    assert_eq!(rows.dtype(), DType::F32);
    let loss = ops::cross_entropy(rows, &model.decoder(), inputs.targets.clone(), 0.1, factor, compute);
    let ((value, mut backward), mut gradients) = (loss.backward(), Vec::new());
    model.visit(&mut |parameter| {
        if let Some(gradient) = parameter.take_gradient(&mut backward) {
            assert_eq!(gradient.dtype(), DType::F32, "{}", parameter.info().name);
            gradients.extend(gradient.into_data().iter::<f32>());
        }
    });
    Run { loss: value.into_data().iter::<f32>().sum(), gradients }
}

fn norm(values: impl Iterator<Item = f32>) -> f32 {
    values.map(|value| value * value).sum::<f32>().sqrt()
}

/// ‖a − b‖ / ‖b‖
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    norm(a.iter().zip(b).map(|(a, b)| a - b)) / norm(b.iter().copied())
}

#[test]
fn halves_agree_with_float32() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    for (model_type, sizes) in MODELS {
        let (model, inputs) = (model(model_type, sizes, &device)?, inputs(model_type, &device)?);
        let whole = run(&model, &inputs, Precision::Float32, 1.0);
        for (precision, of_loss, of_gradients) in [(Precision::BFloat16, 5e-3, 3e-2), (Precision::Float16, 5e-4, 5e-3)]
        {
            let half = run(&model, &inputs, precision, 1.0);
            let loss = (half.loss - whole.loss).abs() / whole.loss;
            let gradients = apart(&half.gradients, &whole.gradients);
            let place = format!("{model_type} in {}: loss {loss:e}, gradients {gradients:e}", precision.name());
            assert!(loss < of_loss && gradients < of_gradients, "{place}");
            assert!(gradients > 1e-5, "{place}: nothing was rounded");
        }
    }
    Ok(())
}

/// Gradients that float16 has no room for survive by the factor on the loss.
#[test]
fn a_scaled_loss_saves_small_gradients() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let (model_type, sizes) = MODELS[0];
    let (model, inputs) = (model(model_type, sizes, &device)?, inputs(model_type, &device)?);
    let whole = run(&model, &inputs, Precision::Float32, 1e-7);
    let scaled = |scale: f32| {
        let half = run(&model, &inputs, Precision::Float16, 1e-7 * f64::from(scale));
        let gradients: Vec<f32> = half.gradients.iter().map(|gradient| gradient / scale).collect();
        apart(&gradients, &whole.gradients)
    };
    let (lost, saved) = (scaled(1.0), scaled(65536.0));
    assert!(saved < 5e-3 && lost > 0.1, "{saved:e} with a scaled loss, {lost:e} without");
    Ok(())
}

#[test]
fn texts_are_continued_in_16_bits() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let model = model("gpt2", MODELS[3].1, &device)?;
    let sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, max_new_tokens: 12, seed: 1, evaluation: 0 };
    let compute = Compute { precision: Precision::BFloat16, ..Compute::default() };
    let continued = generate(&model, &[vec![1, 2, 3], vec![4]], &sampling, None, compute, |_, _| ());
    assert_eq!(continued?.iter().map(Vec::len).collect::<Vec<_>>(), [12, 12]);
    Ok(())
}
