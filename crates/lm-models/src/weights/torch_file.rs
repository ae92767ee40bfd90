//! Any file of `torch.save`, such as optimizer.pt: its plain values and its tensors, parsed and never executed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use pytorch_reader::PickleValue;
use pytorch_reader::{PytorchReader, Tensor};
use safetensors::Dtype;

use super::WeightsError;
use super::format::{dtype, refuse_bomb};
use super::tensor::decode_f32;

/// An open file; the tensors' values stay in it until they are asked for.
pub struct TorchFile {
    path: PathBuf,
    values: PickleValue,
    tensors: HashMap<String, Tensor>,
}

impl TorchFile {
    /// Opens a file that holds a dictionary.
    ///
    /// # Errors
    /// If it is none, or cannot be read.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let invalid = |error: pytorch_reader::PytorchError| {
            WeightsError::file(path, format!("is no file of torch.save that can be read ({error}): get the file again"))
        };
        refuse_bomb(path)?;
        let values = PytorchReader::read_pickle_data(path, None).map_err(invalid)?;
        let tensors = PytorchReader::new(path).map_err(invalid)?.into_tensors();
        Ok(Self { path: path.to_path_buf(), values, tensors })
    }

    /// What the file holds; a tensor is [`PickleValue::Unsupported`], and so is an object of a Python class.
    pub fn values(&self) -> &PickleValue {
        &self.values
    }

    /// The shape of a tensor, named by the keys that lead to it, as `state.0.exp_avg`.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(Tensor::shape)
    }

    /// The values of a tensor, row-major.
    ///
    /// # Errors
    /// If there is no such tensor, it is not of numbers, or cannot be read.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let (tensor, bytes) = self.read(name)?;
        decode_f32(dtype(tensor.dtype()), &bytes).map_err(|reason| WeightsError::tensor(&self.path, name, reason))
    }

    /// The values of a tensor of unsigned bytes, row-major.
    ///
    /// # Errors
    /// If there is no such tensor, it is of something else, or cannot be read.
    pub fn read_u8(&self, name: &str) -> Result<Vec<u8>, WeightsError> {
        let (tensor, bytes) = self.read(name)?;
        match dtype(tensor.dtype()) {
            Dtype::U8 => Ok(bytes),
            other => Err(WeightsError::tensor(&self.path, name, format!("holds {other}, expected U8"))),
        }
    }

    fn read(&self, name: &str) -> Result<(&Tensor, Vec<u8>), WeightsError> {
        let error = |reason: String| WeightsError::tensor(&self.path, name, reason);
        let tensor = self.tensors.get(name).ok_or_else(|| error("is not in the file".to_owned()))?;
        let bytes = tensor.read().map_err(|e| error(format!("cannot be read: {e}: get the file again")))?;
        Ok((tensor, bytes))
    }
}
