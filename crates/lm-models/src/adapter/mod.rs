//! LoRA adapters in peft's files: adapter_config.json and adapter_model.safetensors.
//!
//! ```text
//! base ──attach──> pairs beside its layers, all else frozen ──load or start──> adapter ──save──> peft's two files
//!                                                                                    └──merge──> a plain model
//! ```

mod config;
mod error;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

pub use config::{CONFIG_NAME, LoraBias, LoraConfig, base_of, is_adapter};
pub use error::AdapterError;
pub use targets::Targets;

use crate::config::ModelConfig;
use crate::model::AutoModel;
use crate::parameters::{Kind, Layer, ParameterInfo, Snapshot};
use crate::weights::{Checkpoint, FloatDtype, NamedTensor, WeightsError, save_file};
use targets::module_of;

/// Where the weights are.
pub const WEIGHTS_NAME: &str = "adapter_model.safetensors";

/// How all names begin: peft wraps the base twice.
const PREFIX: &str = "base_model.model.";

/// Attaches the pairs of an adapter to the layers it targets and freezes all that it does not train. The pairs have their
/// first values, by which the model computes what it did without them.
///
/// # Errors
/// If no layer is targeted, or one that can't be adapted.
pub fn attach(model: AutoModel, config: &LoraConfig, base: &ModelConfig, seed: u64) -> Result<AutoModel, AdapterError> {
    let targets = &config.target_modules;
    let infos = model.parameters();
    for (alias, parameter) in tied(base, &infos) {
        let head = alias.trim_end_matches(".weight");
        if targets.name(head) {
            let embeddings = parameter.trim_end_matches(".weight");
            return Err(AdapterError::Model(format!(
                "`target_modules`: {head} is tied to the embeddings and has no weight of its own to adapt; name \
                 {embeddings} in `modules_to_save` to train both"
            )));
        }
    }
    for name in &config.modules_to_save {
        let own = infos.iter().any(|info| is_saved_whole(info, std::slice::from_ref(name)));
        let ties = tied(base, &infos);
        let tie = ties.iter().find(|(alias, _)| alias.trim_end_matches(".weight").ends_with(name.as_str()));
        let embeddings = tie.and_then(|(_, parameter)| infos.iter().find(|info| info.name == *parameter));
        match embeddings {
            _ if own => {}
            None => return Err(AdapterError::Model(format!("`modules_to_save`: the model has no module `{name}`"))),
            Some(embeddings) if is_saved_whole(embeddings, &config.modules_to_save) => {}
            Some(embeddings) => {
                let module = embeddings.name.trim_end_matches(".weight");
                let module = module.rsplit('.').next().unwrap_or(module);
                return Err(AdapterError::Model(format!(
                    "`modules_to_save`: {name} is tied to the embeddings, and is not trained without them; name \
                     {module} too"
                )));
            }
        }
    }
    let model = model.attach(|info| targets.want(info, &config.modules_to_save).then(|| config.rank()));
    let adapted: Vec<String> = adapted(&model.parameters()).map(str::to_owned).collect();
    if adapted.is_empty() {
        let mut names: Vec<&str> = infos.iter().filter(|info| info.layer.is_some()).filter_map(module_of).collect();
        names.iter_mut().for_each(|name| *name = name.rsplit('.').next().unwrap_or(name));
        names.sort_unstable();
        names.dedup();
        return Err(AdapterError::Model(format!(
            "`target_modules` = {}: no layer of the model has such a name; it has {}",
            targets.to_json(),
            names.join(", ")
        )));
    }
    let trains = |info: &ParameterInfo| match info.kind {
        Kind::LowRank => true,
        _ if is_saved_whole(info, &config.modules_to_save) => true,
        _ => match config.bias {
            LoraBias::None => false,
            LoraBias::All => info.name.ends_with(".bias"),
            LoraBias::LoraOnly => info.name.strip_suffix(".bias").is_some_and(|m| adapted.iter().any(|a| a == m)),
        },
    };
    let start = |info: &ParameterInfo| (info.kind == Kind::LowRank).then(|| info.data(info.initial_values(seed)));
    Ok(model.freeze(trains).fill_some(start))
}

/// Whether an adapter of this kind trains none of this weight of its base: all but the modules that it saves whole.
pub fn freezes(config: &LoraConfig, weight: &ParameterInfo) -> bool {
    weight.layer.is_some() && !is_saved_whole(weight, &config.modules_to_save)
}

/// Whether a parameter belongs to a module that is trained whole: peft goes by the end of its path.
fn is_saved_whole(info: &ParameterInfo, modules_to_save: &[String]) -> bool {
    let modules = info.name.match_indices('.').map(|(at, _)| &info.name[..at]);
    info.kind != Kind::LowRank
        && modules.into_iter().any(|module| modules_to_save.iter().any(|name| module.ends_with(name.as_str())))
}

/// Paths of the modules that have a pair.
fn adapted(infos: &[ParameterInfo]) -> impl Iterator<Item = &str> {
    let first =
        |info: &&ParameterInfo| info.kind == Kind::LowRank && info.name.contains("lora_") && info.name.contains("_B");
    infos.iter().filter(first).filter_map(|info| Some(info.name.rsplit_once(".lora_")?.0))
}

/// Names of the head that are the embeddings' here, `(alias, parameter)`.
fn tied(base: &ModelConfig, infos: &[ParameterInfo]) -> Vec<(&'static str, &'static str)> {
    let own = |name: &str| infos.iter().any(|info| info.name == name);
    base.family().ties.iter().copied().filter(|(alias, parameter)| !own(alias) && own(parameter)).collect()
}

/// Gives a model, to which the adapter of this folder was attached, the adapter's values.
///
/// # Errors
/// If the weights can't be read, lack one, or have one that the model does not.
pub fn load(model: AutoModel, folder: &Path, base: &ModelConfig) -> Result<AutoModel, AdapterError> {
    let checkpoint = Checkpoint::open_adapter(folder)?;
    let infos = model.parameters();
    let ties = tied(base, &infos);
    let own: HashMap<&str, &ParameterInfo> = infos.iter().map(|info| (info.name.as_str(), info)).collect();
    let mut sources: HashMap<&str, &str> = HashMap::new();
    let mut heads: Vec<(&str, &str)> = Vec::new();
    let unusable = |key: &str, reason: String| WeightsError::tensor(checkpoint.file_of(key), key, reason);
    for key in checkpoint.names() {
        let plain = key.strip_prefix(PREFIX).unwrap_or(key).replace(".base_layer.", ".");
        let alias = ties.iter().find(|(alias, _)| *alias == plain).map(|(_, parameter)| *parameter);
        let Some(info) = own.get(alias.unwrap_or(&plain)) else {
            let reason =
                "the model has no such part: the adapter belongs to another base, or has what is not supported";
            return Err(unusable(key, reason.into()).into());
        };
        let shape = checkpoint.info(key).map(|info| info.shape.clone()).unwrap_or_default();
        if shape != info.shape {
            let reason =
                format!("has shape {shape:?}, the model needs {:?}: the adapter belongs to another base", info.shape);
            return Err(unusable(key, reason).into());
        }
        match alias {
            Some(_) if info.kind == Kind::Embedding => heads.push((key, info.name.as_str())),
            Some(_) => drop(sources.entry(&info.name).or_insert(key)),
            None => drop(sources.insert(&info.name, key)),
        }
    }
    // The head is the embeddings here, and peft's could have been trained to be others.
    for (head, embeddings) in heads {
        let same = match sources.get(embeddings) {
            Some(key) => checkpoint.read_f32(key)? == checkpoint.read_f32(head)?,
            None => false,
        };
        if !same {
            let reason = format!(
                "is not {embeddings}, to which it is tied in the base: an adapter that unties them is not supported"
            );
            return Err(unusable(head, reason).into());
        }
    }
    if let Some(missing) = infos.iter().find(|info| info.trainable && !sources.contains_key(info.name.as_str())) {
        let reason = "is not in the adapter's weights, though its configuration asks for it: get the files again";
        return Err(WeightsError::tensor(folder, &missing.name, reason).into());
    }
    let mut failed = None;
    let filled = model.fill_some(|info| {
        let key = sources.get(info.name.as_str())?;
        let read = checkpoint.read_f32(key).and_then(|values| match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(unusable(key, "holds a value that is no finite number: take an earlier checkpoint".into())),
        });
        read.map(|values| info.data(values)).map_err(|error| failed.get_or_insert(error).to_string()).ok()
    });
    match failed {
        None => Ok(filled),
        Some(error) => Err(error.into()),
    }
}

/// Writes the two files into the existing `folder`. Of the snapshot what is trained is the adapter's; where the vocabulary
/// was enlarged, embeddings and head are saved whole beside it, as by peft.
///
/// # Errors
/// If one can't be written.
pub fn save(
    folder: &Path,
    config: &LoraConfig,
    base: &ModelConfig,
    resized: bool,
    parameters: &[Snapshot],
    dtype: FloatDtype,
) -> Result<(), AdapterError> {
    let infos: Vec<ParameterInfo> = parameters.iter().map(|parameter| parameter.info.clone()).collect();
    let adapted: Vec<&str> = adapted(&infos).collect();
    let of_layer = |info: &&ParameterInfo| module_of(info).is_some_and(|module| adapted.contains(&module));
    let conv = infos.iter().filter(of_layer).any(|info| info.layer == Some(Layer::Conv1D));
    let mut config = config.clone();
    if matches!(config.target_modules, Targets::AllLinear) {
        // As peft, which saves what was found.
        config.target_modules = Targets::Names(adapted.iter().map(|&module| module.to_owned()).collect());
    }
    let ties = tied(base, &infos);
    let mut tensors = Vec::new();
    for Snapshot { info, tensor } in parameters {
        let of_vocabulary = resized && (info.kind == Kind::Head || is_word_embedding(info, base, &ties));
        if !info.trainable && !of_vocabulary {
            continue;
        }
        let module = info.name.rsplit_once('.').map(|(module, _)| module);
        let mut names = vec![match module.filter(|module| info.kind != Kind::LowRank && adapted.contains(module)) {
            Some(module) => format!("{module}.base_layer{}", &info.name[module.len()..]),
            None => info.name.clone(),
        }];
        if info.kind == Kind::Embedding {
            let aliases = ties.iter().filter(|(_, parameter)| *parameter == info.name).map(|(alias, _)| *alias);
            for alias in aliases {
                names.push(alias.to_owned());
                let head = alias.trim_end_matches(".weight").rsplit('.').next().unwrap_or(alias).to_owned();
                if info.trainable && !config.modules_to_save.contains(&head) {
                    config.modules_to_save.push(head);
                }
            }
        }
        tensors.extend(names.into_iter().map(|name| NamedTensor {
            name: format!("{PREFIX}{name}"),
            shape: info.shape.clone(),
            values: Box::new(move || Ok(tensor.clone().try_into_data()?.try_into_vec_as::<f32>()?)),
        }));
    }
    let path = folder.join(CONFIG_NAME);
    lm_files::write(&path, config.to_file(base, conv).as_bytes())
        .map_err(|source| AdapterError::Write { path, source })?;
    Ok(save_file(&folder.join(WEIGHTS_NAME), tensors, dtype)?)
}

/// Whether this is the table of words: the one as long as the vocabulary.
fn is_word_embedding(info: &ParameterInfo, base: &ModelConfig, ties: &[(&str, &str)]) -> bool {
    let tied = ties.iter().any(|(_, parameter)| *parameter == info.name);
    info.kind == Kind::Embedding && (tied || info.shape.first() == Some(&base.vocab_size()))
}
