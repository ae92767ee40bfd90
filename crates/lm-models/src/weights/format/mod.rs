//! The formats of weights, one file each, in the order in which they are looked for.

mod flax;
mod pieces;
mod safetensors;
mod tensorflow;
mod tensorflow1;
mod torch;

use super::file::Format;

#[cfg(test)]
pub(super) use flax::tests::small_file as small_flax_file;
#[cfg(test)]
pub(super) use tensorflow1::tests::small_checkpoint;
#[cfg(test)]
pub(crate) use tensorflow1::tests::{Given, write_checkpoint};
pub(super) use tensorflow1::{FORMAT as TENSORFLOW1, find as find_tensorflow1};
pub(super) use torch::{dtype, refuse_bomb};

/// All formats, in the order in which `from_pretrained` looks for them (`_get_resolved_checkpoint_files` in
/// modeling_utils.py of transformers 4.57).
pub(super) const FORMATS: [Format; 5] =
    [safetensors::FORMAT, torch::FORMAT, tensorflow1::FORMAT, tensorflow::FORMAT, flax::FORMAT];
