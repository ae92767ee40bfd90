//! Building a store: threads read sections of files, a few at a time, a pool of workers tokenizes their rows, one thread cuts and writes,
//! in order.
//! The result does not depend on the number of workers, nor on how often building was ended and went on.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::cache::part_path;
use crate::example::{Check, Codes, Cut, Cutter, EncodedRow, Part, PartWriter, StoreError, encode_rows};
use crate::memo::Stamp;
use crate::reading::{self, CHUNK_BYTES, CHUNK_ROWS, Row};
use crate::source::{RowPosition, TextFiles};
use crate::tokenizer::LmTokenizer;

/// A part has at least so many bytes, and a sixteenth of what is before it: that is what a killed run does again, and the
/// number of parts grows with the logarithm of the corpus. Whoever changes these or the chunks makes a new version of stores.
const SMALLEST_PART: u64 = if cfg!(test) { 1 << 12 } else { 64 << 20 };
const SHARE_OF_A_PART: u64 = 16;

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
    /// The files as they were when the key of the store was found.
    pub stamps: &'a [(PathBuf, Stamp)],
}

/// Where the parts of a store lie, and what they are built from.
pub(crate) struct Target<'a> {
    pub folder: &'a Path,
    pub key: [u8; 32],
}

impl Target<'_> {
    /// What the files of the store are called by.
    pub fn name(&self) -> String {
        self.key.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    fn path(&self, number: usize) -> PathBuf {
        part_path(self.folder, &self.name(), number)
    }
}

/// Where the text goes on after a part.
#[derive(Serialize, Deserialize)]
pub(crate) struct Next {
    row: RowPosition,
    rows_in_group: usize,
    /// Tokens that are in no example yet.
    carry: Vec<u32>,
}

impl Next {
    /// Before the first part.
    pub fn start(row: RowPosition) -> Self {
        Self { row, rows_in_group: 0, carry: Vec::new() }
    }
}

/// The parts that are there, up to the first that is not or is damaged, and where the text goes on; nowhere, if the store is
/// whole.
pub(crate) fn existing(
    target: &Target,
    start: RowPosition,
    check: Check,
) -> Result<(Vec<Part>, Option<Next>), StoreError> {
    let (mut parts, mut next) = (Vec::new(), Next::start(start));
    loop {
        let path = target.path(parts.len());
        if !path.exists() {
            return Ok((parts, Some(next)));
        }
        let opened = Part::open(&path, &target.key, parts.len(), check).and_then(|(part, after)| {
            let known = (!after.is_empty()).then(|| serde_json::from_slice(&after)).transpose();
            let reason = "does not say how the text goes on";
            known.map(|after| (part, after)).map_err(|_| StoreError::Damaged { path: path.clone(), reason })
        });
        match opened {
            Ok((part, after)) => {
                parts.push(part);
                let Some(after) = after else { return Ok((parts, None)) };
                next = after;
            }
            Err(damage @ StoreError::Damaged { .. }) => {
                tracing::warn!("{damage}; it is built again");
                return Ok((parts, Some(next)));
            }
            Err(other) => return Err(other),
        }
    }
}

struct Chunk<T> {
    rows: Vec<T>,
    /// Where each row begins.
    places: Vec<RowPosition>,
    /// After the last.
    end: RowPosition,
}

impl<T> Chunk<T> {
    fn at(place: RowPosition) -> Self {
        Self { rows: Vec::new(), places: Vec::new(), end: place }
    }
}

/// Builds the parts of a store that are missing, from `next` on.
pub(crate) fn build(job: &Build, target: &Target, parts: &mut Vec<Part>, next: Next) -> Result<(), DataError> {
    let bar = progress_bar(format!("Tokenizing {}", job.split), job.files.bytes());
    let (row, left) = (next.row, job.most - parts.iter().map(|part| part.statistics.rows).sum::<u64>());
    let codes = Codes::of(job.tokenizer);
    let writer = PartWriter::create(&target.path(parts.len()), codes)?;
    let mut building = Parts { target, codes, parts, writer };
    let mut cutter = Cutter::new(job.cut, next.carry, next.rows_in_group);
    thread::scope(|scope| {
        let (to_encode, raw) = sync_channel::<Chunk<String>>(1);
        let (to_write, encoded) = sync_channel::<Chunk<Option<EncodedRow>>>(1);
        let reading = scope.spawn(move || read(job, row, left, &to_encode));
        let (building, cutter, bar) = (&mut building, &mut cutter, &bar);
        let writing = scope.spawn(move || write(job, &encoded, building, cutter, bar));
        let tokenized = tokenize(job, raw, to_write);
        // Join the stages in the order of the data: the first error is the cause of the others.
        join(reading)?;
        tokenized?;
        join(writing)
    })?;
    bar.finish_and_clear();
    let Parts { target, parts, mut writer, .. } = building;
    writer.statistics.dropped = cutter.left_over();
    add(job, target, parts, writer, &[])
}

/// The parts so far, and the one that is written.
struct Parts<'a> {
    target: &'a Target<'a>,
    codes: Codes,
    parts: &'a mut Vec<Part>,
    writer: PartWriter,
}

impl Parts<'_> {
    /// Whether the part that is written has all that it is to have.
    fn is_full(&self) -> bool {
        let before: u64 = self.parts.iter().map(Part::bytes).sum();
        self.writer.bytes() >= (before / SHARE_OF_A_PART).max(SMALLEST_PART)
    }

    /// Ends the part that is written and begins the next.
    fn begin_next(&mut self, job: &Build, next: &Next) -> Result<(), DataError> {
        let path = self.target.path(self.parts.len() + 1);
        let writer = std::mem::replace(&mut self.writer, PartWriter::create(&path, self.codes)?);
        let next = serde_json::to_vec(next);
        let next = next.map_err(|error| StoreError::Io { path, action: "write", source: error.into() })?;
        add(job, self.target, self.parts, writer, &next)
    }
}

/// Gives a part its name, unless its text has changed meanwhile.
fn add(job: &Build, target: &Target, parts: &mut Vec<Part>, writer: PartWriter, next: &[u8]) -> Result<(), DataError> {
    job.files.check_unchanged(job.stamps)?;
    let number = parts.len();
    writer.finish(target.key, number, next)?;
    let (part, _) = Part::open(&target.path(number), &target.key, number, Check::Header)?;
    part.remember()?;
    parts.push(part);
    Ok(())
}

fn join<T>(stage: thread::ScopedJoinHandle<'_, Result<T, DataError>>) -> Result<T, DataError> {
    stage.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Rows from a place on, in order, in chunks that are the same however many sections are read at a time.
fn read(job: &Build, from: RowPosition, most: u64, output: &SyncSender<Chunk<String>>) -> Result<(), DataError> {
    let at_a_time = job.pool.current_num_threads();
    let (mut chunk, mut bytes, mut left, mut wanted) = (Chunk::at(from), 0, most, true);
    if left == 0 {
        return Ok(());
    }
    reading::in_order(job.files, from, at_a_time, |Row { text, begin, after }| {
        bytes += text.len();
        chunk.rows.push(text);
        chunk.places.push(begin);
        chunk.end = after;
        left -= 1;
        if bytes >= CHUNK_BYTES || chunk.rows.len() == CHUNK_ROWS {
            bytes = 0;
            // A send fails when a later stage has stopped; its own error says why.
            wanted = output.send(std::mem::replace(&mut chunk, Chunk::at(after))).is_ok();
        }
        wanted && left > 0
    })?;
    if wanted {
        let _ = output.send(chunk);
    }
    Ok(())
}

fn tokenize(
    job: &Build,
    input: Receiver<Chunk<String>>,
    output: SyncSender<Chunk<Option<EncodedRow>>>,
) -> Result<(), DataError> {
    for Chunk { rows: texts, places, end } in input {
        let rows = job.pool.install(|| encode_rows(&texts, &job.cut, job.tokenizer));
        let rows = rows.map_err(|fault| DataError::row(job.files, places[fault.row], fault.error))?;
        // Sending waits, and texts may be long.
        drop(texts);
        if output.send(Chunk { rows, places, end }).is_err() {
            break;
        }
    }
    Ok(())
}

fn write(
    job: &Build,
    input: &Receiver<Chunk<Option<EncodedRow>>>,
    building: &mut Parts,
    cutter: &mut Cutter,
    bar: &ProgressBar,
) -> Result<(), DataError> {
    for chunk in input {
        let row = chunk.end;
        let writer = &mut building.writer;
        writer.statistics.rows += chunk.rows.len() as u64;
        for row in chunk.rows.into_iter().flatten() {
            writer.statistics.truncated += u64::from(row.truncated);
            cutter.push(row.tokens);
            while let Some(example) = cutter.next() {
                writer.write(&example)?;
            }
        }
        bar.set_position(job.files.offset(row));
        if building.is_full() {
            building.writer.statistics.dropped = cutter.take_dropped();
            let (carry, rows_in_group) = cutter.state();
            building.begin_next(job, &Next { row, rows_in_group, carry })?;
        }
    }
    Ok(())
}

/// A bar over bytes; drawn on a terminal only.
pub(crate) fn progress_bar(what: impl Into<String>, bytes: u64) -> ProgressBar {
    let template = "{prefix} {percent:>3}% {wide_bar} {total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(bytes).with_style(style.progress_chars("█▉▊▋▌▍▎▏ ")).with_prefix(what.into())
}
