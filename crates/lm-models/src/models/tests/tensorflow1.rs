//! Checkpoints by the names of the programs that the first releases were trained with, made here, give the models that the
//! same weights give in PyTorch's files.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, TensorData};

use crate::config::ModelConfig;
use crate::pretrained::{self, Loaded};
use crate::weights::{Checkpoint, Given, write_checkpoint};

/// What a tensor is called in its program, and whether axes are the other way round there.
type Names = fn(&str) -> (String, bool);

fn bert(name: &str) -> (String, bool) {
    let (owner, last) = name.rsplit_once('.').expect("an owner");
    let owner = numbered(owner, '_').replace('.', "/");
    match last {
        _ if owner == "cls/predictions" => (format!("{owner}/output_bias"), false),
        "weight" if owner.ends_with("embeddings") => (owner, false),
        "weight" if owner.ends_with("LayerNorm") => (format!("{owner}/gamma"), false),
        "bias" if owner.ends_with("LayerNorm") => (format!("{owner}/beta"), false),
        "weight" => (format!("{owner}/kernel"), true),
        _ => (format!("{owner}/{last}"), false),
    }
}

/// `layer.0` as `layer_0`, with `_` or what else stands between.
fn numbered(path: &str, between: char) -> String {
    let mut joined = String::new();
    for part in path.split('.') {
        match part.parse::<usize>() {
            Ok(number) if between == '\0' => joined.push_str(&number.to_string()),
            Ok(number) => joined.push_str(&format!("{between}{number}")),
            Err(_) if joined.is_empty() => joined.push_str(part),
            Err(_) => joined.push_str(&format!(".{part}")),
        }
    }
    joined
}

fn albert(name: &str) -> (String, bool) {
    let mut name = name.to_owned();
    for (torch, program) in [
        ("albert_layers.", "inner_group."),
        ("albert.encoder.albert_layer_groups.", "bert.encoder.transformer.group."),
        ("albert.", "bert."),
        ("attention.LayerNorm", "LayerNorm"),
        ("full_layer_layer_norm", "LayerNorm_1"),
        ("attention.dense", "attention_1.output.dense"),
        ("attention.query", "attention_1.self.query"),
        ("attention.key", "attention_1.self.key"),
        ("attention.value", "attention_1.self.value"),
        ("ffn_output", "ffn_1.intermediate.output.dense"),
        (".ffn.", ".ffn_1.intermediate.dense."),
        ("predictions.bias", "cls.predictions.bias"),
        ("predictions.dense", "cls.predictions.transform.dense"),
        ("predictions.LayerNorm", "cls.predictions.transform.LayerNorm"),
    ] {
        name = name.replace(torch, program);
    }
    let (program, reversed) = bert(&name);
    match program.strip_suffix("LayerNorm_1/kernel") {
        Some(owner) => (format!("{owner}LayerNorm_1/gamma"), false),
        None => (program.replace("LayerNorm_1/bias", "LayerNorm_1/beta"), reversed),
    }
}

fn electra(name: &str) -> (String, bool) {
    let (program, reversed) = bert(name);
    let program = match program.strip_prefix("electra/") {
        Some(rest) if !rest.starts_with("embeddings/") => format!("generator/{rest}"),
        _ => program.replace("generator_lm_head/bias", "generator_predictions/output_bias"),
    };
    (program, reversed)
}

fn mobilebert(name: &str) -> (String, bool) {
    let (program, reversed) = bert(&name.replace("mobilebert", "bert"));
    let program = program
        .replace("/ffn_", "/ffn_layer_")
        .replace("cls/predictions/dense/kernel", "cls/predictions/extra_output_weights");
    (program, reversed)
}

fn gpt2(name: &str) -> (String, bool) {
    let (owner, last) = name.strip_prefix("transformer.").expect("the base model").rsplit_once('.').expect("an owner");
    let owner = format!("model/{}", numbered(owner, '\0').replace('.', "/"));
    let last = match last {
        _ if owner.ends_with("wte") || owner.ends_with("wpe") => return (owner, false),
        "weight" if owner.contains("ln_") => "g",
        "weight" => "w",
        _ => "b",
    };
    (format!("{owner}/{last}"), false)
}

fn xlnet(name: &str) -> (String, bool) {
    let (owner, last) = name.rsplit_once('.').expect("an owner");
    let owner = format!("model/{}", numbered(owner, '_').replace('.', "/").replace("layer_norm", "LayerNorm"));
    match (last, owner.as_str()) {
        ("weight", "model/transformer/word_embedding") => (format!("{owner}/lookup_table"), false),
        ("mask_emb", _) => (format!("{owner}/mask_emb/mask_emb"), false),
        ("weight", _) if owner.ends_with("LayerNorm") => (format!("{owner}/gamma"), false),
        ("bias", _) if owner.ends_with("LayerNorm") => (format!("{owner}/beta"), false),
        ("weight", _) => (format!("{owner}/kernel"), true),
        ("q" | "k" | "v" | "o" | "r", _) => (format!("{owner}/{last}/kernel"), false),
        ("r_r_bias" | "r_w_bias" | "r_s_bias" | "seg_embed", _) => (format!("model/transformer/{last}"), false),
        _ => (format!("{owner}/{last}"), false),
    }
}

/// The variables of a PyTorch folder; what several tensors are called together, they are one after the other.
fn variables(folder: &Path, names: Names) -> Vec<Given> {
    let torch = Checkpoint::open(folder).expect("a fixture");
    let mut variables: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for name in torch.names() {
        let (variable, reversed) = names(name);
        let mut shape = torch.info(name).expect("of it").shape.clone();
        let mut values = torch.read_f32(name).expect("numbers");
        if let (true, &[rows, columns]) = (reversed, shape.as_slice()) {
            values = (0..values.len()).map(|at| values[at % rows * columns + at / rows]).collect();
            shape = vec![columns, rows];
        }
        if variable.ends_with("/w") {
            shape.insert(0, 1);
        }
        if variable.ends_with("_bias") && variable.starts_with("model/transformer/r_")
            || variable.ends_with("seg_embed")
        {
            shape.insert(0, 1);
        }
        match variables.get_mut(&variable) {
            Some((stacked, all)) => {
                stacked[0] += 1;
                all.extend(values);
            }
            None => drop(variables.insert(variable, (shape, values))),
        }
    }
    let mut variables: Vec<Given> =
        variables.into_iter().map(|(name, (shape, values))| (name, shape, values)).collect();
    variables.push(("global_step".to_owned(), vec![], vec![0.0]));
    variables
}

fn values(loaded: &Loaded) -> BTreeMap<String, TensorData> {
    loaded.model.snapshot().into_iter().map(|snapshot| (snapshot.info.name, snapshot.tensor.into_data())).collect()
}

#[test]
fn first_releases_are_read_by_the_names_of_their_programs() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let programs: [(&str, Names); 9] = [
        ("bert", bert),
        ("megatron-bert", bert),
        ("albert", albert),
        ("electra", electra),
        ("mobilebert", mobilebert),
        ("roformer", |name| bert(&name.replace("roformer", "bert"))),
        ("rembert", |name| bert(&name.replace("rembert", "bert"))),
        ("gpt2", gpt2),
        ("xlnet", xlnet),
    ];
    for (model_type, names) in programs {
        let folder = fixtures.join(model_type);
        let config = ModelConfig::from_path(&folder).expect("a fixture");
        let scratch = tempfile::tempdir().expect("a folder");
        let prefix = scratch.path().join("model.ckpt-1000");
        let mut given = variables(&folder, names);
        given.push(("cls/seq_relationship/output_weights".to_owned(), vec![2, 1], vec![0.0, 1.0]));
        write_checkpoint(&prefix, &given);
        let load =
            |path: &Path| pretrained::load(path, &config, config.vocab_size(), 0, &Device::flex()).expect(model_type);
        let (ours, theirs) = (load(&prefix), load(&folder));
        assert_eq!(ours.report.missing, [""; 0], "{model_type}");
        assert_eq!(ours.report.unexpected.len(), 1, "{model_type}: {:?}", ours.report.unexpected);
        assert_eq!(values(&ours), values(&theirs), "{model_type}");
    }
}

#[test]
fn an_architecture_without_such_a_program_says_so() {
    let scratch = tempfile::tempdir().expect("a folder");
    write_checkpoint(&scratch.path().join("model.ckpt"), &[("a".to_owned(), vec![], vec![0.0])]);
    for model_type in ["llama", "big_bird", "convbert", "gpt_neo", "openai-gpt"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(model_type);
        let config = ModelConfig::from_path(&folder).expect("a fixture");
        let loaded = pretrained::load(scratch.path(), &config, config.vocab_size(), 0, &Device::flex());
        let error = loaded.expect_err("no names").to_string();
        assert!(error.contains("model.ckpt.index: is a checkpoint of TensorFlow 1, whose names"), "{error}");
    }
}
