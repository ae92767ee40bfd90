//! The thread that talks to the server: it opens the run, sends what the queue brings, and ends the run.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::server::{Failure, Server};
use crate::sys::secrets::hide_credentials;

/// Metrics that are kept for a server that cannot be reached; the oldest go first.
const KEPT: usize = 100_000;
/// After a failure the server is left in peace for this long.
const PAUSE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 10 });
/// MLflow's limits for one request.
const METRICS_PER_REQUEST: usize = 1000;
const PARAMS_PER_REQUEST: usize = 100;

/// Where a run goes and what it is called: the variables that MLflow and Python's `MLflowCallback` read, too.
pub struct MlflowSettings {
    server: Server,
    /// `MLFLOW_EXPERIMENT_NAME`
    experiment: Option<String>,
    experiment_id: String,
    run_name: Option<String>,
    /// `MLFLOW_RUN_ID`: a run that is there and goes on.
    run_id: Option<String>,
    tags: Vec<(String, String)>,
    most_params: usize,
}

impl MlflowSettings {
    /// Reads the variables. `run_name` is `--run_name`.
    ///
    /// # Errors
    /// One line that says which variable has to be set, or how.
    pub fn new(run_name: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let address = variable("MLFLOW_TRACKING_URI")
            .ok_or("set MLFLOW_TRACKING_URI to the address of a server, such as http://localhost:5000")?;
        let server = Server::new(&address, &variable)
            .map_err(|error| format!("MLFLOW_TRACKING_URI={}: {error}", hide_credentials(&address)))?;
        let mut tags = vec![("mlflow.source.type".to_owned(), "LOCAL".to_owned())];
        let program = std::env::current_exe().ok().map(|path| path.display().to_string());
        tags.extend(program.map(|program| ("mlflow.source.name".to_owned(), program)));
        tags.extend(variable("USER").map(|user| ("mlflow.user".to_owned(), user)));
        if let Some(text) = variable("MLFLOW_TAGS") {
            let given: Map<String, Value> = serde_json::from_str(&text)
                .map_err(|error| format!("MLFLOW_TAGS: must be an object of JSON: {error}"))?;
            let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            tags.extend(given.into_iter().map(|(name, value)| (name, text(value))));
        }
        Ok(Self {
            server,
            experiment: variable("MLFLOW_EXPERIMENT_NAME"),
            experiment_id: variable("MLFLOW_EXPERIMENT_ID").unwrap_or_else(|| "0".to_owned()),
            run_name: run_name.map(str::to_owned).or_else(|| variable("MLFLOW_RUN_NAME")),
            run_id: variable("MLFLOW_RUN_ID"),
            tags,
            most_params: variable("MLFLOW_MAX_LOG_PARAMS").and_then(|most| most.parse().ok()).unwrap_or(usize::MAX),
        })
    }
}

/// What the queue brings.
pub(super) enum Event {
    Metrics(Vec<Metric>),
    /// The end of the run, in milliseconds since 1970.
    End {
        status: &'static str,
        time: u64,
    },
}

/// One number of one moment.
pub(super) struct Metric {
    pub key: String,
    pub value: f64,
    /// Milliseconds since 1970.
    pub timestamp: u64,
    pub step: u64,
}

impl Metric {
    /// As the server reads it: what is not finite by Python's names.
    fn to_json(&self) -> Value {
        let value = match self.value {
            number if number.is_nan() => json!("NaN"),
            f64::INFINITY => json!("Infinity"),
            f64::NEG_INFINITY => json!("-Infinity"),
            number => json!(number),
        };
        json!({ "key": self.key, "value": value, "timestamp": self.timestamp, "step": self.step })
    }
}

/// The run at the server, and what it has not got yet.
pub(super) struct Delivery {
    settings: MlflowSettings,
    params: Vec<(String, String)>,
    run: Option<String>,
    metrics: VecDeque<Metric>,
    lost: u64,
    warned: bool,
    /// Not to be asked before.
    again: Instant,
}

impl Delivery {
    pub fn new(settings: MlflowSettings, mut params: Vec<(String, String)>) -> Self {
        params.truncate(settings.most_params);
        let (metrics, again) = (VecDeque::new(), Instant::now());
        Self { settings, params, run: None, metrics, lost: 0, warned: false, again }
    }

    /// Sends what comes, until the run ends.
    pub fn work(&mut self, events: &Receiver<Event>) {
        self.attempt();
        while let Ok(event) = events.recv() {
            match event {
                Event::Metrics(metrics) => {
                    self.metrics.extend(metrics);
                    let too_many = self.metrics.len().saturating_sub(KEPT);
                    self.metrics.drain(..too_many);
                    self.lost += too_many as u64;
                    if Instant::now() >= self.again {
                        self.attempt();
                    }
                }
                Event::End { status, time } => return self.end(status, time),
            }
        }
    }

    /// Sends all there is. A failure is a warning, the first time.
    fn attempt(&mut self) -> bool {
        let result = self.send();
        if let Err(failure) = &result {
            self.again = Instant::now() + PAUSE;
            self.warn(failure);
        }
        result.is_ok()
    }

    fn warn(&mut self, failure: &Failure) {
        let follows = match failure {
            Failure::Unreachable(_) => "training goes on, and what is missing there is sent when the server answers",
            Failure::Refused { .. } => "training goes on",
        };
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!("mlflow: {}: {failure}; {follows}", self.settings.server.host());
        }
    }

    fn send(&mut self) -> Result<(), Failure> {
        let run = match &self.run {
            Some(run) => run.clone(),
            None => self.run.insert(open(&self.settings)?).clone(),
        };
        while !self.params.is_empty() {
            let count = self.params.len().min(PARAMS_PER_REQUEST);
            let params: Vec<_> =
                self.params[..count].iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
            match self.settings.server.post("runs/log-batch", &json!({ "run_id": run, "params": params })) {
                // A run that goes on keeps the parameters that it began with.
                Err(failure @ Failure::Refused { .. }) => self.warn(&failure),
                result => drop(result?),
            }
            self.params.drain(..count);
        }
        while !self.metrics.is_empty() {
            let count = self.metrics.len().min(METRICS_PER_REQUEST);
            let metrics: Vec<_> = self.metrics.iter().take(count).map(Metric::to_json).collect();
            match self.settings.server.post("runs/log-batch", &json!({ "run_id": run, "metrics": metrics })) {
                Err(failure @ Failure::Refused { .. }) => {
                    self.lost += count as u64;
                    self.warn(&failure);
                }
                result => drop(result?),
            }
            self.metrics.drain(..count);
        }
        Ok(())
    }

    /// Sends what is left, and that the run is over.
    fn end(&mut self, status: &str, time: u64) {
        let sent = self.attempt();
        if let (true, Some(run)) = (sent, &self.run) {
            let over = json!({ "run_id": run, "status": status, "end_time": time });
            if let Err(failure) = self.settings.server.post("runs/update", &over) {
                self.warn(&failure);
            }
        }
        let lost = self.lost + self.metrics.len() as u64;
        if lost > 0 {
            tracing::warn!("mlflow: {lost} numbers of this run did not reach the server; log.jsonl has them");
        }
    }
}

/// The run at the server: a new one, or the one that `MLFLOW_RUN_ID` names.
fn open(settings: &MlflowSettings) -> Result<String, Failure> {
    let server = &settings.server;
    if let Some(run_id) = &settings.run_id {
        server.post("runs/update", &json!({ "run_id": run_id, "status": "RUNNING" }))?;
        return Ok(run_id.clone());
    }
    let experiment = match &settings.experiment {
        Some(name) => server.experiment(name)?,
        None => settings.experiment_id.clone(),
    };
    let tags: Vec<_> = settings.tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    let mut run = json!({ "experiment_id": experiment, "start_time": milliseconds(), "tags": tags });
    if let Some(name) = &settings.run_name {
        run["run_name"] = json!(name);
    }
    server.create_run(&run)
}

/// Since 1970.
pub(super) fn milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
