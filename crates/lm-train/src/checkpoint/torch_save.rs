//! Files as `torch.save` writes them: a zip archive of one pickle (protocol 2) and the tensors' bytes, each aligned.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// torch maps its files into memory and wants tensors at multiples of this.
const ALIGNMENT: u16 = 64;

/// Entries from here on need the larger headers of zip64.
const LARGE: u64 = u32::MAX as u64;

/// A value to be pickled.
pub(super) enum Value<'a> {
    /// `None`
    None,
    /// `True` or `False`
    Bool(bool),
    /// An int.
    Int(i64),
    /// A float.
    Float(f64),
    /// A list.
    List(Vec<Value<'a>>),
    /// A tuple of two.
    Pair(f64, f64),
    /// A dictionary by names.
    Dict(Vec<(String, Value<'a>)>),
    /// A dictionary by numbers.
    Numbered(Vec<(usize, Value<'a>)>),
    /// A tensor of this shape, whose values are asked for when their turn comes.
    Tensor(Vec<usize>, Values<'a>),
}

/// The values of a tensor.
pub(super) enum Values<'a> {
    /// `torch.float32`
    Float32(Box<dyn Fn() -> io::Result<Vec<f32>> + 'a>),
    /// `torch.uint8`
    Uint8(Box<dyn Fn() -> io::Result<Vec<u8>> + 'a>),
}

impl Values<'_> {
    /// torch's name of the memory that holds them, and the bytes of one.
    fn storage(&self) -> (&'static str, u64) {
        match self {
            Self::Float32(_) => ("FloatStorage", 4),
            Self::Uint8(_) => ("ByteStorage", 1),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Float32(values) => values()?.chunks(1 << 16).try_for_each(|part| {
                let bytes: Vec<u8> = part.iter().flat_map(|value| value.to_le_bytes()).collect();
                out.write_all(&bytes)
            }),
            Self::Uint8(values) => out.write_all(&values()?),
        }
    }
}

/// A tensor's number of values, and the values.
type Storage<'a> = (usize, &'a Values<'a>);

/// Writes `value` beside `path` and gives it the name once it is on the disk; `name` is the folder in the archive.
pub(super) fn save(path: &Path, name: &str, value: &Value) -> io::Result<()> {
    let mut new = lm_files::NewFile::create(path)?;
    write(new.file(), name, value)?;
    new.publish()
}

fn write(file: &mut File, name: &str, value: &Value) -> io::Result<()> {
    let mut zip = ZipWriter::new(BufWriter::with_capacity(1 << 20, file));
    let options = |bytes: u64| {
        SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .with_alignment(ALIGNMENT)
            .large_file(bytes >= LARGE)
    };
    let (mut pickle, mut storages) = (vec![0x80, 2], Vec::new());
    put(value, &mut pickle, &mut storages);
    pickle.push(b'.');
    for (entry, bytes) in [("data.pkl", &pickle[..]), (".format_version", b"1"), ("byteorder", b"little")] {
        zip.start_file(format!("{name}/{entry}"), options(bytes.len() as u64))?;
        zip.write_all(bytes)?;
    }
    for (index, (len, values)) in storages.iter().enumerate() {
        zip.start_file(format!("{name}/data/{index}"), options(values.storage().1 * *len as u64))?;
        values.write(&mut zip)?;
    }
    zip.start_file(format!("{name}/version"), options(0))?;
    zip.write_all(b"3\n")?;
    zip.finish()?.flush()
}

fn put<'v>(value: &'v Value, out: &mut Vec<u8>, storages: &mut Vec<Storage<'v>>) {
    match value {
        Value::None => out.push(b'N'),
        Value::Bool(value) => out.push(if *value { 0x88 } else { 0x89 }),
        Value::Int(value) => int(*value, out),
        Value::Float(value) => float(*value, out),
        Value::Pair(first, second) => {
            float(*first, out);
            float(*second, out);
            out.push(0x86);
        }
        Value::List(values) => {
            out.extend(b"](");
            values.iter().for_each(|value| put(value, out, storages));
            out.push(b'e');
        }
        Value::Dict(entries) => {
            out.extend(b"}(");
            for (name, value) in entries {
                text(name, out);
                put(value, out, storages);
            }
            out.push(b'u');
        }
        Value::Numbered(entries) => {
            out.extend(b"}(");
            for (number, value) in entries {
                int(*number as i64, out);
                put(value, out, storages);
            }
            out.push(b'u');
        }
        Value::Tensor(shape, values) => {
            let len: usize = shape.iter().product();
            tensor(shape, len, values.storage().0, storages.len(), out);
            storages.push((len, values));
        }
    }
}

/// `torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`
fn tensor(shape: &[usize], len: usize, storage: &str, index: usize, out: &mut Vec<u8>) {
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text("storage", out);
    out.extend(format!("ctorch\n{storage}\n").bytes());
    text(&index.to_string(), out);
    text("cpu", out);
    int(len as i64, out);
    // The tuple is the persistent id, by which the reader finds the storage.
    out.extend(b"tQ");
    int(0, out);
    let mut strides = vec![1; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = strides[dim] * shape[dim];
    }
    for sizes in [shape, &strides] {
        out.push(b'(');
        sizes.iter().for_each(|&size| int(size as i64, out));
        out.push(b't');
    }
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
}

fn int(value: i64, out: &mut Vec<u8>) {
    match i32::try_from(value) {
        Ok(value) => {
            out.push(b'J');
            out.extend(value.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8a, 8]);
            out.extend(value.to_le_bytes());
        }
    }
}

fn float(value: f64, out: &mut Vec<u8>) {
    out.push(b'G');
    out.extend(value.to_be_bytes());
}

fn text(value: &str, out: &mut Vec<u8>) {
    out.push(b'X');
    out.extend((value.len() as u32).to_le_bytes());
    out.extend(value.as_bytes());
}
