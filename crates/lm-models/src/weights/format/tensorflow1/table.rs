//! A table of LevelDB, which a TensorFlow checkpoint's `.index` is: sorted keys with values, in blocks that may be
//! compressed with Snappy. Layout: `table_format.txt` of LevelDB.

/// Where blocks are found: the last bytes of the file.
const FOOTER: usize = 48;
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// After each block: how it is compressed, and a sum of its bytes.
const TRAILER: usize = 5;
/// The most bytes of a block, and of all keys and values together; those of real checkpoints are some hundred thousand.
const MOST: usize = 64 << 20;

/// Keys with their values.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Keys with values, in the order of the file, which is that of the keys.
pub fn entries(table: &[u8]) -> Result<Entries, String> {
    let Some(footer) = table.len().checked_sub(FOOTER).map(|start| &table[start..]) else {
        return Err("it is truncated".to_owned());
    };
    if u64::from_le_bytes(footer[FOOTER - 8..].try_into().unwrap_or_default()) != MAGIC {
        return Err("it does not end as a table does: it is truncated or something else".to_owned());
    }
    let mut handles = &footer[..FOOTER - 8];
    let (_properties, index) = (handle(&mut handles)?, handle(&mut handles)?);
    let mut all = Entries::new();
    let mut bytes = 0;
    for (_, place) in block_entries(&block(table, index)?)? {
        for (key, value) in block_entries(&block(table, handle(&mut place.as_slice())?)?)? {
            if all.last().is_some_and(|(last, _)| *last >= key) {
                return Err("its keys are not sorted".to_owned());
            }
            bytes += key.len() + value.len();
            if bytes > MOST {
                return Err(format!("its keys and values have more than {MOST} bytes"));
            }
            all.push((key, value));
        }
    }
    Ok(all)
}

/// Start and length of a block.
fn handle(bytes: &mut &[u8]) -> Result<(u64, u64), String> {
    Ok((varint(bytes)?, varint(bytes)?))
}

/// The contents of a block, uncompressed.
fn block(table: &[u8], (start, length): (u64, u64)) -> Result<Vec<u8>, String> {
    let outside = || "a block lies outside of it: it is truncated".to_owned();
    let start = usize::try_from(start).map_err(|_| outside())?;
    let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length)).ok_or_else(outside)?;
    let with_trailer =
        table.get(start..).and_then(|rest| rest.get(..end.checked_add(TRAILER)? - start)).ok_or_else(outside)?;
    let (contents, trailer) = with_trailer.split_at(end - start);
    let sum = u32::from_le_bytes(trailer[1..].try_into().unwrap_or_default());
    if masked_sum(&[contents, &trailer[..1]]) != sum {
        return Err("the sum of a block is not the one written there".to_owned());
    }
    match trailer[0] {
        0 => Ok(contents.to_vec()),
        1 => {
            let length = snap::raw::decompress_len(contents).map_err(|error| error.to_string())?;
            if length > MOST {
                return Err(format!("a block of {length} bytes"));
            }
            snap::raw::Decoder::new().decompress_vec(contents).map_err(|error| error.to_string())
        }
        other => Err(format!("a block is compressed in a way that is not known ({other})")),
    }
}

/// The entries of a block: each key as what it shares with the one before and what follows.
fn block_entries(block: &[u8]) -> Result<Entries, String> {
    let damaged = || "a block is damaged".to_owned();
    let (rest, count) = block.split_last_chunk::<4>().ok_or_else(damaged)?;
    let restarts = (u32::from_le_bytes(*count) as usize).checked_mul(4).ok_or_else(damaged)?;
    let mut rest = rest.len().checked_sub(restarts).map(|end| &rest[..end]).ok_or_else(damaged)?;
    let (mut entries, mut key, mut bytes) = (Vec::new(), Vec::new(), 0);
    while !rest.is_empty() {
        let [shared, added, length] = [varint(&mut rest)?, varint(&mut rest)?, varint(&mut rest)?];
        let mut take = |length: u64| {
            let (taken, after) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))?;
            rest = after;
            Some(taken)
        };
        let (added, value) = (take(added).ok_or_else(damaged)?, take(length).ok_or_else(damaged)?);
        if shared > key.len() as u64 {
            return Err(damaged());
        }
        key.truncate(shared as usize); // at most its length
        key.extend_from_slice(added);
        bytes += key.len() + value.len();
        if bytes > MOST {
            return Err(format!("its keys and values have more than {MOST} bytes"));
        }
        entries.push((key.clone(), value.to_vec()));
    }
    Ok(entries)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(|| "a number is truncated".to_owned())?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number has more than 64 bits".to_owned())
}

/// CRC-32C as LevelDB and TensorFlow store it.
pub fn masked_sum(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |sum, part| crc32c::crc32c_append(sum, part)).rotate_right(15).wrapping_add(0xa282_ead8)
}
