//! Checkpoints of TensorFlow 1, made here by their layout, and one that TensorFlow made.

use std::path::Path;

use crate::weights::Checkpoint;
use crate::weights::tests::{expect_equal, fixtures, models};
use crate::weights::variable::{Form, Variable, is_number, is_word};

use super::table::masked_sum;

/// A variable with its shape and values.
pub(crate) type Given = (String, Vec<usize>, Vec<f32>);

/// Writes `NAME.index` and two data files, by turns the one and the other for each variable.
pub(crate) fn write_checkpoint(prefix: &Path, variables: &[Given]) {
    let (mut data, mut entries) = ([Vec::new(), Vec::new()], Vec::new());
    for (at, (name, shape, values)) in variables.iter().enumerate() {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let shard = &mut data[at % 2];
        entries.push((name.clone().into_bytes(), entry(1, shape, at % 2, shard.len(), &bytes)));
        shard.extend(bytes);
    }
    entries.push((Vec::new(), message(&[(1, 2)], &[])));
    entries.sort();
    let file = |ending: &str| {
        let mut path = prefix.as_os_str().to_owned();
        path.push(ending);
        path
    };
    std::fs::write(file(".index"), table(&entries)).unwrap();
    std::fs::write(file(".data-00000-of-00002"), &data[0]).unwrap();
    std::fs::write(file(".data-00001-of-00002"), &data[1]).unwrap();
}

/// A BundleEntryProto.
fn entry(dtype: u64, shape: &[usize], shard: usize, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let dimensions: Vec<_> = shape.iter().map(|&size| (2, message(&[(1, size as u64)], &[]))).collect();
    let numbers = [(1, dtype), (3, shard as u64), (4, offset as u64), (5, bytes.len() as u64)];
    let mut entry = message(&numbers, &[(2, message(&[], &dimensions))]);
    entry.push(6 << 3 | 5);
    entry.extend(masked_sum(&[bytes]).to_le_bytes());
    entry
}

/// A message of protobuf: numbers, and messages inside, by their tags.
fn message(numbers: &[(u8, u64)], inside: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &(tag, number) in numbers {
        bytes.push(tag << 3);
        varint(&mut bytes, number);
    }
    for (tag, message) in inside {
        bytes.push(tag << 3 | 2);
        varint(&mut bytes, message.len() as u64);
        bytes.extend(message);
    }
    bytes
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A table with blocks of a few entries, by turns plain and compressed.
fn table(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut index = Vec::new();
    for (at, entries) in entries.chunks(7).enumerate() {
        let handle = append_block(&mut file, &block(entries), at % 2 == 1);
        index.push((entries.last().unwrap().0.clone(), handle));
    }
    let properties = append_block(&mut file, &block(&[]), false);
    let index = append_block(&mut file, &block(&index), true);
    let mut footer = [properties, index].concat();
    footer.resize(40, 0);
    footer.extend(0xdb47_7524_8b80_fb57u64.to_le_bytes());
    file.extend(footer);
    file
}

fn append_block(file: &mut Vec<u8>, block: &[u8], compressed: bool) -> Vec<u8> {
    let contents = if compressed { snap::raw::Encoder::new().compress_vec(block).unwrap() } else { block.to_vec() };
    let mut handle = Vec::new();
    varint(&mut handle, file.len() as u64);
    varint(&mut handle, contents.len() as u64);
    file.extend(&contents);
    file.push(u8::from(compressed));
    file.extend(masked_sum(&[&contents, &[u8::from(compressed)]]).to_le_bytes());
    handle
}

/// Keys with what they share with the one before, but for each third.
fn block(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut block, mut restarts, mut last) = (Vec::new(), vec![0u32], Vec::new());
    for (at, (key, value)) in entries.iter().enumerate() {
        let mut shared = key.iter().zip(&last).take_while(|(a, b)| a == b).count();
        if at > 0 && at % 3 == 0 {
            restarts.push(block.len() as u32);
            shared = 0;
        }
        for number in [shared, key.len() - shared, value.len()] {
            varint(&mut block, number as u64);
        }
        block.extend(&key[shared..]);
        block.extend(value);
        last.clone_from(key);
    }
    restarts.iter().for_each(|restart| block.extend(restart.to_le_bytes()));
    block.extend((restarts.len() as u32).to_le_bytes());
    block
}

fn count(length: usize) -> Vec<f32> {
    (0..length).map(|value| value as f32).collect()
}

fn small() -> Vec<Given> {
    let names = (0..20).map(|layer| format!("bert/encoder/layer_{layer}/output/dense/kernel"));
    let mut variables: Vec<Given> = names.map(|name| (name, vec![2, 3], count(6))).collect();
    variables.push(("bert/encoder/layer_0/output/dense/kernel/adam_m".to_owned(), vec![2, 3], count(6)));
    variables.push(("global_step".to_owned(), vec![], vec![7.0]));
    variables
}

/// For the test that damages files of every format.
pub(in crate::weights) fn small_checkpoint() -> (Vec<u8>, [Vec<u8>; 2]) {
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(&dir.path().join("model.ckpt"), &small());
    let read = |ending: &str| std::fs::read(dir.path().join(format!("model.ckpt.{ending}"))).unwrap();
    (read("index"), [read("data-00000-of-00002"), read("data-00001-of-00002")])
}

/// The rule of GPT-2, whose file is above this crate's weights.
fn variable(name: &str) -> Variable {
    let scopes = name.strip_prefix("model/").unwrap_or(name).split('/').map(|scope| {
        let (list, number) = scope.split_at(scope.find(|c: char| c.is_ascii_digit()).unwrap_or(scope.len()));
        match scope {
            "w" | "g" => "weight".to_owned(),
            "b" => "bias".to_owned(),
            "wpe" | "wte" => format!("{scope}.weight"),
            _ if is_word(list) && is_number(number) => format!("{list}.{number}"),
            _ => scope.to_owned(),
        }
    });
    let name = scopes.collect::<Vec<_>>().join(".");
    Variable { name: format!("transformer.{name}"), form: Form::Squeezed }
}

/// GPT-2 of the fixtures as TensorFlow 2.15 saved it, with a table of words in three pieces by rows and products in two by
/// columns (foreign/make_tensorflow1.py).
#[test]
fn a_checkpoint_that_tensorflow_saved_holds_the_tensors_of_pytorch() {
    let folder = fixtures().join("foreign/tensorflow1");
    expect_equal(Checkpoint::open_for(&folder, Some(variable)).unwrap(), "gpt2");
    expect_equal(Checkpoint::open_for(&folder.join("model.ckpt"), Some(variable)).unwrap(), "gpt2");
    expect_equal(Checkpoint::open_for(&folder.join("model.ckpt.index"), Some(variable)).unwrap(), "gpt2");
    let error = Checkpoint::open_for(&folder, None).unwrap_err().to_string();
    assert!(error.contains("names are not known for this architecture"), "{error}");
    assert!(models().is_dir());
}

#[test]
fn blocks_and_data_files_are_put_together() {
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(&dir.path().join("bert_model.ckpt"), &small());
    let checkpoint = Checkpoint::open_for(dir.path(), Some(crate::weights::by_scopes)).unwrap();
    assert_eq!(checkpoint.names().len(), 20, "without what the optimiser keeps");
    for layer in 0..20 {
        let name = format!("bert.encoder.layer.{layer}.output.dense.weight");
        assert_eq!(checkpoint.info(&name).unwrap().shape, [3, 2]);
        assert_eq!(checkpoint.read_f32(&name).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }
}

#[test]
fn layers_with_one_variable_have_a_tensor_each() {
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(&dir.path().join("xlnet_model.ckpt"), &[("bias".to_owned(), vec![2, 3], count(6))]);
    let rule = |_: &str| Variable { name: "layer.*.bias".to_owned(), form: Form::PerLayer };
    let checkpoint = Checkpoint::open_for(dir.path(), Some(rule)).unwrap();
    assert_eq!(checkpoint.names(), ["layer.0.bias", "layer.1.bias"]);
    assert_eq!(checkpoint.info("layer.1.bias").unwrap().shape, [3]);
    assert_eq!(checkpoint.read_f32("layer.1.bias").unwrap(), [3.0, 4.0, 5.0]);
}

#[test]
fn of_several_checkpoints_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for step in [10, 20] {
        let variable = ("step".to_owned(), vec![], vec![step as f32]);
        write_checkpoint(&dir.path().join(format!("run.ckpt-{step}")), &[variable]);
    }
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("holds several checkpoints of TensorFlow 1 (run.ckpt-10, run.ckpt-20)"), "{error}");
    std::fs::write(dir.path().join("checkpoint"), "model_checkpoint_path: \"/elsewhere/run.ckpt-20\"\n").unwrap();
    assert_eq!(Checkpoint::open(dir.path()).unwrap().read_f32("step").unwrap(), [20.0]);
    let named = Checkpoint::open(&dir.path().join("run.ckpt-10")).unwrap();
    assert_eq!(named.read_f32("step").unwrap(), [10.0]);
    assert_eq!(named.folder(), dir.path());
    // What a folder of that name holds is looked for there first, as by the scripts.
    let with_others = dir.path().join("tf.ckpt");
    std::fs::create_dir(&with_others).unwrap();
    std::fs::write(with_others.join("model.safetensors"), "not opened").unwrap();
    write_checkpoint(&with_others.join("model.ckpt"), &[("a".to_owned(), vec![], vec![1.0])]);
    assert_eq!(Checkpoint::open(&with_others).unwrap().names(), ["a"]);
}

/// The error for a table with these entries beside the header.
fn error_of_entry(entry: Vec<u8>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let entries = [(Vec::new(), message(&[(1, 1)], &[])), (b"a".to_vec(), entry)];
    std::fs::write(dir.path().join("model.ckpt.index"), table(&entries)).unwrap();
    std::fs::write(dir.path().join("model.ckpt.data-00000-of-00001"), [0; 8]).unwrap();
    let read = Checkpoint::open(dir.path()).and_then(|checkpoint| checkpoint.read_f32("a"));
    read.unwrap_err().to_string()
}

#[test]
fn an_index_must_tell_the_truth() {
    for (entry, expected) in [
        (entry(1, &[3], 0, 0, &[0; 8]), "tensor a: its shape [3] does not fill its 8 bytes"),
        (entry(1, &[1 << 62, 4], 0, 0, &[]), "tensor a: its shape [4611686018427387904, 4] does not fill its 0 bytes"),
        (entry(1, &[3], 0, 0, &[0; 12]), "should have 12 bytes from 0 on, and the file has 8"),
        (entry(1, &[2], 0, usize::MAX >> 1, &[0; 8]), "should have 8 bytes from 9223372036854775807 on"),
        (entry(1, &[2], 3, 0, &[0; 8]), "it is in data file 3 of 1"),
        (entry(1, &[2], 0, 0, &[1; 8]), "its sum is not the one in the index"),
        (entry(1, &[usize::MAX], 0, 0, &[]), "its shape has a negative size"),
        (vec![0xff; 20], "its entry is damaged"),
        (entry(3, &[2], 0, 0, &[0; 8]), "holds I32"),
    ] {
        let error = error_of_entry(entry);
        assert!(error.contains(expected), "{error}");
    }
    let missing = tempfile::tempdir().unwrap();
    write_checkpoint(&missing.path().join("model.ckpt"), &small());
    std::fs::remove_file(missing.path().join("model.ckpt.data-00001-of-00002")).unwrap();
    let error = Checkpoint::open(missing.path()).unwrap_err().to_string();
    assert!(error.contains("its file model.ckpt.data-00001-of-00002 is missing"), "{error}");
}

#[test]
fn every_flipped_bit_of_an_index_is_found() {
    let dir = tempfile::tempdir().unwrap();
    write_checkpoint(&dir.path().join("model.ckpt"), &small());
    let index = dir.path().join("model.ckpt.index");
    let whole = std::fs::read(&index).unwrap();
    let open = |bytes: &[u8]| {
        std::fs::write(&index, bytes).unwrap();
        Checkpoint::open(dir.path()).map(|checkpoint| checkpoint.names().len())
    };
    assert_eq!(open(&whole).unwrap(), 20);
    for cut in 1..whole.len() {
        let error = open(&whole[..cut]).unwrap_err().to_string();
        assert!(error.contains("get it again"), "{error}");
    }
    // All blocks have sums; of the footer after them, 40 bytes say where two of them are and are partly unused.
    for at in (0..whole.len() - 48).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        // The block of properties is not read.
        if let Ok(names) = open(&bytes) {
            assert_eq!(names, 20, "byte {at}");
        }
    }
}
