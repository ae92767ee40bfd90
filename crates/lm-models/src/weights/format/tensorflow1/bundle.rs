//! The variables of a TensorFlow checkpoint (tensor_bundle.proto): types, shapes and where their values are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message;
use safetensors::Dtype;

use super::table;

/// The first entry of the table.
#[derive(Message)]
struct Header {
    #[prost(int32, tag = "1")]
    num_shards: i32,
    #[prost(int32, tag = "2")]
    endianness: i32,
}

#[derive(Message)]
struct BundleEntry {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
    #[prost(int32, tag = "3")]
    shard_id: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(int64, tag = "5")]
    size: i64,
    #[prost(fixed32, tag = "6")]
    crc32c: u32,
    /// Of a partitioned variable: each has an entry of its own.
    #[prost(message, repeated, tag = "7")]
    slices: Vec<Slice>,
}

#[derive(Message)]
struct Shape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dimension>,
}

#[derive(Message)]
struct Dimension {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[derive(Clone, Message)]
struct Slice {
    #[prost(message, repeated, tag = "1")]
    extent: Vec<Extent>,
}

/// A range of an axis; all of it without a length.
#[derive(Clone, Message)]
struct Extent {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, optional, tag = "2")]
    length: Option<i64>,
}

/// A variable.
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// The axis that pieces follow each other on.
    pub axis: usize,
    /// In order; together they are the variable.
    pub pieces: Vec<Piece>,
}

/// Some of a variable's values.
pub struct Piece {
    /// Which data file.
    pub shard: u32,
    pub start: u64,
    pub length: u64,
    /// Their masked CRC-32C.
    pub sum: u32,
}

/// The table of a checkpoint.
pub struct Bundle {
    shards: u32,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Bundle {
    pub fn parse(index: &[u8]) -> Result<Self, String> {
        let mut entries: BTreeMap<_, _> = table::entries(index)?.into_iter().collect();
        let header = entries.remove(&Vec::new()).ok_or_else(|| "it has no header".to_owned())?;
        let header = Header::decode(header.as_slice()).map_err(|error| error.to_string())?;
        if header.endianness != 0 {
            return Err("its numbers are big-endian: save it on another machine".to_owned());
        }
        Ok(Self { shards: u32::try_from(header.num_shards).unwrap_or(0), entries })
    }

    /// Names of the variables. Keys that begin with a zero byte are of pieces.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let names = self.entries.keys().filter(|key| key.first() != Some(&0));
        names.map(|key| String::from_utf8_lossy(key).into_owned())
    }

    /// The data file with this number beside the `.index` file, by its number among all.
    pub fn data_file(&self, index: &Path, shard: u32) -> PathBuf {
        index.with_extension(format!("data-{shard:05}-of-{:05}", self.shards))
    }

    /// Type, shape and place of a variable; none for what no model is made of, as text.
    pub fn variable(&self, name: &str) -> Result<Option<Stored>, String> {
        let entry = self.entry(name.as_bytes())?;
        let Some(dtype) = dtype(entry.dtype) else { return Ok(None) };
        let shape = entry.sizes()?;
        if entry.slices.is_empty() {
            let pieces = vec![self.piece(&entry, dtype, &shape)?];
            return Ok(Some(Stored { dtype, shape, axis: 0, pieces }));
        }
        let (axis, ranges) = partition(&entry.slices, &shape)?;
        let mut pieces = Vec::new();
        for (slice, entries) in ranges {
            let piece = self.entry(&piece_key(name, slice))?;
            let mut part = shape.clone();
            part[axis] = entries;
            if piece.sizes()? != part {
                return Err("a piece has another shape than its range".to_owned());
            }
            pieces.push(self.piece(&piece, dtype, &part)?);
        }
        Ok(Some(Stored { dtype, shape, axis, pieces }))
    }

    fn entry(&self, key: &[u8]) -> Result<BundleEntry, String> {
        let bytes = self.entries.get(key).ok_or_else(|| "a piece of it is not in the index".to_owned())?;
        BundleEntry::decode(bytes.as_slice()).map_err(|error| format!("its entry is damaged ({error})"))
    }

    fn piece(&self, entry: &BundleEntry, dtype: Dtype, shape: &[usize]) -> Result<Piece, String> {
        let [shard, start, length] = [i64::from(entry.shard_id), entry.offset, entry.size].map(u64::try_from);
        let (Ok(shard), Ok(start), Ok(length)) = (shard, start, length) else {
            return Err("its entry has negative numbers".to_owned());
        };
        if shard >= u64::from(self.shards) {
            return Err(format!("it is in data file {shard} of {}", self.shards));
        }
        let needed = shape.iter().try_fold(dtype.bitsize() as u64 / 8, |bytes, &size| bytes.checked_mul(size as u64));
        if needed != Some(length) {
            return Err(format!("its shape {shape:?} does not fill its {length} bytes"));
        }
        Ok(Piece { shard: shard as u32, start, length, sum: entry.crc32c }) // below a u32
    }
}

impl BundleEntry {
    fn sizes(&self) -> Result<Vec<usize>, String> {
        let sizes = self.shape.iter().flat_map(|shape| &shape.dim).map(|dimension| usize::try_from(dimension.size));
        sizes.collect::<Result<_, _>>().map_err(|_| "its shape has a negative size".to_owned())
    }
}

/// TensorFlow's numbers for types (types.proto); none for what no model is made of, as text.
fn dtype(number: i32) -> Option<Dtype> {
    Some(match number {
        1 => Dtype::F32,
        2 => Dtype::F64,
        3 => Dtype::I32,
        9 => Dtype::I64,
        10 => Dtype::BOOL,
        14 => Dtype::BF16,
        19 => Dtype::F16,
        _ => return None,
    })
}

/// Slices with their entries on an axis.
type Ranges<'a> = Vec<(&'a Slice, usize)>;

/// The axis that is partitioned, and each slice with its entries there, in order.
fn partition<'a>(slices: &'a [Slice], shape: &[usize]) -> Result<(usize, Ranges<'a>), String> {
    let wrong = || "its pieces do not make up its shape".to_owned();
    let whole = |extent: &Extent, size: usize| extent.start == 0 && extent.length.is_none_or(|l| l as usize == size);
    let mut axis = None;
    let mut ranges = Vec::new();
    for slice in slices {
        if slice.extent.len() != shape.len() || shape.is_empty() {
            return Err(wrong());
        }
        let mut parted = (0..shape.len()).filter(|&axis| !whole(&slice.extent[axis], shape[axis]));
        let at = parted.next().or(axis).unwrap_or(0);
        if parted.next().is_some() || axis.is_some_and(|axis| axis != at) {
            return Err("it is partitioned along several axes".to_owned());
        }
        axis = Some(at);
        let Extent { start, length } = &slice.extent[at];
        let start = usize::try_from(*start).map_err(|_| wrong())?;
        ranges.push((start, slice, usize::try_from(length.unwrap_or(shape[at] as i64)).map_err(|_| wrong())?));
    }
    let axis = axis.unwrap_or(0);
    ranges.sort_by_key(|(start, ..)| *start);
    let end = ranges
        .iter()
        .try_fold(0usize, |end, (start, _, length)| if *start == end { end.checked_add(*length) } else { None });
    if end != Some(shape[axis]) {
        return Err(wrong());
    }
    Ok((axis, ranges.into_iter().map(|(_, slice, length)| (slice, length)).collect()))
}

/// The key of a piece (`EncodeTensorNameSlice` in saved_tensor_slice_util.cc), of numbers and texts that sort as their bytes
/// do (ordered_code.cc).
fn piece_key(name: &str, slice: &Slice) -> Vec<u8> {
    let mut key = vec![0];
    for &byte in name.as_bytes() {
        match byte {
            0 => key.extend([0, 0xff]),
            0xff => key.extend([0xff, 0]),
            _ => key.push(byte),
        }
    }
    key.extend([0, 1]);
    let dimensions = (slice.extent.len() as u64).to_be_bytes();
    let zeros = dimensions.iter().take_while(|byte| **byte == 0).count();
    key.push((dimensions.len() - zeros) as u8);
    key.extend(&dimensions[zeros..]);
    for extent in &slice.extent {
        signed(&mut key, extent.start);
        signed(&mut key, extent.length.unwrap_or(-1));
    }
    key
}

/// `WriteSignedNumIncreasing`: as many bytes as leave room for their count, a bit each, before the sign.
fn signed(key: &mut Vec<u8>, value: i64) {
    let magnitude = if value < 0 { !value } else { value } as u64;
    let bits = (64 - magnitude.leading_zeros()) as usize;
    let length = bits / 7 + 1; // the sign is one bit more
    let mut bytes = [if value < 0 { 0xff } else { 0 }; 10];
    bytes[2..].copy_from_slice(&value.to_be_bytes());
    let bytes = &mut bytes[10 - length..];
    for bit in 0..length {
        bytes[bit / 8] ^= 0x80 >> (bit % 8);
    }
    key.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the table of `WriteSignedNumIncreasing` in ordered_code.cc.
    #[test]
    fn keys_of_pieces_are_those_of_tensorflow() {
        let mut bytes = Vec::new();
        for (value, expected) in [
            (0, vec![0x80]),
            (-1, vec![0x7f]),
            (63, vec![0xbf]),
            (64, vec![0xc0, 64]),
            (8191, vec![0xdf, 0xff]),
            (8192, vec![0xe0, 0x20, 0]),
            (-65, vec![0x3f, 0xbf]),
        ] {
            bytes.clear();
            signed(&mut bytes, value);
            assert_eq!(bytes, expected, "{value}");
        }
    }

    #[test]
    fn pieces_make_up_their_variable() {
        let slice = |ranges: &[(i64, i64)]| Slice {
            extent: ranges
                .iter()
                .map(|&(start, length)| Extent { start, length: (length >= 0).then_some(length) })
                .collect(),
        };
        let of = |slices: &[Slice], shape: &[usize]| {
            partition(slices, shape)
                .map(|(axis, pieces)| (axis, pieces.into_iter().map(|(_, n)| n).collect::<Vec<_>>()))
        };
        let (first, second) = (slice(&[(0, 2), (0, -1)]), slice(&[(2, 3), (0, 4)]));
        assert_eq!(of(&[second.clone(), first.clone()], &[5, 4]), Ok((0, vec![2, 3])));
        let columns = [slice(&[(0, -1), (0, 1)]), slice(&[(0, -1), (1, 3)])];
        assert_eq!(of(&columns, &[5, 4]), Ok((1, vec![1, 3])));
        assert_eq!(of(&[slice(&[(0, -1), (0, -1)])], &[5, 4]), Ok((0, vec![5])));
        let wrong = Err("its pieces do not make up its shape".to_owned());
        for slices in [
            &[first.clone()][..],
            &[first.clone(), first.clone()],
            &[first.clone(), slice(&[(3, 2), (0, -1)])],
            &[first.clone(), slice(&[(2, i64::MAX), (0, -1)])],
            &[first.clone(), slice(&[(-2, 3), (0, -1)])],
            &[slice(&[(0, 5)])],
        ] {
            assert_eq!(of(slices, &[5, 4]), wrong, "{slices:?}");
        }
        let several = Err("it is partitioned along several axes".to_owned());
        assert_eq!(of(&[slice(&[(0, 2), (0, 1)])], &[5, 4]), several);
        assert_eq!(of(&[first, columns[1].clone()], &[5, 4]), several);
    }
}
