//! Models of 6 layers of width 384, and BERT-base, with random weights, and a batch of 8 × 128 random tokens for them. No
//! files are needed.

use std::error::Error;

use burn::tensor::Device;
use lm_models::inputs::{HostBatch, IGNORE, Objective, Padding};
use lm_models::ops::Compute;
use lm_models::{AutoModel, ModelConfig, ModelInputs, Task};
use lm_random::{Purpose, Stream};
use lm_train::step::StepOptions;

pub const BATCH: usize = 8;
pub const SEQ: usize = 128;

pub const MODELS: &[&str] = &["bert", "bert-base", "modernbert", "deberta-v2", "gpt2", "llama", "xlnet"];

/// A step as the programs make it by default.
pub fn options(compute: Compute) -> StepOptions {
    StepOptions {
        learning_rate: 5e-5,
        max_grad_norm: 1.0,
        label_smoothing: 0.0,
        neftune_noise_alpha: None,
        loss_scale: 1.0,
        seed: 42,
        first_micro_batch: 0,
        rank: 0,
        ranks: 1,
        devices: 1,
        gradient_checkpointing: false,
        compute,
    }
}

pub fn prepare(name: &str, device: &Device) -> Result<(AutoModel, [ModelInputs; 1]), Box<dyn Error>> {
    let mut config = ModelConfig::from_model_type(name.strip_suffix("-base").unwrap_or(name))?;
    config.apply_overrides(match name {
        "bert-base" => "hidden_size=768",
        "bert" => "hidden_size=384,num_hidden_layers=6,intermediate_size=1536",
        "modernbert" => "vocab_size=30522,hidden_size=384,num_hidden_layers=6,intermediate_size=1024",
        "deberta-v2" => {
            "vocab_size=30522,hidden_size=384,num_hidden_layers=6,num_attention_heads=6,intermediate_size=1536,\
             relative_attention=true,pos_att_type=p2c|c2p,position_biased_input=false"
        }
        "llama" => {
            "hidden_size=384,num_hidden_layers=6,num_attention_heads=6,num_key_value_heads=2,intermediate_size=1024"
        }
        "gpt2" => "n_embd=384,n_layer=6",
        _ => "vocab_size=4000,d_model=384,n_layer=6,n_head=12,d_inner=1536",
    })?;
    if name == "deberta-v2" {
        // As its third version is; by default no config.json has these fields.
        config.set("position_buckets", 256);
        config.set("norm_rel_ebd", "layer_norm");
        config.set("share_att_key", true);
    }
    let inputs = inputs(config.family().task, config.vocab_size(), device)?;
    Ok((AutoModel::from_config(&config, 1, device)?, [inputs]))
}

/// A batch of random tokens, predicted as the task does.
fn inputs(task: Task, vocab: usize, device: &Device) -> Result<ModelInputs, Box<dyn Error>> {
    let size = BATCH * SEQ;
    let mut stream = Stream::new(1, Purpose::Init, 0, 0);
    let input_ids: Vec<i32> = (0..size).map(|_| 10 + stream.below(vocab as u32 - 10) as i32).collect();
    let predicted: Vec<bool> = (0..size).map(|_| task == Task::Clm || stream.next_f32() < 0.15).collect();
    let labels: Vec<i32> = predicted.iter().zip(&input_ids).map(|(&yes, &id)| if yes { id } else { IGNORE }).collect();
    // Predicted tokens are seen by none, as if they were the last of the order.
    let perm_mask: Vec<u8> = (0..size * SEQ).map(|i| u8::from(predicted[i / (SEQ * SEQ) * SEQ + i % SEQ])).collect();
    let host = HostBatch {
        batch: BATCH,
        seq: SEQ,
        input_ids: &input_ids,
        attention_mask: &vec![1; size],
        labels: &labels,
        perm_mask: (task == Task::Plm).then_some(&perm_mask),
    };
    let objective = if task == Task::Clm { Objective::Causal } else { Objective::Masked };
    Ok(ModelInputs::new(host, objective, Padding::Drop, device)?)
}
