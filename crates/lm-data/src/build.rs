//! Building a store: one thread reads rows, a pool of workers tokenizes them, one thread cuts and writes, in order.
//! The result does not depend on the number of workers.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

use crate::DataError;
use crate::example::{Codes, Cut, Cutter, EncodedRow, StoreError, StoreWriter, encode_rows};
use crate::source::{RowPosition, Rows, SourceError, TextFiles};
use crate::tokenizer::LmTokenizer;

/// Rows travel in chunks of at most so many bytes of text and so many rows, so memory is bounded.
const CHUNK_BYTES: usize = 4 << 20;
const CHUNK_ROWS: usize = 1 << 14;

/// What a store is built from.
pub(crate) struct Build<'a> {
    pub files: &'a TextFiles,
    pub start: RowPosition,
    /// Rows at most.
    pub most: u64,
    pub cut: Cut,
    pub tokenizer: &'a LmTokenizer,
    pub pool: &'a rayon::ThreadPool,
    pub split: &'static str,
}

struct Chunk<T> {
    rows: Vec<T>,
    /// Where each row begins.
    places: Vec<RowPosition>,
    /// Bytes of the files read so far.
    bytes: u64,
}

/// Builds the store at `path`.
pub(crate) fn build(job: &Build, path: &Path, key: [u8; 32]) -> Result<(), DataError> {
    let bar = progress_bar(format!("Tokenizing {}", job.split), job.files.bytes());
    let mut writer = StoreWriter::create(path, Codes::of(job.tokenizer))?;
    thread::scope(|scope| {
        let (to_encode, raw) = sync_channel::<Chunk<String>>(1);
        let (to_write, encoded) = sync_channel::<Chunk<Option<EncodedRow>>>(1);
        let reading = scope.spawn(move || read(job, &to_encode));
        let (writer, bar) = (&mut writer, &bar);
        let writing = scope.spawn(move || write(job, &encoded, writer, bar));
        let tokenized = tokenize(job, raw, to_write);
        // Join the stages in the order of the data: the first error is the cause of the others.
        join(reading)?;
        tokenized?;
        join(writing)
    })?;
    bar.finish_and_clear();
    writer.finish(key)?;
    Ok(())
}

fn join<T>(stage: thread::ScopedJoinHandle<'_, Result<T, DataError>>) -> Result<T, DataError> {
    stage.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn read(job: &Build, output: &SyncSender<Chunk<String>>) -> Result<(), DataError> {
    let mut rows = job.files.rows_from(job.start);
    let mut left = job.most;
    loop {
        let mut chunk = Chunk { rows: Vec::new(), places: vec![rows.next_position()], bytes: 0 };
        let more = read_chunk(&mut rows, &mut chunk.rows, left, |position| chunk.places.push(position))?;
        left -= chunk.rows.len() as u64;
        chunk.bytes = job.files.offset(rows.next_position());
        // A send fails when a later stage has stopped; its own error says why.
        if output.send(chunk).is_err() || !more {
            return Ok(());
        }
    }
}

/// Reads a bounded number of rows, `most` at the most, telling the position after each; false when there are no more.
pub(crate) fn read_chunk(
    rows: &mut Rows,
    chunk: &mut Vec<String>,
    most: u64,
    mut read: impl FnMut(RowPosition),
) -> Result<bool, SourceError> {
    let mut bytes = 0;
    while bytes < CHUNK_BYTES && chunk.len() < CHUNK_ROWS {
        let mut text = String::new();
        if chunk.len() as u64 == most || !rows.read(&mut text)? {
            return Ok(false);
        }
        read(rows.next_position());
        bytes += text.len();
        chunk.push(text);
    }
    Ok(true)
}

fn tokenize(
    job: &Build,
    input: Receiver<Chunk<String>>,
    output: SyncSender<Chunk<Option<EncodedRow>>>,
) -> Result<(), DataError> {
    for chunk in input {
        let rows = job.pool.install(|| encode_rows(&chunk.rows, &job.cut, job.tokenizer));
        let rows = rows.map_err(|fault| DataError::row(job.files, chunk.places[fault.row], fault.error))?;
        if output.send(Chunk { rows, places: Vec::new(), bytes: chunk.bytes }).is_err() {
            break;
        }
    }
    Ok(())
}

fn write(
    job: &Build,
    input: &Receiver<Chunk<Option<EncodedRow>>>,
    writer: &mut StoreWriter,
    bar: &ProgressBar,
) -> Result<(), DataError> {
    let mut cutter = Cutter::new(job.cut, Vec::new(), 0);
    let mut examples = Vec::new();
    for chunk in input {
        writer.statistics.rows += chunk.rows.len() as u64;
        for row in chunk.rows.into_iter().flatten() {
            writer.statistics.truncated += u64::from(row.truncated);
            cutter.push(&row.tokens);
            while let Some(example) = cutter.next() {
                examples.push(example);
            }
        }
        writer.write(&examples)?;
        examples.clear();
        bar.set_position(chunk.bytes);
    }
    writer.statistics.dropped = cutter.left_over();
    Ok(())
}

/// A bar over bytes; drawn on a terminal only.
pub(crate) fn progress_bar(what: impl Into<String>, bytes: u64) -> ProgressBar {
    let template = "{prefix} {percent:>3}% {wide_bar} {total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style.progress_chars("█▉▊▋▌▍▎▏ ")).with_prefix(what.into())
}
