//! TensorBoard event files, with the tags that Python's `TensorBoardCallback` uses.
//!
//! A file is a sequence of TFRecords, each an `Event` message of TensorFlow's `event.proto`. The crates that write event
//! files are unmaintained.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::protobuf::Message;
use super::{Callback, CallbackError, CallbackResult, LogRecord, LogValue, Outcome, TrainerState, record};
use crate::sys::machine;

/// Writes every log record to an event file.
#[derive(Debug)]
pub struct TensorBoard {
    logging_dir: PathBuf,
    texts: Vec<(String, String)>,
    events: Option<EventFile>,
}

impl TensorBoard {
    /// Event files go to `logging_dir`. `texts` are shown in TensorBoard's text tab; Python writes the arguments as
    /// `args` and the model's configuration as `model_config`, both as JSON.
    pub fn new(logging_dir: PathBuf, texts: Vec<(String, String)>) -> Self {
        Self { logging_dir, texts, events: None }
    }

    /// Lets `what` append to the event file, which begins when it is first needed, at the time given to it.
    fn write(&mut self, what: impl FnOnce(&mut EventFile, f64) -> io::Result<()>) -> CallbackResult {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let events = match &mut self.events {
            Some(events) => Ok(events),
            none => EventFile::create(&self.logging_dir, now).map(|events| none.insert(events)),
        };
        events.and_then(|events| what(events, now)).map_err(CallbackError::at(&self.logging_dir))
    }
}

/// The default of `--logging_dir`: `OUTPUT_DIR/runs/Nov23_16-47-37_host`, in local time as in Python.
pub fn default_logging_dir(output_dir: &Path) -> PathBuf {
    let now = chrono::Local::now().format("%b%d_%H-%M-%S");
    output_dir.join("runs").join(format!("{now}_{}", machine::host()))
}

impl Callback for TensorBoard {
    fn on_train_begin(&mut self, state: &TrainerState) -> CallbackResult {
        let texts = std::mem::take(&mut self.texts);
        self.write(|events, now| {
            if state.global_step > 0 {
                events.restart_after(now, state.global_step)?;
            }
            texts.iter().try_for_each(|(tag, text)| events.text(now, tag, text))
        })
    }

    fn on_log(&mut self, state: &TrainerState, record: &LogRecord) -> CallbackResult {
        self.write(|events, now| events.scalars(now, state.global_step, record))
    }

    fn on_train_end(&mut self, _state: &TrainerState, _outcome: &Outcome) -> CallbackResult {
        match self.events.take() {
            Some(events) => events.file.sync_all().map_err(CallbackError::at(&self.logging_dir)),
            None => Ok(()),
        }
    }
}

/// One `events.out.tfevents.…` file.
#[derive(Debug)]
struct EventFile {
    file: File,
}

impl EventFile {
    fn create(folder: &Path, now: f64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let name = format!("events.out.tfevents.{now:010.0}.{}.{}.0", machine::host(), std::process::id());
        let mut events = Self { file: File::create(folder.join(name))? };
        let mut version = event(now, 0);
        version.bytes(3, b"brain.Event:2");
        events.append(&version)?;
        Ok(events)
    }

    /// Tells readers to forget what an earlier file says about later steps.
    fn restart_after(&mut self, now: f64, step: u64) -> io::Result<()> {
        const START: u64 = 1;
        let mut session_log = Message::default();
        session_log.varint(1, START);
        let mut message = event(now, step + 1);
        message.message(7, &session_log);
        self.append(&message)
    }

    fn scalars(&mut self, now: f64, step: u64, record: &LogRecord) -> io::Result<()> {
        let mut summary = Message::default();
        for (name, value) in record.iter().filter(|(name, _)| *name != "step") {
            let number = match value {
                LogValue::Text(_) => continue,
                LogValue::Integer(count) => *count as f32,
                LogValue::Number(number) => *number as f32,
            };
            let mut value = Message::default();
            value.bytes(1, record::tag(name).as_bytes());
            value.float(2, number);
            summary.message(1, &value);
        }
        let mut message = event(now, step);
        message.message(5, &summary);
        self.append(&message)
    }

    /// A tensor with one string, marked for the text plugin.
    fn text(&mut self, now: f64, tag: &str, text: &str) -> io::Result<()> {
        const DT_STRING: u64 = 7;
        let mut plugin = Message::default();
        plugin.bytes(1, b"text");
        let mut metadata = Message::default();
        metadata.message(1, &plugin);
        let (mut size, mut shape) = (Message::default(), Message::default());
        size.varint(1, 1);
        shape.message(2, &size);
        let mut tensor = Message::default();
        tensor.varint(1, DT_STRING);
        tensor.message(2, &shape);
        tensor.bytes(8, text.as_bytes());
        let mut value = Message::default();
        value.bytes(1, format!("{tag}/text_summary").as_bytes());
        value.message(8, &tensor);
        value.message(9, &metadata);
        let mut summary = Message::default();
        summary.message(1, &value);
        let mut message = event(now, 0);
        message.message(5, &summary);
        self.append(&message)
    }

    /// One TFRecord, in one write: length, its checksum, the message, its checksum; all little-endian.
    fn append(&mut self, message: &Message) -> io::Result<()> {
        let message = message.as_bytes();
        let length = (message.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(message.len() + 16);
        record.extend(length);
        record.extend(masked_crc32c(&length).to_le_bytes());
        record.extend(message);
        record.extend(masked_crc32c(message).to_le_bytes());
        self.file.write_all(&record)
    }
}

/// An `Event` with its wall time in seconds and step.
fn event(now: f64, step: u64) -> Message {
    let mut event = Message::default();
    event.double(1, now);
    event.varint(2, step);
    event
}

/// The checksum of TFRecords: CRC-32C, rotated and shifted so that a checksum of checksums stays useful.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: an event is some hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis() {
        // RFC 3720, appendix B.4, and the check value of the CRC catalogue.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn records_lie_one_after_another() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut board = TensorBoard::new(folder.path().join("runs"), vec![("args".to_owned(), "{}".to_owned())]);
        let state = TrainerState { global_step: 3, ..TrainerState::default() };
        board.on_train_begin(&state).expect("begun");
        board.on_log(&state, &LogRecord::new().with("loss", 1.0).with("step", 3_u64)).expect("logged");
        board.on_train_end(&state, &Outcome::Finished).expect("ended");
        let file =
            fs::read_dir(folder.path().join("runs")).expect("listed").next().expect("one file").expect("an entry");
        assert!(file.file_name().to_string_lossy().starts_with("events.out.tfevents."));
        let bytes = fs::read(file.path()).expect("read");
        let (mut rest, mut messages) = (bytes.as_slice(), 0);
        while !rest.is_empty() {
            let (length, tail) = rest.split_first_chunk::<8>().expect("a length");
            let (checksum, tail) = tail.split_first_chunk::<4>().expect("a checksum");
            assert_eq!(u32::from_le_bytes(*checksum), masked_crc32c(length));
            let (message, tail) = tail.split_at(u64::from_le_bytes(*length) as usize);
            let (checksum, tail) = tail.split_first_chunk::<4>().expect("a checksum");
            assert_eq!(u32::from_le_bytes(*checksum), masked_crc32c(message));
            (rest, messages) = (tail, messages + 1);
        }
        assert_eq!(messages, 4, "version, restart, text, scalars");
    }
}
