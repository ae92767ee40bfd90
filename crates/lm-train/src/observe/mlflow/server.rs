//! The REST interface of an MLflow tracking server, as far as a run needs it (`api/2.0/mlflow`).

use std::time::Duration;

use reqwest::blocking::{Client, RequestBuilder};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

/// A connection that takes longer is not going to be one.
const CONNECT: Duration = Duration::from_secs(5);
/// Silence of the server for this long is a failure.
const SILENCE: Duration = Duration::from_secs(10);
/// As many characters of what a server says as a message repeats.
const MOST_WORDS: usize = 200;

/// Why a request had no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection, silence, or an error of the server: the same request may succeed later.
    #[error("{0}")]
    Unreachable(String),
    /// The server understood, and said no.
    #[error("{code}: {message}")]
    Refused {
        /// MLflow's name for the reason, such as `RESOURCE_DOES_NOT_EXIST`.
        code: String,
        /// Its words.
        message: String,
    },
}

/// A server, and who asks it.
pub(super) struct Server {
    client: Client,
    base: Url,
    user: Option<(String, Option<String>)>,
    token: Option<String>,
}

impl Server {
    /// The server at `address`, with the name and password or the token that MLflow's variables hold.
    ///
    /// # Errors
    /// One line about an `address` that is something else, such as a folder or a data base, which only Python's MLflow opens.
    pub fn new(address: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let base = Url::parse(&format!("{}/", address.trim_end_matches('/'))).ok();
        let base = base.filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        let insecure = variable("MLFLOW_TRACKING_INSECURE_TLS").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let client = Client::builder().connect_timeout(CONNECT).timeout(SILENCE).danger_accept_invalid_certs(insecure);
        Ok(Self {
            base: base.ok_or("must be the address of a server, such as http://localhost:5000")?,
            client: client.build().map_err(|error| chain(&error))?,
            user: variable("MLFLOW_TRACKING_USERNAME").map(|name| (name, variable("MLFLOW_TRACKING_PASSWORD"))),
            token: variable("MLFLOW_TRACKING_TOKEN"),
        })
    }

    /// Its name, for messages.
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The experiment called `name`, which is made if it is not there.
    pub fn experiment(&self, name: &str) -> Result<String, Failure> {
        match send(self.request(Method::GET, "experiments/get-by-name", &[("experiment_name", name)])) {
            Ok(found) => text(&found["experiment"], "experiment_id"),
            Err(Failure::Refused { code, .. }) if code == "RESOURCE_DOES_NOT_EXIST" => {
                text(&self.post("experiments/create", &json!({ "name": name }))?, "experiment_id")
            }
            Err(failure) => Err(failure),
        }
    }

    /// A new run; its id.
    pub fn create_run(&self, run: &Value) -> Result<String, Failure> {
        text(&self.post("runs/create", run)?["run"]["info"], "run_id")
    }

    /// A request that changes something.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.request(Method::POST, path, &[]).header("Content-Type", "application/json");
        send(request.body(body.to_string()))
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}api/2.0/mlflow/{path}", self.base.path()));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.client.request(method, url);
        match (&self.user, &self.token) {
            (Some((name, password)), _) => request.basic_auth(name, password.as_deref()),
            (None, Some(token)) => request.bearer_auth(token),
            (None, None) => request,
        }
    }
}

fn send(request: RequestBuilder) -> Result<Value, Failure> {
    let unreachable = |error: reqwest::Error| Failure::Unreachable(chain(&error.without_url()));
    let response = request.send().map_err(unreachable)?;
    let status = response.status();
    let body = response.text().map_err(unreachable)?;
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Failure::Unreachable(status.to_string()));
    }
    let answer: Option<Value> = serde_json::from_str(&body).ok();
    if status.is_success() {
        return answer.ok_or_else(|| Failure::Refused { code: status.to_string(), message: "no JSON".to_owned() });
    }
    let word = |name: &str| answer.as_ref().and_then(|answer| answer[name].as_str());
    let message = word("message").unwrap_or_default().chars().take(MOST_WORDS).collect();
    Err(Failure::Refused { code: word("error_code").map_or_else(|| status.to_string(), str::to_owned), message })
}

fn text(answer: &Value, field: &str) -> Result<String, Failure> {
    let found = answer[field].as_str().map(str::to_owned);
    found.ok_or_else(|| Failure::Refused {
        code: "an answer of another kind".to_owned(),
        message: format!("no {field}"),
    })
}

/// An error and what caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
