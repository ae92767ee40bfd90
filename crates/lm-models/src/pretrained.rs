//! From a checkpoint's folder to a model, and back.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;

use crate::config::{ConfigError, ModelConfig};
use crate::model::AutoModel;
use crate::parameters::{Kind, ParameterInfo, Snapshot};
use crate::weights::{self, Checkpoint, FloatDtype, LoadReport, ModelNames, NamedTensor, SaveOptions, WeightsError};

/// Why a model can't be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// config.json
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file beside the weights can't be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A model with what was found and missed in its checkpoint.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub model: AutoModel,
    /// Which parameters came from where.
    pub report: LoadReport,
}

/// Loads the weights of `folder` (or of a TensorFlow 1 checkpoint by the beginning of its files' names) into the architecture
/// of `config`, as Python's `from_pretrained`; parameters that the checkpoint lacks get initial values by `seed`. Where
/// `config` has a larger vocabulary than the checkpoint (`vocab_in_checkpoint` rows), the new rows are the mean of the old ones
/// (`resize_token_embeddings` with `mean_resizing`), and so are the new biases of a head of its own; those of a tied one are
/// zero.
pub fn load(
    folder: &Path,
    config: &ModelConfig,
    vocab_in_checkpoint: usize,
    seed: u64,
    device: &Device,
) -> Result<Loaded, LoadError> {
    load_some_in_16_bits(folder, config, vocab_in_checkpoint, seed, device, |_| false)
}

/// The same, with the weights that `in_16_bits` says in bfloat16: frozen ones of layers and tables, which are float32 only
/// piece by piece, where they are computed with. A safetensors file of that type is not copied but stays mapped into memory.
pub fn load_some_in_16_bits(
    folder: &Path,
    config: &ModelConfig,
    vocab_in_checkpoint: usize,
    seed: u64,
    device: &Device,
    in_16_bits: impl Fn(&ParameterInfo) -> bool,
) -> Result<Loaded, LoadError> {
    let family = config.family();
    let checkpoint = Checkpoint::open_for(folder, family.tensorflow1)?;
    let model = AutoModel::empty(config, device)?;
    let parameters: Vec<_> = model.parameters().into_iter().map(|info| (info.name, info.shape)).collect();
    let own = |name: &str| parameters.iter().any(|(parameter, _)| parameter == name);
    let ties: Vec<_> = family.ties.iter().copied().filter(|(alias, parameter)| !own(alias) && own(parameter)).collect();
    let names = ModelNames {
        class_name: family.class,
        base_model_prefix: family.base_model_prefix,
        parameters: &parameters,
        ties: &ties,
        buffers: family.buffers,
        old_names: family.old_names,
        ignore_unexpected: family.ignore_unexpected,
        vocab_resize: (vocab_in_checkpoint != config.vocab_size())
            .then_some((vocab_in_checkpoint, config.vocab_size())),
    };
    let report = weights::match_names(&names, &checkpoint)?;

    let tied = !model.parameters().iter().any(|info| info.kind == Kind::Head);
    let model = model.fill(|info| {
        let Some(name) = report.source(&info.name) else {
            return Ok::<_, WeightsError>(info.data(info.initial_values(seed)));
        };
        let in_16_bits = in_16_bits(info);
        if in_16_bits && checkpoint.info(name).is_some_and(|stored| stored.shape == info.shape) {
            let values = checkpoint.read_bf16(name)?;
            expect_finite(&checkpoint, name, bytemuck::cast_slice::<u8, bf16>(&values))?;
            checkpoint.let_go(name);
            return Ok(TensorData::from_bytes(values, info.shape.clone(), DType::BF16));
        }
        let values = checkpoint.read_f32(name)?;
        expect_finite(&checkpoint, name, &values)?;
        let values = resized(values, info, (vocab_in_checkpoint, config.vocab_size()), tied);
        Ok(match in_16_bits {
            true => TensorData::from_bytes(weights::to_bf16(values), info.shape.clone(), DType::BF16),
            false => info.data(values),
        })
    })?;
    Ok(Loaded { model, report })
}

/// A weight that is no number makes every loss one: no learning rate helps, so it is told where it stands.
fn expect_finite<T: Copy + Into<f32> + Sync>(
    checkpoint: &Checkpoint,
    name: &str,
    values: &[T],
) -> Result<(), WeightsError> {
    let Some(at) = first_not_finite(values) else { return Ok(()) };
    let reason = format!(
        "holds {} (value {at} of {}), which is no usable number: the run that made these weights diverged or the file is \
         damaged; take an earlier checkpoint, or get the file again",
        values[at].into(),
        values.len()
    );
    Err(WeightsError::tensor(checkpoint.file_of(name), name, reason))
}

/// Values that one thread looks at, one by one only if there is something to find.
const PIECE: usize = 1 << 14;

fn first_not_finite<T: Copy + Into<f32> + Sync>(values: &[T]) -> Option<usize> {
    let finite = |value: &T| Into::<f32>::into(*value).is_finite();
    // No way out in the middle, so that the compiler makes vectors of it.
    let all_finite = |piece: &[T]| piece.iter().fold(true, |all, value| all & finite(value));
    let piece = values.par_chunks(PIECE).position_first(|piece| !all_finite(piece))?;
    let first = piece * PIECE;
    values[first..].iter().position(|value| !finite(value)).map(|at| first + at)
}

/// Cuts or extends a parameter along its dimension of the vocabulary, which has `from` entries in the checkpoint and `to`
/// in the model; `tied`: the head has the weights of the embeddings.
fn resized(values: Vec<f32>, info: &ParameterInfo, (from, to): (usize, usize), tied: bool) -> Vec<f32> {
    let of_vocabulary = |&axis: &usize| info.shape[axis] == to && info.len() / to * from == values.len();
    let Some(axis) = (0..info.shape.len()).find(of_vocabulary).filter(|_| values.len() != info.len()) else {
        return values;
    };
    let width: usize = info.shape[axis + 1..].iter().product();
    let mut out = Vec::with_capacity(info.len());
    for entries in values.chunks_exact(from * width) {
        out.extend_from_slice(&entries[..from.min(to) * width]);
        let mean = |column: usize| {
            let sum: f64 = entries.iter().skip(column).step_by(width).map(|&v| f64::from(v)).sum();
            (sum / from as f64) as f32
        };
        let added: Vec<f32> = match info.shape.len() {
            1 if tied => vec![0.0],
            _ => (0..width).map(mean).collect(),
        };
        out.extend(added.iter().copied().cycle().take(to.saturating_sub(from) * width));
    }
    out
}

/// Rounds every parameter to what `dtype` can hold, as Python does when it loads in this type. What lies in 16 bits stays as
/// it is.
pub fn round_to(model: AutoModel, dtype: FloatDtype) -> AutoModel {
    let round = |tensor: Tensor<1>| {
        let device = tensor.device();
        let values: Vec<f32> = tensor.into_data().iter::<f32>().map(|value| dtype.round(value)).collect();
        let len = values.len();
        Tensor::from_data(TensorData::new(values, [len]), &device)
    };
    match dtype {
        FloatDtype::F32 => model,
        _ => model.map(|_, tensor| if tensor.dtype() == DType::F32 { round(tensor) } else { tensor }),
    }
}

/// Writes config.json, the weights and, where `generation_config` is given, generation_config.json into the existing
/// `folder`, as Python's `save_pretrained`.
pub fn save_pretrained(
    folder: &Path,
    config: &ModelConfig,
    generation_config: Option<&str>,
    parameters: &[Snapshot],
    dtype: FloatDtype,
) -> Result<(), LoadError> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        lm_files::write(&path, text.as_bytes()).map_err(|source| LoadError::Write { path, source })
    };
    let mut config = config.clone();
    config.set("dtype", dtype.name());
    write("config.json", &config.to_json())?;
    if let Some(text) = generation_config {
        write("generation_config.json", text)?;
    }
    let tensors = parameters.iter().map(|Snapshot { info, tensor }| NamedTensor {
        name: info.name.clone(),
        shape: info.shape.clone(),
        values: Box::new(move || Ok(tensor.clone().try_into_data()?.try_into_vec_as::<f32>()?)),
    });
    let buffers = (config.family().saved_buffers)(&config).into_iter().map(|(name, values)| NamedTensor {
        name,
        shape: vec![values.len()],
        values: Box::new(move || Ok(values)),
    });
    weights::save(folder, tensors.chain(buffers).collect(), &SaveOptions { dtype, ..SaveOptions::default() })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn the_first_value_that_is_no_number_is_found_in_any_piece() {
        let mut values = vec![1.0f32; 3 * PIECE + 5];
        assert_eq!(first_not_finite(&values), None);
        assert_eq!(first_not_finite::<f32>(&[]), None);
        for at in [3 * PIECE + 4, 2 * PIECE, PIECE - 1, 0] {
            values[at] = if at % 2 == 0 { f32::NAN } else { f32::NEG_INFINITY };
            assert_eq!(first_not_finite(&values), Some(at));
            let narrow: Vec<_> = values.iter().map(|value| bf16::from_f32(*value)).collect();
            assert_eq!(first_not_finite(&narrow), Some(at));
        }
    }
}
