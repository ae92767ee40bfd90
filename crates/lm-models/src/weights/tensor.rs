//! A tensor in a file: its type, its shape, and its bytes as float32.

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Element type and shape of a tensor in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type in the file.
    pub dtype: Dtype,
    /// Sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
}

/// Little-endian bytes of a floating-point type as float32, on all threads. The error says why it cannot be.
pub(super) fn decode_f32(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>, String> {
    Ok(match dtype {
        Dtype::F32 => decode(bytes, f32::from_le_bytes),
        Dtype::F64 => decode(bytes, |value| f64::from_le_bytes(value) as f32),
        Dtype::F16 => decode(bytes, |value| f16::from_le_bytes(value).to_f32()),
        Dtype::BF16 => decode(bytes, |value| bf16::from_le_bytes(value).to_f32()),
        other => return Err(format!("holds {other}, which is not a floating-point type that a model is loaded from")),
    })
}

fn decode<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32 + Sync) -> Vec<f32> {
    const AT_LEAST: usize = 1 << 16; // values for which a second thread pays
    bytes.as_chunks::<N>().0.par_iter().with_min_len(AT_LEAST).map(|bytes| value(*bytes)).collect()
}
