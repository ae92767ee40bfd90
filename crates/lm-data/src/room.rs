//! Whether a store has room on the disk, known before it is built.

use std::path::Path;

use crate::DataError;
use crate::build::Build;
use crate::example::{Codes, encode_rows};
use crate::reading::read_chunk;

/// No text makes a store of so many times its bytes, unless it is compressed beyond that.
const MOST: u64 = 16;

/// Rows by which the size of a store is judged.
const SAMPLE: u64 = 2000;

/// Fails if a store in `folder` has no room in the `free` bytes of its disk. Only if these are few is any text read.
pub(crate) fn expect(job: &Build, folder: &Path, free: u64) -> Result<(), DataError> {
    if job.files.bytes().saturating_mul(MOST) <= free {
        return Ok(());
    }
    let needed = expected_bytes(job)?;
    if needed <= free {
        return Ok(());
    }
    Err(DataError::Room { split: job.split, folder: folder.into(), needed: needed.div_ceil(1 << 20), free: free >> 20 })
}

/// About how many bytes the store will have, judged by the first rows. Of compressed files, whose text is several times as
/// large as they are, it is the least.
fn expected_bytes(job: &Build) -> Result<u64, DataError> {
    let (mut rows, mut texts) = (job.files.rows_from(job.start), Vec::new());
    read_chunk(&mut rows, &mut texts, job.most.min(SAMPLE), |_| {})?;
    let (before, after) = (job.files.offset(job.start), job.files.offset(rows.next_position()));
    let text: usize = texts.iter().map(String::len).sum();
    let read = if after > before { after - before } else { text as u64 };
    let encoded = job.pool.install(|| encode_rows(&texts, &job.cut, job.tokenizer));
    let encoded = encoded.map_err(|fault| DataError::row(job.files, job.start, fault.error))?;
    let tokens: usize = encoded.iter().flatten().map(|row| row.tokens.len()).sum();
    let bytes = Codes::of(job.tokenizer).bytes(tokens as u64).unwrap_or(u64::MAX) + 8 * texts.len() as u64;
    let left = (job.files.bytes().saturating_sub(before)) as f64 / read.max(1) as f64;
    let left = left.min(job.most as f64 / texts.len().max(1) as f64);
    Ok((bytes as f64 * left) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Cut;
    use crate::source::{RowOptions, RowPosition, TextFiles};
    use crate::testing::tokenizer;

    #[test]
    fn the_first_rows_tell_the_size() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("a.txt");
        std::fs::write(&text, "one two three four\n".repeat(50_000)).unwrap();
        let [files] = TextFiles::resolve([&[text.display().to_string()][..]], None, &RowOptions::default()).unwrap();
        let (tokenizer, pool) = (tokenizer("roberta-small"), rayon::ThreadPoolBuilder::new().build().unwrap());
        let cut = Cut { length: 32, line_by_line: false, group_batch_size: 0 };
        let job = |most| Build {
            files: &files,
            start: RowPosition::default(),
            most,
            cut,
            tokenizer: &tokenizer,
            pool: &pool,
            split: "train",
            stamps: &[],
        };
        let row = tokenizer.encode_batch(&["one two three four"], None).unwrap().remove(0).ids.len() as u64;
        let size = 50_000 * (2 * row + 8);
        let near = |bytes: u64| bytes.abs_diff(size) * 100 < size;
        assert!(near(expected_bytes(&job(u64::MAX)).unwrap()), "of the whole");
        assert!(near(expected_bytes(&job(1000)).unwrap() * 50), "of the first thousand rows");
        let path = folder.path().join("cache");
        expect(&job(u64::MAX), &path, size * 2).unwrap();
        let message = expect(&job(u64::MAX), &path, size / 2).unwrap_err().to_string();
        for part in [path.to_str().unwrap(), "train", "--data_cache_dir", "--ignore_disk_check", "MiB"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
