//! The formats of weights, one file each, in the order in which they are looked for.

mod flax;
mod pieces;
mod safetensors;
mod tensorflow;
mod torch;

use super::file::Format;

#[cfg(test)]
pub(super) use flax::tests::small_file as small_flax_file;
pub(super) use torch::{dtype, refuse_bomb};

/// All formats, in the order in which `from_pretrained` looks for them (`_get_resolved_checkpoint_files` in
/// modeling_utils.py of transformers 4.57).
pub(super) const FORMATS: [Format; 4] = [safetensors::FORMAT, torch::FORMAT, tensorflow::FORMAT, flax::FORMAT];
