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
    /// A str.
    Text(String),
    /// A list.
    List(Vec<Value<'a>>),
    /// A tuple.
    Tuple(Vec<Value<'a>>),
    /// A dictionary by names.
    Dict(Vec<(String, Value<'a>)>),
    /// A dictionary by numbers.
    Numbered(Vec<(usize, Value<'a>)>),
    /// What a class, of this module, makes of one argument or none: a member of an enumeration, an object of defaults.
    Made(Class, Option<Box<Value<'a>>>),
    /// An object of a class with these attributes, the others being those of the class; its `__init__` is not called.
    Object(Class, Vec<(String, Value<'a>)>),
    /// A tensor of this shape, whose values are asked for when their turn comes.
    Tensor(Vec<usize>, Values<'a>),
}

/// A class of Python: its module and its name.
pub(super) type Class = (&'static str, &'static str);

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
        Value::Text(value) => text(value, out),
        Value::Tuple(values) => {
            out.push(b'(');
            values.iter().for_each(|value| put(value, out, storages));
            out.push(b't');
        }
        Value::List(values) => {
            out.extend(b"](");
            values.iter().for_each(|value| put(value, out, storages));
            out.push(b'e');
        }
        Value::Dict(entries) => dict(entries, out, storages),
        Value::Numbered(entries) => {
            out.extend(b"}(");
            for (number, value) in entries {
                int(*number as i64, out);
                put(value, out, storages);
            }
            out.push(b'u');
        }
        Value::Made(class, argument) => {
            global(*class, out);
            out.push(b'(');
            argument.iter().for_each(|value| put(value, out, storages));
            out.extend(b"tR");
        }
        Value::Object(class, attributes) => {
            global(*class, out);
            out.extend([b')', 0x81]);
            dict(attributes, out, storages);
            out.push(b'b');
        }
        Value::Tensor(shape, values) => {
            let len: usize = shape.iter().product();
            tensor(shape, len, values.storage().0, storages.len(), out);
            storages.push((len, values));
        }
    }
}

fn dict<'v>(entries: &'v [(String, Value)], out: &mut Vec<u8>, storages: &mut Vec<Storage<'v>>) {
    out.extend(b"}(");
    for (name, value) in entries {
        text(name, out);
        put(value, out, storages);
    }
    out.push(b'u');
}

fn global((module, name): Class, out: &mut Vec<u8>) {
    out.extend(format!("c{module}\n{name}\n").bytes());
}

/// `torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`
fn tensor(shape: &[usize], len: usize, storage: &'static str, index: usize, out: &mut Vec<u8>) {
    global(("torch._utils", "_rebuild_tensor_v2"), out);
    out.extend(b"((");
    text("storage", out);
    global(("torch", storage), out);
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
    out.push(0x89);
    global(("collections", "OrderedDict"), out);
    out.extend(b")RtR");
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
