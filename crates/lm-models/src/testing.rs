//! What tests of several modules start from.

use burn::tensor::Device;
use serde_json::Value;

use crate::inputs::{HostBatch, ModelInputs, Objective, Padding};
use crate::{AutoModel, ModelConfig, pretrained};

/// Two sequences of four tokens, of which four are predicted and one is padding.
pub fn inputs() -> ModelInputs {
    let host = HostBatch {
        batch: 2,
        seq: 4,
        input_ids: &[1, 2, 3, 4, 5, 6, 7, 0],
        attention_mask: &[1, 1, 1, 1, 1, 1, 1, 0],
        labels: &[-100, 9, -100, 10, 11, -100, 12, -100],
        perm_mask: None,
    };
    ModelInputs::new(host, Objective::Masked, Padding::Drop, &Device::flex()).expect("a batch")
}

/// Every family's fixture by name, with dropout where the family has it.
pub fn fixtures() -> impl Iterator<Item = (String, AutoModel)> {
    let folders = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models")).expect("fixtures");
    let mut folders: Vec<_> = folders.map(|folder| folder.expect("a folder").path()).collect();
    folders.retain(|folder| folder.join("config.json").exists());
    assert!(folders.len() > 40, "{folders:?}");
    folders.into_iter().map(|folder| {
        let mut config = ModelConfig::from_path(&folder).expect("a config");
        for field in DROPOUTS {
            if config.get(field).is_some_and(Value::is_number) {
                config.set(field, 0.2);
            }
        }
        let device = Device::flex().autodiff();
        let loaded = pretrained::load(&folder, &config, config.vocab_size(), 0, &device).expect("a fixture");
        (folder.file_name().expect("a name").to_string_lossy().into_owned(), loaded.model)
    })
}

/// Names of probabilities of dropout.
const DROPOUTS: &[&str] = &[
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "dropout",
    "embd_pdrop",
    "embed_dropout",
    "embedding_dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "mlp_dropout",
    "resid_dropout",
    "resid_pdrop",
    "residual_dropout",
];
