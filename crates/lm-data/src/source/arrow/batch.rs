//! The texts of a column in one record batch.

use std::io::{self, Read, SeekFrom};
use std::sync::Arc;

use arrow_ipc::{CompressionType, RecordBatch, root_as_message};

use super::super::place::ReadSeek;
use super::layout::{Form, Layout};

/// The most bytes of a buffer, decompressed: a batch is in memory as a whole.
const MOST_BYTES: u64 = 4 << 30;

/// Strings of a batch, as they lie in it.
#[derive(Debug)]
pub(super) struct Strings {
    rows: u64,
    /// A bit for each row that is not missing; empty if none is.
    present: Vec<u8>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Null,
    Ends { ends: Vec<u8>, width: usize, bytes: Vec<u8> },
    Views { views: Vec<u8>, buffers: Vec<Vec<u8>> },
    Numbers { numbers: Vec<u8>, width: usize, entries: Arc<Vec<Strings>> },
}

impl Strings {
    pub fn len(&self) -> u64 {
        self.rows
    }

    /// The bytes of a row; None if it is missing.
    pub fn get(&self, row: u64) -> Result<Option<&[u8]>, String> {
        let at = usize::try_from(row).map_err(|_| "too many rows".to_string())?;
        if !self.present.is_empty() && self.present.get(at / 8).is_none_or(|bits| bits >> (at % 8) & 1 == 0) {
            return Ok(None);
        }
        let outside = || "it lies outside its buffer".to_string();
        match &self.values {
            Values::Null => Ok(None),
            Values::Ends { ends, width, bytes } => {
                let (start, end) =
                    (number(ends, at, *width), at.checked_add(1).and_then(|at| number(ends, at, *width)));
                let (Some(start), Some(end)) = (start, end) else { return Err(outside()) };
                bytes.get(start..end).map(Some).ok_or_else(outside)
            }
            Values::Views { views, buffers } => view(views, buffers, at).map(Some).ok_or_else(outside),
            Values::Numbers { numbers, width, entries } => {
                let mut entry = number(numbers, at, *width).ok_or_else(outside)? as u64;
                for part in entries.iter() {
                    if entry < part.rows {
                        return part.get(entry);
                    }
                    entry -= part.rows;
                }
                Err("its entry is not in the dictionary".into())
            }
        }
    }
}

/// The number at a place of a list, of so many bytes each; None if it is negative or not there.
fn number(list: &[u8], at: usize, width: usize) -> Option<usize> {
    let start = at.checked_mul(width)?;
    let bytes = list.get(start..start.checked_add(width)?)?;
    let mut wide = [0; 8];
    wide.get_mut(..width)?.copy_from_slice(bytes);
    usize::try_from(u64::from_le_bytes(wide)).ok()
}

/// A view is a length, and then either up to 12 bytes, or four of them, the number of a buffer and the place there.
fn view<'a>(views: &'a [u8], buffers: &'a [Vec<u8>], at: usize) -> Option<&'a [u8]> {
    let start = at.checked_mul(16)?;
    let view = views.get(start..start.checked_add(16)?)?;
    let length = number(view, 0, 4)?;
    if length <= 12 {
        return view.get(4..4 + length);
    }
    let (buffer, start) = (number(view, 2, 4)?, number(view, 3, 4)?);
    buffers.get(buffer)?.get(start..start.checked_add(length)?)
}

/// Reads a column of a message of rows or of a dictionary.
pub(super) fn read_strings(
    file: &mut dyn ReadSeek,
    header: (u64, u64),
    body: (u64, u64),
    layout: &Layout,
    dictionary: Option<Arc<Vec<Strings>>>,
) -> Result<Strings, String> {
    let mut metadata = vec![0; usize::try_from(header.1).map_err(|error| error.to_string())?];
    let read = read_up_to(file, header.0, &mut metadata).map_err(|error| error.to_string())?;
    let message = root_as_message(&metadata[..read]).map_err(|_| "its header is damaged".to_string())?;
    let batch = message.header_as_record_batch();
    let batch = batch.or_else(|| message.header_as_dictionary_batch()?.data()).ok_or("it has no rows")?;
    let node = batch.nodes().filter(|nodes| layout.node < nodes.len()).map(|nodes| *nodes.get(layout.node));
    let node = node.ok_or("its column is not in it")?;
    let rows = u64::try_from(node.length()).map_err(|_| "it has a negative number of rows".to_string())?;
    let mut buffers = Buffers { file, body, batch, next: 0 };
    let counts = buffers.batch.variadicBufferCounts();
    let variadic = |at: usize| {
        let count = counts.filter(|counts| at < counts.len()).map(|counts| counts.get(at));
        count.and_then(|count| usize::try_from(count).ok()).ok_or("its number of buffers is not in it")
    };
    buffers.next = layout.buffer;
    for at in 0..layout.views_before {
        buffers.next = buffers.next.checked_add(variadic(at)?).ok_or("it has too many buffers")?;
    }
    if layout.form == Form::Null && layout.dictionary.is_none() {
        return Ok(Strings { rows, present: Vec::new(), values: Values::Null });
    }
    let present = match node.null_count() {
        0 => buffers.skip(),
        _ => buffers.take()?,
    };
    if node.null_count() != 0 && (present.len() as u64) < rows.div_ceil(8) {
        return Err("which of its rows are missing is not said of all".into());
    }
    let values = match (layout.dictionary, dictionary, layout.form) {
        (Some(numbers), Some(entries), _) => {
            Values::Numbers { numbers: buffers.take()?, width: numbers.width, entries }
        }
        (_, _, Form::Ends(width)) => Values::Ends { ends: buffers.take()?, width, bytes: buffers.take()? },
        (_, _, Form::Views) => {
            let views = buffers.take()?;
            let count = variadic(layout.views_before)?;
            let left = buffers.left();
            if count > left {
                return Err("it has fewer buffers than it says".into());
            }
            Values::Views { views, buffers: (0..count).map(|_| buffers.take()).collect::<Result<_, _>>()? }
        }
        (_, _, Form::Null) => Values::Null,
    };
    Ok(Strings { rows, present, values })
}

/// The buffers of a message, one after another.
struct Buffers<'a> {
    file: &'a mut dyn ReadSeek,
    body: (u64, u64),
    batch: RecordBatch<'a>,
    next: usize,
}

impl Buffers<'_> {
    fn skip(&mut self) -> Vec<u8> {
        self.next += 1;
        Vec::new()
    }

    fn left(&self) -> usize {
        self.batch.buffers().map_or(0, |buffers| buffers.len().saturating_sub(self.next))
    }

    /// Reads the next, and decompresses it.
    fn take(&mut self) -> Result<Vec<u8>, String> {
        let buffers = self.batch.buffers().filter(|buffers| self.next < buffers.len());
        let buffer = *buffers.ok_or("it has fewer buffers than its columns need")?.get(self.next);
        self.next += 1;
        let place = u64::try_from(buffer.offset()).ok().zip(u64::try_from(buffer.length()).ok());
        let inside = place.filter(|(start, length)| start.checked_add(*length).is_some_and(|end| end <= self.body.1));
        let (start, length) = inside.ok_or("a buffer lies outside it")?;
        if length > MOST_BYTES {
            return Err(too_large(length));
        }
        let fails = |error: io::Error| error.to_string();
        self.file.seek(SeekFrom::Start(self.body.0 + start)).map_err(fails)?;
        let mut input = (&mut *self.file).take(length);
        let Some(compression) = self.batch.compression().filter(|_| length > 0) else {
            return read_all(input, length);
        };
        // Compressed buffers begin with their size; -1 is for those that are not.
        let mut size = [0; 8];
        input.read_exact(&mut size).map_err(fails)?;
        let size = match i64::from_le_bytes(size) {
            -1 => return read_all(input, length - size.len() as u64),
            size => u64::try_from(size).map_err(|_| format!("a buffer has {size} bytes"))?,
        };
        if size > MOST_BYTES {
            return Err(too_large(size));
        }
        match compression.codec() {
            CompressionType::LZ4_FRAME => read_all(lz4_flex::frame::FrameDecoder::new(io::BufReader::new(input)), size),
            CompressionType::ZSTD => read_all(zstd::Decoder::new(input).map_err(fails)?, size),
            other => Err(format!("it is compressed in an unknown way, {}", other.0)),
        }
    }
}

/// Exactly so many bytes. What is asked for all of them at once becomes memory as they come: a header that lies costs none.
fn read_all(mut input: impl Read, length: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let room = usize::try_from(length).ok().and_then(|whole| bytes.try_reserve_exact(whole).ok());
    room.ok_or_else(|| format!("a buffer has {length} bytes, for which there is no memory"))?;
    (&mut input).take(length).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    // Reading on, what is compressed tells of damage at its end.
    let more = input.take(1).read_to_end(&mut Vec::new()).map_err(|error| error.to_string())?;
    match bytes.len() {
        whole if whole as u64 == length && more == 0 => Ok(bytes),
        found => Err(format!("a buffer should have {length} bytes, and has {}", found + more)),
    }
}

fn too_large(bytes: u64) -> String {
    let gigabytes = bytes >> 30;
    format!("a buffer has {gigabytes} GiB; write the file in smaller record batches, such as of 1000 rows")
}

/// As many bytes as there are.
pub(super) fn read_up_to(file: &mut dyn ReadSeek, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
    file.seek(SeekFrom::Start(start))?;
    let mut read = 0;
    while read < buffer.len() {
        match file.read(&mut buffer[read..]) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
