//! In which order torch's optimizers count a model's parameters under Python's Trainer, which optimizer.pt goes by.

use crate::parameters::{Kind, ParameterInfo};

/// Modules whose parts Python declares in another order than that in which data meet them. Layers are `*`.
const DECLARED: &[(&str, &[&str])] = &[
    (
        "albert.encoder.albert_layer_groups.*.albert_layers.*",
        &["full_layer_layer_norm", "attention", "ffn", "ffn_output"],
    ),
    ("generator_predictions", &["LayerNorm", "dense"]),
    ("predictions", &["LayerNorm", "dense"]),
    ("longformer.embeddings", &["word_embeddings", "token_type_embeddings", "LayerNorm", "position_embeddings"]),
    ("mobilebert.encoder.layer.*", &["attention", "intermediate", "output", "bottleneck", "ffn"]),
    ("model.decoder", &["embed_tokens", "embed_positions", "project_out", "project_in", "final_layer_norm", "layers"]),
    ("model.decoder.layers.*.self_attn", &["k_proj", "v_proj", "q_proj", "out_proj"]),
    ("cls.predictions", &["transform", "dense", "decoder", "LayerNorm"]),
    ("roberta_prelayernorm.encoder.layer.*.attention", &["self", "output", "LayerNorm"]),
    ("roberta.encoder.layer.*", &["attention", "intermediate", "output", "LayerNorm"]),
];

/// Indices of those `parameters` that are trained in that order: those with weight decay, then the others, each as `named_parameters()` lists them:
/// of every module its own parameters, then its parts as they are declared.
pub fn optimizer_order(parameters: &[ParameterInfo]) -> Vec<usize> {
    let mut order = Vec::with_capacity(parameters.len());
    let trained = parameters.iter().enumerate().filter(|(_, info)| info.trainable);
    let trained = trained.map(|(index, info)| Member { index, rest: &info.name, kind: info.kind });
    list("", trained.collect(), &mut order);
    // Stable: the order within the two stays.
    order.sort_by_key(|&index| !parameters[index].decays);
    order
}

/// A parameter of a module.
struct Member<'a> {
    index: usize,
    /// The rest of its name.
    rest: &'a str,
    kind: Kind,
}

/// Lists the parameters of the module at `path`.
fn list<'a>(path: &str, parameters: Vec<Member<'a>>, into: &mut Vec<usize>) {
    let mut own = Vec::new();
    let mut parts: Vec<(&'a str, Vec<Member<'a>>)> = Vec::new();
    for member in parameters {
        let Some((part, rest)) = member.rest.split_once('.') else {
            own.push(member);
            continue;
        };
        let member = Member { rest, ..member };
        match parts.iter_mut().find(|(name, _)| *name == part) {
            Some((_, members)) => members.push(member),
            None => parts.push((part, vec![member])),
        }
    }
    // What only scales and shifts, MobileBERT's `NoNorm`, declares its bias first.
    if own.iter().any(|member| member.kind == Kind::Norm) {
        own.sort_by_key(|member| member.kind != Kind::Bias);
    }
    into.extend(own.into_iter().map(|member| member.index));
    if let Some((_, declared)) = DECLARED.iter().find(|(module, _)| *module == path) {
        parts.sort_by_key(|(part, _)| declared.iter().position(|declared| declared == part).unwrap_or(declared.len()));
    }
    for (part, members) in parts {
        let part = if part.bytes().all(|byte| byte.is_ascii_digit()) { "*" } else { part };
        let path = if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
        list(&path, members, into);
    }
}
