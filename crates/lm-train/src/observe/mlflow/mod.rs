//! `--report_to mlflow`: parameters and metrics to an MLflow tracking server, under the names that Python's `MLflowCallback`
//! uses.
//!
//! ```text
//! Mlflow (callback) ── bounded queue ──> Delivery (a thread) ── REST ──> server
//! ```
//!
//! The run never waits for the server, but for a few seconds at its end. What a server that cannot be reached would have
//! got is kept and sent later, up to a limit.

mod delivery;
mod params;
mod server;

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::{Map, Value};

pub use self::delivery::MlflowSettings;
use self::delivery::{Delivery, Event, Metric, milliseconds};
use super::{Callback, CallbackError, CallbackResult, LogRecord, LogValue, Outcome, TrainerState};

/// Records that may wait for the thread: it stands still for one request at most.
const QUEUE: usize = 1024;
/// At the end of a run the server gets this long for what is left.
const AT_THE_END: Duration = Duration::from_secs(15);

/// Reports every log record to a tracking server.
pub struct Mlflow {
    /// Until the run begins.
    delivery: Option<Delivery>,
    thread: Option<Thread>,
}

struct Thread {
    events: SyncSender<Event>,
    /// Ends with the thread.
    alive: Receiver<()>,
    /// Records for which the queue had no room.
    lost: u64,
}

impl Mlflow {
    /// A run that begins with its first record. `parameters` are the model's configuration and the arguments.
    pub fn new(settings: MlflowSettings, parameters: &Map<String, Value>) -> Self {
        Self { delivery: Some(Delivery::new(settings, params::params(parameters))), thread: None }
    }

    fn thread(&mut self) -> Result<Option<&mut Thread>, CallbackError> {
        if let Some(mut delivery) = self.delivery.take() {
            let (events, queue) = sync_channel(QUEUE);
            let (alive, ended) = sync_channel(0);
            let work = move || {
                let _alive = alive;
                delivery.work(&queue);
            };
            // Nobody waits for the thread at the end of the program: a request may hang.
            let started = std::thread::Builder::new().name("mlflow".to_owned()).spawn(work);
            started.map_err(|source| CallbackError { what: "mlflow: a thread".to_owned(), source })?;
            self.thread = Some(Thread { events, alive: ended, lost: 0 });
        }
        Ok(self.thread.as_mut())
    }
}

impl Callback for Mlflow {
    fn on_train_begin(&mut self, _state: &TrainerState) -> CallbackResult {
        self.thread().map(|_| ())
    }

    fn on_log(&mut self, state: &TrainerState, record: &LogRecord) -> CallbackResult {
        let metrics = metrics(state.global_step, record);
        if let Some(thread) = self.thread()?
            && thread.events.try_send(Event::Metrics(metrics)).is_err()
        {
            thread.lost += 1;
        }
        Ok(())
    }

    fn on_train_end(&mut self, _state: &TrainerState, outcome: &Outcome) -> CallbackResult {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let status = match outcome {
            Outcome::Finished => "FINISHED",
            Outcome::Stopped(_) => "KILLED",
            Outcome::Failed(_) => "FAILED",
        };
        // An error means that the thread has ended, with a warning, or is stuck, which the next lines tell.
        let _ = thread.events.try_send(Event::End { status, time: milliseconds() });
        drop(thread.events);
        if thread.alive.recv_timeout(AT_THE_END) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("mlflow: the server was too slow for the last metrics of this run; log.jsonl has them");
        }
        if thread.lost > 0 {
            tracing::warn!(
                "mlflow: {} records were left out, since the server was too slow; log.jsonl has them",
                thread.lost
            );
        }
        Ok(())
    }
}

/// The numbers of a record, at this moment.
fn metrics(step: u64, record: &LogRecord) -> Vec<Metric> {
    let timestamp = milliseconds();
    let numbers = record.iter().filter(|(name, _)| *name != "step").filter_map(|(name, value)| match value {
        LogValue::Text(_) => None,
        LogValue::Integer(count) => Some((name, *count as f64)),
        LogValue::Number(number) => Some((name, *number)),
    });
    numbers.map(|(name, value)| Metric { key: metric_name(name), value, timestamp, step }).collect()
}

/// Python's `re.sub(r"[^0-9A-Za-z_\-\.\ :/]", "_", name)`.
fn metric_name(name: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() || "_-. :/".contains(letter) { letter } else { '_' };
    name.chars().map(letter).collect()
}

#[cfg(test)]
mod tests;
