//! Writing weights as Python's `save_pretrained` lays them out (transformers 4.57, huggingface_hub 0.36): the same
//! files, the same split into shards, the same bytes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use half::{bf16, f16};
use lm_files::NewFile;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;

use super::WeightsError;

/// Python's default for `max_shard_size`: "5GB".
pub const DEFAULT_MAX_SHARD_SIZE: u64 = 5_000_000_000;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Why the values of a tensor could not be had.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A floating-point type that parameters are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatDtype {
    /// float32
    F32,
    /// float16
    F16,
    /// bfloat16
    BF16,
}

impl FloatDtype {
    fn in_file(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::BF16 => Dtype::BF16,
        }
    }

    /// Python's name of the type, as in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// The type of Python's name, `float32` and so on.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::BF16].into_iter().find(|dtype| dtype.name() == name)
    }

    /// The nearest value that the type can hold.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::BF16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// Bytes of one value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Writes the values in this type, little-endian.
    fn write(self, values: &[f32], out: &mut impl Write) -> std::io::Result<()> {
        // A block at a time: no second copy of a large embedding.
        const BLOCK: usize = 1 << 16;
        let mut bytes = Vec::with_capacity(BLOCK * 4);
        for block in values.chunks(BLOCK) {
            match self {
                Self::F32 => encode(block, &mut bytes, f32::to_le_bytes),
                Self::F16 => encode(block, &mut bytes, |value| f16::from_f32(value).to_le_bytes()),
                Self::BF16 => encode(block, &mut bytes, |value| bf16::from_f32(value).to_le_bytes()),
            }
            out.write_all(&bytes)?;
        }
        Ok(())
    }
}

/// `bytes` becomes the values, `N` bytes each.
fn encode<const N: usize>(values: &[f32], bytes: &mut Vec<u8>, to_bytes: impl Fn(f32) -> [u8; N]) {
    bytes.resize(values.len() * N, 0);
    bytes.as_chunks_mut::<N>().0.iter_mut().zip(values).for_each(|(out, &value)| *out = to_bytes(value));
}

/// A parameter to be written. Its values are asked for when its turn comes, so only one is in memory twice.
pub struct NamedTensor<'a> {
    /// The name it has in Python's state dict.
    pub name: String,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Gives the values, row-major.
    pub values: Box<dyn FnOnce() -> Result<Vec<f32>, BoxError> + 'a>,
}

/// How the weights are written.
#[derive(Debug, Clone)]
pub struct SaveOptions {
    /// The type of every tensor in the files.
    pub dtype: FloatDtype,
    /// A file grows no larger than this many bytes of tensors, unless one tensor alone does.
    pub max_shard_size: u64,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self { dtype: FloatDtype::F32, max_shard_size: DEFAULT_MAX_SHARD_SIZE }
    }
}

/// The index file; the fields stand in alphabetical order, as Python sorts them.
#[derive(Serialize)]
struct Index {
    metadata: IndexMetadata,
    weight_map: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct IndexMetadata {
    /// Numbers in all tensors.
    total_parameters: u64,
    /// Bytes of all tensors.
    total_size: u64,
}

/// Writes `tensors`, in the order of Python's state dict and tied ones once, to `model.safetensors` in the existing
/// folder `dir`, or to `model-00001-of-0000N.safetensors` and an index when they exceed
/// [`SaveOptions::max_shard_size`]. Weights of an earlier save are replaced.
///
/// Every file is written beside its final name and flushed to the disk; only when all are there they get their names,
/// so a failure on the way leaves an earlier save as it was.
///
/// # Errors
///
/// When a file cannot be written, when a tensor's values cannot be had or do not fill its shape, or when two tensors
/// have the same name.
pub fn save(dir: &Path, tensors: Vec<NamedTensor<'_>>, options: &SaveOptions) -> Result<(), WeightsError> {
    let mut names = HashSet::new();
    let mut total_parameters = 0;
    for tensor in &tensors {
        if !names.insert(tensor.name.clone()) {
            return Err(WeightsError::tensor(dir, &tensor.name, "is given twice"));
        }
        total_parameters += count(&tensor.shape);
    }
    drop(names);

    let shards = split(tensors, options);
    let files: Vec<String> = match shards.len() {
        0 | 1 => vec![SINGLE.to_string()],
        n => (1..=n).map(|shard| format!("model-{shard:05}-of-{n:05}.safetensors")).collect(),
    };
    let mut weight_map = BTreeMap::new();
    for (file, shard) in files.iter().zip(&shards) {
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), file.clone())));
    }

    let mut written = Vec::new();
    let mut shards = shards.into_iter();
    for file in &files {
        let shard = shards.next().unwrap_or_default();
        let path = dir.join(file);
        let new = write_beside(&path, |out, path| write_shard(out, path, shard, options.dtype))?;
        written.push((new, path));
    }
    if files.len() > 1 {
        let metadata = IndexMetadata { total_parameters, total_size: total_parameters * options.dtype.bytes() };
        let index = Index { metadata, weight_map };
        let path = dir.join(INDEX);
        let new = write_beside(&path, |out, path| {
            serde_json::to_writer_pretty(&mut *out, &index)
                .map_err(|error| WeightsError::io(path, "write", error.into()))?;
            out.write_all(b"\n").map_err(|source| WeightsError::io(path, "write", source))
        })?;
        written.push((new, path));
    }
    for (new, path) in written {
        publish(new, &path)?;
    }
    remove_earlier(dir, &files)?;
    lm_files::sync_folder(dir).map_err(|source| WeightsError::io(dir, "flush", source))
}

/// Writes all tensors into one file of this name, which is replaced whole.
///
/// # Errors
///
/// When it cannot be written, or a tensor's values cannot be had or do not fill its shape.
pub fn save_file(path: &Path, tensors: Vec<NamedTensor<'_>>, dtype: FloatDtype) -> Result<(), WeightsError> {
    let new = write_beside(path, |out, path| write_shard(out, path, tensors, dtype))?;
    publish(new, path)
}

fn count(shape: &[usize]) -> u64 {
    shape.iter().map(|&size| size as u64).product()
}

/// Fills one shard after another in the given order; a tensor that exceeds the limit alone gets a shard of its own
/// (`split_state_dict_into_shards_factory` in huggingface_hub).
fn split<'a>(tensors: Vec<NamedTensor<'a>>, options: &SaveOptions) -> Vec<Vec<NamedTensor<'a>>> {
    let mut shards = Vec::new();
    let mut shard = Vec::new();
    let mut shard_size = 0;
    for tensor in tensors {
        let size = count(&tensor.shape) * options.dtype.bytes();
        if size > options.max_shard_size {
            shards.push(vec![tensor]);
            continue;
        }
        if shard_size + size > options.max_shard_size {
            shards.push(std::mem::take(&mut shard));
            shard_size = 0;
        }
        shard_size += size;
        shard.push(tensor);
    }
    if !shard.is_empty() {
        shards.push(shard);
    }
    shards
}

/// Header and data of one file. Within a file the format's reference implementation sorts by name.
fn write_shard(
    out: &mut impl Write,
    path: &Path,
    mut tensors: Vec<NamedTensor<'_>>,
    dtype: FloatDtype,
) -> Result<(), WeightsError> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut end = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    for tensor in &tensors {
        let start = end;
        end += (count(&tensor.shape) * dtype.bytes()) as usize;
        let info = TensorInfo { dtype: dtype.in_file(), shape: tensor.shape.clone(), data_offsets: (start, end) };
        infos.push((tensor.name.clone(), info));
    }
    // transformers refuses to load a file that does not say which framework's layout it has.
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let header = Metadata::new(Some(format), infos)
        .map_err(|error| WeightsError::file(path, format!("cannot be laid out: {error}")))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| WeightsError::io(path, "write", error.into()))?;
    header.resize(header.len().next_multiple_of(8), b' ');

    let failed = |source| WeightsError::io(path, "write", source);
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    out.write_all(&header).map_err(failed)?;
    for tensor in tensors {
        let values = (tensor.values)()
            .map_err(|error| WeightsError::tensor(path, &tensor.name, format!("its values cannot be had: {error}")))?;
        if values.len() as u64 != count(&tensor.shape) {
            let reason = format!("{} values do not fill its shape {:?}", values.len(), tensor.shape);
            return Err(WeightsError::tensor(path, &tensor.name, reason));
        }
        dtype.write(&values, out).map_err(failed)?;
    }
    Ok(())
}

/// A file whose content is on the disk and that does not have its name yet.
fn write_beside(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<&mut File>, &Path) -> Result<(), WeightsError>,
) -> Result<NewFile, WeightsError> {
    let failed = |source| WeightsError::io(path, "write", source);
    let mut new = NewFile::create(path).map_err(failed)?;
    let mut out = BufWriter::with_capacity(1 << 20, new.file());
    content(&mut out, path)?;
    out.flush().map_err(failed)?;
    drop(out);
    new.sync().map_err(failed)?;
    Ok(new)
}

fn publish(new: NewFile, path: &Path) -> Result<(), WeightsError> {
    new.publish().map_err(|source| WeightsError::io(path, "write", source))
}

/// Removes weights of an earlier save in the other layout: a reader prefers `model.safetensors`, so with shards
/// written, an old one would be loaded in their place.
fn remove_earlier(dir: &Path, files: &[String]) -> Result<(), WeightsError> {
    let sharded = files.len() > 1;
    let entries = std::fs::read_dir(dir).map_err(|source| WeightsError::io(dir, "list", source))?;
    for entry in entries {
        let entry = entry.map_err(|source| WeightsError::io(dir, "list", source))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let stale = if sharded { name == SINGLE } else { name == INDEX } || is_shard(name);
        if stale && !files.iter().any(|file| file == name) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|source| WeightsError::io(&path, "remove", source))?;
        }
    }
    Ok(())
}

/// `model-00001-of-00005.safetensors`.
fn is_shard(name: &str) -> bool {
    let five_digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix("model-")
        .and_then(|rest| rest.strip_suffix(".safetensors"))
        .and_then(|rest| rest.split_once("-of-"))
        .is_some_and(|(shard, of)| five_digits(shard) && five_digits(of))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Checkpoint;
    use super::*;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weights");

    fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), std::fs::read(&path).unwrap()))
            .collect()
    }

    /// The model that make.py saved, in the order of its state dict.
    fn model(checkpoint: &Checkpoint) -> Vec<NamedTensor<'_>> {
        let order = std::fs::read_to_string(format!("{FIXTURES}/order.json")).unwrap();
        let order: Vec<String> = serde_json::from_str(&order).unwrap();
        order
            .into_iter()
            .map(|name| NamedTensor {
                shape: checkpoint.info(&name).unwrap().shape.clone(),
                values: Box::new({
                    let name = name.clone();
                    move || Ok(checkpoint.read_f32(&name)?)
                }),
                name,
            })
            .collect()
    }

    fn tensor(name: &str, values: Vec<f32>) -> NamedTensor<'static> {
        NamedTensor { name: name.to_string(), shape: vec![values.len()], values: Box::new(|| Ok(values)) }
    }

    #[test]
    fn files_are_those_of_save_pretrained_byte_for_byte() {
        let layouts = [
            ("single", FloatDtype::F32, DEFAULT_MAX_SHARD_SIZE),
            ("sharded", FloatDtype::F32, 400),
            ("single-bf16", FloatDtype::BF16, DEFAULT_MAX_SHARD_SIZE),
        ];
        for (layout, dtype, max_shard_size) in layouts {
            let python = Path::new(FIXTURES).join(layout);
            let checkpoint = Checkpoint::open(&python).unwrap();
            let dir = tempfile::tempdir().unwrap();
            save(dir.path(), model(&checkpoint), &SaveOptions { dtype, max_shard_size }).unwrap();
            let (ours, theirs) = (files_of(dir.path()), files_of(&python));
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{layout}");
            for (name, bytes) in &ours {
                assert!(*bytes == theirs[name], "{layout}/{name} differs");
            }
        }
    }

    #[test]
    fn a_save_replaces_an_earlier_one_in_the_other_layout() {
        let checkpoint = Checkpoint::open(&Path::new(FIXTURES).join("single")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let sharded = |max_shard_size| SaveOptions { max_shard_size, ..SaveOptions::default() };
        std::fs::write(dir.path().join("config.json"), "{}").unwrap();
        std::fs::write(dir.path().join("model-of-mine.safetensors"), "").unwrap();
        let mut counts = Vec::new();
        for max_shard_size in [400, 800, DEFAULT_MAX_SHARD_SIZE, 400] {
            save(dir.path(), model(&checkpoint), &sharded(max_shard_size)).unwrap();
            let saved = Checkpoint::open(dir.path()).unwrap();
            assert_eq!(saved.names().len(), checkpoint.names().len());
            counts.push(files_of(dir.path()).len() - 2);
        }
        assert_eq!(counts, [5, 3, 1, 5], "shards and index, or one file");
    }

    #[test]
    fn a_failure_leaves_the_earlier_save_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), vec![tensor("a", vec![1.0])], &SaveOptions::default()).unwrap();
        let failing = NamedTensor { name: "b".into(), shape: vec![1], values: Box::new(|| Err("device lost".into())) };
        let error = save(dir.path(), vec![tensor("a", vec![2.0]), failing], &SaveOptions::default()).unwrap_err();
        assert!(error.to_string().ends_with("tensor b: its values cannot be had: device lost"), "{error}");

        let short = NamedTensor { name: "b".into(), shape: vec![2, 2], values: Box::new(|| Ok(vec![0.0; 3])) };
        let error = save(dir.path(), vec![short], &SaveOptions::default()).unwrap_err();
        assert!(error.to_string().contains("tensor b: 3 values do not fill its shape [2, 2]"), "{error}");

        let twice = vec![tensor("a", vec![2.0]), tensor("a", vec![3.0])];
        let error = save(dir.path(), twice, &SaveOptions::default()).unwrap_err();
        assert!(error.to_string().contains("tensor a: is given twice"), "{error}");

        assert_eq!(files_of(dir.path()).keys().collect::<Vec<_>>(), ["model.safetensors"]);
        assert_eq!(Checkpoint::open(dir.path()).unwrap().read_f32("a").unwrap(), [1.0]);
        let error = save(&dir.path().join("absent"), vec![], &SaveOptions::default()).unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
    }

    proptest! {
        // Each case flushes files to the disk.
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_saved_is_read_again(
            tensors in prop::collection::btree_map("[a-z.]{1,8}", prop::collection::vec(any::<f32>(), 0..40), 1..8),
            max_shard_size in 1u64..200,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let given = || tensors.iter().map(|(name, values)| tensor(name, values.clone())).collect::<Vec<_>>();
            for dtype in [FloatDtype::F32, FloatDtype::F16, FloatDtype::BF16] {
                save(dir.path(), given(), &SaveOptions { dtype, max_shard_size }).unwrap();
                let saved = Checkpoint::open(dir.path()).unwrap();
                prop_assert_eq!(saved.names().len(), tensors.len());
                for (name, values) in &tensors {
                    let expected = values.iter().map(|&value| match dtype {
                        FloatDtype::F32 => value,
                        FloatDtype::F16 => f16::from_f32(value).to_f32(),
                        FloatDtype::BF16 => bf16::from_f32(value).to_f32(),
                    });
                    let read = saved.read_f32(name).unwrap();
                    prop_assert!(read.iter().map(|v| v.to_bits()).eq(expected.map(f32::to_bits)));
                }
            }
        }
    }
}
