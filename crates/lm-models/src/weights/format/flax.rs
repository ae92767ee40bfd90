//! `flax_model.msgpack`: what Flax models of transformers saved, MessagePack of nested maps whose leaves are arrays as
//! extension 1, `(shape, dtype, bytes)`; an array of more than a gigabyte is a map of chunks. Layout: `msgpack_serialize` in
//! flax/serialization.py; names: `load_flax_weights_in_pytorch_model` in modeling_flax_pytorch_utils.py of transformers 4.57.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use rmp::Marker;
use rmp::decode::{read_array_len, read_bin_len, read_bool, read_ext_meta, read_int, read_map_len, read_str_len};
use safetensors::Dtype;

use super::pieces::Pieces;
use crate::weights::WeightsError;
use crate::weights::file::{Format, WeightFile};
use crate::weights::tensor::{Stored, TensorInfo, decode_f32};

/// `flax_model.msgpack`, and its shards.
pub(super) const FORMAT: Format = Format {
    framework: "Flax",
    file: "flax_model.msgpack",
    index: Some("flax_model.msgpack.index.json"),
    indexed_name: |name| torch_name(name.split('/')),
    open: |path, _| Ok(Box::new(FlaxFile::open(path)?)),
};

/// Extension types of arrays and of single values, which are written alike.
const ARRAYS: [i8; 2] = [1, 3];
/// The first key of a map that is an array in chunks.
const CHUNKED: &str = "__msgpack_chunked_array__";
/// What no tree of parameters reaches: levels, bytes of a name, bytes of all names, dimensions, chunks of one array.
const MOST_LEVELS: usize = 64;
const LONGEST_NAME: u32 = 1024;
const LONGEST_NAMES: usize = 64 << 20;
const MOST_DIMENSIONS: u32 = 64;
const MOST_CHUNKS: u32 = 1 << 16;

/// One array.
struct Entry {
    /// As in PyTorch.
    name: String,
    stored: Stored,
    chunks: Vec<Chunk>,
}

/// Values in the file, from a byte on.
struct Chunk {
    shape: Vec<usize>,
    dtype: Dtype,
    start: u64,
    length: u64,
}

/// An open file.
struct FlaxFile {
    path: PathBuf,
    file: Pieces,
    /// In the order of the file; of equal names the first.
    entries: Vec<Entry>,
}

impl FlaxFile {
    fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::io(path, "open", source);
        let file = Pieces::open(path).map_err(io)?;
        let mut tree = Tree {
            file: BufReader::new(lm_files::open_regular(path).map_err(io)?),
            length: file.length(),
            path: Vec::new(),
            names: HashSet::new(),
            bytes_of_names: 0,
            entries: Vec::new(),
        };
        tree.read().map_err(|reason| match tree.path.as_slice() {
            [] => WeightsError::file(path, format!("is no file of Flax parameters ({reason}): get it again")),
            levels => {
                WeightsError::tensor(path, &levels.join("/"), format!("{reason}: the file is damaged, get it again"))
            }
        })?;
        Ok(Self { path: path.to_path_buf(), file, entries: tree.entries })
    }
}

impl WeightFile for FlaxFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.name.clone()).collect()
    }

    fn info(&self, index: usize) -> &TensorInfo {
        &self.entries[index].stored.info
    }

    fn read_f32(&self, index: usize) -> Result<Vec<f32>, WeightsError> {
        let Entry { name, stored, chunks } = &self.entries[index];
        let mut bytes = Vec::new();
        for chunk in chunks {
            let read = self.file.read_into(chunk.start, chunk.length, &mut bytes);
            read.map_err(|source| WeightsError::io(&self.path, "read", source))?;
        }
        let values = decode_f32(stored.info.dtype, &bytes);
        Ok(stored.arrange(values.map_err(|reason| WeightsError::tensor(&self.path, name, reason))?))
    }
}

/// The name in PyTorch of the array at a path.
fn torch_name<'a>(path: impl Iterator<Item = &'a str>) -> String {
    let mut parts: Vec<&str> = path.collect();
    // What trains keeps the parameters beside other things, some saved it as it was.
    if parts.len() > 1 && parts[0] == "params" {
        parts.remove(0);
    }
    if let Some(last) = parts.last_mut() {
        *last = match *last {
            "kernel" | "scale" | "embedding" => "weight",
            other => other,
        };
    }
    parts.join(".")
}

/// The tree of parameters while it is read, arrays skipped. Errors say what is wrong, the path where.
struct Tree {
    file: BufReader<File>,
    length: u64,
    path: Vec<String>,
    names: HashSet<String>,
    bytes_of_names: usize,
    entries: Vec<Entry>,
}

impl Tree {
    fn read(&mut self) -> Result<(), String> {
        match self.marker()? {
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => self.map()?,
            _ => return Err("it holds no map".to_owned()),
        }
        match self.position()? {
            end if end == self.length => Ok(()),
            end => Err(format!("{} bytes follow the last array", self.length - end)),
        }
    }

    /// The marker of the value that comes next.
    fn marker(&mut self) -> Result<Marker, String> {
        let bytes = self.file.fill_buf().map_err(in_words)?;
        bytes.first().map(|&byte| Marker::from_u8(byte)).ok_or_else(|| "it is truncated".to_owned())
    }

    fn position(&mut self) -> Result<u64, String> {
        self.file.stream_position().map_err(in_words)
    }

    fn map(&mut self) -> Result<(), String> {
        if self.path.len() == MOST_LEVELS {
            return Err(format!("it has more than {MOST_LEVELS} levels"));
        }
        for at in 0..read_map_len(&mut self.file).map_err(in_words)? {
            let key = self.string()?;
            if at == 0 && key == CHUNKED {
                let (shape, chunks) = self.chunked()?;
                return self.array(shape, chunks);
            }
            self.path.push(key);
            match self.marker()? {
                Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => self.map()?,
                _ => {
                    let chunk = self.chunk()?;
                    self.array(chunk.shape.clone(), vec![chunk])?;
                }
            }
            self.path.pop();
        }
        Ok(())
    }

    /// Takes down the array at the path.
    fn array(&mut self, shape: Vec<usize>, chunks: Vec<Chunk>) -> Result<(), String> {
        let dtype = chunks.first().map_or(Dtype::F32, |chunk| chunk.dtype);
        if chunks.iter().any(|chunk| chunk.dtype != dtype) {
            return Err("its chunks are not of one type".to_owned());
        }
        let given = chunks.iter().map(|chunk| chunk.length).sum::<u64>();
        if bytes_of(&shape, dtype) != Some(given) {
            return Err(format!("shape {shape:?} of {dtype} does not fill its {given} bytes"));
        }
        let name = torch_name(self.path.iter().map(String::as_str));
        self.bytes_of_names += name.len();
        if self.bytes_of_names > LONGEST_NAMES {
            return Err(format!("the names have more than {LONGEST_NAMES} bytes together"));
        }
        let is_kernel = self.path.last().is_some_and(|last| last == "kernel");
        if self.names.insert(name.clone()) {
            let stored = if is_kernel { Stored::reversed(dtype, shape) } else { Stored::plain(dtype, shape) };
            self.entries.push(Entry { name, stored, chunks });
        }
        Ok(())
    }

    /// The rest of a map that is an array in chunks: shape and values, each a map from `0`, `1` and so on.
    fn chunked(&mut self) -> Result<(Vec<usize>, Vec<Chunk>), String> {
        read_bool(&mut self.file).map_err(in_words)?;
        self.key("shape")?;
        let dimensions = at_most(read_map_len(&mut self.file).map_err(in_words)?, MOST_DIMENSIONS, "dimensions")?;
        let mut shape = Vec::new();
        for axis in 0..dimensions {
            self.key(&axis.to_string())?;
            shape.push(read_int(&mut self.file).map_err(in_words)?);
        }
        self.key("chunks")?;
        let count = at_most(read_map_len(&mut self.file).map_err(in_words)?, MOST_CHUNKS, "chunks")?;
        let mut chunks = Vec::new();
        for at in 0..count {
            self.key(&at.to_string())?;
            chunks.push(self.chunk()?);
        }
        Ok((shape, chunks))
    }

    /// An array, whose values are skipped.
    fn chunk(&mut self) -> Result<Chunk, String> {
        let extension = read_ext_meta(&mut self.file).map_err(|_| "it is no array".to_owned())?;
        if !ARRAYS.contains(&extension.typeid) {
            return Err(format!("it is no array (MessagePack extension {})", extension.typeid));
        }
        let end = self.position()? + u64::from(extension.size);
        if read_array_len(&mut self.file).map_err(in_words)? != 3 {
            return Err("it is no array".to_owned());
        }
        let dimensions = at_most(read_array_len(&mut self.file).map_err(in_words)?, MOST_DIMENSIONS, "dimensions")?;
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(read_int(&mut self.file).map_err(in_words)?);
        }
        let dtype = match self.string()?.as_str() {
            "float32" => Dtype::F32,
            "float64" => Dtype::F64,
            "float16" => Dtype::F16,
            "bfloat16" => Dtype::BF16,
            "int32" => Dtype::I32,
            "int64" => Dtype::I64,
            "uint32" => Dtype::U32,
            "bool" => Dtype::BOOL,
            other => return Err(format!("it is of type {other:?}")),
        };
        let length = u64::from(read_bin_len(&mut self.file).map_err(in_words)?);
        let start = self.position()?;
        if start + length != end || end > self.length {
            return Err("it is truncated".to_owned());
        }
        if bytes_of(&shape, dtype) != Some(length) {
            return Err(format!("shape {shape:?} of {dtype} does not fill its {length} bytes"));
        }
        self.file.seek_relative(length as i64).map_err(in_words)?; // at most 32 bits
        Ok(Chunk { shape, dtype, start, length })
    }

    fn key(&mut self, expected: &str) -> Result<(), String> {
        match self.string()? {
            key if key == expected => Ok(()),
            key => Err(format!("it has {key:?} where {expected:?} is expected")),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let length = at_most(read_str_len(&mut self.file).map_err(in_words)?, LONGEST_NAME, "bytes in a name")?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes).map_err(in_words)?;
        String::from_utf8(bytes).map_err(|_| "a name is no UTF-8".to_owned())
    }
}

fn at_most(count: u32, most: u32, what: &str) -> Result<u32, String> {
    if count > most { Err(format!("it has {count} {what}")) } else { Ok(count) }
}

fn bytes_of(shape: &[usize], dtype: Dtype) -> Option<u64> {
    shape.iter().try_fold(dtype.bitsize() as u64 / 8, |bytes, &size| bytes.checked_mul(size as u64))
}

fn in_words(error: impl std::fmt::Display) -> String {
    format!("{error}")
}

#[cfg(test)]
pub(super) mod tests;
