//! Adapters of every family; peft's own are compared in `lm-train/tests/reference.rs`.

use std::path::PathBuf;

use burn::tensor::{Device, FloatDType, Tensor};

use super::*;
use crate::inputs::Mode;
use crate::models::FAMILIES;
use crate::ops::{self, Compute};
use crate::parameters::Initial;
use crate::pretrained;
use crate::testing::inputs;

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
}

fn base(name: &str) -> (ModelConfig, AutoModel) {
    let folder = fixtures().join("models").join(name);
    let config = ModelConfig::from_path(&folder).expect("a configuration");
    let model =
        pretrained::load(&folder, &config, config.vocab_size(), 0, &Device::flex().autodiff()).expect("a model");
    (config, model.model)
}

fn lora(targets: Targets) -> LoraConfig {
    LoraConfig {
        r: 2,
        lora_alpha: 4.0,
        lora_dropout: 0.0,
        target_modules: targets,
        bias: LoraBias::None,
        modules_to_save: Vec::new(),
        use_rslora: false,
        gaussian: false,
        base_model_name_or_path: None,
        revision: None,
    }
}

fn named(names: &[&str]) -> Targets {
    Targets::Names(names.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn every_family_has_targets_by_default_and_all_linear() {
    for family in FAMILIES {
        let (config, model) = base(family.model_type);
        let layers = config.size("num_hidden_layers").expect("layers");
        let (targets, _) = Targets::of_model_type(family.model_type).expect(family.model_type);
        for targets in [targets, Targets::AllLinear] {
            let attached = attach(model.clone(), &lora(targets.clone()), &config, 0).expect(family.model_type);
            let infos = attached.parameters();
            let adapted: Vec<&str> = adapted(&infos).collect();
            // ALBERT's layers are one.
            assert!(adapted.len() >= layers || family.model_type == "albert", "{}: {adapted:?}", family.model_type);
            assert!(infos.iter().all(|info| info.trainable == (info.kind == Kind::LowRank)), "{}", family.model_type);
            assert!(
                !infos.iter().any(|info| info.name.contains("lora_embedding")),
                "{}: {adapted:?}",
                family.model_type
            );
            if let Targets::Names(names) = &targets {
                for name in names {
                    assert!(adapted.iter().any(|a| a.ends_with(name.as_str())), "{}: {name}", family.model_type);
                }
            }
        }
    }
}

#[test]
fn a_pair_that_has_not_been_trained_changes_nothing() {
    let (config, model) = base("gpt2");
    let before = model.snapshot();
    let attached = attach(model, &lora(Targets::AllLinear), &config, 7).expect("attached");
    for info in attached.parameters().iter().filter(|info| info.kind == Kind::LowRank) {
        let values = info.initial_values(7);
        assert_eq!(values.iter().all(|&value| value == 0.0), info.name.contains("lora_B"), "{}", info.name);
    }
    let merged = attached.merge().snapshot();
    assert_eq!(before.len(), merged.len());
    for (before, merged) in before.iter().zip(&merged) {
        assert_eq!(before.tensor.to_data(), merged.tensor.to_data(), "{}", before.info.name);
    }
}

/// Loss and gradients of the pairs' parameters, by name.
fn gradients(model: &AutoModel) -> Vec<(String, Vec<f32>)> {
    let inputs = inputs();
    let (compute, decoder) = (Compute::default(), model.decoder());
    let rows = model.forward(&inputs, &Mode::eval(compute));
    let loss = ops::cross_entropy(rows, &decoder, inputs.targets.clone(), 0.0, 0.25, compute);
    let (value, mut left) = loss.backward();
    let mut found = vec![("loss".to_owned(), value.into_data().iter::<f32>().collect())];
    model.visit(&mut |parameter| {
        if let Some(gradient) = parameter.take_gradient(&mut left) {
            found.push((parameter.info().name.clone(), gradient.into_data().iter::<f32>().collect()));
        }
    });
    found
}

#[test]
fn a_base_in_16_bits_computes_as_the_same_values_in_32() {
    for family in FAMILIES {
        let folder = fixtures().join("models").join(family.model_type);
        let (config, model) = base(family.model_type);
        let lora = lora(Targets::AllLinear);
        let rounded = model.map(|info, tensor| match freezes(&lora, info) {
            true => tensor.cast(FloatDType::BF16).cast(FloatDType::F32),
            false => tensor,
        });
        let device = Device::flex().autodiff();
        let narrow = |info: &ParameterInfo| freezes(&lora, info);
        let loaded =
            pretrained::load_some_in_16_bits(&folder, &config, config.vocab_size(), 0, &device, narrow).expect("read");
        assert!(!loaded.model.in_16_bits().is_empty(), "{}", family.model_type);
        // Pairs that change something, and have gradients.
        let attached = |model| {
            let started = attach(model, &lora, &config, 0).expect(family.model_type);
            started.fill_some(|info| {
                let values = || Initial::Normal(0.1).values(&info.name, &info.shape, 3);
                (info.kind == Kind::LowRank).then(|| info.data(values()))
            })
        };
        let (wide, narrow) = (attached(rounded), attached(loaded.model));
        for ((name, expected), (_, found)) in gradients(&wide).into_iter().zip(gradients(&narrow)) {
            let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let apart = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart <= 1e-4 * largest.max(1e-2), "{}, {name}: {apart} of {largest}", family.model_type);
        }
        // What is saved of it.
        for (wide, narrow) in wide.merge().snapshot().iter().zip(narrow.merge().snapshot()) {
            let values = |tensor: &Tensor<1>| tensor.to_data().iter::<f32>().collect::<Vec<_>>();
            assert_eq!(values(&wide.tensor), values(&narrow.tensor), "{}, {}", family.model_type, wide.info.name);
        }
    }
}

#[test]
fn targets_match_as_in_peft() {
    let (config, model) = base("llama");
    let found = |targets: Targets, modules_to_save: &[&str]| {
        let modules_to_save = modules_to_save.iter().map(|&name| name.to_owned()).collect();
        let config_of_adapter = LoraConfig { modules_to_save, ..lora(targets) };
        let infos = attach(model.clone(), &config_of_adapter, &config, 0).expect("attached").parameters();
        adapted(&infos).map(str::to_owned).collect::<Vec<_>>()
    };
    let words = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Targets::from_words(&words).expect("targets")
    };
    assert!(found(words(&["q_proj"]), &[]).iter().all(|module| module.ends_with(".q_proj")));
    assert_eq!(found(words(&["layers.0.self_attn.q_proj"]), &[]), ["model.layers.0.self_attn.q_proj"]);
    assert_eq!(found(words(&[r".*\.0\..*(up|down)_proj"]), &[]).len(), 2);
    assert_eq!(found(words(&["q_proj", "embed_tokens"]), &[])[0], "model.embed_tokens");
    // A module that is saved whole has no pair.
    let without: Vec<String> = found(words(&["all-linear"]), &["mlp"]);
    assert!(!without.is_empty() && without.iter().all(|module| module.contains("self_attn")), "{without:?}");
}

#[test]
fn what_the_model_does_not_have_is_told() {
    let (config, model) = base("gpt2");
    let error = |config_of_adapter: LoraConfig| {
        attach(model.clone(), &config_of_adapter, &config, 0).expect_err("it must be refused").to_string()
    };
    let message = error(lora(named(&["q_proj"])));
    assert!(message.contains("q_proj") && message.contains("c_attn") && message.contains("wte"), "{message}");
    let message = error(lora(named(&["c_attn", "lm_head"])));
    assert!(message.contains("tied") && message.contains("transformer.wte"), "{message}");
    let message = error(LoraConfig { modules_to_save: vec!["nothing".into()], ..lora(named(&["c_attn"])) });
    assert!(message.contains("`nothing`"), "{message}");
    assert!(Targets::from_words(&["(".into()]).is_err());
    assert!(Targets::from_words(&["q_proj".into(), ".*k".into()]).is_err());
}

#[test]
fn weights_of_another_model_are_told_by_name() {
    let folder = fixtures().join("adapters/gpt2");
    let (config, model) = base("gpt2");
    let told = |targets: Targets, r: usize| {
        let attached = attach(model.clone(), &LoraConfig { r, ..lora(targets) }, &config, 0).expect("attached");
        load(attached, &folder, &config).expect_err("it must be refused").to_string()
    };
    let all = named(&["wpe", "c_fc", "c_attn"]);
    let message = told(all.clone(), 3);
    assert!(message.contains("shape") && message.contains("lora_"), "{message}");
    let message = told(named(&["c_attn"]), 4);
    assert!(message.contains("no such part"), "{message}");
    let message = told(named(&["wpe", "c_fc", "c_attn", "c_proj"]), 4);
    assert!(message.contains("c_proj") && message.contains("is not in the adapter"), "{message}");
    let attached = attach(model, &LoraConfig { r: 4, ..lora(all) }, &config, 0).expect("attached");
    load(attached, &folder, &config).expect("its own");
}
