//! A folder of weights, whichever format and layout they have.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::{AllocationProperty, Bytes};
use half::bf16;
use safetensors::Dtype;
use serde::Deserialize;

use super::WeightsError;
use super::file::{Format, Opened, WeightFile};
use super::format::{FORMATS, TENSORFLOW1, find_tensorflow1};
use super::tensor::{TensorInfo, to_bf16};
use super::variable::{Variable, Variables};

/// The weight files of one folder, open. Values are read when they are asked for.
pub struct Checkpoint {
    folder: PathBuf,
    /// Whose format it is.
    framework: &'static str,
    files: Vec<Box<dyn WeightFile>>,
    /// In the order of the file, or of the index; places are (file, tensor within it).
    names: Vec<String>,
    places: HashMap<String, (usize, usize)>,
}

/// `model.safetensors.index.json`: which file holds which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: serde_json::Map<String, serde_json::Value>,
}

impl Checkpoint {
    /// Opens the weights of a folder: of the formats that it holds the first in Python's order, safetensors, PyTorch's,
    /// TensorFlow's of version 1 and 2, Flax's; in each one file rather than the index of several. What is no folder may be
    /// the common beginning of a TensorFlow 1 checkpoint's files, as `bert_model.ckpt`.
    ///
    /// # Errors
    ///
    /// When there are none, when a file is not what it claims to be (truncated, a wrong header, a Git LFS pointer, a
    /// pickle of more than tensors), or when an index names a file or a tensor that is not there.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::open_for(path, Some(Variable::same))
    }

    /// The same, with the rule that the architecture has for the names of TensorFlow 1.
    pub(crate) fn open_for(path: &Path, variables: Option<Variables>) -> Result<Self, WeightsError> {
        if !path.is_dir() {
            return match index_of(path) {
                Some(index) => Self::from_file(&TENSORFLOW1, &index, variables),
                None if path.to_string_lossy().contains(".ckpt") => {
                    let reason = "is no checkpoint of TensorFlow 1, which is NAME.index beside NAME.data-00000-of-00001 and \
                                  so on: give their path up to NAME";
                    Err(WeightsError::file(path, reason))
                }
                None => {
                    let what = if path.exists() { "is not a folder" } else { "does not exist" };
                    let reason = format!("{what}: name the folder that holds config.json and the weights");
                    Err(WeightsError::file(path, reason))
                }
            };
        }
        // As the scripts do: `from_tf=bool(".ckpt" in model_name_or_path)`.
        if path.to_string_lossy().contains(".ckpt")
            && let Some(index) = find_tensorflow1(path)?
        {
            return Self::from_file(&TENSORFLOW1, &index, variables);
        }
        for format in &FORMATS {
            let file = path.join(format.file);
            if file.is_file() {
                return Self::from_file(format, &file, variables);
            }
            if let Some(index) = format.index.map(|index| path.join(index)).filter(|index| index.is_file()) {
                return Self::from_index(format, &index, variables);
            }
        }
        if let Some(index) = find_tensorflow1(path)? {
            return Self::from_file(&TENSORFLOW1, &index, variables);
        }
        let known = FORMATS.map(|format| format.file).join(", ");
        Err(WeightsError::NoWeights { folder: path.to_path_buf(), known, hint: hint(path) })
    }

    /// Opens an adapter's weights: peft's `adapter_model.safetensors`, else its `adapter_model.bin`.
    ///
    /// # Errors
    ///
    /// When there are none, or the file is not what it claims to be.
    pub fn open_adapter(folder: &Path) -> Result<Self, WeightsError> {
        const NAMES: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
        for (name, format) in NAMES.iter().zip(&FORMATS) {
            let file = folder.join(name);
            if file.is_file() {
                return Self::from_file(format, &file, None);
            }
        }
        let known = NAMES.join(", ");
        Err(WeightsError::NoWeights { folder: folder.to_path_buf(), known, hint: hint(folder) })
    }

    /// Its files with whose they are, for messages.
    pub(super) fn files_in_words(&self) -> String {
        let name = |file: &dyn WeightFile| file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let framework = self.framework;
        match self.files.as_slice() {
            [] => format!("no files, {framework}"),
            [file] => format!("{}, {framework}", name(file.as_ref())),
            [first, .., last] => {
                format!(
                    "{} files from {} to {}, {framework}",
                    self.files.len(),
                    name(first.as_ref()),
                    name(last.as_ref())
                )
            }
        }
    }

    /// The folder it was opened from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The names of all tensors, in the order of the file or of the index.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Element type and shape of a tensor; `None` when there is none of that name.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        let &(file, index) = self.places.get(name)?;
        Some(self.files[file].info(index))
    }

    /// The values of a tensor as float32, row-major. float64, float16, bfloat16 and float32 are read.
    ///
    /// # Errors
    ///
    /// When there is no tensor of that name, when it holds no floating-point numbers, or when the file cannot be read.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        match self.places.get(name) {
            Some(&(file, index)) => self.files[file].read_f32(index),
            None => Err(WeightsError::tensor(&self.folder, name, "is not in the checkpoint")),
        }
    }

    /// The values of a tensor in bfloat16, row-major, rounded to nearest where the file has more. Those that a safetensors
    /// file has in bfloat16 are not copied: they stay in the file, which is mapped into memory as long as they are used.
    ///
    /// # Errors
    /// As of [`Self::read_f32`].
    pub fn read_bf16(&self, name: &str) -> Result<Bytes, WeightsError> {
        if let Some(&(file, index)) = self.places.get(name)
            && self.files[file].info(index).dtype == Dtype::BF16
            && let Some(mapped) = self.files[file].mapped(index)
            && cfg!(target_endian = "little")
            && bytemuck::try_cast_slice::<u8, bf16>(&mapped).is_ok()
        {
            return Ok(Bytes::from_shared(mapped, AllocationProperty::File));
        }
        self.read_f32(name).map(to_bf16)
    }

    /// Lets go of the memory of a tensor that has been looked at whole, and is used later, in parts or never.
    pub fn let_go(&self, name: &str) {
        if let Some(&(file, index)) = self.places.get(name) {
            self.files[file].let_go(index);
        }
    }

    /// The file that holds a tensor, or the folder when there is none of that name.
    pub fn file_of(&self, name: &str) -> &Path {
        self.places.get(name).map_or(&self.folder, |(file, _)| self.files[*file].path())
    }

    fn from_file(format: &Format, path: &Path, variables: Option<Variables>) -> Result<Self, WeightsError> {
        let file = open_file(format, path, variables)?;
        let names: Vec<String> = file.names();
        let places = names.iter().cloned().enumerate().map(|(index, name)| (name, (0, index))).collect();
        Ok(Self { folder: folder_of(path), framework: format.framework, files: vec![file], names, places })
    }

    fn from_index(format: &Format, path: &Path, variables: Option<Variables>) -> Result<Self, WeightsError> {
        let folder = folder_of(path);
        refuse_impostors(path)?;
        let text =
            lm_files::read_to_string(path, lm_files::SMALL).map_err(|source| WeightsError::io(path, "read", source))?;
        let index: Index = serde_json::from_str(&text).map_err(|error| {
            WeightsError::file(path, format!("not an index of weights: {error}: get the file again"))
        })?;

        let mut files = Vec::new();
        let mut opened: BTreeMap<String, (usize, HashMap<String, usize>)> = BTreeMap::new();
        let mut names = Vec::with_capacity(index.weight_map.len());
        let mut places = HashMap::with_capacity(index.weight_map.len());
        for (name, shard) in index.weight_map {
            let Some(shard) = shard.as_str().filter(|shard| is_plain_file_name(shard)) else {
                let reason = format!("its file {shard} is not the name of a file in the folder of the index");
                return Err(WeightsError::tensor(path, &name, reason));
            };
            if !opened.contains_key(shard) {
                let shard_path = folder.join(shard);
                if !shard_path.is_file() {
                    let reason = format!("its file {shard} is missing: get all files that the index names");
                    return Err(WeightsError::tensor(path, &name, reason));
                }
                let file = open_file(format, &shard_path, variables)?;
                let positions = file.names().into_iter().enumerate().map(|(at, name)| (name, at)).collect();
                opened.insert(shard.to_string(), (files.len(), positions));
                files.push(file);
            }
            let in_torch = (format.indexed_name)(&name);
            let place = opened.get(shard).and_then(|(file, positions)| Some((*file, *positions.get(&in_torch)?)));
            let Some(place) = place else {
                let reason =
                    format!("is not in {shard}, where the index puts it: index and files do not belong together");
                return Err(WeightsError::tensor(path, &name, reason));
            };
            // Tied weights stand twice in TensorFlow's.
            if let Entry::Vacant(entry) = places.entry(in_torch.clone()) {
                entry.insert(place);
                names.push(in_torch);
            }
        }
        Ok(Self { folder, framework: format.framework, files, names, places })
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("folder", &self.folder).field("names", &self.names).finish_non_exhaustive()
    }
}

/// Opens one file, unless it is obvious what else it is.
fn open_file(format: &Format, path: &Path, variables: Option<Variables>) -> Opened {
    refuse_impostors(path)?;
    (format.open)(path, variables)
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_path_buf()
}

/// The `.index` file of a TensorFlow 1 checkpoint, which its path names with that ending or without.
fn index_of(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return path.extension().is_some_and(|ending| ending == "index").then(|| path.to_path_buf());
    }
    let mut index = path.as_os_str().to_owned();
    index.push(".index");
    Some(PathBuf::from(index)).filter(|index| index.is_file())
}

/// Names the common reasons why a file is not weights at all, before a parser describes them in its own words.
fn refuse_impostors(path: &Path) -> Result<(), WeightsError> {
    let mut start = Vec::new();
    lm_files::open_regular(path)
        .and_then(|file| file.take(64).read_to_end(&mut start))
        .map_err(|source| WeightsError::io(path, "read", source))?;
    let reason = if start.is_empty() {
        "the file is empty: copy or download it again"
    } else if start.starts_with(b"version https://git-lfs") {
        "is a Git LFS pointer, not the weights: run `git lfs install` and `git lfs pull` in the cloned folder"
    } else if start.trim_ascii_start().first() == Some(&b'<') {
        "is a web page, not weights: download the file itself"
    } else {
        return Ok(());
    };
    Err(WeightsError::file(path, reason))
}

/// An index may only name files beside it.
fn is_plain_file_name(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|file_name| file_name == name) && !name.contains('\\')
}

/// What a folder without known weights holds instead.
fn hint(folder: &Path) -> String {
    for name in FORMATS.iter().flat_map(|format| [Some(format.file), format.index]).flatten() {
        if folder.join(name).is_dir() {
            return format!(" ({name} is a folder there)");
        }
        if folder.join(name).symlink_metadata().is_ok() {
            return format!(" ({name} there is no regular file, or a link that leads nowhere)");
        }
    }
    let is_gguf = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().ends_with(".gguf");
    let mut entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    match entries.any(is_gguf) {
        true => " (there are GGUF weights: convert them with Python's save_pretrained)".to_owned(),
        false => String::new(),
    }
}
