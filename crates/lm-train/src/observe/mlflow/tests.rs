//! What a tracking server on this machine gets. The real one is asked by `scripts/trackers_in_python.py`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::*;

/// Path with query, and body, of each request.
type Requests = Arc<Mutex<Vec<(String, Value)>>>;

/// A server that answers by `answer`, from the number and the path of a request: status and body.
fn serve(answer: impl Fn(usize, &str) -> (u16, Value) + Send + 'static) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (path, body) = request(&stream);
            let number = seen.lock().expect("the list").len();
            let (status, answer) = answer(number, &path);
            seen.lock().expect("the list").push((path, body));
            let answer = answer.to_string();
            let length = answer.len();
            // Who asked may be gone.
            let _ =
                write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}");
        }
    });
    (address, requests)
}

fn request(stream: &TcpStream) -> (String, Value) {
    let mut lines = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    lines.read_line(&mut first).expect("a line");
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        let line = line.trim().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).expect("a body");
    let path = first.split(' ').nth(1).expect("a path").to_owned();
    (path, serde_json::from_slice(&body).unwrap_or_default())
}

/// A sound server, in which no experiment is.
fn sound(path: &str) -> (u16, Value) {
    match path.rsplit('/').next() {
        Some(path) if path.starts_with("get-by-name") => {
            (404, json!({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}))
        }
        Some("create") if path.contains("experiments") => (200, json!({"experiment_id": "7"})),
        Some("create") => (200, json!({"run": {"info": {"run_id": "r1"}}})),
        _ => (200, json!({})),
    }
}

fn settings(address: &str, others: &[(&str, &str)]) -> Result<MlflowSettings, String> {
    let variables = [("MLFLOW_TRACKING_URI", address), ("USER", "me")];
    let find = |name: &str| variables.iter().chain(others).find(|(given, _)| *given == name);
    MlflowSettings::new(Some("a run"), |name| find(name).map(|(_, value)| (*value).to_owned()))
}

/// A run of three records with so many parameters.
fn run(settings: MlflowSettings, parameters: usize) {
    let parameters: Map<String, Value> = (0..parameters).map(|i| (format!("p{i}"), json!(i))).collect();
    let mut mlflow = Mlflow::new(settings, &parameters);
    let mut state = TrainerState::default();
    mlflow.on_train_begin(&state).expect("begun");
    for step in 1..=3_u64 {
        state.global_step = step;
        let loss = if step == 3 { f64::NAN } else { step as f64 };
        mlflow
            .on_log(&state, &LogRecord::new().with("loss", loss).with("a(b)", 1.0).with("step", step))
            .expect("logged");
    }
    mlflow.on_train_end(&state, &Outcome::Finished).expect("ended");
}

/// Key, value and step of all metrics, in the order in which they came.
fn metrics_of(requests: &Requests) -> Vec<(String, Value, u64)> {
    let requests = requests.lock().expect("the list");
    let lists = requests.iter().filter_map(|(_, body)| body["metrics"].as_array());
    let metric = |metric: &Value| {
        assert!(metric["timestamp"].as_u64().is_some_and(|time| time > 1_600_000_000_000), "{metric}");
        (
            metric["key"].as_str().expect("a key").to_owned(),
            metric["value"].clone(),
            metric["step"].as_u64().expect("a step"),
        )
    };
    lists.flatten().map(metric).collect()
}

fn expected() -> Vec<(String, Value, u64)> {
    let of = |step: u64, loss: Value| [("loss".to_owned(), loss, step), ("a_b_".to_owned(), json!(1.0), step)];
    [of(1, json!(1.0)), of(2, json!(2.0)), of(3, json!("NaN"))].concat()
}

#[test]
fn a_run_goes_to_the_server() {
    let (address, requests) = serve(|_, path| sound(path));
    let variables = [("MLFLOW_EXPERIMENT_NAME", "näme & co"), ("MLFLOW_TAGS", r#"{"a": "b", "c": 1}"#)];
    run(settings(&address, &variables).expect("settings"), 150);
    assert_eq!(metrics_of(&requests), expected());
    let requests = requests.lock().expect("the list");
    let api = "/api/2.0/mlflow";
    let paths: Vec<&str> = requests.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths[0], format!("{api}/experiments/get-by-name?experiment_name=n%C3%A4me+%26+co"));
    assert_eq!(
        paths[1..5],
        ["experiments/create", "runs/create", "runs/log-batch", "runs/log-batch"].map(|path| format!("{api}/{path}"))
    );
    assert_eq!(requests[1].1, json!({"name": "näme & co"}));
    let created = &requests[2].1;
    assert_eq!((&created["experiment_id"], &created["run_name"]), (&json!("7"), &json!("a run")));
    let tags = created["tags"].as_array().expect("tags");
    for (key, value) in [("mlflow.user", "me"), ("mlflow.source.type", "LOCAL"), ("a", "b"), ("c", "1")] {
        assert!(tags.contains(&json!({"key": key, "value": value})), "{key} in {tags:?}");
    }
    let params: Vec<usize> = (3..5).map(|at| requests[at].1["params"].as_array().expect("a list").len()).collect();
    assert_eq!(params, [100, 50]);
    let (path, last) = requests.last().expect("the end");
    assert_eq!(
        (path.as_str(), &last["run_id"], &last["status"]),
        ("/api/2.0/mlflow/runs/update", &json!("r1"), &json!("FINISHED"))
    );
}

#[test]
fn a_run_that_is_there_goes_on() {
    // It refuses parameters that it has already, which changes nothing for its metrics.
    let (address, requests) = serve(|number, _| match number {
        1 => (400, json!({"error_code": "INVALID_PARAMETER_VALUE", "message": "changed"})),
        _ => (200, json!({})),
    });
    run(settings(&format!("{address}/below/"), &[("MLFLOW_RUN_ID", "r9")]).expect("settings"), 1);
    assert_eq!(metrics_of(&requests), expected());
    let requests = requests.lock().expect("the list");
    assert_eq!(requests[0].0, "/below/api/2.0/mlflow/runs/update");
    assert_eq!(requests[0].1, json!({"run_id": "r9", "status": "RUNNING"}));
}

#[test]
fn what_a_server_missed_is_sent_when_it_answers() {
    let (address, requests) = serve(|number, path| match number {
        0..2 => (503, json!({})),
        _ => sound(path),
    });
    run(settings(&address, &[]).expect("settings"), 0);
    assert_eq!(metrics_of(&requests), expected());
}

#[test]
fn a_server_that_is_not_there_stops_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    run(settings(&address, &[]).expect("settings"), 1);
}

#[test]
fn a_server_that_does_not_answer_slows_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let mut mlflow = Mlflow::new(settings(&address, &[]).expect("settings"), &Map::new());
    let begin = Instant::now();
    for _ in 0..3 * QUEUE {
        mlflow.on_log(&TrainerState::default(), &LogRecord::new().with("loss", 1.0)).expect("logged");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(mlflow.thread.expect("a thread").lost > 0, "the queue has an end");
}

#[test]
fn an_address_is_a_servers() {
    for address in ["", "mlruns", "sqlite:///mlflow.db", "file:///tmp/mlruns", "databricks", "http://"] {
        let error = settings(address, &[]).err().unwrap_or_else(|| panic!("'{address}' is none"));
        assert!(error.contains("http://localhost:5000"), "{error}");
    }
    let error = settings("http://localhost:5000", &[("MLFLOW_TAGS", "a=b")]).err().expect("no JSON");
    assert!(error.starts_with("MLFLOW_TAGS: must be an object of JSON"), "{error}");
}
