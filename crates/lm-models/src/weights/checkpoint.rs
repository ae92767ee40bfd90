//! A folder of weights, whichever of the four layouts it has.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::WeightsError;
use super::pytorch::PytorchFile;
use super::safetensors_file::SafetensorsFile;
use super::tensor::TensorInfo;

/// The weight files of one folder, open. Values are read when they are asked for.
pub struct Checkpoint {
    folder: PathBuf,
    files: Vec<WeightFile>,
    /// In the order of the file, or of the index; places are (file, tensor within it).
    names: Vec<String>,
    places: HashMap<String, (usize, usize)>,
}

/// One file of weights.
enum WeightFile {
    Safetensors(SafetensorsFile),
    Pytorch(PytorchFile),
}

/// The layouts, in the order in which `from_pretrained` looks for them.
const LAYOUTS: [(&str, Layout); 4] = [
    ("model.safetensors", Layout::File),
    ("model.safetensors.index.json", Layout::Index),
    ("pytorch_model.bin", Layout::File),
    ("pytorch_model.bin.index.json", Layout::Index),
];

#[derive(Clone, Copy)]
enum Layout {
    File,
    Index,
}

/// `model.safetensors.index.json`: which file holds which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: serde_json::Map<String, serde_json::Value>,
}

impl Checkpoint {
    /// Opens the weights of `folder`, in Python's order of preference: `model.safetensors`,
    /// `model.safetensors.index.json`, `pytorch_model.bin`, `pytorch_model.bin.index.json`.
    ///
    /// # Errors
    ///
    /// When there are none, when a file is not what it claims to be (truncated, a wrong header, a Git LFS pointer, a
    /// pickle of more than tensors), or when an index names a file or a tensor that is not there.
    pub fn open(folder: &Path) -> Result<Self, WeightsError> {
        if !folder.is_dir() {
            let reason = if folder.exists() {
                "is not a folder: name the folder that holds config.json and the weights"
            } else {
                "does not exist: name the folder that holds config.json and the weights"
            };
            return Err(WeightsError::file(folder, reason));
        }
        for (name, layout) in LAYOUTS {
            let path = folder.join(name);
            if path.is_file() {
                return match layout {
                    Layout::File => Self::from_file(folder, &path),
                    Layout::Index => Self::from_index(folder, &path),
                };
            }
        }
        Err(WeightsError::NoWeights { folder: folder.to_path_buf(), hint: hint(folder) })
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

    /// The file that holds a tensor, or the folder when there is none of that name.
    pub fn file_of(&self, name: &str) -> &Path {
        self.places.get(name).map_or(&self.folder, |(file, _)| self.files[*file].path())
    }

    fn from_file(folder: &Path, path: &Path) -> Result<Self, WeightsError> {
        let file = WeightFile::open(path)?;
        let names: Vec<String> = file.names();
        let places = names.iter().cloned().enumerate().map(|(index, name)| (name, (0, index))).collect();
        Ok(Self { folder: folder.to_path_buf(), files: vec![file], names, places })
    }

    fn from_index(folder: &Path, path: &Path) -> Result<Self, WeightsError> {
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
                let file = WeightFile::open(&shard_path)?;
                let positions = file.names().into_iter().enumerate().map(|(at, name)| (name, at)).collect();
                opened.insert(shard.to_string(), (files.len(), positions));
                files.push(file);
            }
            let place = opened.get(shard).and_then(|(file, positions)| Some((*file, *positions.get(&name)?)));
            let Some(place) = place else {
                let reason =
                    format!("is not in {shard}, where the index puts it: index and files do not belong together");
                return Err(WeightsError::tensor(path, &name, reason));
            };
            places.insert(name.clone(), place);
            names.push(name);
        }
        Ok(Self { folder: folder.to_path_buf(), files, names, places })
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("folder", &self.folder).field("names", &self.names).finish_non_exhaustive()
    }
}

impl WeightFile {
    fn open(path: &Path) -> Result<Self, WeightsError> {
        refuse_impostors(path)?;
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            SafetensorsFile::open(path).map(Self::Safetensors)
        } else {
            PytorchFile::open(path).map(Self::Pytorch)
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Safetensors(file) => file.path(),
            Self::Pytorch(file) => file.path(),
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Safetensors(file) => file.names(),
            Self::Pytorch(file) => file.names(),
        }
    }

    fn info(&self, index: usize) -> &TensorInfo {
        match self {
            Self::Safetensors(file) => file.info(index),
            Self::Pytorch(file) => file.info(index),
        }
    }

    fn read_f32(&self, index: usize) -> Result<Vec<f32>, WeightsError> {
        match self {
            Self::Safetensors(file) => file.read_f32(index),
            Self::Pytorch(file) => file.read_f32(index),
        }
    }
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
    for (name, _) in LAYOUTS {
        if folder.join(name).is_dir() {
            return format!(" ({name} is a folder there)");
        }
        if folder.join(name).symlink_metadata().is_ok() {
            return format!(" ({name} there is no regular file, or a link that leads nowhere)");
        }
    }
    let names: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    let other = |what: &str| format!(" (there are {what} weights: convert them with Python's save_pretrained)");
    if names.iter().any(|name| name == "tf_model.h5" || name.ends_with(".ckpt.index")) {
        other("TensorFlow")
    } else if names.iter().any(|name| name == "flax_model.msgpack") {
        other("Flax")
    } else if names.iter().any(|name| name.ends_with(".gguf")) {
        other("GGUF")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;
    use safetensors::Dtype;

    use super::*;

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weights");

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(FIXTURES).join(name)).unwrap()
    }

    /// A folder with one file.
    fn folder(name: &str, bytes: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), bytes).unwrap();
        dir
    }

    fn safetensors(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    }

    fn error_of(name: &str, bytes: &[u8]) -> String {
        let dir = folder(name, bytes);
        let error = Checkpoint::open(dir.path()).expect_err("it must be refused").to_string();
        assert!(!error.contains('\n'), "one line: {error}");
        assert!(error.contains(name), "names the file: {error}");
        error
    }

    #[test]
    fn shards_hold_what_the_single_file_holds() {
        let single = Checkpoint::open(&Path::new(FIXTURES).join("single")).unwrap();
        let sharded = Checkpoint::open(&Path::new(FIXTURES).join("sharded")).unwrap();
        let halved = Checkpoint::open(&Path::new(FIXTURES).join("single-bf16")).unwrap();
        assert_eq!(single.names().len(), 16);
        assert_eq!(single.names(), sharded.names());
        let wte = TensorInfo { dtype: Dtype::F32, shape: vec![11, 4] };
        assert_eq!(sharded.info("transformer.wte.weight"), Some(&wte));
        assert_eq!(halved.info("transformer.wte.weight").unwrap().dtype, Dtype::BF16);
        for name in single.names() {
            let values = single.read_f32(name).unwrap();
            assert_eq!(values, sharded.read_f32(name).unwrap());
            for (value, rounded) in values.iter().zip(halved.read_f32(name).unwrap()) {
                assert_eq!(bf16::from_f32(*value).to_f32(), rounded);
            }
        }
        assert_eq!(single.info("absent"), None);
        assert!(
            single.read_f32("absent").unwrap_err().to_string().ends_with("tensor absent: is not in the checkpoint")
        );
    }

    #[test]
    fn a_pickled_state_dict_is_read_in_both_containers() {
        let counted = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        for container in ["zip.bin", "legacy.bin"] {
            let dir = folder("pytorch_model.bin", &fixture(container));
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            assert_eq!(checkpoint.names().len(), 12, "{container}");
            for name in ["f32", "f64", "f16", "bf16", "parameter", "tied"] {
                assert_eq!(checkpoint.info(name).unwrap().shape, [2, 3], "{container} {name}");
                assert_eq!(checkpoint.read_f32(name).unwrap(), counted, "{container} {name}");
            }
            assert_eq!(checkpoint.read_f32("offset_view").unwrap(), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
            assert_eq!(checkpoint.read_f32("transposed").unwrap(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
            assert_eq!(checkpoint.read_f32("scalar").unwrap(), [7.0]);
            assert_eq!(checkpoint.info("scalar").unwrap().shape, [0usize; 0]);
            assert_eq!(checkpoint.info("empty").unwrap().shape, [0, 3]);
            assert!(checkpoint.read_f32("empty").unwrap().is_empty());
            assert_eq!(checkpoint.info("i64").unwrap().dtype, Dtype::I64);
            let error = checkpoint.read_f32("i64").unwrap_err().to_string();
            assert!(error.contains("pytorch_model.bin: tensor i64: holds I64"), "{error}");
        }
    }

    #[test]
    fn a_pickle_of_more_than_tensors_is_refused_and_never_executed() {
        let program = error_of("pytorch_model.bin", &fixture("program.bin"));
        assert!(program.contains("\"program\" is a Python object (posix.system)"), "{program}");
        let root = error_of("pytorch_model.bin", &fixture("program_at_root.bin"));
        assert!(root.contains("holds a Python object (posix.system) and no state dict"), "{root}");
        let training = error_of("pytorch_model.bin", &fixture("training.bin"));
        assert!(training.contains("\"epoch\" is an int"), "{training}");
        assert!(!Path::new("executed").exists());
    }

    #[test]
    fn layouts_are_preferred_in_the_order_of_python() {
        let dir = folder("model.safetensors", &fixture("single/model.safetensors"));
        std::fs::write(dir.path().join("pytorch_model.bin"), "not opened").unwrap();
        std::fs::write(dir.path().join("model.safetensors.index.json"), "not opened").unwrap();
        assert_eq!(Checkpoint::open(dir.path()).unwrap().names().len(), 16);

        let dir =
            folder("pytorch_model.bin.index.json", br#"{"weight_map": {"f32": "part-1.bin", "f16": "part-1.bin"}}"#);
        std::fs::write(dir.path().join("part-1.bin"), fixture("zip.bin")).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.names(), ["f32", "f16"], "what the index names, in its order");
        assert_eq!(checkpoint.read_f32("f16").unwrap()[5], 5.0);
    }

    #[test]
    fn files_that_are_no_weights_are_named_for_what_they_are() {
        for name in ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"] {
            let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 440449768\n";
            assert!(error_of(name, pointer).contains("git lfs pull"));
            assert!(error_of(name, b"").contains("is empty"));
            assert!(error_of(name, b"<!DOCTYPE html>\n<html>").contains("web page"));
            assert!(!error_of(name, b"garbage, and more of it").is_empty());
        }
    }

    #[test]
    fn a_safetensors_header_must_tell_the_truth() {
        let entry = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let two = |second: &str| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"b":{{"dtype":"F32","shape":[2],"data_offsets":{second}}}}}"#
            )
        };
        let cases = [
            (safetensors(&entry("F32", "[2]", "[0,8]"), 4), "truncated (its tensors need 8 bytes, 4 are there)"),
            (safetensors(&entry("F32", "[2]", "[0,8]"), 12), "4 bytes follow the last tensor"),
            (safetensors(&entry("F32", "[3]", "[0,8]"), 8), "tensor a: the header is wrong: shape [3] of F32"),
            (safetensors(&entry("F32", "[2]", "[8,0]"), 8), "tensor a: the header is wrong"),
            (safetensors(&entry("F32", "[4611686018427387904,4]", "[0,0]"), 0), "tensor a: the header is wrong"),
            (safetensors(&entry("F32", "[-2]", "[0,8]"), 8), "tensor a: its header entry is invalid"),
            (safetensors(&entry("F32", &format!("[{}1]", "1,".repeat(100)), "[0,4]"), 4), "more than 64 sizes"),
            (safetensors(&entry("F33", "[2]", "[0,8]"), 8), "tensor a: its header entry is invalid: unknown variant"),
            (safetensors(&two("[4,12]"), 16), "tensor b: the header is wrong: its bytes 4..12 start where 8"),
            (safetensors(&two("[12,20]"), 20), "leaves a hole"),
            (safetensors(&two("[0,8]"), 8), "overlaps"),
            (safetensors("[1, 2, 3]", 0), "no JSON object"),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff{}".to_vec(), "more than the format allows"),
            (b"\xff\x00\x00\x00\x00\x00\x00\x00{}".to_vec(), "truncated (its header has 255 bytes, only 2 follow)"),
            (b"\x01\x02".to_vec(), "truncated (2 bytes"),
        ];
        for (bytes, expected) in cases {
            let error = error_of("model.safetensors", &bytes);
            assert!(error.contains(expected), "{error}");
        }
        let empty = folder("model.safetensors", &safetensors(r#"{"__metadata__":{"format":"pt"}}"#, 0));
        assert!(Checkpoint::open(empty.path()).unwrap().names().is_empty());
    }

    #[test]
    fn an_index_names_files_and_tensors_that_are_there() {
        let name = "model.safetensors.index.json";
        let missing = error_of(name, br#"{"weight_map": {"a": "model-00001-of-00002.safetensors"}}"#);
        assert!(missing.contains("tensor a: its file model-00001-of-00002.safetensors is missing"), "{missing}");
        for outside in ["../secret.safetensors", "/etc/passwd", "a/b", "", ".."] {
            let error = error_of(name, format!(r#"{{"weight_map": {{"a": "{outside}"}}}}"#).as_bytes());
            assert!(error.contains("is not the name of a file in the folder"), "{error}");
        }
        assert!(error_of(name, br#"{"metadata": {}}"#).contains("missing field `weight_map`"));

        let dir = folder(name, br#"{"weight_map": {"a": "part.safetensors"}}"#);
        std::fs::write(dir.path().join("part.safetensors"), fixture("single/model.safetensors")).unwrap();
        let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("tensor a: is not in part.safetensors, where the index puts it"), "{error}");
    }

    #[test]
    fn a_folder_without_weights_says_what_is_there_instead() {
        let error = |dir: &Path| Checkpoint::open(dir).unwrap_err().to_string();
        let dir = folder("tf_model.h5", b"x");
        assert!(error(dir.path()).contains("no weights found: expected model.safetensors"));
        assert!(error(dir.path()).contains("there are TensorFlow weights"));
        assert!(error(&dir.path().join("tf_model.h5")).contains("is not a folder"));
        assert!(error(&dir.path().join("absent")).contains("does not exist"));
        std::fs::create_dir(dir.path().join("model.safetensors")).unwrap();
        assert!(error(dir.path()).contains("model.safetensors is a folder there"));
    }

    proptest! {
        /// Whatever a file holds, opening and reading it ends in values or in an error.
        #[test]
        fn a_damaged_file_never_panics(
            which in 0usize..3,
            cut in prop::option::of(any::<prop::sample::Index>()),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let (name, file) = [
                ("model.safetensors", "single/model.safetensors"),
                ("pytorch_model.bin", "zip.bin"),
                ("pytorch_model.bin", "legacy.bin"),
            ][which];
            let mut bytes = fixture(file);
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let dir = folder(name, &bytes);
            if let Ok(checkpoint) = Checkpoint::open(dir.path()) {
                for name in checkpoint.names() {
                    let _ = checkpoint.read_f32(name);
                }
            }
        }
    }
}
