//! Weight files in the Hugging Face layout: reading, writing, and matching their names to a model's.
//!
//! ```text
//! folder ──Checkpoint::open──▶ names, shapes, dtypes ──match_names──▶ LoadReport ──read_f32──▶ parameters
//! parameters ──save──▶ model.safetensors, or model-0000X-of-0000N.safetensors + index
//! ```
//!
//! Nothing here knows of tensors of a framework: values come and go as `Vec<f32>`, row-major, or come as the bytes of bfloat16.

mod checkpoint;
mod error;
mod file;
mod format;
mod names;
mod report;
mod save;
mod tensor;
#[cfg(test)]
mod tests;
mod torch_file;
mod variable;

pub use checkpoint::Checkpoint;
pub use error::WeightsError;
#[cfg(test)]
pub(crate) use format::{Given, write_checkpoint};
pub(crate) use names::{ModelNames, match_names};
pub use report::LoadReport;
pub use save::FloatDtype;
pub(crate) use save::{NamedTensor, SaveOptions, save, save_file};
pub use tensor::TensorInfo;
pub(crate) use tensor::to_bf16;
pub use torch_file::{PickleValue, TorchFile};
pub(crate) use variable::{Form, Variable, Variables, by_scopes, is_number, is_word};
