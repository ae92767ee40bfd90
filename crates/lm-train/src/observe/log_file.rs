//! `log.jsonl`: every log record as one line of JSON, readable while the run goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Callback, CallbackError, CallbackResult, LogRecord, TrainerState, json};

/// The file's name in the output folder.
pub const LOG_FILE_NAME: &str = "log.jsonl";

/// Appends each record to `log.jsonl`. A run starts the file anew; a resumed run with the history of its checkpoint, so
/// lines of steps that are trained again, or cut off by a crash, do not remain.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
}

impl LogFile {
    /// The log of the run in `output_dir`.
    pub fn new(output_dir: &Path) -> Self {
        Self { path: output_dir.join(LOG_FILE_NAME), file: None }
    }

    /// Replaces the file by one with these records, and goes on from there.
    fn start(&mut self, history: &[Arc<LogRecord>]) -> io::Result<()> {
        let mut lines = Vec::new();
        history.iter().try_for_each(|record| write_line(&mut lines, record))?;
        lm_files::write(&self.path, &lines)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        Ok(())
    }

    fn append(&mut self, record: &LogRecord) -> io::Result<()> {
        let mut line = Vec::new();
        write_line(&mut line, record)?;
        let file = match &mut self.file {
            Some(file) => file,
            // An evaluation without training begins here. A link would lead to somebody's file.
            none => {
                if fs::symlink_metadata(&self.path).is_ok_and(|found| !found.is_file()) {
                    lm_files::write(&self.path, &[])?;
                }
                none.insert(OpenOptions::new().append(true).create(true).open(&self.path)?)
            }
        };
        file.write_all(&line)
    }
}

impl Callback for LogFile {
    fn on_train_begin(&mut self, state: &TrainerState) -> CallbackResult {
        self.start(&state.log_history).map_err(CallbackError::at(&self.path))
    }

    fn on_log(&mut self, _state: &TrainerState, record: &LogRecord) -> CallbackResult {
        self.append(record).map_err(CallbackError::at(&self.path))
    }
}

fn write_line(lines: &mut Vec<u8>, record: &LogRecord) -> io::Result<()> {
    lines.extend(json::to_string(record, "")?.into_bytes());
    lines.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn logged(log: &mut LogFile, state: &mut TrainerState, steps: std::ops::RangeInclusive<u64>) {
        for step in steps {
            state.global_step = step;
            let record = state.log(LogRecord::new().with("loss", step as f64 / 2.0));
            log.on_log(state, &record).expect("logged");
        }
    }

    #[test]
    fn a_resumed_run_continues_after_its_checkpoint() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let read = || fs::read_to_string(folder.path().join(LOG_FILE_NAME)).expect("a log");
        let (mut log, mut state) = (LogFile::new(folder.path()), TrainerState::default());
        log.on_train_begin(&state).expect("begun");
        logged(&mut log, &mut state, 1..=2);
        let checkpoint = state.clone();
        logged(&mut log, &mut state, 3..=5);
        let unbroken = read();
        assert_eq!(unbroken.lines().next(), Some(r#"{"loss":0.5,"step":1}"#));
        assert_eq!(unbroken.lines().count(), 5);
        // The crash cut the last line.
        fs::write(folder.path().join(LOG_FILE_NAME), &unbroken[..unbroken.len() - 4]).expect("cut");

        let (mut log, mut state) = (LogFile::new(folder.path()), checkpoint);
        log.on_train_begin(&state).expect("resumed");
        assert_eq!(read().lines().count(), 2);
        logged(&mut log, &mut state, 3..=5);
        assert_eq!(read(), unbroken);
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "nothing else is left");
    }

    #[test]
    fn an_evaluation_alone_adds_its_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(LOG_FILE_NAME), "{\"step\":1}\n").expect("written");
        let (mut log, mut state) = (LogFile::new(folder.path()), TrainerState::default());
        logged(&mut log, &mut state, 2..=2);
        let text = fs::read_to_string(folder.path().join(LOG_FILE_NAME)).expect("a log");
        assert_eq!(text, "{\"step\":1}\n{\"loss\":1.0,\"step\":2}\n");
        assert!(LogFile::new(Path::new("/nowhere")).on_log(&state, &LogRecord::new()).is_err());
    }
}
