//! One optimizer step in its variants: on several devices, with gradient checkpointing. Small random models of every
//! family, dropout included.

use burn::tensor::Device;
use lm_models::inputs::{HostBatch, IGNORE, Objective, Padding};
use lm_models::models::FAMILIES;
use lm_models::ops::Compute;
use lm_models::{AutoModel, ModelConfig, ModelInputs, Task};
use lm_random::{Purpose, Stream};
use lm_train::optim::{Hyperparameters, Optimizer, OptimizerNames};
use lm_train::step::{StepOptions, StepOutcome, step};
use proptest::prelude::*;

const VOCAB: usize = 50;

fn config(model_type: &str, tied: bool, dropout: f64) -> ModelConfig {
    let mut config = ModelConfig::from_model_type(model_type).expect("a known type");
    // Each architecture reads those that it has.
    for (name, value) in [
        ("vocab_size", VOCAB),
        ("hidden_size", 16),
        ("num_hidden_layers", 3),
        ("num_attention_heads", 2),
        ("max_position_embeddings", 24),
        ("intermediate_size", 20),
        ("hidden_dim", 20),
        ("d_inner", 20),
        ("num_key_value_heads", 1),
        ("head_dim", 8),
        ("embedding_size", 12),
        ("rotary_dim", 4),
        ("pad_token_id", 0),
        ("position_buckets", 8),
        ("conv_kernel_size", 3),
    ] {
        config.set(name, value);
    }
    config.set("relative_attention", true);
    config.set("norm_rel_ebd", "layer_norm");
    config.set("pos_att_type", vec!["c2p", "p2c"]);
    for name in ["hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"] {
        config.set(name, dropout);
    }
    for name in ["resid_pdrop", "embd_pdrop", "attn_pdrop", "embedding_dropout", "mlp_dropout"] {
        config.set(name, dropout);
    }
    if model_type == "flaubert" {
        config.set("layerdrop", 3.0 * dropout);
    }
    // Gradients that rounding cannot hide; where hardly anything is normalised, it would grow with them.
    config.set("initializer_range", if model_type == "mobilebert" { 0.05 } else { 0.2 });
    config.set("tie_word_embeddings", tied);
    config
}

/// A padded batch of token ids in which some are predicted.
struct Batch {
    lengths: Vec<usize>,
    input_ids: Vec<i32>,
    labels: Vec<i32>,
}

impl Batch {
    /// `sequences` of them, the longest of length 8; every third token is predicted.
    fn new(seed: u64, sequences: usize) -> Self {
        let mut stream = Stream::new(seed, Purpose::Init, 0, 0);
        let lengths: Vec<usize> =
            (0..sequences).map(|i| if i == 0 { 8 } else { 4 + stream.below(5) as usize }).collect();
        let mut id = || 6 + stream.below(VOCAB as u32 - 6) as i32;
        let places = || lengths.iter().flat_map(|&length| (0..8).map(move |place| (place, place < length)));
        let input_ids = places().map(|(_, real)| if real { id() } else { 0 }).collect();
        let labels = places().map(|(place, real)| if real && place % 3 == 1 { id() } else { IGNORE }).collect();
        Self { lengths, input_ids, labels }
    }

    /// The sequences of both.
    fn join(mut self, other: Self) -> Self {
        self.lengths.extend(other.lengths);
        self.input_ids.extend(other.input_ids);
        self.labels.extend(other.labels);
        self
    }

    fn inputs(&self, task: Task) -> ModelInputs {
        let batch = self.lengths.len();
        let mask: Vec<u8> = self.lengths.iter().flat_map(|&length| (0..8).map(move |i| u8::from(i < length))).collect();
        // A query does not see itself, nor what comes before it.
        let perm_mask: Vec<u8> = (0..batch * 64).map(|i| u8::from(i % 8 <= i / 8 % 8)).collect();
        let host = HostBatch {
            batch,
            seq: 8,
            input_ids: &self.input_ids,
            attention_mask: &mask,
            labels: &self.labels,
            perm_mask: (task == Task::Plm).then_some(&perm_mask),
        };
        let objective = if task == Task::Clm { Objective::Causal } else { Objective::Masked };
        let padding = if task == Task::Plm { Padding::See } else { Padding::Drop };
        ModelInputs::new(host, objective, padding, &Device::flex()).expect("a batch")
    }
}

fn options(devices: usize, gradient_checkpointing: bool) -> StepOptions {
    StepOptions {
        learning_rate: 1.0,
        max_grad_norm: 0.0,
        label_smoothing: 0.0,
        neftune_noise_alpha: None,
        loss_scale: 1.0,
        seed: 7,
        first_micro_batch: 11,
        rank: 0,
        ranks: 1,
        devices,
        gradient_checkpointing,
        compute: Compute::default(),
    }
}

/// What a step came to, and how far it moved each parameter: by its gradient.
fn run(config: &ModelConfig, batches: &[Batch], options: StepOptions) -> (StepOutcome, Vec<Vec<f32>>) {
    let model = AutoModel::from_config(config, 3, &Device::flex().autodiff()).expect("a model");
    let mut optimizer = Optimizer::new(OptimizerNames::Sgd, Hyperparameters::default(), Compute::default());
    let inputs: Vec<_> = batches.iter().map(|batch| batch.inputs(config.family().task)).collect();
    let before = values(&model);
    let (model, outcome) = step(model, &mut optimizer, &inputs, &options);
    let moved = values(&model).into_iter().zip(before);
    (outcome, moved.map(|(now, then)| now.iter().zip(then).map(|(now, then)| now - then).collect()).collect())
}

fn values(model: &AutoModel) -> Vec<Vec<f32>> {
    model.snapshot().into_iter().map(|parameter| parameter.tensor.into_data().iter().collect()).collect()
}

/// Equal to rounding: each parameter's move to 1e-5 of the longest of all.
#[track_caller]
fn assert_close(a: &(StepOutcome, Vec<Vec<f32>>), b: &(StepOutcome, Vec<Vec<f32>>), what: &str) {
    let largest = a.1.iter().flatten().fold(0f32, |largest, x| largest.max(x.abs()));
    assert!(largest > 1e-3, "{what}: nothing moved");
    for (index, (a, b)) in a.1.iter().zip(&b.1).enumerate() {
        let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= 1e-5 * largest, "{what}, parameter {index}: {apart} of {largest}");
    }
    let apart = (a.0.loss - b.0.loss).abs().max((a.0.grad_norm - b.0.grad_norm).abs());
    assert!(apart < 1e-5 * a.0.grad_norm.max(1.0), "{what}: {:?}, {:?}", a.0, b.0);
}

/// The same bits.
#[track_caller]
fn assert_same(a: &(StepOutcome, Vec<Vec<f32>>), b: &(StepOutcome, Vec<Vec<f32>>), what: &str) {
    assert_close(a, b, what);
    assert!(a == b, "{what}: equal to rounding only");
}

#[test]
fn two_devices_equal_one_that_accumulates() {
    for family in FAMILIES {
        let config = config(family.model_type, true, 0.1);
        let batches = [Batch::new(1, 3), Batch::new(2, 2)];
        let one = run(&config, &batches, options(1, false));
        assert_same(&one, &run(&config, &batches, options(2, false)), family.model_type);
    }
}

#[test]
fn two_devices_equal_one_with_the_larger_batch() {
    for family in FAMILIES {
        let config = config(family.model_type, true, 0.0);
        let both = Batch::new(1, 3).join(Batch::new(2, 2));
        let one = run(&config, &[both], options(1, false));
        let two = run(&config, &[Batch::new(1, 3), Batch::new(2, 2)], options(2, false));
        assert_close(&one, &two, family.model_type);
    }
}

#[test]
fn gradient_checkpointing_changes_nothing() {
    for family in FAMILIES {
        for (tied, noise) in [(true, None), (false, Some(5.0))] {
            let config = config(family.model_type, tied, 0.1);
            let batches = [Batch::new(1, 3), Batch::new(2, 2)];
            let with = |on| StepOptions { neftune_noise_alpha: noise, label_smoothing: 0.1, ..options(1, on) };
            let [kept, computed] = [false, true].map(|on| run(&config, &batches, with(on)));
            let what = format!("{}, tied: {tied}", family.model_type);
            match family.model_type {
                // The gradients of several streams, or of what layers share, meet in another order.
                "xlnet" | "mpnet" | "deberta" | "deberta-v2" | "albert" | "convbert" => {
                    assert_close(&kept, &computed, &what);
                }
                _ => assert_same(&kept, &computed, &what),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Steps at the end of an epoch have fewer micro-batches than others, ranks may have nothing to predict.
    #[test]
    fn devices_share_any_number_of_batches(
        family in 0..FAMILIES.len(),
        sizes in prop::collection::vec((1usize..4, any::<bool>()), 1..6),
        devices in 1usize..5,
        checkpointing: bool,
    ) {
        let config = config(FAMILIES[family].model_type, true, 0.1);
        let mut batches: Vec<Batch> = (0..).zip(&sizes).map(|(seed, &(size, _))| Batch::new(seed, size)).collect();
        for (batch, _) in batches.iter_mut().zip(&sizes).skip(1).filter(|(_, (_, predicts))| !predicts) {
            batch.labels.fill(IGNORE);
        }
        let one = run(&config, &batches, options(1, false));
        let shared = run(&config, &batches, options(devices, checkpointing));
        assert_close(&one, &shared, FAMILIES[family].model_type);
        assert_same(&shared, &run(&config, &batches, options(devices, checkpointing)), "once more");
    }
}
