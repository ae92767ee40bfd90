//! A checkpoint of TensorFlow 1: `NAME.index`, a table of variables, and `NAME.data-00000-of-00001` and so on with their
//! values (tensor_bundle.h). What variables are called depends on the program that wrote it, so an architecture brings the
//! rule.

mod bundle;
mod table;
#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use self::bundle::Bundle;
use super::pieces::Pieces;
use crate::weights::WeightsError;
use crate::weights::file::{Format, WeightFile};
use crate::weights::tensor::{Stored, TensorInfo, decode_f32};
use crate::weights::variable::{Form, Variables};

/// `model.ckpt.index` with its data files.
pub(in crate::weights) const FORMAT: Format = Format {
    framework: "TensorFlow 1",
    file: "model.ckpt.index",
    index: None,
    indexed_name: str::to_owned,
    open: |path, variables| Ok(Box::new(VariablesFile::open(path, variables)?)),
};

/// The largest `.index` that is read; real ones have some hundred thousand bytes.
const LONGEST: u64 = 64 << 20;
/// No model has more layers.
const MOST_LAYERS: usize = 1 << 12;
/// Scopes of what optimisers and training keep.
const OF_TRAINING: [&str; 10] = [
    "adam_v",
    "adam_m",
    "AdamWeightDecayOptimizer",
    "AdamWeightDecayOptimizer_1",
    "Adam",
    "Adam_1",
    "beta1_power",
    "beta2_power",
    "global_step",
    "temperature",
];

/// One tensor.
struct Entry {
    /// As in PyTorch.
    name: String,
    stored: Stored,
    /// Place of its variable among all.
    variable: usize,
    /// Which of the layers that the variable has, if it has several.
    layer: Option<usize>,
}

/// An open checkpoint.
struct VariablesFile {
    path: PathBuf,
    variables: Vec<bundle::Stored>,
    data: BTreeMap<u32, (PathBuf, Pieces)>,
    /// In alphabetical order of the variables; of equal names the first.
    entries: Vec<Entry>,
}

impl VariablesFile {
    fn open(path: &Path, rule: Option<Variables>) -> Result<Self, WeightsError> {
        let Some(rule) = rule else {
            let reason = "is a checkpoint of TensorFlow 1, whose names are not known for this architecture: convert it with \
                          the program of transformers 4.57 for it, and give that folder";
            return Err(WeightsError::file(path, reason));
        };
        let invalid =
            |reason: String| WeightsError::file(path, format!("is no index of a checkpoint ({reason}): get it again"));
        let index = lm_files::read(path, LONGEST).map_err(|source| WeightsError::io(path, "read", source))?;
        let bundle = Bundle::parse(&index).map_err(invalid)?;

        let mut file =
            Self { path: path.to_path_buf(), variables: Vec::new(), data: BTreeMap::new(), entries: Vec::new() };
        let mut names = HashSet::new();
        for name in bundle.names() {
            if name.split('/').any(|scope| OF_TRAINING.contains(&scope)) {
                continue;
            }
            let wrong = |reason: String| WeightsError::tensor(path, &name, format!("{reason}: get the file again"));
            let Some(variable) = bundle.variable(&name).map_err(wrong)? else { continue };
            for piece in &variable.pieces {
                file.open_data(&bundle, &name, piece)?;
            }
            for entry in entries(rule, &name, &variable, file.variables.len()).map_err(wrong)? {
                if names.insert(entry.name.clone()) {
                    file.entries.push(entry);
                }
            }
            file.variables.push(variable);
        }
        Ok(file)
    }

    /// Opens the data file of a piece, which must hold it.
    fn open_data(&mut self, bundle: &Bundle, variable: &str, piece: &bundle::Piece) -> Result<(), WeightsError> {
        if !self.data.contains_key(&piece.shard) {
            let path = bundle.data_file(&self.path, piece.shard);
            if !path.is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let reason = format!("its file {name} is missing: get all files of the checkpoint");
                return Err(WeightsError::tensor(&self.path, variable, reason));
            }
            let data = Pieces::open(&path).map_err(|source| WeightsError::io(&path, "open", source))?;
            self.data.insert(piece.shard, (path, data));
        }
        let (path, data) = &self.data[&piece.shard];
        if piece.start.checked_add(piece.length).is_none_or(|end| end > data.length()) {
            let reason = format!(
                "should have {} bytes from {} on, and the file has {}: it is truncated, get it again",
                piece.length,
                piece.start,
                data.length()
            );
            return Err(WeightsError::tensor(path, variable, reason));
        }
        Ok(())
    }

    /// The values of a variable, its pieces put together.
    fn read(&self, name: &str, variable: &bundle::Stored) -> Result<Vec<f32>, WeightsError> {
        let mut pieces = Vec::new();
        for piece in &variable.pieces {
            let (path, data) = &self.data[&piece.shard];
            let mut bytes = Vec::new();
            let read = data.read_into(piece.start, piece.length, &mut bytes);
            read.map_err(|source| WeightsError::io(path, "read", source))?;
            if table::masked_sum(&[&bytes]) != piece.sum {
                let reason = "its sum is not the one in the index: the file is damaged, get it again";
                return Err(WeightsError::tensor(path, name, reason));
            }
            let values = decode_f32(variable.dtype, &bytes);
            pieces.push(values.map_err(|reason| WeightsError::tensor(path, name, reason))?);
        }
        if let [whole] = pieces.as_mut_slice() {
            return Ok(std::mem::take(whole));
        }
        let outer: usize = variable.shape[..variable.axis].iter().product();
        let mut values = Vec::with_capacity(pieces.iter().map(Vec::len).sum());
        for at in 0..outer {
            for piece in &pieces {
                let width = piece.len() / outer;
                values.extend_from_slice(&piece[at * width..][..width]);
            }
        }
        Ok(values)
    }
}

impl WeightFile for VariablesFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.name.clone()).collect()
    }

    fn info(&self, index: usize) -> &TensorInfo {
        &self.entries[index].stored.info
    }

    fn read_f32(&self, index: usize) -> Result<Vec<f32>, WeightsError> {
        let Entry { name, stored, variable, layer } = &self.entries[index];
        let variable = &self.variables[*variable];
        let values = self.read(name, variable)?;
        match layer {
            Some(layer) => {
                let length = values.len() / variable.shape[0];
                Ok(values[layer * length..][..length].to_vec())
            }
            None => Ok(stored.arrange(values)),
        }
    }
}

/// The tensors that a variable is in PyTorch. The error says why it can't be.
fn entries(rule: Variables, name: &str, variable: &bundle::Stored, at: usize) -> Result<Vec<Entry>, String> {
    let (found, dtype, shape) = (rule(name), variable.dtype, variable.shape.clone());
    let one = |stored| Ok(vec![Entry { name: found.name.clone(), stored, variable: at, layer: None }]);
    match found.form {
        Form::Same => one(Stored::plain(dtype, shape)),
        Form::Transposed => one(Stored::reversed(dtype, shape)),
        Form::Squeezed => one(Stored::plain(dtype, shape.into_iter().filter(|&size| size != 1).collect())),
        Form::PerLayer => {
            let Some((&layers, shape)) = shape.split_first() else { return Err("it has no axis of layers".to_owned()) };
            if layers > MOST_LAYERS {
                return Err(format!("it has {layers} layers"));
            }
            let entry = |layer: usize| Entry {
                name: found.name.replace('*', &layer.to_string()),
                stored: Stored::plain(dtype, shape.to_vec()),
                variable: at,
                layer: Some(layer),
            };
            Ok((0..layers).map(entry).collect())
        }
    }
}

/// The `.index` file of the checkpoint that a folder holds under whatever name: the only one, or the one that the file
/// `checkpoint` beside it calls the latest.
pub(in crate::weights) fn find(folder: &Path) -> Result<Option<PathBuf>, WeightsError> {
    let entries = std::fs::read_dir(folder).map_err(|source| WeightsError::io(folder, "read", source))?;
    let names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let has_data =
        |stem: &str| names.iter().any(|n| n.strip_prefix(stem).is_some_and(|n| n.starts_with(".data-00000-of-")));
    let mut found: Vec<&str> =
        names.iter().filter_map(|name| name.strip_suffix(".index")).filter(|s| has_data(s)).collect();
    found.sort_unstable();
    let latest = latest(&folder.join("checkpoint"));
    if let Some(latest) = latest.filter(|_| found.len() > 1).filter(|latest| found.contains(&latest.as_str())) {
        return Ok(Some(folder.join(format!("{latest}.index"))));
    }
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(folder.join(format!("{only}.index")))),
        [first, ..] => {
            let reason = format!(
                "holds several checkpoints of TensorFlow 1 ({}): name one, as {}",
                found.join(", "),
                folder.join(first).display()
            );
            Err(WeightsError::file(folder, reason))
        }
    }
}

/// What `checkpoint` calls the latest: `model_checkpoint_path: "NAME"`.
fn latest(path: &Path) -> Option<String> {
    let text = lm_files::read_to_string(path, 1 << 20).ok()?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("model_checkpoint_path:"))?;
    let name = line.trim().trim_matches('"');
    Some(name.rsplit('/').next().unwrap_or(name).to_owned())
}
