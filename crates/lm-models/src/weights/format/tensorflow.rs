//! `tf_model.h5`: what TensorFlow models of transformers saved, by the names and in the layout of Keras. An HDF5 file
//! whose root lists layers (`layer_names`), each of which lists its tensors (`weight_names`); a shard's root lists tensors.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5_reader::error::Error;
use hdf5_reader::group::Group;
use hdf5_reader::{Dataset, Datatype, FileStorage, Hdf5File, OpenOptions};
use safetensors::Dtype;

use crate::weights::WeightsError;
use crate::weights::file::{Format, WeightFile};
use crate::weights::tensor::{Stored, TensorInfo, decode_f32};

/// `tf_model.h5`, and its shards.
pub(super) const FORMAT: Format = Format {
    framework: "TensorFlow",
    file: "tf_model.h5",
    index: Some("tf_model.h5.index.json"),
    indexed_name: torch_name,
    open: |path, _| Ok(Box::new(KerasFile::open(path)?)),
};

/// What deflate gains at most: no tensor has more bytes than this for one of the file.
const BEST_COMPRESSION: u64 = 1032;

/// One tensor.
struct Entry {
    /// As in PyTorch.
    name: String,
    stored: Stored,
    data: Dataset,
}

/// An open file.
struct KerasFile {
    path: PathBuf,
    /// In the order of the file; of equal names, which are tied weights, the first.
    entries: Vec<Entry>,
}

impl KerasFile {
    fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::io(path, "open", source);
        let file = lm_files::open_regular(path).map_err(io)?;
        let most = file.metadata().map_err(io)?.len().saturating_mul(BEST_COMPRESSION);
        let invalid = |error: Error| {
            WeightsError::file(path, format!("is no HDF5 file of weights that can be read ({error}): get it again"))
        };
        // Every tensor is read once: nothing is kept for a second time.
        let options = OpenOptions::default()
            .with_chunk_cache_bytes(0)
            .with_max_read_bytes(usize::try_from(most).unwrap_or(usize::MAX));
        let storage = Arc::new(FileStorage::from_file(file).map_err(invalid)?);
        let root = Hdf5File::from_storage_with_options(storage, options).and_then(|file| file.root_group());

        let mut names = HashSet::new();
        let mut entries = Vec::new();
        for (name, data) in tensors(&root.map_err(invalid)?).map_err(invalid)? {
            if names.insert(name.clone()) {
                let stored = stored(&name, &data, most).map_err(|reason| WeightsError::tensor(path, &name, reason))?;
                entries.push(Entry { name, stored, data });
            }
        }
        Ok(Self { path: path.to_path_buf(), entries })
    }
}

impl WeightFile for KerasFile {
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
        let Entry { name, stored, data } = &self.entries[index];
        let error = |reason: String| WeightsError::tensor(&self.path, name, reason);
        let bytes = data.read_native_bytes().map_err(|e| error(format!("cannot be read ({e}): get the file again")))?;
        Ok(stored.arrange(decode_f32(stored.info.dtype, &bytes).map_err(error)?))
    }
}

/// All tensors, by their names in PyTorch.
fn tensors(root: &Group) -> Result<Vec<(String, Dataset)>, Error> {
    let mut tensors = Vec::new();
    for layer in names(root, "layer_names")? {
        match inside(root, &layer, Group::group) {
            Ok(group) => {
                for weight in names(&group, "weight_names")? {
                    tensors.push((torch_name(&weight), inside(&group, &weight, Group::dataset)?));
                }
            }
            // In a shard, where the name has lost its first level, unless it speaks of a `model.` (`save_pretrained` in
            // modeling_tf_utils.py).
            Err(_) => {
                let whole = if layer.contains("model.") { layer.clone() } else { format!("model/{layer}") };
                tensors.push((torch_name(&whole), inside(root, &layer, Group::dataset)?));
            }
        }
    }
    Ok(tensors)
}

/// A list of names; a long one stands in several attributes, `name0`, `name1` and so on (`save_attributes_to_hdf5_group`
/// of Keras).
fn names(group: &Group, attribute: &str) -> Result<Vec<String>, Error> {
    let attributes = group.attributes()?;
    let find = |name: &str| attributes.iter().find(|attribute| attribute.name == name);
    if let Some(whole) = find(attribute) {
        return whole.read_strings();
    }
    let parts = (0..).map_while(|part| find(&format!("{attribute}{part}")));
    let names = parts.map(|part| part.read_strings()).collect::<Result<Vec<_>, _>>()?.concat();
    if names.is_empty() && attribute == "layer_names" {
        return Err(Error::AttributeNotFound(attribute.to_owned()));
    }
    Ok(names)
}

/// What lies at a path, from a group on.
fn inside<T>(group: &Group, path: &str, open: fn(&Group, &str) -> Result<T, Error>) -> Result<T, Error> {
    match path.split_once('/') {
        Some(("", rest)) => inside(group, rest, open),
        Some((first, rest)) => inside(&group.group(first)?, rest, open),
        None => open(group, path),
    }
}

/// The name in PyTorch of a variable (`convert_tf_weight_name_to_pt_weight_name` in modeling_tf_pytorch_utils.py): without
/// `:0` and the first level; `_._` parts levels, and of a level `a___b` only `b` counts.
fn torch_name(variable: &str) -> String {
    let variable = variable.replace(":0", "");
    let levels: Vec<&str> = variable.split('/').collect();
    let mut kept: Vec<&str> = Vec::with_capacity(levels.len());
    let mut shortened = false; // as a regular expression that takes the slashes on both sides does, not two in a row
    for (at, level) in levels.iter().enumerate() {
        let inner = at > 0 && at + 1 < levels.len() && !shortened;
        let short = level.rfind("___").filter(|_| inner).map(|place| &level[place + 3..]);
        shortened = short.is_some();
        kept.push(short.unwrap_or(level));
    }
    let path = kept.join("/").replace("_._", "/");
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.len() > 1 {
        parts.remove(0);
    }
    if let Some(last) = parts.last_mut() {
        *last = match *last {
            "kernel" | "gamma" | "embeddings" => "weight",
            "beta" => "bias",
            "depthwise_kernel" => "depthwise.weight",
            "pointwise_kernel" => "pointwise.weight",
            other => other,
        };
    }
    parts.join(".")
}

/// How a tensor lies in the file. The error says why it can't be used.
fn stored(name: &str, data: &Dataset, most: u64) -> Result<Stored, String> {
    let dtype = match data.dtype() {
        Datatype::FloatingPoint { size: 2, .. } => Dtype::F16,
        Datatype::FloatingPoint { size: 4, .. } => Dtype::F32,
        Datatype::FloatingPoint { size: 8, .. } => Dtype::F64,
        Datatype::FixedPoint { size: 4, .. } => Dtype::I32,
        Datatype::FixedPoint { size: 8, .. } => Dtype::I64,
        _ => return Err("holds no plain numbers: save the model again in float32".to_owned()),
    };
    let shape = data.shape();
    let bytes = shape.iter().try_fold(dtype.bitsize() as u64 / 8, |bytes, &size| bytes.checked_mul(size));
    if bytes.is_none_or(|bytes| bytes > most) {
        return Err(format!("its shape {shape:?} is more than the file can hold: it is damaged, get it again"));
    }
    let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect(); // at most the bytes of it
    let variable = data.name().rsplit('/').next().unwrap_or_default().trim_end_matches(":0");
    Ok(match (variable, shape.as_slice()) {
        ("kernel" | "pointwise_kernel", _) => Stored::reversed(dtype, shape),
        // One filter for each channel: PyTorch counts its inputs where Keras counts its outputs.
        ("depthwise_kernel", &[width, channels, 1]) => {
            Stored::reversed(dtype, vec![width, channels, 1]).shaped(vec![channels, 1, width])
        }
        // GPT-2's convolutions have theirs as a row.
        ("bias", &[1, size]) => Stored::plain(dtype, vec![size]),
        // Of a separable convolution, a layer of its own in Keras alone, PyTorch's is a column.
        ("bias", &[size]) if name.ends_with("key_conv_attn_layer.bias") => Stored::plain(dtype, vec![size, 1]),
        _ => Stored::plain(dtype, shape),
    })
}
