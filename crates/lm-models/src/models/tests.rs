//! New models of every family against Python's: fields by default, names, shapes, what decays, how values start.
//! `tests/fixtures/initial/make.py` wrote what is expected.

mod tensorflow1;

use std::collections::{BTreeMap, HashMap};

use burn::tensor::Device;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::*;
use crate::config::{ConfigError, ModelConfig};
use crate::inputs::{HostBatch, Mode, ModelInputs, Objective, Padding};
use crate::ops::{self, Compute};
use crate::parameters::{Initial, Kind, ParameterInfo};
use crate::testing::fixtures;

const EXPECTED: &str = include_str!("../../tests/fixtures/initial/initial.json");

#[derive(Deserialize)]
struct Expected {
    defaults: HashMap<String, Map<String, Value>>,
    models: Vec<Model>,
}

/// A small model that Python made many times.
#[derive(Deserialize)]
struct Model {
    model_type: String,
    config: Map<String, Value>,
    /// How many of its parameters are as in the family's first model that has them.
    as_before: usize,
    /// `num_parameters(exclude_embeddings=True)`, by which `total_flos` goes.
    computed: usize,
    parameters: HashMap<String, Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    shape: Vec<usize>,
    decays: bool,
    constant: Option<f64>,
    fixed: Option<Vec<f64>>,
    #[serde(default)]
    zero_rows: Vec<usize>,
    std: Option<f64>,
    count: Option<f64>,
    /// Of a normal distribution if none is given.
    kurtosis: Option<f64>,
}

fn expected() -> Expected {
    serde_json::from_str(EXPECTED).expect("what make.py wrote")
}

/// `model.layers.3.weight` as `model.layers.*.weight`.
fn pattern(name: &str) -> String {
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    name.split('.').map(|part| if number(part) { "*" } else { part }).collect::<Vec<_>>().join(".")
}

/// Everything that is not as in Python, of these expected models.
fn differences(family: &'static Family, models: &[Model]) -> Vec<String> {
    let mut found = Vec::new();
    let mut first: HashMap<&str, &Parameter> = HashMap::new();
    for model in models.iter().filter(|model| model.model_type == family.model_type) {
        for (name, parameter) in &model.parameters {
            first.entry(name).or_insert(parameter);
        }
        let config = ModelConfig::new(family, model.config.clone());
        let ours = match (family.build)(&config, &Device::flex()) {
            Ok(built) => built.parameters(),
            Err(ConfigError::Unsupported { .. }) => continue,
            Err(error) => {
                found.push(format!("{}: {error}", family.model_type));
                continue;
            }
        };
        let computed: usize = ours.iter().filter(|info| info.kind != Kind::Embedding).map(ParameterInfo::len).sum();
        if computed != model.computed {
            let (name, theirs) = (family.model_type, model.computed);
            found.push(format!("{name} {:?}: {computed} values without embeddings, Python's {theirs}", model.config));
        }
        // Layers count as one where Python's do.
        let mut groups: BTreeMap<String, (Option<&Parameter>, Vec<ParameterInfo>)> = BTreeMap::new();
        for info in ours {
            let known = |name: &str| model.parameters.get(name).or_else(|| first.get(name).copied());
            let (name, theirs) = match known(&info.name) {
                Some(theirs) => (info.name.clone(), Some(theirs)),
                None => (pattern(&info.name), known(&pattern(&info.name))),
            };
            groups.entry(name).or_insert((theirs, Vec::new())).1.push(info);
        }
        let mut tell = |name: &str, what: String| {
            let tied = &model.config["tie_word_embeddings"];
            found.push(format!("{} (tied: {tied}) {name}: {what}", family.model_type));
        };
        for name in model.parameters.keys().filter(|name| !groups.contains_key(*name)) {
            tell(name, "is missing".into());
        }
        let count = model.as_before + model.parameters.len();
        if groups.len() != count {
            tell("parameters", format!("are {}, layers counted once, Python's {count}", groups.len()));
        }
        for (name, (theirs, infos)) in &groups {
            match theirs {
                None => tell(name, "is not in Python's model".into()),
                Some(theirs) => difference(infos, theirs).into_iter().for_each(|what| tell(name, what)),
            }
        }
    }
    found
}

fn difference(infos: &[ParameterInfo], theirs: &Parameter) -> Option<String> {
    const SEEDS: u64 = 24;
    for ParameterInfo { name, shape, kind, decays, .. } in infos {
        if *shape != theirs.shape {
            return Some(format!("{name} has shape {shape:?}, Python's {:?}", theirs.shape));
        }
        if *decays != theirs.decays {
            return Some(format!("{name} ({kind:?}) decays: {decays}, Python's: {}", theirs.decays));
        }
    }
    let drawn = infos.iter().flat_map(|info| (0..SEEDS).map(|seed| info.initial_values(seed)));
    let equal = |value: f32, theirs: f64| (f64::from(value) - theirs).abs() < 2e-6;
    if let Some(constant) = theirs.constant {
        let other = drawn.flatten().find(|value| !equal(*value, constant));
        return other.map(|value| format!("has {value}, Python's {constant} throughout"));
    }
    if let Some(fixed) = &theirs.fixed {
        let differs = |values: Vec<f32>| !values.iter().zip(fixed).all(|(value, theirs)| equal(*value, *theirs));
        return drawn.into_iter().any(differs).then(|| "has other values than Python's, which are fixed".into());
    }
    let width = theirs.shape.last().copied().unwrap_or(1);
    let mut counted = Vec::new();
    for values in drawn {
        for (index, row) in values.chunks_exact(width).enumerate() {
            match (theirs.zero_rows.contains(&index), row.iter().all(|value| *value == 0.0)) {
                (true, true) => {}
                (false, false) => counted.extend(row.iter().map(|value| f64::from(*value))),
                (_, zero) => return Some(format!("row {index} is zero: {zero}, Python's: {}", !zero)),
            }
        }
    }
    distribution(&counted, theirs)
}

/// Means, standard deviations and kurtosis within six standard errors of the two samples.
fn distribution(ours: &[f64], theirs: &Parameter) -> Option<String> {
    const ERRORS: f64 = 6.0;
    let (Some(their_std), Some(their_count)) = (theirs.std, theirs.count) else {
        return Some("is expected to be something that this test does not know".into());
    };
    let their_kurtosis = theirs.kurtosis.unwrap_or(3.0);
    let count = ours.len() as f64;
    let moment = |center: f64, power: i32| ours.iter().map(|x| (x - center).powi(power)).sum::<f64>() / count;
    let mean = moment(0.0, 1);
    let std = moment(mean, 2).sqrt();
    let kurtosis = moment(mean, 4) / std.powi(4);
    let of_two = 1.0 / count + 1.0 / their_count;
    let beyond = |value: f64, limit: f64| value.is_nan() || value.abs() > limit;
    if beyond(mean, ERRORS * std / count.sqrt()) {
        return Some(format!("has mean {mean}, Python's 0"));
    }
    if beyond(std / their_std - 1.0, ERRORS * ((their_kurtosis - 1.0) / 4.0 * of_two).sqrt()) {
        return Some(format!("has standard deviation {std}, Python's {their_std}"));
    }
    if beyond(kurtosis - their_kurtosis, ERRORS * (24.0 * of_two).sqrt()) {
        return Some(format!("has kurtosis {kurtosis}, Python's {their_kurtosis}: it is distributed otherwise"));
    }
    None
}

#[test]
fn new_models_are_pythons() {
    let models = expected().models;
    let mut found: Vec<String> = Vec::new();
    for family in FAMILIES {
        if !models.iter().any(|model| model.model_type == family.model_type) {
            found.push(format!("{} is not in tests/fixtures/initial/initial.json", family.model_type));
        }
        found.extend(differences(family, &models));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// In which order Python's optimizers count the parameters of the models in `tests/fixtures/models`;
/// `named_parameters.py` beside them wrote it.
#[test]
fn optimizers_count_parameters_as_pythons() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let expected: BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("../../tests/fixtures/named_parameters.json")).expect("JSON");
    let mut found = Vec::new();
    for (name, theirs) in &expected {
        // A folder, and fields that are otherwise.
        let (folder, fields) = name.split_once(' ').unwrap_or((name, ""));
        let mut config = ModelConfig::from_path(&fixtures.join("models").join(folder)).expect("a configuration");
        fields
            .split_whitespace()
            .filter_map(|field| field.split_once('='))
            .for_each(|(key, value)| config.set(key, value));
        let infos = (config.family().build)(&config, &Device::flex()).expect("a model").parameters();
        let order = crate::optimizer_order(&infos);
        let ours: Vec<&str> = order.into_iter().map(|index| infos[index].name.as_str()).collect();
        if let Some(at) =
            (0..theirs.len().max(ours.len())).find(|&at| ours.get(at) != theirs.get(at).map(String::as_str).as_ref())
        {
            found.push(format!("{name}: {at}: {:?}, Python's {:?}", ours.get(at), theirs.get(at)));
        }
    }
    let variants = expected.keys().filter(|name| name.contains(' ')).count();
    assert!(variants > 0 && expected.len() - variants >= FAMILIES.len(), "{} models", expected.len());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What a test like this would miss if it compared nothing.
#[test]
fn other_distributions_are_told() {
    let theirs = r#"{"shape": [1], "decays": true, "std": 1.0, "count": 4000}"#;
    let theirs: Parameter = serde_json::from_str(theirs).expect("a parameter");
    let mut stream = lm_random::Stream::new(0, lm_random::Purpose::Init, 0, 0);
    let normal: Vec<f64> = (0..4000).map(|_| f64::from(stream.normal())).collect();
    let scaled = |by: f64, shift: f64| normal.iter().map(|x| x * by + shift).collect::<Vec<_>>();
    let uniform: Vec<f64> = (0..4000).map(|i| (f64::from(i % 8) - 3.5) / 5.25f64.sqrt()).collect();
    let told = |values: &[f64]| distribution(values, &theirs).unwrap_or_default();
    assert_eq!(told(&normal), "");
    assert!(told(&scaled(1.15, 0.0)).contains("standard deviation"));
    assert!(told(&scaled(1.0, 0.15)).contains("mean"));
    assert!(told(&uniform).contains("kurtosis"));
}

/// What Python's configuration classes write when nothing is given.
#[test]
fn defaults_are_pythons() {
    fn same(ours: &Value, theirs: &Value) -> bool {
        match (ours.as_f64(), theirs.as_f64()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => ours == theirs,
        }
    }
    let mut found: Vec<String> = Vec::new();
    let expected = expected().defaults;
    for family in FAMILIES {
        let Some(theirs) = expected.get(family.model_type) else {
            found.push(format!("{} is not in tests/fixtures/initial/initial.json", family.model_type));
            continue;
        };
        let written = ModelConfig::new(family, Map::new()).to_json();
        let mut ours: Map<String, Value> = serde_json::from_str(&written).expect("a JSON object");
        ours.retain(|name, _| !["architectures", "model_type"].contains(&name.as_str()));
        for (name, value) in &ours {
            match theirs.get(name) {
                Some(theirs) if same(value, theirs) => {}
                theirs => found.push(format!("{} `{name}` = {value}, Python's {theirs:?}", family.model_type)),
            }
        }
        let missing = theirs.iter().filter(|(name, _)| !ours.contains_key(*name));
        found.extend(missing.map(|(name, value)| format!("{} lacks `{name}` = {value}", family.model_type)));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn entries_say_what_they_are() {
    for family in FAMILIES {
        assert!(![family.model_type, family.class, family.base_model_prefix].contains(&""), "{family:?}");
    }
}

/// What `make_names.py` found out of a class.
#[derive(Deserialize)]
struct Names {
    class_name: String,
    base_model_prefix: String,
    ties: Vec<(String, String)>,
    buffers: Vec<String>,
}

#[test]
fn names_in_checkpoints_are_pythons() {
    let cases: Vec<Names> = serde_json::from_str(include_str!("../../tests/fixtures/weights/names.json"))
        .expect("what make_names.py wrote");
    for case in cases {
        let family = FAMILIES.iter().find(|family| family.class == case.class_name).expect("a family");
        assert_eq!(family.base_model_prefix, case.base_model_prefix, "{}", case.class_name);
        let ties: Vec<_> = family.ties.iter().map(|(alias, name)| ((*alias).to_owned(), (*name).to_owned())).collect();
        assert_eq!(ties, case.ties, "{}", case.class_name);
        for name in ["position_ids", "token_type_ids"] {
            let ours = family.buffers.iter().any(|pattern| *pattern == format!("*.embeddings.{name}"));
            let theirs = case.buffers.iter().any(|buffer| buffer.ends_with(&format!(".embeddings.{name}")));
            assert_eq!(ours, theirs, "{} {name}", case.class_name);
        }
    }
}

/// As torch has it of a table with `padding_idx`, wherever the token stands: a random word may be it.
#[test]
fn padding_in_the_text_leaves_its_position_as_it_is() {
    let mut seen = Vec::new();
    for (name, model) in fixtures() {
        let positions = |info: &ParameterInfo| match info.initial {
            Initial::NormalExceptRow { zero_row, .. } if info.name.contains("position_embeddings") => Some(zero_row),
            _ => None,
        };
        let parameters = model.parameters();
        let Some(padding) = parameters.iter().find_map(positions) else { continue };
        let host = HostBatch {
            batch: 1,
            seq: 5,
            input_ids: &[7, padding as i32, 8, 9, padding as i32],
            attention_mask: &[1; 5],
            labels: &[7, 8, -100, 9, 10],
            perm_mask: None,
        };
        let device = Device::flex().autodiff();
        let inputs = ModelInputs::new(host, Objective::Masked, Padding::Drop, &device).expect("a batch");
        let compute = Compute::default();
        let rows = model.forward(&inputs, &Mode::train(compute, 1, 2, None));
        let loss = ops::cross_entropy(rows, &model.decoder(), inputs.targets.clone(), 0.0, 1.0, compute);
        let (_, mut gradients) = loss.backward();
        model.visit(&mut |parameter| {
            let info = parameter.info();
            let (Some(padding), width) = (positions(info), info.shape[info.shape.len() - 1]) else { return };
            let gradient = parameter.take_gradient(&mut gradients).expect("a gradient").into_data();
            let gradient: Vec<f32> = gradient.iter::<f32>().collect();
            let moves: Vec<bool> = gradient.chunks(width).map(|row| row.iter().any(|&x| x != 0.0)).collect();
            assert!(!moves[padding] && moves[padding + 1], "{name}: {moves:?}");
            seen.push(name.clone());
        });
    }
    assert!(seen.len() >= 8, "{seen:?}");
}
