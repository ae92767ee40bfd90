//! Folders of weights: layouts, what a file may claim, and what no damage may do.

use std::path::Path;
use std::sync::LazyLock;

use burn::tensor::AllocationProperty;
use half::bf16;
use proptest::prelude::*;
use safetensors::Dtype;

use super::format::{FORMATS, small_checkpoint, small_flax_file};
use super::{Checkpoint, TensorInfo};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weights");

pub(super) fn fixtures() -> std::path::PathBuf {
    FIXTURES.into()
}

pub(super) fn models() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}

pub(super) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(FIXTURES).join(name)).unwrap()
}

/// A folder with one file.
pub(super) fn folder(name: &str, bytes: &[u8]) -> tempfile::TempDir {
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

pub(super) fn error_of(name: &str, bytes: &[u8]) -> String {
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
    assert!(single.read_f32("absent").unwrap_err().to_string().ends_with("tensor absent: is not in the checkpoint"));
}

#[test]
fn bfloat16_stays_in_the_file_where_it_lies_as_the_processor_reads_it() {
    let read = |header: &str, values: &[u8]| {
        let mut bytes = safetensors(header, 0);
        bytes.extend_from_slice(values);
        let folder = folder("model.safetensors", &bytes);
        Checkpoint::open(folder.path()).expect("a file").read_bf16("a").expect("a tensor")
    };
    let values = [1.0f32, -2.5, 0.15625];
    let narrow: Vec<u8> = values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
    let wide: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let of_bf16 = r#"{"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}"#;
    let of_f32 = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#;
    // A header of an odd length puts the data where no number of two bytes may lie.
    let [even, odd] = [0, 1].map(|rest| if of_bf16.len() % 2 == rest { of_bf16.into() } else { format!("{of_bf16} ") });
    for (header, bytes, mapped) in [(even.as_str(), &narrow, true), (&odd, &narrow, false), (of_f32, &wide, false)] {
        let found = read(header, bytes);
        assert_eq!(found[..], narrow[..], "{header}");
        assert_eq!(found.property() == AllocationProperty::File, mapped, "{header}");
    }
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
fn a_state_dict_is_found_in_what_training_loops_keep_it_in() {
    for (name, expected) in [("training.bin", vec!["f32"]), ("wrapped.bin", vec!["_orig_mod.a", "module.b"])] {
        let dir = folder("pytorch_model.bin", &fixture(name));
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.names(), expected, "{name}");
        for name in &expected {
            assert_eq!(checkpoint.read_f32(name).unwrap(), [0.0, 1.0]);
        }
    }
}

#[test]
fn a_pickle_of_more_than_tensors_is_refused_and_never_executed() {
    let program = error_of("pytorch_model.bin", &fixture("program.bin"));
    assert!(program.contains("\"program\" is a Python object (posix.system)"), "{program}");
    let root = error_of("pytorch_model.bin", &fixture("program_at_root.bin"));
    assert!(root.contains("holds a Python object (posix.system) and no state dict"), "{root}");
    let more = error_of("pytorch_model.bin", &fixture("more.bin"));
    assert!(more.contains("\"epoch\" is an int"), "{more}");
    assert!(!Path::new("executed").exists());
}

#[test]
fn layouts_are_preferred_in_the_order_of_python() {
    let dir = folder("model.safetensors", &fixture("single/model.safetensors"));
    std::fs::write(dir.path().join("pytorch_model.bin"), "not opened").unwrap();
    std::fs::write(dir.path().join("model.safetensors.index.json"), "not opened").unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().names().len(), 16);

    let dir = folder("pytorch_model.bin.index.json", br#"{"weight_map": {"f32": "part-1.bin", "f16": "part-1.bin"}}"#);
    std::fs::write(dir.path().join("part-1.bin"), fixture("zip.bin")).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names(), ["f32", "f16"], "what the index names, in its order");
    assert_eq!(checkpoint.read_f32("f16").unwrap()[5], 5.0);
}

#[test]
fn files_that_are_no_weights_are_named_for_what_they_are() {
    let names = FORMATS.iter().flat_map(|format| [Some(format.file), format.index]).flatten();
    for name in names {
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
    for index in FORMATS.iter().filter_map(|format| format.index) {
        for outside in ["../secret.safetensors", "/etc/passwd", "a/b", "", ".."] {
            let error = error_of(index, format!(r#"{{"weight_map": {{"a": "{outside}"}}}}"#).as_bytes());
            assert!(error.contains("is not the name of a file in the folder"), "{error}");
        }
    }
    assert!(error_of(name, br#"{"metadata": {}}"#).contains("missing field `weight_map`"));

    let dir = folder(name, br#"{"weight_map": {"a": "part.safetensors"}}"#);
    std::fs::write(dir.path().join("part.safetensors"), fixture("single/model.safetensors")).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("tensor a: is not in part.safetensors, where the index puts it"), "{error}");
}

/// Every tensor of the PyTorch folder is in the other, with the same shape and values, and nothing more.
pub(super) fn expect_equal(foreign: Checkpoint, torch: &str) {
    let torch = Checkpoint::open(&models().join(torch)).unwrap();
    for name in torch.names() {
        assert_eq!(foreign.info(name).map(|info| &info.shape), torch.info(name).map(|info| &info.shape), "{name}");
        assert_eq!(foreign.read_f32(name).unwrap(), torch.read_f32(name).unwrap(), "{name}");
    }
    assert_eq!(foreign.names().len(), torch.names().len());
}

#[test]
fn a_file_of_keras_and_its_shards_hold_the_tensors_of_pytorch() {
    let open = |folder: &str| Checkpoint::open(&fixtures().join("foreign").join(folder)).unwrap();
    expect_equal(open("tensorflow"), "gpt2");
    expect_equal(open("tensorflow.sharded"), "bert");
}

#[test]
fn a_folder_without_weights_says_what_is_there_instead() {
    let error = |dir: &Path| Checkpoint::open(dir).unwrap_err().to_string();
    let dir = folder("model.gguf", b"x");
    assert!(error(dir.path()).contains("no weights found: expected one of model.safetensors"));
    assert!(error(dir.path()).contains("there are GGUF weights"));
    assert!(error(&dir.path().join("model.gguf")).contains("is not a folder"));
    assert!(error(&dir.path().join("absent")).contains("does not exist"));
    std::fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    assert!(error(dir.path()).contains("model.safetensors is a folder there"));
}

/// One small file of each format, with its name.
fn small_files() -> &'static [(&'static str, Vec<u8>); 6] {
    static FILES: LazyLock<[(&str, Vec<u8>); 6]> = LazyLock::new(|| {
        [
            ("model.safetensors", fixture("single/model.safetensors")),
            ("pytorch_model.bin", fixture("zip.bin")),
            ("pytorch_model.bin", fixture("legacy.bin")),
            ("tf_model.h5", fixture("foreign/tensorflow/tf_model.h5")),
            ("flax_model.msgpack", small_flax_file()),
            ("model.ckpt.index", small_checkpoint().0),
        ]
    });
    &FILES
}

proptest! {
    /// Whatever a file holds, opening and reading it ends in values or in an error.
    #[test]
    fn a_damaged_file_never_panics(
        which in 0usize..6,
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let (name, mut bytes) = small_files()[which].clone();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let dir = folder(name, &bytes);
        for (at, data) in small_checkpoint().1.iter().enumerate().filter(|_| name.starts_with("model.ckpt")) {
            std::fs::write(dir.path().join(format!("model.ckpt.data-0000{at}-of-00002")), data).unwrap();
        }
        match Checkpoint::open(dir.path()) {
            Ok(checkpoint) => checkpoint.names().iter().for_each(|name| drop(checkpoint.read_f32(name))),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }
}
