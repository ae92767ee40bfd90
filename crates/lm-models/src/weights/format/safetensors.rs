//! One `.safetensors` file, memory-mapped: the header is checked whole when the file is opened, so that a tensor read
//! later cannot fall outside of it. Format: <https://huggingface.co/docs/safetensors>.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::Dtype;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::weights::WeightsError;
use crate::weights::file::{Format, WeightFile};
use crate::weights::tensor::{TensorInfo, decode_f32};

/// The length of the header stands in the first eight bytes, little-endian.
const PREFIX: usize = 8;
/// The format's own limit on the header.
const MAX_HEADER: u64 = 100_000_000;

/// No tensor has more dimensions (torch's limit).
const MAX_DIMENSIONS: usize = 64;

/// A tensor's entry in the JSON header.
#[derive(serde::Deserialize)]
struct HeaderEntry {
    dtype: Dtype,
    #[serde(deserialize_with = "shape")]
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// A list of sizes that takes no more memory than a shape does, however long it is in the file.
fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    struct Shape;
    impl<'de> Visitor<'de> for Shape {
        type Value = Vec<usize>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a list of sizes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sizes: A) -> Result<Vec<usize>, A::Error> {
            let mut shape = Vec::new();
            while let Some(size) = sizes.next_element()? {
                if shape.len() == MAX_DIMENSIONS {
                    return Err(de::Error::custom(format_args!("its shape has more than {MAX_DIMENSIONS} sizes")));
                }
                shape.push(size);
            }
            Ok(shape)
        }
    }
    deserializer.deserialize_seq(Shape)
}

/// The entries of the header one by one: nothing but them is kept of it. Says in the end, or when it fails, which tensor
/// it came to.
#[derive(Default)]
struct Header {
    entries: Vec<(String, HeaderEntry)>,
    reading: Option<String>,
}

impl<'de> DeserializeSeed<'de> for &mut Header {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Header {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            self.reading = Some(name.clone());
            self.entries.push((name, map.next_value()?));
            self.reading = None;
        }
        Ok(())
    }
}

/// A tensor's place in the file.
struct Entry {
    name: String,
    info: TensorInfo,
    start: usize,
    end: usize,
}

/// `model.safetensors`, and its shards.
pub(super) const FORMAT: Format = Format {
    framework: "safetensors",
    file: "model.safetensors",
    index: Some("model.safetensors.index.json"),
    indexed_name: str::to_owned,
    open: |path, _| Ok(Box::new(SafetensorsFile::open(path)?)),
};

/// An open file.
struct SafetensorsFile {
    path: PathBuf,
    map: Arc<Mmap>,
    bytes: Bytes,
    /// In the order of the data.
    entries: Vec<Entry>,
}

/// A map that several hold.
struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl SafetensorsFile {
    fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = lm_files::open_regular(path).map_err(|source| WeightsError::io(path, "open", source))?;
        // SAFETY: the map is only read, as plain bytes, for which every bit pattern is valid. Another process that
        // shortens the file meanwhile would end this one with SIGBUS; writers of weights, ours included, write beside
        // and rename, which leaves the mapped file as it was. Reading instead would copy models of gigabytes twice.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| WeightsError::io(path, "map", source))?;
        let entries = read_header(path, &map)?;
        let map = Arc::new(map);
        Ok(Self { path: path.to_path_buf(), bytes: Bytes::from_owner(Shared(Arc::clone(&map))), map, entries })
    }
}

impl WeightFile for SafetensorsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    /// In the order of the data.
    fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.name.clone()).collect()
    }

    fn info(&self, index: usize) -> &TensorInfo {
        &self.entries[index].info
    }

    fn mapped(&self, index: usize) -> Option<Bytes> {
        let entry = &self.entries[index];
        Some(self.bytes.slice(entry.start..entry.end))
    }

    fn let_go(&self, index: usize) {
        #[cfg(unix)]
        {
            let &Entry { start, end, .. } = &self.entries[index];
            // SAFETY: nobody writes to the map, so its pages hold what the file does, from which they come back.
            let done = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
            if let Err(error) = done {
                tracing::debug!("{}: {error}", self.path.display());
            }
        }
    }

    fn read_f32(&self, index: usize) -> Result<Vec<f32>, WeightsError> {
        let entry = &self.entries[index];
        let values = decode_f32(entry.info.dtype, &self.bytes[entry.start..entry.end])
            .map_err(|reason| WeightsError::tensor(&self.path, &entry.name, reason))?;
        self.let_go(index);
        Ok(values)
    }
}

/// Reads the header and checks it against the file: the tensors must cover the data exactly, one after another.
fn read_header(path: &Path, bytes: &[u8]) -> Result<Vec<Entry>, WeightsError> {
    let truncated =
        |what: &str| WeightsError::file(path, format!("the file is truncated ({what}): copy or download it again"));
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(truncated(&format!("{} bytes, a safetensors file has at least 8", bytes.len())));
    };
    let header_len = u64::from_le_bytes(*prefix);
    if header_len > MAX_HEADER {
        return Err(WeightsError::file(
            path,
            format!("not a safetensors file: it declares a header of {header_len} bytes, more than the format allows"),
        ));
    }
    let header_len = header_len as usize; // at most MAX_HEADER
    let Some((header, data)) = rest.split_at_checked(header_len) else {
        return Err(truncated(&format!("its header has {header_len} bytes, only {} follow", rest.len())));
    };
    let mut read = Header::default();
    let mut json = serde_json::Deserializer::from_slice(header);
    (&mut read).deserialize(&mut json).and_then(|()| json.end()).map_err(|error| match &read.reading {
        Some(name) => WeightsError::tensor(path, name, format!("its header entry is invalid: {error}")),
        None => WeightsError::file(path, format!("not a safetensors file: its header is no JSON object: {error}")),
    })?;

    let mut entries = Vec::with_capacity(read.entries.len());
    for (name, entry) in read.entries {
        let (start, end) = entry.data_offsets;
        let declared = end.checked_sub(start);
        let needed = entry
            .shape
            .iter()
            .try_fold(1usize, |count, &size| count.checked_mul(size))
            .and_then(|count| count.checked_mul(entry.dtype.bitsize()))
            .filter(|bits| bits % 8 == 0)
            .map(|bits| bits / 8);
        if declared.is_none() || declared != needed {
            return Err(WeightsError::tensor(
                path,
                &name,
                format!(
                    "the header is wrong: shape {:?} of {} does not fill its bytes {start}..{end}: the file is damaged, \
                     get it again",
                    entry.shape, entry.dtype
                ),
            ));
        }
        entries.push(Entry { name, info: TensorInfo { dtype: entry.dtype, shape: entry.shape }, start, end });
    }
    entries.sort_by_key(|entry| (entry.start, entry.end));

    let mut covered = 0;
    for entry in &entries {
        if entry.start != covered {
            let what = if entry.start < covered { "overlaps another tensor" } else { "leaves a hole before it" };
            return Err(WeightsError::tensor(
                path,
                &entry.name,
                format!(
                    "the header is wrong: its bytes {}..{} start where {covered} is expected ({what}): the file is \
                     damaged, get it again",
                    entry.start, entry.end
                ),
            ));
        }
        covered = entry.end;
    }
    if covered > data.len() {
        return Err(truncated(&format!("its tensors need {covered} bytes, {} are there", data.len())));
    }
    if covered < data.len() {
        let extra = data.len() - covered;
        return Err(WeightsError::file(
            path,
            format!("{extra} bytes follow the last tensor: the file is damaged, get it again"),
        ));
    }
    let data_start = PREFIX + header_len;
    for entry in &mut entries {
        entry.start += data_start;
        entry.end += data_start;
    }
    Ok(entries)
}
