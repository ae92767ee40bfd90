//! One `pytorch_model.bin`: a pickled state dict, parsed and never executed.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use pytorch_reader::{DType, PickleValue, PytorchReader, Tensor};
use safetensors::Dtype;

use crate::weights::WeightsError;
use crate::weights::file::{Format, WeightFile};
use crate::weights::tensor::{TensorInfo, decode_f32};

/// The name that [`PytorchReader`] gives to a tensor among the values of a pickle.
const TENSOR: &str = "torch.Tensor";
/// `nn.Module.state_dict()` hangs the versions of its modules on the dict as an attribute, which the reader shows as one
/// more entry.
const METADATA: &str = "_metadata";

/// The most bytes of a pickle inside an archive. It tells some hundred bytes of each tensor; read, every byte of one that
/// was made for it takes a hundred bytes of memory, and an archive of some kilobytes can hold gigabytes of them.
const MAX_PICKLE: u64 = 8 << 20;

/// `pytorch_model.bin`, and its shards.
pub(super) const FORMAT: Format = Format {
    framework: "PyTorch",
    file: "pytorch_model.bin",
    index: Some("pytorch_model.bin.index.json"),
    indexed_name: str::to_owned,
    open: |path, _| Ok(Box::new(PytorchFile::open(path)?)),
};

/// An open file.
struct PytorchFile {
    path: PathBuf,
    /// In alphabetical order: the reader does not keep the pickle's own.
    tensors: Vec<Entry>,
}

/// One tensor.
struct Entry {
    name: String,
    tensor: Tensor,
    info: TensorInfo,
}

impl PytorchFile {
    fn open(path: &Path) -> Result<Self, WeightsError> {
        let invalid = |error: &dyn std::fmt::Display| {
            WeightsError::file(
                path,
                format!(
                    "is no PyTorch state dict that can be read ({error}): get the file again, or save it as safetensors"
                ),
            )
        };
        refuse_bomb(path)?;
        let root = PytorchReader::read_pickle_data(path, None).map_err(|error| invalid(&error))?;
        let (wrapper, root) = unwrapped(root);
        let names = tensor_names(path, root)?;
        let mut tensors = PytorchReader::new(path).map_err(|error| invalid(&error))?.into_tensors();
        let tensors = names
            .into_iter()
            .filter_map(|name| Some((tensors.remove(&format!("{wrapper}{name}"))?, name)))
            .map(|(tensor, name)| {
                let info = TensorInfo { dtype: dtype(tensor.dtype()), shape: tensor.shape().to_vec() };
                Entry { name, tensor, info }
            })
            .collect();
        Ok(Self { path: path.to_path_buf(), tensors })
    }
}

impl WeightFile for PytorchFile {
    fn path(&self) -> &Path {
        &self.path
    }

    /// In alphabetical order.
    fn names(&self) -> Vec<String> {
        self.tensors.iter().map(|entry| entry.name.clone()).collect()
    }

    fn info(&self, index: usize) -> &TensorInfo {
        &self.tensors[index].info
    }

    /// Contiguous whatever the strides in the file.
    fn read_f32(&self, index: usize) -> Result<Vec<f32>, WeightsError> {
        let Entry { name, tensor, info } = &self.tensors[index];
        let error = |reason: String| WeightsError::tensor(&self.path, name, reason);
        let bytes = tensor.read().map_err(|e| error(format!("cannot be read: {e}: get the file again")))?;
        decode_f32(info.dtype, &bytes).map_err(error)
    }
}

/// Fails if the file is an archive whose pickle is far longer than a list of tensors. What is no archive at all is for the
/// reader to say.
pub(in crate::weights) fn refuse_bomb(path: &Path) -> Result<(), WeightsError> {
    let file = lm_files::open_regular(path).map_err(|source| WeightsError::io(path, "open", source))?;
    let Ok(mut archive) = zip::ZipArchive::new(BufReader::new(file)) else { return Ok(()) };
    for index in 0..archive.len() {
        let Ok(entry) = archive.by_index_raw(index) else { continue };
        if entry.name_raw().ends_with(b"data.pkl") && entry.size() > MAX_PICKLE {
            let reason = format!(
                "its data.pkl has {} bytes, more than the {MAX_PICKLE} that any list of tensors has: get the file again",
                entry.size()
            );
            return Err(WeightsError::file(path, reason));
        }
    }
    Ok(())
}

/// Under which of these a training loop keeps the state dict beside other things, which are passed over.
const WRAPPERS: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];

/// The state dict, taken out of what training loops keep it in, and the prefix that the reader gives to its names.
fn unwrapped(mut root: PickleValue) -> (String, PickleValue) {
    let mut prefix = String::new();
    loop {
        let PickleValue::Dict(entries) = &mut root else { return (prefix, root) };
        let is_dict = |key: &&str| matches!(entries.get(*key), Some(PickleValue::Dict(_)));
        let Some(key) = WRAPPERS.into_iter().find(is_dict) else { return (prefix, root) };
        let Some(inner) = entries.remove(key) else { return (prefix, root) };
        prefix.push_str(key);
        prefix.push('.');
        root = inner;
    }
}

/// The names of a state dict, in alphabetical order. A dict that maps to anything but tensors is either a training
/// checkpoint or a program in disguise.
fn tensor_names(path: &Path, root: PickleValue) -> Result<Vec<String>, WeightsError> {
    let PickleValue::Dict(entries) = root else {
        return Err(WeightsError::file(
            path,
            format!("holds {} and no state dict; nothing in it is executed: save model.state_dict()", kind(&root)),
        ));
    };
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut names = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        match value {
            PickleValue::Unsupported(python_type) if python_type == TENSOR => names.push(name),
            PickleValue::Dict(_) if name == METADATA => {}
            other => {
                return Err(WeightsError::file(
                    path,
                    format!(
                        "holds more than tensors: {name:?} is {}; nothing in it is executed: save the state dict alone, \
                         with torch.save(model.state_dict(), \"pytorch_model.bin\")",
                        kind(&other)
                    ),
                ));
            }
        }
    }
    Ok(names)
}

fn kind(value: &PickleValue) -> String {
    match value {
        PickleValue::None => "None".to_string(),
        PickleValue::Bool(_) => "a bool".to_string(),
        PickleValue::Int(_) => "an int".to_string(),
        PickleValue::Float(_) => "a float".to_string(),
        PickleValue::String(_) => "a str".to_string(),
        PickleValue::List(_) => "a list".to_string(),
        PickleValue::Dict(_) => "a dict".to_string(),
        PickleValue::Bytes(_) => "bytes".to_string(),
        PickleValue::Unsupported(name) => format!("a Python object ({name})"),
    }
}

pub(in crate::weights) fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
