//! What a format of weights is: the names of its files, and what can be read of one.

use std::path::Path;

use bytes::Bytes;

use super::error::WeightsError;
use super::tensor::TensorInfo;
use super::variable::Variables;

/// A format: what its files are called, and how one is opened.
pub(super) struct Format {
    /// Whose it is, for messages.
    pub framework: &'static str,
    /// Name of the file that holds all tensors.
    pub file: &'static str,
    /// Name of the file that says which of several files holds which tensor, if there can be several.
    pub index: Option<&'static str>,
    /// A tensor's name in PyTorch, of its name in the index.
    pub indexed_name: fn(&str) -> String,
    /// Opens one file. Where names are those of a program and not of a library, the architecture's rule leads to PyTorch's.
    pub open: fn(&Path, Option<Variables>) -> Opened,
}

/// An open file, or why it is none.
pub(super) type Opened = Result<Box<dyn WeightFile>, WeightsError>;

/// One open file; its values stay in it until they are asked for.
pub(super) trait WeightFile: Send + Sync {
    /// Where it is.
    fn path(&self) -> &Path;

    /// The names of its tensors, as PyTorch has them.
    fn names(&self) -> Vec<String>;

    /// The tensor at `index` of [`Self::names`], in the shape that PyTorch has it.
    fn info(&self, index: usize) -> &TensorInfo;

    /// The memory of the tensor at `index` of [`Self::names`] as it is in the file, row-major and little-endian; none where
    /// the file is not mapped into memory.
    fn mapped(&self, _index: usize) -> Option<Bytes> {
        None
    }

    /// Lets go of the memory that has been read of the tensor at `index` of [`Self::names`]: who reads it again gets it
    /// from the file again.
    fn let_go(&self, _index: usize) {}

    /// The values of the tensor at `index` of [`Self::names`], row-major.
    fn read_f32(&self, index: usize) -> Result<Vec<f32>, WeightsError>;
}
